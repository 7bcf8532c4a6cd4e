"""The disk: files that are whole or absent, what may be overwritten, one writer at a time."""
