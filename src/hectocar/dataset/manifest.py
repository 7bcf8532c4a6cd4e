"""The manifest: one row per training photograph, with its class, digest, size and what is wrong with it if anything."""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hectocar.config.schema import DataConfig
from hectocar.dataset.classes import ClassList, build_class_list, read_equivalent_pairs
from hectocar.dataset.columns import read_columns, to_ints
from hectocar.dataset.decisions import Verdicts, check_same_photos, judge_photos, read_audit
from hectocar.dataset.exclusions import find_excluded, read_exclusions
from hectocar.dataset.layout import find_photos
from hectocar.dataset.looks import group_looks
from hectocar.dataset.scan import PhotoScan, scan_files
from hectocar.disk.writing import replace_file
from hectocar.errors import ArtifactError, DataError
from hectocar.photos.decode import read_photo_bytes
from hectocar.photos.pool import count_workers
from hectocar.progress import NoProgress, Progress, count_with
from hectocar.tables import listed, normalize_name, repeated_names

USED, DAMAGED, DUPLICATE, EXCLUDED = STATUSES = ("used", "damaged", "duplicate", "excluded")
_TEXT_COLUMNS = ("image_id", "path", "class_name", "sha1", "pixel_sha1", "status", "problem")
_NUMBER_COLUMNS = ("num_bytes", "width_px", "height_px", "look")


@dataclass(frozen=True)
class Manifest:
    """Rows in the order of image_id. ``image_id`` is the NFC path below ``root``; ``path`` is spelled as the disk has it."""

    root: Path
    image_id: tuple[str, ...]
    path: tuple[str, ...]
    class_name: tuple[str, ...]
    sha1: tuple[str, ...]
    pixel_sha1: tuple[str, ...]
    """Of the upright luma: equal for copies whose metadata or lossless compression differ. Empty for damaged files."""
    num_bytes: NDArray[np.int64]
    width_px: NDArray[np.int64]
    height_px: NDArray[np.int64]
    look: NDArray[np.int64]
    """One number for photographs that look the same in small, see ``group_looks``."""
    status: tuple[str, ...]
    problem: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.image_id)

    def used(self) -> NDArray[np.int64]:
        """Positions of the photographs that training may show."""
        return np.flatnonzero(np.array([status == USED for status in self.status]))

    def files(self) -> list[Path]:
        return [self.root / path for path in self.path]

    def labels(self, classes: ClassList) -> NDArray[np.int64]:
        """Trained class of each row."""
        index = classes.trained_index()
        return np.array([index[name] for name in self.class_name], dtype=np.int64)

    def problems(self, status: str) -> list[tuple[str, str]]:
        """(image_id, problem) of the rows of a status."""
        return [(i, p) for i, s, p in zip(self.image_id, self.status, self.problem, strict=True) if s == status]

    def digest(self) -> str:
        """SHA-256 over what training depends on: ids, bytes, classes, status."""
        lines = zip(self.image_id, self.sha1, self.class_name, self.status, strict=True)
        return hashlib.sha256("\n".join("\t".join(line) for line in lines).encode()).hexdigest()

    def move(self, root: Path) -> "Manifest":
        """The same photographs in another folder."""
        return replace(self, root=root.resolve())

    def save(self, path: Path) -> None:
        """Writes a Parquet table; the root folder stands in its metadata."""
        columns = {name: pa.array(getattr(self, name)) for name in (*_TEXT_COLUMNS, *_NUMBER_COLUMNS)}
        table = pa.table(columns).replace_schema_metadata({"root": str(self.root), "digest": self.digest()})
        replace_file(path, lambda target: pq.write_table(table, target))


def load_manifest(path: Path) -> Manifest:
    """Raises ArtifactError when the table is missing, damaged, or is not a manifest."""
    kinds = dict.fromkeys(_TEXT_COLUMNS, pa.string()) | dict.fromkeys(_NUMBER_COLUMNS, pa.int64())
    try:
        columns, metadata = read_columns(path, kinds)
        fields: dict[str, Any] = {name: tuple(columns[name]) for name in _TEXT_COLUMNS}
        fields |= {name: to_ints(columns[name]) for name in _NUMBER_COLUMNS}
        manifest = Manifest(root=Path(metadata.get("root", "")), **fields)
        _check_rows(manifest)
    except ValueError as error:
        raise ArtifactError(f"{path}: not a readable manifest ({error}); make the run again") from error
    if manifest.digest() != metadata.get("digest"):
        raise ArtifactError(f"{path}: its rows were changed after it was written; make the run again")
    return manifest


