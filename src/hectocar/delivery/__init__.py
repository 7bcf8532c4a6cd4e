"""Delivery: the bundle and the predictor."""
