"""Training steps per second on a CPU, with timm's convolutions and with ours, in turn (A B A B ...), warm-up outside.

python benchmarks/cpu_step.py --sizes 128 160
"""

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch

from hectocar.network.depthwise import speed_up_depthwise


def build_step(name: str, size_px: int, batch: int, ours: bool) -> Callable[[], None]:
    """A whole training step (forward, backward, AdamW) in bfloat16 and channels_last."""
    network = timm.create_model(name, num_classes=200).to(memory_format=torch.channels_last)
    if ours:
        speed_up_depthwise(network)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    images = torch.randn(batch, 3, size_px, size_px).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 200, (batch,))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(network(images).float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mobilenetv2_100")
    parser.add_argument("--sizes", type=int, nargs="+", default=[128, 160])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=12)
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    for size_px in args.sizes:
        steps = {
            "timm": build_step(args.model, size_px, args.batch, False),
            "ours": build_step(args.model, size_px, args.batch, True),
        }
        times: dict[str, list[float]] = {"timm": [], "ours": []}
        for run in range(args.runs + 2):
            for who, step in steps.items():
                started = time.perf_counter()
                step()
                if run >= 2:
                    times[who].append(time.perf_counter() - started)
        rates = {who: sorted(args.batch / value for value in values) for who, values in times.items()}
        for who, values in rates.items():
            print(f"{size_px} px {who}: {statistics.median(values):.1f} images/s ({values[0]:.1f} to {values[-1]:.1f})")
        ratios = [a / b for a, b in zip(times["timm"], times["ours"], strict=True)]
        print(
            f"{size_px} px ratio pair by pair: median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
