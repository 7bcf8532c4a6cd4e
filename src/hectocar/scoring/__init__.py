"""Scoring: metrics and submissions. No torch in this room."""
