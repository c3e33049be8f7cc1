"""Cost of the exact scan for similar pairs, beside sentence-transformers' paraphrase mining and a plain matrix product.

    python benchmarks/pair_scan.py --sizes 5000 10000 20000 50000 100000 --rounds 3

Vectors are 576 wide, in clusters of ten around random centres, so that about four pairs a vector have a cosine above
0.7; the same for all sides. Our side returns every pair from the floor on and a histogram of all pairs; the baseline's
`paraphrase_mining_embeddings` is told to return as many pairs as there are (its own limits would lose some), above no
floor, as it has none. The recall of either is against every cosine computed in float64, at sizes where that is quick.
The product alone (`numpy`, blocks of 2,048) is the floor of what any exact method on this machine costs. Sides take
turns; medians of the rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from searchctl.index.groups.similar_pairs import similar_pairs
from searchctl.index.protocol import Vectors

DIM = 576
FLOOR = 0.7
_CHECKED = 20_000
"""Vectors up to which recall is measured."""
_BASELINE = 20_000
"""Vectors up to which the baseline takes part: it sorts pairs in Python."""


def vectors_of(count: int) -> Vectors:
    random = np.random.default_rng(count)
    centres = random.normal(size=(max(count // 10, 1), DIM))
    rows = centres[random.integers(0, len(centres), count)] + 0.58 * random.normal(size=(count, DIM))
    found: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def ours(vectors: Vectors) -> set[tuple[int, int]]:
    pairs = similar_pairs(vectors, floor=FLOOR, device="cpu")
    return set(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True))


def baseline(vectors: Vectors) -> set[tuple[int, int]]:
    import torch
    from sentence_transformers.util import paraphrase_mining_embeddings

    found = paraphrase_mining_embeddings(torch.from_numpy(vectors), max_pairs=10 * len(vectors), top_k=20)
    return {(min(a, b), max(a, b)) for score, a, b in found if score >= FLOOR}


def product(vectors: Vectors) -> set[tuple[int, int]]:
    for start in range(0, len(vectors), 2048):
        for column in range(start, len(vectors), 2048):
            _ = vectors[start : start + 2048] @ vectors[column : column + 2048].T
    return set()


def brute(vectors: Vectors) -> set[tuple[int, int]]:
    """Return the pairs from float64 cosines, by rows."""
    wide = vectors.astype(np.float64)
    found = set()
    for row in range(len(wide)):
        near = np.flatnonzero((wide[row + 1 :] @ wide[row]).astype(np.float32) >= np.float32(FLOOR))
        found |= {(row, row + 1 + int(other)) for other in near}
    return found


def measured(vectors: Vectors, rounds: int) -> dict[str, tuple[float, set[tuple[int, int]]]]:
    sides: dict[str, Callable[[Vectors], set[tuple[int, int]]]] = {"ours": ours, "product": product}
    if len(vectors) <= _BASELINE:
        sides["baseline"] = baseline
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    pairs = {}
    for turn in range(rounds):
        names = list(sides)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            pairs[name] = sides[name](vectors)
            seconds[name].append(time.perf_counter() - began)
    return {name: (statistics.median(seconds[name]), pairs[name]) for name in sides}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[5000, 10_000, 20_000, 50_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, numpy {np.__version__}\n")
    print("| vectors | pairs | ours, s | product, s | paraphrase mining, s | our recall | its recall | peak RSS |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in options.sizes:
        vectors = vectors_of(size)
        found = measured(vectors, options.rounds)
        truth = brute(vectors) if size <= _CHECKED else None
        recall = {
            name: "-" if truth is None else f"{len(pairs & truth) / max(len(truth), 1):.4f}"
            for name, (_, pairs) in found.items()
        }
        if truth is not None and found["ours"][1] != truth:
            raise SystemExit(f"{size} vectors: our pairs are not those of brute force")
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        its = f"{found['baseline'][0]:.1f}" if "baseline" in found else "-"
        print(
            f"| {size:,} | {len(found['ours'][1]):,} | {found['ours'][0]:.1f} | {found['product'][0]:.1f} | {its} | "
            f"{recall['ours']} | {recall.get('baseline', '-')} | {rss:,.0f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
