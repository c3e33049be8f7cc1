"""V-measure and ARI of every clustering method on labelled texts, beside k-means on other vectors of the same texts.

    python benchmarks/clustering.py DATA/clustering --cache /tmp/clustering --baseline FOLDER

DATA/clustering holds 20newsgroups.jsonl and stackoverflow.jsonl (lines {"text": ..., "label": ...}). The texts are
encoded as documents by a searchctl encoder and clustered by `searchctl.index.groups.clustering`, the code of
`searchctl cluster`, with the true number of labels where a method takes a number, and with the number it chooses. The
baselines are the vectors of a sentence-transformers folder and TF-IDF (after SVD through the same k-means, and
scikit-learn's own k-means on the sparse matrix). Methods with chance run with several seeds, of which the mean and the
standard deviation are printed. Noise of hdbscan and leiden is scored as one more cluster. Encoding goes on where a
killed run was, and --cache makes a rerun quick.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from blake3 import blake3
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import adjusted_rand_score, v_measure_score

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Role, Vectors
from searchctl.index.groups.cluster_settings import ClusterSettings, Method
from searchctl.index.groups.clustering import cluster
from searchctl.index.groups.principal import unit_rows
from searchctl.training.evaluation.measurement import describe_machine, describe_versions
from searchctl.training.evaluation.vector_cache import CachedEncoder

SVD_WIDTH = 100
"""As in scikit-learn's example of clustering texts."""
HEADER = ["data", "vectors", "method", "n", "V-measure", "ARI", "noise", "seconds"]


@dataclass(frozen=True)
class Data:
    name: str
    texts: list[str]
    labels: list[str]

    @property
    def n(self) -> int:
        return len(set(self.labels))


@dataclass(frozen=True)
class Outcome:
    labels: Any
    seconds: float


def read_data(path: Path, limit: int | None) -> Data:
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][:limit]
    return Data(path.stem, [row["text"] for row in rows], [row["label"] for row in rows])


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def encoder_vectors(datasets: list[Data], args: argparse.Namespace) -> tuple[str, dict[str, Vectors]]:
    """Return the encoder's name and the vectors of each data set."""
    encoder = open_encoder(EncoderConfig(model=args.model))
    path = args.cache / f"{encoder.info.fingerprint[:16]}.sqlite"
    cached = CachedEncoder(encoder, path, kind=f"benchmark {encoder.info.max_tokens}")
    found = {}
    for data in datasets:
        began = time.perf_counter()
        found[data.name] = cached.encode(data.texts, role=Role.DOCUMENT, instruction=args.instruction)
        say(f"{encoder.info.name} {data.name}: vectors after {time.perf_counter() - began:.1f} s")
    cached.close()
    return encoder.info.name, found


def baseline_vectors(data: Data, folder: Path, cache: Path) -> Vectors:
    digest = blake3("\0".join([str(folder.resolve()), *data.texts]).encode()).hexdigest()[:16]
    path = cache / f"{folder.name}-{data.name}-{digest}.npy"
    if not path.exists():
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        np.save(path, unit_rows(model.encode(data.texts, normalize_embeddings=True, convert_to_numpy=True)))
    vectors: Vectors = np.load(path)
    return vectors


def tfidf(data: Data) -> Any:
    """Return the sparse TF-IDF matrix, as scikit-learn's example of clustering texts makes it, but for rare words."""
    return TfidfVectorizer(stop_words="english", sublinear_tf=True, max_df=0.5, min_df=2).fit_transform(data.texts)


def svd_vectors(matrix: Any) -> Vectors:
    """Return unit vectors after SVD. A text without a known word lies in the middle of the others."""
    width = min(SVD_WIDTH, matrix.shape[1] - 1)
    reduced = unit_rows(TruncatedSVD(width, random_state=0).fit_transform(matrix).astype(np.float32))
    empty = np.linalg.norm(reduced, axis=1) == 0
    reduced[empty] = unit_rows(reduced.mean(axis=0, keepdims=True))
    if empty.any():
        say(f"TF-IDF: {int(empty.sum())} texts without a known word")
    return reduced


def own(vectors: Vectors, settings: ClusterSettings) -> Callable[[int], Outcome]:
    def run(seed: int) -> Outcome:
        began = time.perf_counter()
        labels = cluster(vectors, replace(settings, seed=seed)).labels
        return Outcome(labels, time.perf_counter() - began)

    return run


