"""Out-of-fold answers of all runs, brought into one order of photographs: the evidence that a finish is fitted on.

Shapes: N photographs, R runs, V views, G trained classes, D dimensions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration.choose_views import ViewChoice, choose_views
from hectocar.calibration.evidence import Evidence
from hectocar.calibration.link import NUM_CROWD, normalize_logits
from hectocar.calibration.neighbours import UnitBank, find_neighbours, to_unit
from hectocar.calibration.screen_views import ScreenedView, screen_views
from hectocar.dataset.run_inputs import Run
from hectocar.delivery.bundle import Bank
from hectocar.errors import ArtifactError
from hectocar.finishing.out_of_fold import CLEAN, UNUSABLE_CONDITION, ViewTable
from hectocar.photos.unusable import UNUSABLE
from hectocar.photos.views import View

NUM_NEIGHBOURS = 100
NUM_OUTER_FOLDS = 5
"""Where a single fold is finished, its photographs are dealt into so many parts."""


@dataclass(frozen=True)
class SearchedBank:
    """What neighbours are looked for among."""

    bank: Bank
    unit: UnitBank
    group_B: NDArray[np.int64]


Banks = dict[tuple[int, int], SearchedBank]
"""By (run, fold)."""


@dataclass(frozen=True)
class Gathered:
    """The tables of all runs, brought into one order of photographs."""

    tables: dict[str, list[ViewTable]]
    rows: dict[str, list[NDArray[np.int64]]]
    """Per condition and run the row of each photograph; unusable ones by kind, too."""
    conditions: list[str]
    label_of: dict[str, int]
    name_of: dict[str, str]
    group_of: dict[str, int]
    fold_of: dict[str, int]
    suspects: frozenset[str]

    def ids(self, condition: str) -> list[str]:
        table, rows = self.tables[condition][0], self.rows[condition][0]
        return [table.image_id[row] for row in rows]

    def choose_views(self, views: Sequence[View], num_models: int, prior_G: NDArray[np.float64]) -> ViewChoice:
        """Those that pay, the first one among those that embed."""
        evidence, unusable = self._stack(self.conditions), self._stack([UNUSABLE_CONDITION])
        firsts = [place for place, view in enumerate(views) if view.embeds]
        return choose_views(evidence, unusable, len(views), num_models, firsts, prior_G)

    def build(self, banks: Banks, view: str) -> tuple[Evidence, Evidence]:
        """Evidence with neighbours among the embeddings of a view: real photographs, and unusable ones."""
        return self._stack(self.conditions, banks, view), self._stack([UNUSABLE_CONDITION], banks, view)

    def build_banks(self, trained: Sequence[ViewTable], view: str) -> Banks:
        """Of each run's fold every photograph: those that its network held out, and those that it was trained on."""
        banks = {}
        for number, (clean, others) in enumerate(zip(self.tables[CLEAN], trained, strict=True)):
            for fold in np.unique(clean.fold):
                parts = [(table, np.flatnonzero(table.fold == fold)) for table in (clean, others)]
                ids = [table.image_id[row] for table, rows in parts for row in rows]
                embeddings = np.concatenate([table.embeddings_of(view)[rows] for table, rows in parts])
                labels = np.array([self.label_of[image_id] for image_id in ids], dtype=np.int64)
                groups = np.array([self.group_of[image_id] for image_id in ids], dtype=np.int64)
                bank = Bank(to_unit(embeddings), labels, len(parts[0][1]))
                banks[(number, int(fold))] = SearchedBank(bank, UnitBank.prepare(bank.embeddings), groups)
        return banks

    def _neighbours(self, condition: str, number: int, banks: Banks, view: str) -> tuple[NDArray[Any], ...]:
        """Classes and cosines of the nearest photographs in the space of the query's own fold, and cosines of the nearest
        that its network has not seen; the query's group is left out."""
        table, rows = self.tables[condition][number], self.rows[condition][number]
        labels = np.full((len(rows), NUM_NEIGHBOURS), -1, dtype=np.int64)
        cosines = np.full((len(rows), NUM_NEIGHBOURS), -np.inf, dtype=np.float32)
        unseen = np.full((len(rows), NUM_CROWD), -np.inf, dtype=np.float32)
        fold_N = table.fold[rows]
        for fold in np.unique(fold_N):
            searched = banks[(number, int(fold))]
            num_unseen, group_B = searched.bank.num_unseen, searched.group_B
            here = np.flatnonzero(fold_N == fold)
            own = np.array([self.group_of[table.image_id[row]] for row in rows[here]], dtype=np.int64)
            queries = to_unit(table.embeddings_of(view)[rows[here]])
            found = find_neighbours(queries, searched.unit, NUM_NEIGHBOURS, query_group_Q=own, bank_group_B=group_B)
            labels[here], cosines[here] = found.take_labels(searched.bank.labels), found.cosine_Qk
            unseen[here] = find_neighbours(
                queries, searched.unit.first(num_unseen), NUM_CROWD, query_group_Q=own, bank_group_B=group_B[:num_unseen]
            ).cosine_Qk
        return labels, cosines, unseen

    def _stack(self, conditions: Sequence[str], banks: Banks | None = None, view: str = "") -> Evidence:
        """Rows of the conditions one below the other; without banks, without neighbours."""
        num_models = len(self.tables[CLEAN])
        ids = [image_id for condition in conditions for image_id in self.ids(condition)]
        numbers = {image_id: number for number, image_id in enumerate(sorted(set(ids)))}
        pairs = [
            [self._neighbours(condition, number, banks, view) for condition in conditions] if banks else []
            for number in range(num_models)
        ]
        names = tuple(UNUSABLE) if list(conditions) == [UNUSABLE_CONDITION] else tuple(conditions)
        return Evidence(
            log_probs=tuple(
                np.concatenate([self._log_probs(condition, number, place) for condition in conditions])
                for number in range(num_models)
                for place in range(len(self.tables[CLEAN][0].views))
            ),
            neighbour_labels=tuple(np.concatenate([part[0] for part in found]) for found in pairs if found),
            neighbour_cosines=tuple(np.concatenate([part[1] for part in found]) for found in pairs if found),
            unseen_cosines=tuple(np.concatenate([part[2] for part in found]) for found in pairs if found),
            looks=np.concatenate([self.tables[condition][0].looks[self.rows[condition][0]] for condition in conditions]),
            label_N=np.array([self.label_of[image_id] for image_id in ids], dtype=np.int64),
            fold_N=np.array([self.fold_of[image_id] for image_id in ids], dtype=np.int64),
            photo_N=np.array([numbers[image_id] for image_id in ids], dtype=np.int64),
            condition_N=np.concatenate([self._places(condition, names) for condition in conditions]),
            conditions=names,
            suspect_N=np.array([image_id in self.suspects for image_id in ids], dtype=np.bool_),
        )

    def _log_probs(self, condition: str, number: int, place: int) -> NDArray[np.float32]:
        return normalize_logits(self.tables[condition][number].logits[place][self.rows[condition][number]])

    def _places(self, condition: str, names: tuple[str, ...]) -> NDArray[np.int64]:
        table, rows = self.tables[condition][0], self.rows[condition][0]
        return np.array([names.index(table.kind[row] or condition) for row in rows], dtype=np.int64)


