"""Counted memory of a training step (training/memory.py) beside what a process really takes, each in a fresh process.

python benchmarks/step_memory.py --backbone mobilenetv2_100 --sizes 112 160 224 --batch 32
"""

import argparse
import multiprocessing
import resource

import torch

from hectocar.config.schema import Config, NetworkConfig, SizePhase, TrainingConfig
from hectocar.network.carnet import CarNet
from hectocar.training.memory import step_bytes
from hectocar.training.optimizer import accumulate_gradients, build_optimizer, set_learning_rates


def measure(backbone: str, size_px: int, batch: int, chunks: int) -> tuple[float, float]:
    """(counted, taken) in GiB: the second is how much the process's peak grew from before the network was built."""
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    phase = SizePhase(epochs=1, size_px=size_px, batch_size=batch, learning_rate=1e-3)
    config = Config(
        network=NetworkConfig(backbone=backbone, weights="none", drop_path_max=0.0),
        training=TrainingConfig(sizes=(phase,), precision="float32"),
    )
    network = CarNet(config.network, 196).train()
    optimizer = build_optimizer(network, config.training)
    set_learning_rates(optimizer, 1e-6, 1e-6)
    images = torch.randn(batch, 3, size_px, size_px).to(memory_format=torch.channels_last)
    labels = torch.zeros(batch, 1, dtype=torch.int64)
    for _ in range(3):
        optimizer.zero_grad()
        accumulate_gradients(
            lambda *chunk: network.compute_loss(*chunk, margin_rad=0.0, label_smoothing=0.0),
            (images, labels, torch.ones(batch, 1)), chunks, lambda loss: loss,
        )  # fmt: skip
        optimizer.step()
    taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return step_bytes(config, network, phase, chunks) / 2**30, taken / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--sizes", type=int, nargs="+", default=[112, 160, 224])
    parser.add_argument("--batch", type=int, default=32)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for size_px in args.sizes:
        for chunks in (1, 4):
            with context.Pool(1) as pool:
                counted, taken = pool.apply(measure, (args.backbone, size_px, args.batch, chunks))
            print(f"{size_px} px, batch {args.batch} in {chunks}: counted {counted:.2f} GiB, taken {taken:.2f} GiB")


if __name__ == "__main__":
    main()
