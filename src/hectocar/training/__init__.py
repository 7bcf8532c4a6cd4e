"""Training: schedules, data path, optimiser, and the one loop."""
