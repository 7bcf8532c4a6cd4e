"""The configuration: one tree of frozen dataclasses, and the only reader of YAML."""
