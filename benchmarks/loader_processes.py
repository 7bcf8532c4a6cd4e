"""Training crops per second by threads and by processes, in turn, and what a photograph costs the interpreter's lock.

python benchmarks/loader_processes.py DATA/train --sizes 256 640 --workers 1 2

The lock: a thread counts in pure Python, once beside one decoding thread and once beside one decoding process, which takes the
same core but not the lock. What the counter loses to the former, per photograph, is the time that the lock was held or fought
for.
"""

import argparse
import dataclasses
import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np

from hectocar.config.reader import read_config
from hectocar.photos.pool import PhotoBatch
from hectocar.progress import NoProgress
from hectocar.training.crops import TrainingCrops

BATCH = 32


class Contestant:
    """One endless pass over the photographs, of which a window is timed; it stands still between."""

    def __init__(self, files: list[Path], loader: Literal["threads", "processes"], num_workers: int, size_px: int) -> None:
        config = read_config("seed2025")
        data = dataclasses.replace(config.data, loader=loader, num_workers=num_workers)
        self.crops = TrainingCrops(files, dataclasses.replace(config, data=data), "cpu", NoProgress())
        self.rows, self.size_px, self.epoch = np.arange(len(files) // BATCH * BATCH, dtype=np.int64), size_px, 0
        self.name = f"{num_workers} {loader}"

    def decode(self) -> Iterator[PhotoBatch]:
        self.epoch += 1
        return self.crops.iter_batches(list(self.rows.reshape(-1, BATCH)), self.size_px, self.epoch)

    def measure(self) -> float:
        """Images per second of a whole pass."""
        started = time.perf_counter()
        count = sum(len(batch.index_B) for batch in self.decode())
        return count / (time.perf_counter() - started)


@contextmanager
def counting(counts: list[int]) -> Iterator[None]:
    """Counts in a thread, in pure Python, as a training thread would launch kernels."""
    stop = threading.Event()

    def count() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(1000):
                number += 1
        counts.append(number)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def count_beside(contestant: Contestant) -> tuple[float, float, int]:
    """Counts per second, seconds, and photographs decoded in them."""
    counts: list[int] = []
    sys.setswitchinterval(1e-4)  # else a decoding thread waits 5 ms for each of its short turns, and few are seen
    started = time.perf_counter()
    with counting(counts):
        num_photos = sum(len(batch.index_B) for batch in contestant.decode())
    seconds = time.perf_counter() - started
    sys.setswitchinterval(5e-3)
    return counts[0] / seconds, seconds, num_photos


def describe(values: list[float], unit: str) -> str:
    return f"median {statistics.median(values):.2f}{unit} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 640])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=320, help="photographs in a pass")
    args = parser.parse_args()
    files = sorted(args.photographs.rglob("*.jpg"))[: args.count]
    for size_px in args.sizes:
        rivals = [Contestant(files, kind, n, size_px) for n in args.workers for kind in ("threads", "processes")]  # type: ignore[arg-type]
        rates: dict[str, list[float]] = {rival.name: [] for rival in rivals}
        locks: list[float] = []
        for number in range(args.rounds + 1):
            for rival in rivals if number % 2 else rivals[::-1]:
                rate = rival.measure()
                if number:
                    rates[rival.name].append(rate)
            beside_thread, seconds, num_photos = count_beside(rivals[0])
            beside_process, _, _ = count_beside(rivals[1])
            if number:
                locks.append(1000.0 * (1.0 - beside_thread / beside_process) * seconds / num_photos)
        print(f"{size_px} px, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {args.rounds} rounds")
        for name, values in rates.items():
            print(f"  {name}: {describe(values, ' images/s')}")
        most = args.workers[-1]
        for kind in ("threads", "processes"):
            one, many = rates[f"{args.workers[0]} {kind}"], rates[f"{most} {kind}"]
            print(f"  {kind}, {most} over one: {describe([b / a for a, b in zip(one, many, strict=True)], '')}")
        both = zip(rates[f"{most} threads"], rates[f"{most} processes"], strict=True)
        print(f"  {most} processes over threads: {describe([b / a for a, b in both], '')}")
        print(f"  lock a photograph, 1 thread: {describe(locks, ' ms')}")
        for rival in rivals:
            rival.crops.close()


if __name__ == "__main__":
    main()
