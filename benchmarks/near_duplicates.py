"""Our search for close hashes against comparing all with all, against imagededup, and as the number of photographs grows.

    python benchmarks/near_duplicates.py brute --counts 10000 33000 100000
    python benchmarks/near_duplicates.py peer --packages PEER_ENV/lib/python3.11/site-packages --counts 33000
    python benchmarks/near_duplicates.py growth --plot docs/near_duplicates_growth.png

The hashes are random 64-bit codes; a twentieth of them was replaced by near copies of others, at each distance from 0 to the
radius. imagededup stays out of this project's environment: install it with --no-deps into another one, with PyWavelets and
tqdm beside it, and give that one's package folder, which is searched after our own. "wall" depends on what else the machine
does; "cpu" counts all processes that a search starts.
"""

import argparse
import json
import logging
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.auditing.hashes import find_close_pairs

Codes = NDArray[np.uint64]
Pairs = set[tuple[int, int, int]]
PLANTED_SHARE = 20


def simulate_codes(count: int, radius: int, seed: int) -> tuple[Codes, NDArray[np.int64]]:
    """(N,) random codes and the (P, 3) planted pairs: place, place of its near copy, bits that were flipped."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 2**64, count, dtype=np.uint64)
    originals, copies = generator.choice(count, (2, count // PLANTED_SHARE), replace=False)
    distances = np.arange(len(copies)) % (radius + 1)
    ranks = np.argsort(np.argsort(generator.random((len(copies), 64)), axis=1), axis=1)
    flips = np.packbits(ranks < distances[:, None], axis=1).view(np.uint64)[:, 0]
    codes[copies] = codes[originals] ^ flips
    return codes, np.stack([originals, copies, distances], axis=1)


def search_ours(codes: Codes, radius: int) -> Pairs:
    pairs = find_close_pairs(codes, codes, radius)
    behind = pairs.query < pairs.base
    columns = (column[behind].tolist() for column in (pairs.query, pairs.base, pairs.distance))
    return set(zip(*columns, strict=True))


def search_all(codes: Codes, radius: int) -> Pairs:
    """Each code against all behind it, a row at a time."""
    found: Pairs = set()
    for row in range(len(codes) - 1):
        distances = np.bitwise_count(codes[row + 1 :] ^ codes[row])
        for column in np.flatnonzero(distances <= radius).tolist():
            found.add((row, row + 1 + column, int(distances[column])))
    return found


def search_peer(codes: Codes, radius: int, method: str, num_workers: int) -> Pairs:
    """imagededup's public search; it finds each pair from both sides."""
    from imagededup.methods import PHash  # the peer, on the path only where this comparison was asked for

    names = {f"{place:07d}": f"{int(code):016x}" for place, code in enumerate(codes)}
    found = PHash(verbose=False).find_duplicates(
        encoding_map=names, max_distance_threshold=radius, scores=True, search_method=method, num_dist_workers=num_workers
    )
    return {(int(a), int(b), int(bits)) for a, near in found.items() for b, bits in near if a < b}


def search_peer_compiled(codes: Codes, radius: int) -> Pairs:
    """The compiled loop inside imagededup's search alone, with lists that are made once instead of once per photograph."""
    import brute_force_cython_ext

    names, values = [str(place).encode() for place in range(len(codes))], codes.tolist()
    found: Pairs = set()
    for place, value in enumerate(values):
        near = brute_force_cython_ext.query(names, values, value, radius)
        found.update((place, int(name), bits) for name, bits in near if int(name) > place)
    return found


def cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def compare(searches: dict[str, tuple[Callable[[], Pairs], int]]) -> None:
    """Runs the searches in turn, each its number of times, and prints a row for each; the first is what others are held to."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in searches}
    found: dict[str, Pairs] = {}
    for run in range(max(runs for _, runs in searches.values())):
        for name, (search, runs) in searches.items():
            if run < runs:
                wall, cpu = time.perf_counter(), cpu_seconds()
                found[name] = search()
                times[name].append((time.perf_counter() - wall, cpu_seconds() - cpu))
    first = next(iter(searches))
    first_wall, first_cpu = (statistics.median(column) for column in zip(*times[first], strict=True))
    print(f"{'search':<34} {'runs':>4} {'wall s':>9} {'range':>17} {'cpu s':>9} {'x wall':>7} {'x cpu':>7} {'pairs':>8} same")
    for name, values in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*values, strict=True))
        span = f"{min(values)[0]:.3f} to {max(values)[0]:.3f}"
        ratios = f"{wall / first_wall:>7.1f} {cpu / first_cpu:>7.1f}"
        same = "yes" if found[name] == found[first] else "NO"
        print(f"{name:<34} {len(values):>4} {wall:>9.3f} {span:>17} {cpu:>9.3f} {ratios} {len(found[name]):>8} {same}")


def run_brute(args: argparse.Namespace) -> None:
    for count in args.counts:
        codes, _ = simulate_codes(count, args.radius, args.seed)
        print(f"\n{count} hashes, radius {args.radius}")
        searches = {"ours": search_ours, "all with all": search_all}
        compare({name: (partial(search, codes, args.radius), args.runs) for name, search in searches.items()})


def run_peer(args: argparse.Namespace) -> None:
    sys.path.append(str(args.packages))
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    import imagededup.methods  # imported before the clock starts

    for count in args.counts:
        codes, _ = simulate_codes(count, args.radius, args.seed)
        print(f"\n{count} hashes, radius {args.radius}, imagededup {imagededup.__version__}")
        searches: dict[str, tuple[Callable[[], Pairs], int]] = {
            "ours (1 process)": (partial(search_ours, codes, args.radius), args.runs),
            "imagededup's compiled loop alone": (partial(search_peer_compiled, codes, args.radius), args.runs),
        }
        for method in args.methods:
            name = f"imagededup {method} ({args.workers})"
            searches[name] = (partial(search_peer, codes, args.radius, method, args.workers), args.peer_runs)
        compare(searches)


def measure_one(count: int, radius: int, seed: int) -> dict[str, Any]:
    """One search in this process: its time, its pairs, what was planted and found, and the peak of the memory."""
    codes, planted = simulate_codes(count, radius, seed)
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, cpu = time.perf_counter(), time.process_time()
    pairs = find_close_pairs(codes, codes, radius)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ends = np.sort(planted[:, :2], axis=1)
    met = np.isin(ends[:, 0] * count + ends[:, 1], pairs.query * count + pairs.base)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    numbers = {"wall_s": wall, "cpu_s": cpu, "peak_mib": peak_mib, "before_mib": before_mib}
    return {"count": count, "pairs": len(pairs), "planted": len(planted), "met": int(met.sum()), **numbers}


def run_growth(args: argparse.Namespace) -> None:
    rows = []
    print(f"radius {args.radius}, a fresh process each")
    print(f"{'hashes':>8} {'wall s':>9} {'cpu s':>9} {'peak MiB':>9} {'before':>7} {'pairs':>8} {'planted':>8} {'found':>8}")
    for count in args.counts:
        command = [
            sys.executable,
            __file__,
            "one",
            "--counts",
            str(count),
            "--radius",
            str(args.radius),
            "--seed",
            str(args.seed),
        ]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(row)
        memory = f"{row['peak_mib']:>9.0f} {row['before_mib']:>7.0f}"
        found = f"{row['pairs']:>8} {row['planted']:>8} {row['met']:>8}"
        print(f"{count:>8} {row['wall_s']:>9.2f} {row['cpu_s']:>9.2f} {memory} {found}", flush=True)
    if args.plot:
        plot_growth(rows, args.radius, args.plot)


def plot_growth(rows: list[dict[str, Any]], radius: int, path: Path) -> None:
    import matplotlib.pyplot as plt

    counts = np.array([row["count"] for row in rows])
    cpu = np.array([row["cpu_s"] for row in rows])
    figure, (time_axes, memory_axes) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    time_axes.loglog(counts, cpu, "o-", label="ours, measured")
    time_axes.loglog(counts, counts * (counts - 1) / 2 * 1.1e-9, "--", color="0.6", label="all with all at 1.1 ns a pair")
    time_axes.set(xlabel="photographs", ylabel="processor seconds", title=f"All pairs within {radius} of 64 bits")
    time_axes.legend(frameon=False)
    memory_axes.loglog(counts, [row["peak_mib"] for row in rows], "o-")
    memory_axes.set(xlabel="photographs", ylabel="MiB", title="Peak memory of the process", ylim=(10, 10_000))
    for axes in (time_axes, memory_axes):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["brute", "peer", "growth", "one"])
    parser.add_argument("--counts", type=int, nargs="+", default=None)
    parser.add_argument("--radius", type=int, default=8)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=2025)
    parser.add_argument("--packages", type=Path, help="folder of packages that has imagededup")
    parser.add_argument("--methods", nargs="*", default=["brute_force_cython"], help="imagededup's, such as bktree")
    parser.add_argument("--workers", type=int, default=2, help="imagededup's processes")
    parser.add_argument("--peer-runs", type=int, default=3)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    args.counts = args.counts or ([10_000, 30_000, 100_000, 300_000, 1_000_000] if args.what == "growth" else [33_000])
    if args.what == "one":
        print(json.dumps(measure_one(args.counts[0], args.radius, args.seed)))
    else:
        {"brute": run_brute, "peer": run_peer, "growth": run_growth}[args.what](args)


if __name__ == "__main__":
    main()