def _check_rows(manifest: Manifest) -> None:
    """Raises ValueError for the first row that no scan writes."""
    if len(set(manifest.image_id)) < len(manifest):
        raise ValueError(f"image_id {repeated_names(manifest.image_id)[0]!r} stands twice")
    if not manifest.root.is_absolute():
        raise ValueError(f"root is {str(manifest.root)!r}; expected an absolute path")
    for image_id, path, sha1, status in zip(manifest.image_id, manifest.path, manifest.sha1, manifest.status, strict=True):
        pure = PurePath(path)
        if pure.anchor or ".." in pure.parts or not pure.name or "\0" in path or normalize_name(path) != image_id:
            raise ValueError(f"path is {path!r} of image_id {image_id!r}; expected the file below the data folder")
        if status not in STATUSES or len(sha1) != 40:
            raise ValueError(f"status is {status!r}, sha1 {sha1!r}; expected one of {', '.join(STATUSES)}, 40 digits")
    for name in _NUMBER_COLUMNS:
        if len(manifest) and int(getattr(manifest, name).min()) < 0:
            raise ValueError(f"{name} is {int(getattr(manifest, name).min())}; expected 0 or more")


def scan_photos(data_folder: Path, config: DataConfig, progress: Progress | None = None) -> tuple[Manifest, ClassList]:
    """Measures every training photograph (or takes it from the scan's cache) and says what may be used.

    Damaged files, files on the exclusion lists, those that an audit's decisions drop and, without an audit, repeated
    bytes within a class (if configured) keep their row and get a status; nothing on the disk is touched.

    Raises:
        DataError: No usable layout, no usable photograph in some class, or mistakes in an audit's decisions.
        ArtifactError: The audit is of other photographs.
    """
    progress = progress or NoProgress()
    lists = read_exclusions(config.exclude)
    found = find_photos(data_folder, progress)
    paths = [file.relative_to(data_folder).as_posix() for _, file in found]
    scan = scan_files(
        data_folder, paths, max_megapixels=config.max_megapixels, num_workers=config.num_workers,
        on_photo=count_with(progress, "reading photographs"),
    )  # fmt: skip
    excluded = find_excluded(lists, scan.image_id, data_folder, progress)
    names = [name for name, _ in found]
    verdicts = _read_verdicts(config, scan, names)
    class_names = [verdicts.labels.get(image_id, name) for image_id, name in zip(scan.image_id, names, strict=True)]
    status, problem = _judge(scan, class_names, excluded, verdicts, config.drop_exact_duplicates and not config.audit)
    classes = build_class_list(sorted(set(names)), find_equivalent_pairs(data_folder, names))
    manifest = Manifest(
        root=data_folder.resolve(),
        image_id=scan.image_id,
        path=scan.path,
        class_name=tuple(class_names),
        sha1=tuple(row.sha1 for row in scan.rows),
        pixel_sha1=tuple(row.pixel_sha1 for row in scan.rows),
        num_bytes=np.array([row.num_bytes for row in scan.rows], dtype=np.int64),
        width_px=np.array([row.width_px for row in scan.rows], dtype=np.int64),
        height_px=np.array([row.height_px for row in scan.rows], dtype=np.int64),
        look=group_looks(scan.thumbs()),
        status=tuple(status),
        problem=tuple(problem),
    )
    if 0 < config.class_limit < classes.num_trained:
        manifest, classes = _limit_classes(manifest, classes, config.class_limit)
    seen = {manifest.class_name[row] for row in manifest.used()}
    empty = [classes.label(g) for g, names in enumerate(classes.members) if not seen.intersection(names)]
    if empty:
        raise DataError(
            f"{data_folder}: no usable photograph in {len(empty)} classes, first {empty[0]!r}; add some or remove the folder"
        )
    return manifest, classes


def _limit_classes(manifest: Manifest, classes: ClassList, limit: int) -> tuple[Manifest, ClassList]:
    members = classes.members[:limit]
    names = tuple(sorted(name for group in members for name in group))
    allowed = set(names)
    rows = [row for row, name in enumerate(manifest.class_name) if name in allowed]
    kept: dict[str, Any] = {name: tuple(getattr(manifest, name)[row] for row in rows) for name in _TEXT_COLUMNS}
    kept |= {name: getattr(manifest, name)[rows] for name in _NUMBER_COLUMNS}
    return Manifest(root=manifest.root, **kept), ClassList(names=names, members=members)


