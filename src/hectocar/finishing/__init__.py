"""The finish: out-of-fold answers gathered, links fitted, the bundle made."""
