"""Photographs in, names and probabilities out: ``Classifier`` is what programs import, and what ``hectocar predict`` uses.

Shapes: B photographs of a batch, V views, G trained classes.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hectocar.calibration.link import (
    NUM_CROWD,
    Answer,
    average_answers,
    average_folds,
    measure_closeness,
    normalize_logits,
)
from hectocar.calibration.neighbours import NeighbourModel, UnitBank, find_neighbours, to_unit
from hectocar.delivery.bundle import load_bank, load_network, read_model
from hectocar.delivery.choice import choose_folds, choose_level
from hectocar.delivery.members import BundleSpec, Member
from hectocar.delivery.prediction import Prediction, ProbabilityTable
from hectocar.errors import ConfigError, DataError
from hectocar.network.arithmetic import choose_device
from hectocar.network.carnet import CarNet
from hectocar.network.inference import choose_batch_bytes, infer_views, send_pictures
from hectocar.network.sizes import check_sizes
from hectocar.photos.batches import RenderBatch, iter_render_batches, render_photo
from hectocar.photos.decode import Pixels, read_photo_bytes
from hectocar.photos.views import Render, View, find_views, own_views, plan_renders

Photo = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image
_PHOTO_KINDS = "a path, the bytes of a file, or a Pillow image (Image.fromarray makes one of an array)"


@dataclass(frozen=True)
class _Loaded:
    """A member ready to answer: where its views lie among all renders."""

    member: Member
    network: CarNet
    places: list[tuple[int, bool]]
    bank: "_Bank | None"


@dataclass(frozen=True)
class _Bank:
    """A member's bank, ready to be searched."""

    unit: UnitBank
    label_B: NDArray[np.int64]
    num_unseen: int


