"""Search quality of the product itself on BEIR-layout folders: lexical, dense and hybrid nDCG@10, and index cost.

    python benchmarks/retrieval.py DATA/retrieval/scifact DATA/retrieval/cranfield --work /tmp/bench

Each folder holds corpus.jsonl, queries.jsonl and qrels/test.tsv. The corpus is indexed by `searchctl index` (one
document per row, chunks of 512 tokens) and asked by `searchctl query`, as a user would; a document ranks by its best
chunk. `--work` keeps the collections, so a second run embeds nothing. Prints one table and writes results.json there.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

DEPTH = 100
Qrels = dict[str, dict[str, int]]
Ranking = dict[str, list[str]]


def run(*arguments: str, cwd: Path, ok: tuple[int, ...] = (0,)) -> str:
    done = subprocess.run(["searchctl", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode not in ok:
        sys.exit(f"searchctl {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def read_jsonl(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def read_qrels(path: Path) -> Qrels:
    qrels: Qrels = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.reader(file, delimiter="\t"):
            if row and row[-1].lstrip("-").isdigit():
                qrels.setdefault(row[0], {})[row[1]] = int(row[-1])
    return qrels


def ndcg_at_10(ranking: list[str], judged: dict[str, int]) -> float:
    gains = [judged.get(document, 0) for document in ranking[:10]]
    ideal = sorted(judged.values(), reverse=True)[:10]

    def dcg(values: list[int]) -> float:
        return sum(value / math.log2(rank + 2) for rank, value in enumerate(values))

    return dcg(gains) / dcg(ideal) if any(ideal) else 0.0


def build(data: Path, folder: Path, model: list[str]) -> dict[str, float]:
    """Index the corpus below `folder` and return what it cost; nothing is embedded when it is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / "corpus.jsonl"
    if not corpus.exists():
        shutil.copyfile(data / "corpus.jsonl", corpus)
    start = time.perf_counter()
    out = run(
        "index",
        "corpus.jsonl",
        "--chunk-tokens",
        "512",
        "--max-size",
        "512",
        "--format",
        "json",
        *model,
        cwd=folder,
        ok=(0, 3),
    )
    summary = json.loads(out)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {"seconds": time.perf_counter() - start, "peak_mib_of_children": peak, "summary": summary}


def ask(data: Path, folder: Path, options: list[str]) -> Ranking:
    """Return document ids per query id, best first, each document once."""
    ids = [row["_id"] for row in read_jsonl(folder / "corpus.jsonl")]
    queries = folder.with_name(f"{folder.name}-queries.jsonl")
    judged = read_qrels(data / "qrels" / "test.tsv")
    rows = [row for row in read_jsonl(data / "queries.jsonl") if row["_id"] in judged]
    queries.write_text(
        "".join(json.dumps({"id": row["_id"], "query": row["text"]}) + "\n" for row in rows), encoding="utf-8"
    )
    out = run(
        "query", "--queries", str(queries), "-k", str(DEPTH), "--no-snippet", "--format", "jsonl",
        *options, cwd=folder, ok=(0, 1, 3),
    )  # fmt: skip
    ranking: Ranking = {}
    for line in out.splitlines():
        hit = json.loads(line)
        document = ids[hit["lines"][0] - 1]
        found = ranking.setdefault(hit["id"], [])
        if document not in found:
            found.append(document)
    return ranking


def score(data: Path, ranking: Ranking) -> float:
    qrels = read_qrels(data / "qrels" / "test.tsv")
    return 100 * sum(ndcg_at_10(ranking.get(query, []), judged) for query, judged in qrels.items()) / len(qrels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="+", help="BEIR-layout folders")
    parser.add_argument("--work", type=Path, required=True, help="where collections and results are kept")
    parser.add_argument("--model", default=None, help="encoder; the default one when left out")
    parser.add_argument("--max-tokens", default=None, help="cut what the encoder reads, to bound the time on a CPU")
    parser.add_argument("--weights", type=float, nargs="*", default=[], help="dense weights to try besides the default")
    args = parser.parse_args()
    model = ["--model", args.model] if args.model else []
    model += ["--max-tokens", args.max_tokens] if args.max_tokens else []
    sides = {"lexical": ["--mode", "lexical"], "dense": ["--mode", "dense"], "hybrid": ["--mode", "hybrid"]}
    sides |= {f"hybrid {weight}": ["--mode", "hybrid", "--dense-weight", str(weight)] for weight in args.weights}
    results: dict[str, dict[str, object]] = {}
    print("| collection | " + " | ".join(sides) + " |\n" + "|---" * (len(sides) + 1) + "|", flush=True)
    for data in args.data:
        folder = args.work.resolve() / data.name  # commands run inside of it
        cost = build(data, folder, model)
        scores = {side: score(data, ask(data, folder, options)) for side, options in sides.items()}
        print(f"| {data.name} | " + " | ".join(f"{scores[side]:.1f}" for side in sides) + " |", flush=True)
        results[data.name] = {"ndcg@10": scores, "index": cost}
        (args.work / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