def _describe_too_few(run: Run, num_found: int, condition: str) -> str:
    num_dealt = np.count_nonzero(run.folds.fold >= 0)
    if num_dealt < 2 * NUM_OUTER_FOLDS:  # no further fold would help
        return (
            f"{run.folder}: trained with {num_dealt} photographs; fitting needs {2 * NUM_OUTER_FOLDS} or more; give more "
            f"photographs, or make a bundle of it as it is: `hectocar bundle {run.folder} --out BUNDLE`"
        )
    return f"only {num_found} photographs ({condition}) were held out by every run; train more folds of each run first"


def gather(run: Run, tables: dict[str, list[ViewTable]], conditions: list[str], suspects: frozenset[str]) -> Gathered:
    rows = {}
    for condition, runs in tables.items():
        places = [{key: row for row, key in enumerate(zip(t.image_id, t.kind, strict=True))} for t in runs]
        common = sorted(set.intersection(*(set(place) for place in places)))
        if len(common) < 2 * NUM_OUTER_FOLDS:
            raise ArtifactError(_describe_too_few(run, len(common), condition))
        rows[condition] = [np.array([place[key] for key in common], dtype=np.int64) for place in places]
    manifest, folds = run.manifest, run.folds
    fold_N = folds.fold
    if len(np.unique(tables[CLEAN][0].fold)) < 2:  # one finished fold: its groups are dealt into parts
        fold_N = np.unique(folds.group, return_inverse=True)[1] % NUM_OUTER_FOLDS
    ids = manifest.image_id
    return Gathered(
        tables=tables,
        rows=rows,
        conditions=conditions,
        label_of=dict(zip(ids, manifest.labels(run.classes).tolist(), strict=True)),
        name_of=dict(zip(ids, manifest.class_name, strict=True)),
        group_of=dict(zip(ids, folds.group.tolist(), strict=True)),
        fold_of=dict(zip(ids, fold_N.tolist(), strict=True)),
        suspects=suspects,
    )


def screen_tables(runs: Sequence[Run], tables: Mapping[str, Sequence[ViewTable]]) -> list[ScreenedView]:
    """Every view on every part: by condition and run."""
    rows = []
    for condition, of_runs in tables.items():
        for run, table in zip(runs, of_runs, strict=True):
            label_of = dict(zip(run.manifest.image_id, run.manifest.labels(run.classes).tolist(), strict=True))
            label_N = np.array([label_of[image_id] for image_id in table.image_id], dtype=np.int64)
            part = condition if len(runs) == 1 else f"{condition}, {run.folder.name}"
            rows += screen_views(table.views, [normalize_logits(logits) for logits in table.logits], label_N, part)
    return rows
