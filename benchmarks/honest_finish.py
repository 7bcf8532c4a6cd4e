"""What a finish is worth on photographs that no network has seen, against an honest mean of folds, and whether it said so.

python benchmarks/honest_finish.py RUN BUNDLE --held-out LIST.csv [--data DATA] [--audit DIR] [--views N] [--limit N]

Train RUN with a part of the photographs left out, whole groups of duplicates: `--set data.exclude='[LIST.csv]'`, then `hectocar
finish RUN --out BUNDLE`. Every network of the bundle answers the part, as it is and shifted as in the run's second validation.
Rows of one network are means over the networks; differences are paired, against the plain arithmetic mean of all networks.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hectocar import Classifier
from hectocar.calibration.blend import ViewBlend
from hectocar.calibration.floor import DOUBT_NAMES, FloorLink, measure_doubts
from hectocar.calibration.link import (
    Answer,
    Side,
    arithmetic_mean,
    average_answers,
    average_folds,
    normalize_logits,
    safe_log,
)
from hectocar.dataset.decisions import SHIFT_FILE, read_audit, read_shift, suspected_photos
from hectocar.dataset.manifest import EXCLUDED
from hectocar.dataset.run_inputs import read_run
from hectocar.delivery.bundle import load_network
from hectocar.errors import HectocarError
from hectocar.network.arithmetic import choose_device
from hectocar.network.inference import infer_views
from hectocar.photos.batches import RenderBatch, iter_render_batches, shift_change
from hectocar.photos.decode import read_photo_bytes
from hectocar.photos.shift import PhotoShift
from hectocar.photos.views import VIEWS
from hectocar.scoring.metrics import standard_error
from hectocar.scoring.reliability import compute_reliability
from hectocar.tables import read_named_columns

Floats = NDArray[np.float64]
BASE = "plain, arithmetic mean of networks"


@dataclass(frozen=True)
class Part:
    """The photographs held out of everything."""

    image_id: tuple[str, ...]
    files: list[Path]
    label_N: NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """What each network says about the part: F networks, N photographs."""

    plain: list[NDArray[np.float32]]
    networks: list[Answer]
    look_NK: NDArray[np.float32]


def find_part(run: Path, held_out: Path, data: Path | None, limit: int | None) -> Part:
    """The photographs of the list; raises HectocarError where the run has seen one."""
    opened = read_run(run)
    classes, manifest = opened.classes, opened.manifest
    names = [cells["file"] for _, cells in read_named_columns(held_out, "held-out photographs", ("file",), ())][:limit]
    row_of = {image_id: row for row, image_id in enumerate(manifest.image_id)}
    rows = [row_of[name] for name in names if name in row_of]
    seen = [manifest.image_id[row] for row in rows if manifest.status[row] != EXCLUDED]
    if seen or len(rows) < 2:
        raise HectocarError(
            f"{held_out}: {len(rows)} photographs of the run, {len(seen)} of them not held out, first {seen[:1]}"
        )
    files = [(data or manifest.root) / manifest.path[row] for row in rows]
    return Part(tuple(manifest.image_id[row] for row in rows), files, manifest.labels(classes)[rows])


def ask(classifier: Classifier, files: list[Path], shift: PhotoShift | None) -> Answers:
    """Every network in the plain view and in those of the level; a photograph that cannot be read ends it."""
    spec, device = classifier.spec, next(classifier.members[0].network.parameters()).device
    plain = [VIEWS["plain"].render(m.size_px, spec.models[m.model].inference.fit, 0.0) for m in spec.members]
    renders = (*classifier.renders, *(render for render in dict.fromkeys(plain) if render not in classifier.renders))
    networks = [load_network(spec, member, device) for member in spec.members]
    precisions = [spec.models[member.model].precision for member in spec.members]
    size = spec.models[0].inference.batch_size
    parts: list[tuple[list[NDArray[np.float32]], list[Answer], NDArray[np.float32]]] = []
    for batch in iter_render_batches(
        files, renders, read=read_photo_bytes, batch_size=size, max_megapixels=spec.max_megapixels, change=shift_change(shift)
    ):
        if batch.problems:
            raise HectocarError(f"{files[batch.index_B[0]]}: {next(iter(batch.problems.values()))}")
        own = RenderBatch(batch.pictures[: len(classifier.renders)], batch.look_BK, batch.index_B, {})
        tables = [
            normalize_logits(infer_views(network, batch.pictures, [(renders.index(render), False)], precision)[0][0])
            for network, render, precision in zip(networks, plain, precisions, strict=True)
        ]
        parts.append((tables, [answer for folds in classifier.ask(own) for answer in folds], batch.look_BK))
    count = len(spec.members)
    return Answers(
        [np.concatenate([tables[number] for tables, _, _ in parts]) for number in range(count)],
        [stack([answers[number] for _, answers, _ in parts]) for number in range(count)],
        np.concatenate([looks for _, _, looks in parts]),
    )


def stack(parts: list[Answer]) -> Answer:
    """Answers about photographs one below the other."""
    sources = tuple(np.concatenate(tables) for tables in zip(*(part.sources for part in parts), strict=True))
    return Answer(sources, np.concatenate([part.votes for part in parts]), np.concatenate([part.closeness for part in parts]))


def compare(classifier: Classifier, answers: Answers) -> dict[str, list[Floats]]:
    """Log probabilities by way of answering; several tables where each network answers alone."""
    level, networks = classifier.level, answers.networks
    if level is None or len(classifier.spec.models) != 1:
        raise HectocarError("give the bundle of one finished run")
    mean = average_answers(networks)
    serve = lambda chosen: np.log(np.maximum(classifier.combine([chosen], answers.look_NK), 1e-15))  # noqa: E731
    rows = {
        "one network, plain": [np.asarray(table, dtype=np.float64) for table in answers.plain],
        BASE: [arithmetic_mean(answers.plain)],
        "plain, geometric mean of networks": [average_folds(answers.plain)],
        "+ views, equal weights": [average_folds(mean.sources)],
    }
    views = level.find(ViewBlend)
    if isinstance(views, ViewBlend):
        rows["one network, fitted views"] = [views.blend.apply(network.sources) for network in networks]
        rows["+ views, fitted weights"] = [views.blend.apply(mean.sources)]
    rows["one network, everything"] = [serve([network]) for network in networks]
    rows["everything, as served"] = [serve(networks)]
    return rows


def describe(rows: dict[str, list[Floats]], label_N: NDArray[np.int64], kept_N: NDArray[np.bool_]) -> list[str]:
    """Loss, difference to the base, top-1 and ECE of each way, over some photographs."""
    places, label = np.flatnonzero(kept_N), label_N[kept_N]
    losses = {name: np.mean([-table[places, label] for table in tables], axis=0) for name, tables in rows.items()}
    lines = [f"{'':36s} log loss          against the mean    top-1    ECE   ({len(places)} photographs)"]
    for name, tables in rows.items():
        loss_N, change_N = losses[name], losses[name] - losses[BASE]
        top1 = np.mean([(table[places].argmax(axis=1) == label).mean() for table in tables])
        ece = np.mean([compute_reliability(np.exp(table[places]), label).ece for table in tables])
        figures = (
            f"{loss_N.mean():.4f} ± {standard_error(loss_N):.4f}   {change_N.mean():+.4f} ± {standard_error(change_N):.4f}"
        )
        lines.append(f"{name:36s} {figures}   {top1:6.1%}  {ece:5.2%}")
    return lines


def describe_doubts(classifier: Classifier, answers: Answers) -> list[str]:
    """What the floor looks at: one network per photograph (fitted on), all one by one (served), their mean (served wrongly)."""
    level, finish = classifier.level, classifier.spec.finish
    if level is None or finish is None or level.find(FloorLink) is None:
        return []
    tables = [*answers.networks, average_answers(answers.networks)]
    bare, prior = replace(level, links=level.links[:-1]), np.array(classifier.spec.prior)
    doubts = []
    for table in tables:
        log_probs = safe_log(bare.apply([[table]], answers.look_NK, prior, finish.brightness))
        doubts.append(measure_doubts(log_probs, Side(table, answers.look_NK, prior, finish.brightness)))
    served, averaged = np.stack(doubts[:-1]), doubts[-1]
    rows = np.arange(len(averaged))
    fitted = served[rows % len(served), rows]
    lines = [f"{'doubt':16s} one network        served             averaged first     distance served, averaged (KS)"]
    for column, name in enumerate(DOUBT_NAMES):
        triple = (fitted[:, column], served[:, :, column].ravel(), averaged[:, column])
        figures = "  ".join(f"{values.mean():8.3f} ± {values.std():6.3f}" for values in triple)
        distances = [stats.ks_2samp(triple[0], values).statistic for values in triple[1:]]
        lines.append(f"{name:16s}{figures}   {distances[0]:.3f}  {distances[1]:.3f}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--held-out", type=Path, required=True, help="csv with a column file, as data.exclude takes it")
    parser.add_argument("--data", type=Path, help="where the photographs lie now (default: where the run found them)")
    parser.add_argument("--audit", type=Path, help="the same figures without this audit's suspects, too")
    parser.add_argument("--views", type=int)
    parser.add_argument("--limit", type=int, help="so many of the photographs only")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    part = find_part(args.run, args.held_out, args.data, args.limit)
    classifier = Classifier.load(args.bundle, device=str(choose_device(args.device)), num_views=args.views)
    suspects = suspected_photos(read_audit(args.audit).decisions) if args.audit else frozenset()
    trusted_N = np.array([image_id not in suspects for image_id in part.image_id])
    shift = read_shift(args.run / SHIFT_FILE) if (args.run / SHIFT_FILE).is_file() else None
    for name, change in (("clean", None), ("shifted", shift))[: 1 if shift is None else 2]:
        answers = ask(classifier, part.files, change)
        rows = compare(classifier, answers)
        print(f"\n{name}, {len(classifier.members)} networks", *describe(rows, part.label_N, trusted_N | True), sep="\n")
        if not trusted_N.all():
            print(f"\n{name}, without suspects", *describe(rows, part.label_N, trusted_N), sep="\n")
        print("", *describe_doubts(classifier, answers), sep="\n")
    if classifier.level is not None:
        clean, shifted = classifier.level.expected.describe()
        print(f"\nthe bundle expects of one network: clean {clean}, shifted {shifted}")
        clean, shifted = classifier.level.expected.describe_trusted()
        print(f"without {classifier.level.expected.num_suspects} suspects: clean {clean}, shifted {shifted}")


if __name__ == "__main__":
    main()
