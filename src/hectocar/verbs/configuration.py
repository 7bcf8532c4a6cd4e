"""``load_config``."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hectocar.config.reader import read_config
from hectocar.config.schema import Config
from hectocar.verbs.paths import AnyPath


def load_config(
    preset: str | None = None,
    file: AnyPath | None = None,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Defaults < preset < file < settings < overrides.

    Args:
        preset: ``seed2025``, ``best``, ``laptop``, ``demo``; None for the defaults.
        file: A YAML file with any part of the tree.
        settings: ``training.epochs=12``: the value is read as YAML.
        overrides: ``{"training.epochs": 12}``: plain values, taken as they are.

    Raises:
        ConfigError: Every mistake at once, each with its dotted path and the nearest valid name.
    """
    return read_config(preset, None if file is None else Path(file), settings, overrides=overrides)


def complete_config(config: Config | str | None, audit: AnyPath | None = None, weights: AnyPath | None = None) -> Config:
    """The configuration that is meant, with an audit and weights that are given apart."""
    whole = load_config(config) if config is None or isinstance(config, str) else config
    if audit is not None:
        whole = replace(whole, data=replace(whole.data, audit=str(audit)))
    return whole if weights is None else replace(whole, network=replace(whole.network, weights=str(weights)))
