"""Photographs in, names and probabilities out: ``Classifier`` is what programs import, and what ``hectocar predict`` uses."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from hectocar.config import DataConfig
from hectocar.delivery.bundle import BundleSpec, group_by_size, load_networks, read_model
from hectocar.errors import DataError
from hectocar.network.inference import choose_device, infer_batch, infer_photos
from hectocar.photos.batches import view_photo
from hectocar.photos.decode import PhotoBatch, read_photo_bytes
from hectocar.scoring.metrics import log_softmax, softmax

Photo = str | Path | bytes | Image.Image


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one photograph, best first."""

    names: tuple[str, ...]
    """Equivalent names are joined by `` = ``."""
    probs: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def prob(self) -> float:
        return self.probs[0]


@dataclass(frozen=True)
class ProbabilityTable:
    """One row per photograph, in the order asked for."""

    probs_NG: NDArray[np.float64]
    """Over trained classes; a photograph that cannot be read has the class prior."""
    problems: dict[int, str]
    """Rows of the photographs that cannot be read, and why."""


class Classifier:
    """A trained ensemble, ready for photographs.

    Example:
        >>> classifier = Classifier.load("bundle")
        >>> classifier.predict("car.jpg").name
    """

    def __init__(self, spec: BundleSpec, device: torch.device) -> None:
        self.spec = spec
        self.classes = spec.classes
        self.networks = load_networks(spec, device)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> "Classifier":
        """Reads a bundle or a run.

        Raises:
            ArtifactError: It is missing, damaged, foreign or of another version.
        """
        return cls(read_model(Path(folder)), choose_device(device))

    def predict(self, photo: Photo, *, top: int = 5) -> Prediction:
        """The most probable classes of one photograph: a path, its bytes, or a Pillow image.

        Raises:
            DataError: The photograph cannot be read; there is no silent substitute.
        """
        probs_G = average_members(self._logits(photo))[0]
        order = np.argsort(-probs_G, kind="stable")[: max(1, top)]
        return Prediction(tuple(self.classes.label(int(g)) for g in order), tuple(float(probs_G[g]) for g in order))

    def predict_table(
        self, files: Sequence[Path], *, num_workers: int = 0, on_photo: Callable[[int, int], None] | None = None
    ) -> ProbabilityTable:
        """Probabilities of many photographs; damaged ones get the class prior and are named."""
        data = DataConfig(max_megapixels=self.spec.max_megapixels, num_workers=num_workers)
        groups = group_by_size(self.spec.members)
        logits: list[NDArray[np.float32]] = []
        problems: dict[int, str] = {}
        for number, (size_px, places) in enumerate(groups.items()):
            outputs = infer_photos(
                [self.networks[place] for place in places],
                files,
                size_px=size_px,
                inference=self.spec.inference,
                data=data,
                precision=self.spec.precision,
                on_photo=on_photo if number == 0 else None,
            )
            logits += [output.logits for output in outputs]
            problems |= outputs[0].problems
        probs_NG = average_members(logits) if len(files) else np.zeros((0, self.classes.num_trained))
        for row in problems:
            probs_NG[row] = self.spec.prior
        return ProbabilityTable(probs_NG, problems)

    def _logits(self, photo: Photo) -> list[NDArray[np.float32]]:
        data = _read_bytes(photo)
        results: list[NDArray[np.float32]] = []
        for size_px, places in group_by_size(self.spec.members).items():
            try:
                view = view_photo(data, size_px, self.spec.inference.fit, self.spec.max_megapixels)
            except DataError as error:
                where = f"{photo}: " if isinstance(photo, (str, Path)) else ""
                raise DataError(f"{where}{error}") from error
            batch = PhotoBatch(view[None].copy(), np.zeros(1, dtype=np.int64), {})
            for place in places:
                network, mirror = self.networks[place], self.spec.inference.mirror
                logits, _ = infer_batch(network, batch, mirror=mirror, precision=self.spec.precision)
                results.append(logits.cpu().numpy())
        return results


def average_members(logits_MNG: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Probabilities (N, G) from the geometric mean of the members' probabilities, which beats the arithmetic on log loss."""
    mean_NG: NDArray[np.float64] = np.mean([log_softmax(member) for member in logits_MNG], axis=0)
    return softmax(mean_NG)


def _read_bytes(photo: Photo) -> bytes:
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, Image.Image):  # through the one decoder, so that mode, alpha and orientation are treated alike
        buffer = io.BytesIO()
        photo.save(buffer, format="PNG", exif=photo.getexif())
        return buffer.getvalue()
    return read_photo_bytes(Path(photo))
