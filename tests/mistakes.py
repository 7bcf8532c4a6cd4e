"""What a wrong configuration is answered with."""

from pathlib import Path

import pytest

from hectocar.config.reader import read_config
from hectocar.errors import ConfigError


def mistakes(*settings: str, preset: str | None = None, file: Path | None = None) -> list[str]:
    """The lines of the refusal."""
    with pytest.raises(ConfigError) as caught:
        read_config(preset, file, settings)
    return [line.strip() for line in str(caught.value).splitlines()]
