"""Probability: links that turn the answers of networks and neighbours into honest probabilities."""
