"""What a run was made from, read back from its folder: configuration, classes, manifest."""

from pathlib import Path

from hectocar.artifacts import read_json
from hectocar.config import Config
from hectocar.config_reader import config_from_tree
from hectocar.errors import ArtifactError, ConfigError, DataError
from hectocar.photos.classes import ClassList
from hectocar.photos.manifest import Manifest, load_manifest


def read_run_inputs(folder: Path) -> tuple[Config, ClassList, Manifest]:
    """Reads config.json, classes.json and manifest.parquet of a run.

    Raises:
        ArtifactError: Not a run, or damaged.
    """
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder}: not a run (no config.json in it); `hectocar train DATA --out RUN` makes one")
    try:
        config = config_from_tree(read_json(folder / "config.json"))
        classes = ClassList.from_json(read_json(folder / "classes.json"))
    except (ConfigError, DataError) as error:
        raise ArtifactError(f"{folder}: damaged run: {error}") from error
    return config, classes, load_manifest(folder / "manifest.parquet")
