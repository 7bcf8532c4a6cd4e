"""Out-of-fold predictions on the disk: RUN/oof/<condition>_fold<k>_<network>_<photographs>_<views>.npz, made once and shared.

A file is taken where network, photographs and condition are those asked for and its views are among them, more views included:
`audit --run` takes what `finish` made. Other views stand in files beside it. When a network has changed, what the old one said
about the condition is removed; of one network the newest few files stay.
Shapes: N photographs, V views, E views that embed, G trained classes, D dimensions, K looks.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.disk.artifacts import compute_digest, load_arrays, save_arrays
from hectocar.photos.views import LOOK_NAMES, VIEWS, Render, View

MAX_FILES = 4
"""Of one network and condition: sets of views that are kept side by side."""
_DIGITS = 12


@dataclass(frozen=True)
class Predictions:
    """What one network says about photographs in some views."""

    logits: NDArray[np.float32]
    """(V, N, G)."""
    embeddings: NDArray[np.float16]
    """(E, N, D) of the views that embed, in their order."""
    looks: NDArray[np.float32]
    """(N, K)."""


@dataclass(frozen=True)
class Shelf:
    """Where the answers of one network about some photographs under one condition lie."""

    folder: Path
    condition: str
    fold: int
    network: str
    """SHA-256 of its weights."""
    made_of: str
    """Digest of all but the views: network, precision, photographs and their bytes, condition."""
    num_photos: int
    num_classes: int

    def find(self, views: Sequence[View], renders: Sequence[Render]) -> Predictions | None:
        """The answers in these views, in this order; None where no file has them all.

        Args:
            views: Asked for.
            renders: Of each view, the pixels that the network sees.
        """
        digests = [_view_digest(view, render) for view, render in zip(views, renders, strict=True)]
        exact = self._path(digests)
        others = (file for file in sorted(self.folder.glob(f"{self._stem()}_*.npz")) if file != exact)
        for file in (exact, *others):
            found = self._load(file, digests)
            if found is not None:
                return found
        return None

    def put(self, predictions: Predictions, views: Sequence[View], renders: Sequence[Render]) -> None:
        """Keeps the answers and makes room: nothing of an older network stays, and only the newest files of this one."""
        digests = [_view_digest(view, render) for view, render in zip(views, renders, strict=True)]
        path = self._path(digests)
        names = [view.name for view in views]
        save_arrays(path, made_of=self.made_of, views=names, digests=digests, **predictions.__dict__)
        own = f"{self.condition}_fold{self.fold}_{self.network[:_DIGITS]}_"
        files = {*self.folder.glob(f"{self.condition}_fold{self.fold}_*.npz")}
        files |= {*self.folder.glob(f"{self.condition}_fold{self.fold}.npz")}  # as they were named before there were several
        kept = sorted((file for file in files if file.name.startswith(own)), key=lambda file: (file == path, _age(file)))
        for file in files - {*kept[-MAX_FILES:]}:
            file.unlink(missing_ok=True)

    def _stem(self) -> str:
        return f"{self.condition}_fold{self.fold}_{self.network[:_DIGITS]}_{self.made_of[:_DIGITS]}"

    def _path(self, digests: Sequence[str]) -> Path:
        return self.folder / f"{self._stem()}_{compute_digest(list(digests))[:_DIGITS]}.npz"

    def _load(self, file: Path, digests: Sequence[str]) -> Predictions | None:
        """None where there is no file yet, or it is damaged or of something else: then it is made again."""
        data = load_arrays(file) or {}
        stored: list[Any] = data["digests"].tolist() if "digests" in data else []
        if str(data.get("made_of")) != self.made_of or not {*digests} <= {*stored} or "views" not in data:
            return None
        names: list[Any] = data["views"].tolist()
        if len(names) != len(stored) or not {*names} <= VIEWS.keys():
            return None
        try:
            found = Predictions(data["logits"], data["embeddings"], data["looks"])
        except KeyError:
            return None
        if not self._fits(found, names):
            return None
        places = [stored.index(digest) for digest in digests]
        embedding = [place for place, name in enumerate(names) if VIEWS[name].embeds]
        rows = [embedding.index(place) for place in places if place in embedding]
        return Predictions(found.logits[places], found.embeddings[rows], found.looks)

    def _fits(self, found: Predictions, names: Sequence[str]) -> bool:
        num_embed = sum(VIEWS[name].embeds for name in names)
        tables = (found.logits, found.embeddings, found.looks)
        return (
            found.logits.shape == (len(names), self.num_photos, self.num_classes)
            and found.embeddings.ndim == 3
            and found.embeddings.shape[:2] == (num_embed, self.num_photos)
            and found.looks.shape == (self.num_photos, len(LOOK_NAMES))
            and [str(table.dtype) for table in tables] == ["float32", "float16", "float32"]
            and all(bool(np.isfinite(table).all()) for table in tables)
        )


def _view_digest(view: View, render: Render) -> str:
    return compute_digest([view.name, view.mirror, view.embeds, asdict(render)])


def _age(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # another process has just removed it
        return 0.0