def _read_verdicts(config: DataConfig, scan: PhotoScan, class_names: Sequence[str]) -> Verdicts:
    if not config.audit:
        return Verdicts()
    audit = read_audit(Path(config.audit))
    check_same_photos(audit, scan.image_id, [row.sha1 for row in scan.rows])
    return judge_photos(audit.decisions, scan.image_id, class_names, f"decisions of {config.audit}")


def check_unchanged(manifest: Manifest, num_workers: int, advice: str) -> None:
    """Reads all used photographs again and compares their SHA-1.

    Raises:
        DataError: The folder is gone, or some are missing or have other bytes; how many, and the first, are named.
    """
    if not manifest.root.is_dir():
        raise DataError(f"{manifest.root}: the folder of the run's photographs is not there; {advice}")

    def find_problem(row: int) -> str:
        file = manifest.root / manifest.path[row]
        try:
            same = hashlib.sha1(read_photo_bytes(file)).hexdigest() == manifest.sha1[row]
        except DataError:
            return "with other bytes" if file.exists() else "missing"
        return "" if same else "with other bytes"

    rows = [int(row) for row in manifest.used()]
    with ThreadPoolExecutor(count_workers(num_workers)) as pool:
        problems = {manifest.image_id[row]: problem for row, problem in zip(rows, pool.map(find_problem, rows), strict=True)}
    changed = [f"{image_id} ({problem})" for image_id, problem in problems.items() if problem]
    if changed:
        raise DataError(
            f"{manifest.root}: {len(changed)} of {len(rows)} photographs are not those of the run: {listed(changed)}; {advice}"
        )


def check_same_folder(manifest: Manifest, config: DataConfig) -> None:
    """Looks whether a data folder holds photographs that a run, which was made from it, does not know.

    With ``data.class_limit`` only the folders of the run's classes are looked at.

    Raises:
        DataError: It does, or there is no such folder.
    """
    known, folders = set(manifest.image_id), {PurePath(path).parent for path in manifest.path}
    found = [file.relative_to(manifest.root) for _, file in find_photos(manifest.root)]
    new = [
        normalize_name(file.as_posix())
        for file in found
        if normalize_name(file.as_posix()) not in known and (not config.class_limit or file.parent in folders)
    ]
    if new:
        raise DataError(
            f"{manifest.root}: {len(new)} photographs are new since the run was made: {listed(new)}; "
            "move them away, or start a new run with another --out"
        )


def _judge(
    scan: PhotoScan, class_names: Sequence[str], excluded: dict[str, str], verdicts: Verdicts, drop_duplicates: bool
) -> tuple[list[str], list[str]]:
    first_of: dict[tuple[str, str], str] = {}
    status, problem = [], []
    for image_id, class_name, row in zip(scan.image_id, class_names, scan.rows, strict=True):
        name = Path(image_id).name
        state, reason = USED, ""
        if row.problem:
            state, reason = DAMAGED, row.problem
        elif image_id in excluded:
            state, reason = EXCLUDED, f"listed in {excluded[image_id]}"
        elif image_id in verdicts.dropped:
            kind, why = verdicts.dropped[image_id]
            state, reason = DUPLICATE if kind == "exact_duplicate" else EXCLUDED, f"{kind}: {why}"
        elif drop_duplicates and (class_name, row.sha1) in first_of:
            state, reason = DUPLICATE, f"same bytes as {first_of[class_name, row.sha1]}"
        else:
            first_of.setdefault((class_name, row.sha1), name)
            reason = f"relabelled to {class_name}" if image_id in verdicts.labels else ""
        status.append(state)
        problem.append(reason)
    return status, problem


def find_equivalent_pairs(data_folder: Path, class_names: Iterable[str]) -> list[tuple[str, str]]:
    """The pairs of ``DATA/equivalent_classes.csv`` if it exists, else those of the contest's own of which both names exist.

    A user's own pairs bind whoever wrote them; the contest's say nothing about a stranger's classes.
    """
    beside = data_folder / "equivalent_classes.csv"
    if beside.is_file():
        return read_equivalent_pairs(beside)
    with resources.as_file(resources.files("hectocar.contest") / "equivalent_classes.csv") as path:
        pairs = read_equivalent_pairs(path)
    known = {normalize_name(name) for name in class_names}
    return [pair for pair in pairs if known.issuperset(map(normalize_name, pair))]
