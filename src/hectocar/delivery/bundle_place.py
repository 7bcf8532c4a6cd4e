"""Where a bundle may be written, said before the work: a free place with room, or the very bundle that a kill left whole."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hectocar.disk.artifacts import compute_digest
from hectocar.disk.locks import hold_lock
from hectocar.disk.outputs import MARK, check_folder, read_mark
from hectocar.disk.writing import check_room
from hectocar.errors import ArtifactError

if TYPE_CHECKING:
    from hectocar.delivery.members import BundleSpec


@contextmanager
def claim_bundle(folder: Path, runs: Sequence["BundleSpec"], made_with: Sequence[str] = ()) -> Iterator[str]:
    """Says before the work, not after it, that a bundle may be written there, and keeps others from writing it.

    Args:
        folder: Of the bundle.
        runs: What it is made from.
        made_with: All else that it depends on.

    Yields:
        The digest of what it is made from.

    Raises:
        ArtifactError: Something else stands there, or another process writes it.
        WriteError: No room for the networks.
    """
    made_of = digest_runs(runs, made_with)
    check_bundle_place(folder, runs, made_of)
    with hold_lock(folder):
        if not check_bundle_place(folder, runs, made_of):
            check_room(folder, measure_networks(runs), "the networks")
        yield made_of


def check_bundle_place(folder: Path, runs: Sequence["BundleSpec"], made_of: str) -> bool:
    """Whether the very bundle stands there already, as a kill after the last step leaves it.

    Raises:
        ArtifactError: Another one does, or something else.
    """
    if not check_folder(folder, "bundle", inputs=[run.folder for run in runs]):
        return False
    mark = read_mark(folder / MARK)
    if mark is None or mark.made_of != made_of:
        raise ArtifactError(
            f"--out {folder}: a bundle of other networks or views exists already; give another folder or remove it first"
        )
    return True


def digest_runs(runs: Sequence["BundleSpec"], made_with: Sequence[str]) -> str:
    """Of networks and all else that a bundle is made from."""
    return compute_digest([[[m.sha256 for m in run.members] for run in runs], list(made_with)])


def measure_networks(runs: Sequence["BundleSpec"]) -> int:
    """Bytes of the weights of all members."""
    return sum((run.folder / member.file).stat().st_size for run in runs for member in run.members)