class Classifier:
    """A trained ensemble, ready for photographs.

    Example:
        >>> classifier = Classifier.load("bundle")
        >>> classifier.predict("car.jpg").name
    """

    def __init__(
        self, spec: BundleSpec, device: torch.device, *, num_views: int | None = None, num_folds: int | None = None
    ) -> None:
        self.spec = choose_folds(spec, num_folds)
        self.classes = spec.classes
        self.names = tuple(spec.classes.label(g) for g in range(spec.classes.num_trained))
        self.level = choose_level(spec, num_views)
        brightness = spec.finish.brightness if spec.finish else 0.0
        renders: list[Render] = []
        self.members: list[_Loaded] = []
        for member in self.spec.members:
            views, model = self.views_of(member), spec.models[member.model]
            own, places = plan_renders(views, member.size_px, model.inference.fit, brightness)
            renders += [render for render in own if render not in renders]
            places = [(renders.index(own[place]), mirror) for place, mirror in places]
            network = load_network(spec, member, device)
            check_sizes(network, [render.size_px for render in own])
            self.members.append(_Loaded(member, network, places, self._open_bank(member, network.embed_dim)))
        self.renders = tuple(renders)

    @classmethod
    def load(
        cls, folder: str | Path, device: str = "auto", *, num_views: int | None = None, num_folds: int | None = None
    ) -> "Classifier":
        """Loads a bundle, or a run with at least one finished fold.

        Args:
            folder: The bundle or run.
            device: ``auto``, ``cpu``, ``cuda``, ...
            num_views: Look at each photograph in so many views at most; None takes all that the bundle was fitted for.
            num_folds: Ask the networks of so many folds of each model; None asks all.

        Raises:
            ArtifactError: Not a bundle or run, or damaged.
            ConfigError: No such device, or no such number of views or folds.
        """
        return cls(read_model(Path(folder)), choose_device(device), num_views=num_views, num_folds=num_folds)

    def views_of(self, member: Member) -> tuple[View, ...]:
        """The views in which a member looks at a photograph."""
        return find_views(self.level.views) if self.level else own_views(self.spec.models[member.model].inference.mirror)

    @property
    def cost(self) -> float:
        """Work of a photograph, in plain views of one network."""
        per_network = self.level.cost if self.level else float(len(self.views_of(self.spec.members[0])))
        return per_network * len(self.members)

    def predict(self, photo: Photo, *, top: int = 5) -> Prediction:
        """The most probable classes of one photograph: a path, its bytes, or a Pillow image of any mode, all with one answer.

        Raises:
            ConfigError: ``top`` is not positive.
            DataError: The photograph cannot be read; there is no silent substitute.
        """
        _check_top(top)
        pixels = read_photo(photo)
        try:
            pictures, look_K = render_photo(pixels, self.renders, self.spec.max_megapixels)
        except DataError as error:
            raise DataError(f"{name_photo(photo)}{error}") from error
        stacked = tuple(picture[None].copy() for picture in pictures)
        probs_G = self.answer(RenderBatch(stacked, look_K[None], np.zeros(1, dtype=np.int64), {}))[0]
        return self._name(probs_G, top)

    def predict_many(self, photos: Sequence[Photo], *, top: int = 5) -> list[Prediction]:
        """The most probable classes of each photograph, in order; of one that cannot be read ``problem`` says why."""
        _check_top(top)
        table = self.predict_proba(photos)
        return [self._name(probs_G, top, table.problems.get(row, "")) for row, probs_G in enumerate(table.probs_NG)]

    def predict_proba(
        self, photos: Sequence[Photo], *, num_workers: int = 0, on_photo: Callable[[int, int], None] | None = None
    ) -> ProbabilityTable:
        """(N, G) probabilities over ``names`` of photographs of any kind; unreadable ones get the class prior and are named.

        Args:
            photos: Paths, bytes, Pillow images.
            num_workers: Decoding threads, 0 for one per core.
            on_photo: Gets (done, total).
        """
        probs_NG = np.zeros((len(photos), self.classes.num_trained))
        problems: dict[int, str] = {}
        for batch in self._iter_batches(photos, num_workers):
            probs_NG[batch.index_B] = self.answer(batch)
            problems |= {int(batch.index_B[place]): reason for place, reason in batch.problems.items()}
            if on_photo:
                on_photo(int(batch.index_B[-1]) + 1, len(photos))
        for row in problems:
            probs_NG[row] = self.spec.prior
        return ProbabilityTable(probs_NG, problems)

    def embed(self, photos: Sequence[Photo]) -> NDArray[np.float32]:
        """(N, D) embeddings of length 1: those of every network, side by side, so that a cosine is the mean of theirs.

        Raises:
            DataError: A photograph cannot be read; it is named.
        """
        parts: list[NDArray[np.float32]] = [np.zeros((0, sum(loaded.network.embed_dim for loaded in self.members)), np.float32)]
        for batch in self._iter_batches(photos, 0):
            for place, reason in batch.problems.items():
                raise DataError(f"{name_photo(photos[int(batch.index_B[place])])}{reason}")
            pictures = send_pictures(batch.pictures, self.members[0].network)
            own = [self._embed(loaded, pictures) for loaded in self.members]
            parts.append(np.hstack(own) / np.float32(np.sqrt(len(own))))
        return np.concatenate(parts)

    def _embed(self, loaded: _Loaded, pictures: Sequence[Tensor]) -> NDArray[np.float32]:
        precision = self.spec.models[loaded.member.model].precision
        _, embeddings = infer_views(loaded.network, pictures, loaded.places[:1], precision)
        unit: NDArray[np.float32] = embeddings[0] / np.maximum(np.linalg.norm(embeddings[0], axis=1, keepdims=True), 1e-12)
        return unit

    def _name(self, probs_G: NDArray[np.float64], top: int, problem: str = "") -> Prediction:
        order = np.argsort(-probs_G, kind="stable")[:top]
        return Prediction(tuple(self.names[g] for g in order), tuple(float(probs_G[g]) for g in order), problem)

    def __repr__(self) -> str:
        views = len(self.views_of(self.spec.members[0]))
        finished = "finished" if self.level else "not finished"
        return (
            f"Classifier({str(self.spec.folder)!r}: {len(self.names)} classes, {len(self.members)} networks x {views} views, "
            f"{finished})"
        )

    def _iter_batches(self, photos: Sequence[Photo], num_workers: int) -> Iterator[RenderBatch]:
        batch_size = min(model.inference.batch_size for model in self.spec.models)
        return iter_render_batches(
            photos,
            self.renders,
            batch_size=batch_size,
            num_workers=num_workers,
            max_megapixels=self.spec.max_megapixels,
            read=read_photo,
            max_bytes=choose_batch_bytes(self.members[0].network),
        )

    def answer(self, batch: RenderBatch) -> NDArray[np.float64]:
        """(B, G) probabilities of a batch in ``self.renders``."""
        return self.combine(self.ask(batch), batch.look_BK)

    def ask(self, batch: RenderBatch) -> list[list[Answer]]:
        """By model and fold, what each network says about a batch in ``self.renders``."""
        pictures, numbers = send_pictures(batch.pictures, self.members[0].network), range(len(self.spec.models))
        return [[self._ask(loaded, pictures) for loaded in self._members_of(number)] for number in numbers]

    def combine(self, answers: Sequence[Sequence[Answer]], look_BK: NDArray[np.float32]) -> NDArray[np.float64]:
        """(B, G) probabilities by the answers of some networks of each model."""
        if self.level is None or self.spec.finish is None:
            return np.exp(average_folds([table for folds in answers for table in average_answers(folds).sources]))
        return self.level.apply(answers, look_BK, self.spec.prior, self.spec.finish.brightness)

    def _members_of(self, model: int) -> list[_Loaded]:
        return [loaded for loaded in self.members if loaded.member.model == model]

    def _ask(self, loaded: _Loaded, pictures: Sequence[Tensor]) -> Answer:
        """What one network says, and its neighbours where they are asked."""
        precision = self.spec.models[loaded.member.model].precision
        logits, embeddings = infer_views(loaded.network, pictures, loaded.places, precision)
        sources = tuple(normalize_logits(view) for view in logits)
        if loaded.bank is None or self.spec.finish is None:
            return Answer(sources, np.empty((len(pictures[0]), 0)), np.empty((len(pictures[0]), 0)))
        return Answer(sources, *self._ask_bank(loaded.bank, self.spec.finish.neighbours, embeddings[0]))

    def _open_bank(self, member: Member, embed_dim: int) -> _Bank | None:
        """In float32: converted at each question, 33,000 rows would take longer than the network."""
        bank = load_bank(self.spec, member, embed_dim) if self.level is not None and self.level.asks_neighbours else None
        return None if bank is None else _Bank(UnitBank.prepare(bank.embeddings), bank.labels, bank.num_unseen)

    def _ask_bank(
        self, bank: _Bank, model: NeighbourModel, embeddings_BD: NDArray[np.float32]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Votes of the neighbours, and how close they are."""
        queries, num_wanted = to_unit(embeddings_BD.astype(np.float16)), max(model.k, NUM_CROWD)
        found = find_neighbours(queries, bank.unit, num_wanted)
        votes = model.apply(found.take_labels(bank.label_B), found.cosine_Qk, np.array(self.spec.prior))
        unseen = find_neighbours(queries, bank.unit.first(bank.num_unseen), NUM_CROWD)
        return votes, np.hstack([measure_closeness(found.cosine_Qk), measure_closeness(unseen.cosine_Qk)])


def _check_top(top: int) -> None:
    if isinstance(top, bool) or not isinstance(top, int) or top < 1:
        raise ConfigError(f"top is {top!r}; allowed: whole numbers from 1 on, how many classes to name")


def read_photo(photo: Photo) -> Pixels:
    """A photograph's bytes, or the Pillow image itself.

    Raises:
        DataError: The file cannot be read, or it is something else.
    """
    if isinstance(photo, Image.Image):
        return photo
    if isinstance(photo, bytes | bytearray | memoryview):
        return bytes(photo)
    if isinstance(photo, str | os.PathLike):
        return read_photo_bytes(Path(os.fsdecode(photo)))
    raise DataError(f"a photograph is {type(photo).__name__}; allowed: {_PHOTO_KINDS}")


def name_photo(photo: Photo) -> str:
    """Begins a message about a photograph that has a name."""
    return f"{os.fsdecode(photo)}: " if isinstance(photo, str | os.PathLike) else ""
