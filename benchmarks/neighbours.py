"""Our nearest neighbours by cosine: time, memory and where the time goes, alone and in turn with scikit-learn (A B A B ...).

    python benchmarks/neighbours.py --groups
    python benchmarks/neighbours.py --queries 4096 --peer --runs 5

The data are random float32 rows around centres. "selection" is the time of finding the best k among the cosines, "unit" that of
bringing rows to length 1; what is left are the matrix products. "above" is the peak of the process's memory minus what it held
before the first search, data included; the peer is measured after ours, so its figure holds only where it is larger.
"""

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hectocar.calibration import neighbours as ours
from hectocar.calibration.neighbours import Neighbours, find_neighbours

Rows = NDArray[np.float32]
NUM_CENTRES = 396
NOISE = 2.0


def draw_rows(count: int, centres: Rows, generator: np.random.Generator) -> Rows:
    rows = generator.standard_normal((count, centres.shape[1]), dtype=np.float32) * np.float32(NOISE)
    for start in range(0, count, 4096):  # all centres at once would be as large as the rows themselves
        stop = min(start + 4096, count)
        rows[start:stop] += centres[generator.integers(len(centres), size=stop - start)]
    return rows


@contextmanager
def timed_parts() -> Iterator[dict[str, float]]:
    """Seconds spent in the two steps around the product, by wrapping them for a while."""
    seconds = {"_to_unit": 0.0, "_merge_slab": 0.0}
    originals = {name: getattr(ours, name) for name in seconds}

    def wrap(name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            started = time.perf_counter()
            result = originals[name](*args)
            seconds[name] += time.perf_counter() - started
            return result

        return call

    for name in seconds:
        setattr(ours, name, wrap(name))
    try:
        yield seconds
    finally:
        for name, original in originals.items():
            setattr(ours, name, original)


def time_products(query_QD: Rows, bank_BD: Rows, chunk: int) -> float:
    """Seconds of the same products of matrices with nothing around them."""
    started = time.perf_counter()
    for start in range(0, len(query_QD), chunk):
        for bank_start in range(0, len(bank_BD), chunk):
            query_QD[start : start + chunk] @ bank_BD[bank_start : bank_start + chunk].T
    return time.perf_counter() - started


def search_peer(query_QD: Rows, bank_BD: Rows, k: int) -> Neighbours:
    from sklearn.neighbors import NearestNeighbors

    distance, index = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank_BD).kneighbors(query_QD)
    return Neighbours(index.astype(np.int64), (1.0 - distance).astype(np.float32))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def describe_times(name: str, values: list[float]) -> str:
    return f"{name:<14} {statistics.median(values):8.2f} s  ({min(values):.2f} to {max(values):.2f}, {len(values)} runs)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=33_000)
    parser.add_argument("--bank", type=int, default=33_000)
    parser.add_argument("--dim", type=int, default=1536)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--chunk", type=int, default=4096, help="queries and bank rows at a time")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=2025)
    parser.add_argument("--groups", action="store_true", help="leave out the query's group, three rows each")
    parser.add_argument("--peer", action="store_true", help="scikit-learn in turn with ours")
    parser.add_argument("--product", action="store_true", help="the products alone in turn with ours")
    args = parser.parse_args()
    if args.peer and args.groups:
        parser.error("scikit-learn knows no groups; allowed: --peer or --groups")

    generator = np.random.default_rng(args.seed)
    centres = generator.standard_normal((NUM_CENTRES, args.dim), dtype=np.float32)
    query_QD, bank_BD = draw_rows(args.queries, centres, generator), draw_rows(args.bank, centres, generator)
    options: dict[str, Any] = {"chunk_rows": args.chunk, "bank_chunk_rows": args.chunk}
    if args.groups:
        options |= {"query_group_Q": np.arange(args.queries) // 3, "bank_group_B": np.arange(args.bank) // 3}
    searches: dict[str, Callable[[], Any]] = {"ours": lambda: find_neighbours(query_QD, bank_BD, args.k, **options)}
    if args.peer:
        import sklearn.neighbors  # noqa: F401  before the clock starts

        searches["scikit-learn"] = lambda: search_peer(query_QD, bank_BD, args.k)
    if args.product:
        searches["product alone"] = lambda: time_products(query_QD, bank_BD, args.chunk)
    threads, load = os.environ.get("OMP_NUM_THREADS", "all"), os.getloadavg()[0]
    print(
        f"{args.queries} queries, {args.bank} rows, {args.dim} values, k = {args.k}, {threads} threads, load {load:.1f} before"
    )
    before_mib, peaks_mib = peak_mib(), {}
    times: dict[str, list[float]] = {name: [] for name in searches}
    shares: list[dict[str, float]] = []
    found: dict[str, Any] = {}
    for _ in range(args.runs):
        for name, search in searches.items():
            with timed_parts() as parts:
                started = time.perf_counter()
                found[name] = search()
                times[name].append(time.perf_counter() - started)
            peaks_mib.setdefault(name, peak_mib())
            if name == "ours":
                shares.append({part: value / times[name][-1] for part, value in parts.items()})
    for name, values in times.items():
        print(f"{describe_times(name, values)}  peak {peaks_mib[name]:.0f} MiB, {peaks_mib[name] - before_mib:.0f} above")
    select, unit = (statistics.median(share[part] for share in shares) for part in ("_merge_slab", "_to_unit"))
    print(f"ours: selection {select:.1%}, unit {unit:.1%}, product and the rest {1 - select - unit:.1%}")
    rate = 2.0 * args.queries * args.bank * args.dim / statistics.median(times["ours"]) / 1e9
    print(f"ours: {rate:.0f} GFLOP/s over all")
    if args.peer:
        ratios = [peer / own for peer, own in zip(times["scikit-learn"], times["ours"], strict=True)]
        print(f"scikit-learn / ours, pair by pair: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        compare(found["ours"], found["scikit-learn"])


def compare(own: Neighbours, peer: Neighbours) -> None:
    """Prints how far two answers agree, place by place and as sets."""
    same = own.index_Qk == peer.index_Qk
    sets = (np.sort(own.index_Qk, axis=1) == np.sort(peer.index_Qk, axis=1)).all(axis=1)
    gap = np.abs(own.cosine_Qk - peer.cosine_Qk).max()
    print(f"{(~same).sum()} of {same.size} places have another index, {(~sets).sum()} of {len(sets)} rows another set")
    print(f"largest difference of the cosine at the same place {gap:.1e}")


if __name__ == "__main__":
    main()
