"""How much it flatters to choose the epoch and the weights (raw or averaged) on the photographs that judge them.

A fold is trained with several seeds; the held-out log loss of every photograph, epoch and kind of weights is noted. Then, in
random halves of the held-out photographs (groups of duplicates stay together): the loss on half B of what is best on B
itself, against the loss on B of what is best on A, and of the last epoch's averaged weights (training.select: last). Half of
the photographs choose worse than all of them, so the figure is an upper bound for a whole fold.

python benchmarks/selection_bias.py DATA --weights FILE
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from hectocar.config.reader import read_config
from hectocar.lab.ablation_report import estimate_mean
from hectocar.network.inference import Outputs, infer_photos
from hectocar.progress import NoProgress
from hectocar.scoring.arrays import softmax
from hectocar.training import loop
from hectocar.training.run import Run, plan_run, train_folds

NUM_HALVES = 2000


def train_and_note(run: Run, fold: int) -> NDArray[np.float64]:
    """(E x 2, N) loss of each held-out photograph after each epoch with raw and with averaged weights."""
    noted: list[Outputs] = []

    def note(*args: object, **kwargs: object) -> list[Outputs]:
        outputs = infer_photos(*args, **kwargs)  # type: ignore[arg-type]
        noted.extend(outputs)
        return outputs

    loop.infer_photos = note
    train_folds(run, [fold], torch.device("cpu"), NoProgress())
    label_N = run.manifest.labels(run.classes)[run.folds.split(fold)[1]]
    return np.stack([-np.log(softmax(output.logits)[np.arange(len(label_N)), label_N]) for output in noted])


def judge_halves(loss_CN: NDArray[np.float64], group_N: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Mean loss on half B of: what is best on B, what is best on A, the last averaged weights."""
    rng, groups = np.random.default_rng(seed), np.unique(group_N)
    rows = []
    for _ in range(NUM_HALVES):
        in_a = np.isin(group_N, rng.permutation(groups)[: len(groups) // 2])
        on_a, on_b = loss_CN[:, in_a].mean(axis=1), loss_CN[:, ~in_a].mean(axis=1)
        rows.append((on_b.min(), on_b[on_a.argmin()], on_b[-1]))
    means: NDArray[np.float64] = np.mean(rows, axis=0)
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--classes", type=int, default=60)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fold", type=int, default=0)
    args = parser.parse_args()
    settings = [
        f"network.weights='{args.weights}'", f"data.class_limit={args.classes}", f"training.epochs={args.epochs}",
        f"training.sizes=[{{epochs: 1, size_px: {args.size}, batch_size: 32, learning_rate: 1.0e-3}}]",
        f"inference.size_px={args.size}",
    ]  # fmt: skip
    planned = plan_run(Path(), args.data, read_config("laptop", None, settings), NoProgress())
    group_N = planned.folds.group[planned.folds.split(args.fold)[1]]
    results = []
    for seed in range(1, args.seeds + 1):
        training = dataclasses.replace(planned.config.training, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            config = dataclasses.replace(planned.config, training=training)
            loss_CN = train_and_note(dataclasses.replace(planned, folder=Path(folder), config=config), args.fold)
        results.append((*judge_halves(loss_CN, group_N, seed), loss_CN.mean(axis=1).min(), loss_CN[-1].mean()))
        on_b, on_a, last, best, end = results[-1]
        print(
            f"seed {seed}, {loss_CN.shape[1]} held out: best of {len(loss_CN)} {best:.4f}, last {end:.4f}; on half B: "
            f"chosen on B {on_b:.4f}, chosen on A {on_a:.4f}, last {last:.4f}",
            flush=True,
        )
    table = np.array(results)
    rows = {
        "choosing on half B flatters by": table[:, 1] - table[:, 0],
        "choosing on half A costs against the last epoch": table[:, 1] - table[:, 2],
        "the best of a whole fold lies below the last by": table[:, 4] - table[:, 3],
    }
    for text, values in rows.items():
        estimate = estimate_mean(values.tolist())
        print(f"{text} {estimate.mean:+.4f} ± {estimate.standard_error:.4f} (standard error over seeds)")


if __name__ == "__main__":
    main()
