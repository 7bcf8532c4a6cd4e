"""Preset configurations (YAML)."""
