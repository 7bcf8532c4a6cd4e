"""Photographs: decoding, tables, classes, folds, and the synthetic showroom."""
