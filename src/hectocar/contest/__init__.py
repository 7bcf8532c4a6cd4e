"""Facts of the Hecto AI Challenge 2025: class names, equivalent pairs, files named noisy."""
