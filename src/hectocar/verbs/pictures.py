"""Verbs that draw: ``preview``, ``draw_photos``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hectocar.config.schema import Config
from hectocar.disk.outputs import claim_file
from hectocar.results import Result
from hectocar.verbs.configuration import complete_config
from hectocar.verbs.paths import AnyPath, to_paths


@dataclass(frozen=True, repr=False)
class PreviewResult(Result):
    """Where the sheet lies, and the sizes on it."""

    path: Path
    sizes_px: tuple[int, ...]

    def table(self) -> list[list[str]]:
        return [["drawn", "size px"], *([str(self.path), str(size_px)] for size_px in self.sizes_px)]


def preview(
    data: AnyPath,
    out: AnyPath,
    config: Config | str | None = None,
    *,
    audit: AnyPath | None = None,
    num_photos: int = 6,
    seed: int = 0,
    overwrite: bool = False,
) -> PreviewResult:
    """Draws what the network sees at each size of the schedule: whole photographs as validated, then as training varies them.

    Args:
        data: The photographs.
        out: A PNG.
        config: See ``load_config``.
        audit: Draws in the tones of the test set, too, as its shift says.
        num_photos: In a row.
        seed: Which photographs.
        overwrite: Replace ``out`` even if it is a file of yours.

    Raises:
        DataError: Fewer than two photographs can be read.
    """
    from hectocar.lab.preview import draw_preview

    whole = complete_config(config, audit)
    with claim_file(Path(out), "preview", data=Path(data), overwrite=overwrite):
        sizes_px = draw_preview(Path(data), whole, Path(out), num_photos=num_photos, seed=seed)
    return PreviewResult(Path(out), tuple(sizes_px))


def draw_photos(rows: Mapping[str, Sequence[AnyPath]], out: AnyPath, *, overwrite: bool = False) -> None:
    """Draws photographs whole, a row under each title, as a PNG.

    Raises:
        DataError: One cannot be read; it is named.
    """
    from hectocar.lab.preview import draw_files

    files = {title: to_paths(row) for title, row in rows.items()}
    with claim_file(Path(out), "preview", inputs=[file for row in files.values() for file in row], overwrite=overwrite):
        draw_files(files, Path(out))
