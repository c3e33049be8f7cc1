"""Convex sum against reciprocal rank fusion, on collections that benchmarks/retrieval.py made and kept.

    python benchmarks/fusion.py DATA/retrieval/cranfield DATA/retrieval/npl --work FOLDER

The same candidates as `searchctl query` (1,000 of each side, every candidate's exact cosine) go through the product's
own `fuse`, and through reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009: 60 + rank). Prints nDCG@10.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from retrieval import ndcg_at_10, read_jsonl, read_qrels

from searchctl.app.collection.encoder_choice import config_from_json
from searchctl.app.search.searcher import FUSION_DEPTH
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Role
from searchctl.index.collection import FolderCollection
from searchctl.index.fusion import fuse
from searchctl.index.protocol import Scored

RRF_K = 60


def convex(lexical: Scored, dense: Scored, weight: float) -> list[int]:
    return [hit.id for hit in fuse(lexical, dense, dense_weight=weight)]


def reciprocal_ranks(lexical: Scored, dense: Scored, weight: float) -> list[int]:
    parts: dict[int, float] = {}
    for side, share in ((lexical, 1 - weight), (dense, weight)):
        for rank, id_ in enumerate(side.ids.tolist(), start=1):
            parts[id_] = parts.get(id_, 0.0) + share / (RRF_K + rank)
    return sorted(parts, key=lambda id_: (-parts[id_], id_))


WAYS_OF = {"convex": convex, "rrf": reciprocal_ranks}
WAYS = [("convex", 0.0), ("convex", 0.05), ("convex", 0.5), ("rrf", 0.05), ("rrf", 0.5)]


def scores_of(data: Path, folder: Path) -> list[float]:
    """Return nDCG@10 for each of WAYS on one collection."""
    judged = read_qrels(data / "qrels" / "test.tsv")
    queries = [row for row in read_jsonl(data / "queries.jsonl") if row["_id"] in judged]
    names = [row["_id"] for row in read_jsonl(folder / "corpus.jsonl")]
    collection = FolderCollection.open(folder / ".searchctl")
    assert collection.settings is not None
    encoder = open_encoder(config_from_json(collection.settings.encoder_config))
    vectors = encoder.encode([row["text"] for row in queries], role=Role.QUERY)
    totals = [0.0] * len(WAYS)
    for row, vector in zip(queries, vectors, strict=True):
        lexical = collection.lexical(row["text"], FUSION_DEPTH)
        ids = np.union1d(lexical.ids, collection.dense(vector, FUSION_DEPTH).ids)
        cosines = collection.cosines(vector, ids)
        order = np.lexsort((ids, -cosines))
        dense = Scored(ids=ids[order], scores=cosines[order])
        for way, (method, weight) in enumerate(WAYS):
            best = WAYS_OF[method](lexical, dense, weight)[:50]
            ranking = list(dict.fromkeys(names[(chunk.line_start or 1) - 1] for chunk in collection.chunks(best)))
            totals[way] += 100 * ndcg_at_10(ranking, judged[row["_id"]]) / len(queries)
    collection.close()
    return totals


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="BEIR-layout folders")
    parser.add_argument("--work", type=Path, required=True, help="the --work folder of benchmarks/retrieval.py")
    args = parser.parse_args()
    print("| collection | " + " | ".join(f"{method} {weight}" for method, weight in WAYS) + " |")
    for data in args.data:
        scores = scores_of(data, args.work / data.name)
        print(f"| {data.name} | " + " | ".join(f"{score:.1f}" for score in scores) + " |", flush=True)


if __name__ == "__main__":
    main()