def sparse_kmeans(matrix: Any, n: int) -> Callable[[int], Outcome]:
    def run(seed: int) -> Outcome:
        began = time.perf_counter()
        labels = KMeans(n, n_init=4, random_state=seed).fit(matrix).labels_
        return Outcome(labels, time.perf_counter() - began)

    return run


def every_method(n: int) -> list[tuple[str, ClusterSettings]]:
    return [
        (f"kmeans -n {n}", ClusterSettings(n=n)),
        ("kmeans", ClusterSettings()),
        (f"agglomerative -n {n}", ClusterSettings(method=Method.AGGLOMERATIVE, n=n)),
        ("agglomerative", ClusterSettings(method=Method.AGGLOMERATIVE)),
        ("leiden", ClusterSettings(method=Method.LEIDEN)),
        ("hdbscan", ClusterSettings(method=Method.HDBSCAN)),
    ]


def trials(
    data: Data, name: str, vectors: Vectors, baseline: Path | None, cache: Path
) -> Iterator[tuple[str, str, bool, Callable[[int], Outcome]]]:
    """Yield vectors' name, method's name, whether the seed matters, and the run."""
    for method, settings in every_method(data.n):
        chance = settings.method in (Method.KMEANS, Method.LEIDEN)
        yield name, method, chance, own(vectors, settings)
    if baseline is not None:
        others = baseline_vectors(data, baseline, cache)
        for method, settings in every_method(data.n)[:2]:
            yield baseline.name, method, True, own(others, settings)
    matrix = tfidf(data)
    reduced = svd_vectors(matrix)
    for method, settings in every_method(data.n)[:2]:
        yield "TF-IDF, SVD", method, True, own(reduced, settings)
    yield "TF-IDF", f"scikit-learn KMeans, n {data.n}", True, sparse_kmeans(matrix, data.n)


def row_of(data: Data, name: str, method: str, outcomes: list[Outcome]) -> list[str]:
    numbers = [len(set(outcome.labels.tolist()) - {-1}) for outcome in outcomes]
    v_measures = [100 * v_measure_score(data.labels, outcome.labels) for outcome in outcomes]
    rand = [100 * adjusted_rand_score(data.labels, outcome.labels) for outcome in outcomes]
    noise = np.mean([100 * np.mean(outcome.labels == -1) for outcome in outcomes])
    seconds = np.mean([outcome.seconds for outcome in outcomes])
    found = str(numbers[0]) if len(set(numbers)) == 1 else f"{min(numbers)} to {max(numbers)}"
    return [data.name, name, method, found, spread(v_measures), spread(rand), f"{noise:.0f} %", f"{seconds:.1f}"]


def spread(values: list[float]) -> str:
    return f"{np.mean(values):.1f}" if len(values) == 1 else f"{np.mean(values):.1f} ± {np.std(values):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with JSONL files of texts and labels")
    parser.add_argument("--only", nargs="*", default=["20newsgroups", "stackoverflow"], help="files, without .jsonl")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--instruction", default=None, help="what the encoder is told; its own default when left out")
    parser.add_argument("--baseline", type=Path, default=None, help="folder of a sentence-transformers model")
    parser.add_argument("--cache", type=Path, required=True, help="where vectors are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=None, help="first texts of each file only, for a rehearsal")
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    datasets = [read_data(args.data / f"{name}.jsonl", args.limit) for name in args.only]
    name, vectors = encoder_vectors(datasets, args)
    print(f"    python {shlex.join(sys.argv)}\n")
    print(f"{describe_machine()}; " + ", ".join(f"{key} {value}" for key, value in describe_versions().items()))
    print(f"Instruction: {args.instruction or 'the default'}. Seeds: {args.seeds}. Noise is scored as a cluster.\n")
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|", flush=True)
    for data in datasets:
        for vectors_name, method, chance, run in trials(data, name, vectors[data.name], args.baseline, args.cache):
            outcomes = [run(seed) for seed in range(args.seeds if chance else 1)]
            print("| " + " | ".join(row_of(data, vectors_name, method, outcomes)) + " |", flush=True)


if __name__ == "__main__":
    main()
