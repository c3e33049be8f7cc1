"""The main job with the real default model: fetched, proved, indexing and answering. Run with `pytest -m e2e`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.e2e

NOTES = {
    "bread.md": "# Baking\n\nThe dough rises because yeast turns sugar into gas. Let it rest in the fridge.\n",
    "engine.txt": "The mechanic replaced the spark plugs, and the car started at once.\n",
    "tax.html": "<html><body><h1>Taxes</h1><p>The declaration of income is due at the end of July.</p></body></html>",
}


def searchctl(*arguments: str, cwd: Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from searchctl.app.cli import main; main()", *arguments]
    # The whole machine, as a user has it: conftest keeps the other tests on one thread.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"OMP_NUM_THREADS", "XDG_CACHE_HOME"}
    }
    if os.environ["SEARCHCTL_TEST_CACHE"]:
        environment["XDG_CACHE_HOME"] = os.environ["SEARCHCTL_TEST_CACHE"]
    return subprocess.run(
        command, cwd=cwd, input=stdin, capture_output=True, text=True, check=False, env=environment, timeout=600
    )


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    for name, text in NOTES.items():
        (folder / name).write_text(text, encoding="utf-8")
    done = searchctl("index", ".", "--format", "json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["added"] == 3
    return folder


def test_a_query_finds_the_passage(collection: Path) -> None:
    done = searchctl("query", "why does dough rise?", "--format", "json", cwd=collection)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert result["hits"][0]["path"] == "bread.md"
    assert result["hits"][0]["freshness"] == "fresh"


def test_dense_search_ranks_every_passage_with_cosines(collection: Path) -> None:
    done = searchctl("query", "automobile", "--mode", "dense", "--format", "json", cwd=collection)
    assert done.returncode == 0, done.stderr
    scores = [hit["score"] for hit in json.loads(done.stdout)["results"][0]["hits"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert all(-1 <= score <= 1 for score in scores)


def test_the_same_tree_again_embeds_nothing_and_verifies(collection: Path) -> None:
    again = json.loads(searchctl("index", ".", "--format", "json", cwd=collection).stdout)
    assert again["chunks_embedded"] == 0
    assert searchctl("verify", cwd=collection).returncode == 0


def test_embed_gives_unit_vectors_that_know_paraphrases_from_strangers(tmp_path: Path) -> None:
    lines = "A man is playing a guitar.\nSomeone performs on a stringed instrument.\nStocks fell sharply on Monday.\n"
    out = tmp_path / "vectors.npy"
    done = searchctl("embed", "-", "-o", str(out), cwd=tmp_path, stdin=lines)
    assert done.returncode == 0, done.stderr
    vectors = np.load(out)
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    # No word in common: what tells them apart is what the shipped adapters learnt.
    assert float(vectors[0] @ vectors[1]) > float(vectors[0] @ vectors[2]) + 0.2


def test_the_default_comes_with_its_adapters(tmp_path: Path) -> None:
    done = searchctl("models", "info", "smollm2-135m", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = [Path(folder).name for folder in json.loads(done.stdout)["adapters"]]
    assert names == ["mntp", "supervised", "distill"]


def test_bidirectional_and_causal_vectors_differ(tmp_path: Path) -> None:
    made = {}
    for attention in ("bidirectional", "causal"):
        out = tmp_path / f"{attention}.npy"
        done = searchctl(
            "embed", "-", "-o", str(out), "--attention", attention, cwd=tmp_path, stdin="The bank of a river"
        )
        assert done.returncode == 0, done.stderr
        made[attention] = np.load(out)[0]
    assert float(made["bidirectional"] @ made["causal"]) < 0.999


def test_duplicates_and_clusters_of_real_vectors(tmp_path: Path) -> None:
    texts = {
        "guitar.txt": "A man is playing a guitar on the street.\n",
        "guitar2.txt": "On the street, a man plays the guitar.\n",
        "guitar3.txt": "Somebody sings a song at the piano.\n",
        "stocks.txt": "Stocks fell sharply on Monday after the central bank raised its rates.\n",
        "stocks2.txt": "Shares dropped on Monday when the central bank put up interest rates.\n",
        "stocks3.txt": "The currency lost a tenth of its value against the dollar.\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert searchctl("index", ".", cwd=tmp_path).returncode == 0
    done = searchctl("dedup", "--threshold", "0.8", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    groups = [
        {group["kept"]["path"], *(gone["path"] for gone in group["dropped"])}
        for group in json.loads(done.stdout)["groups"]
    ]
    assert {"guitar.txt", "guitar2.txt"} in groups
    assert not any("guitar.txt" in group and "stocks.txt" in group for group in groups)
    done = searchctl("cluster", "--method", "kmeans", "-n", "2", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    clusters: dict[int, set[str]] = {}
    for item in json.loads(done.stdout)["assignments"]:
        clusters.setdefault(item["cluster"], set()).add(item["path"].split(".")[0].rstrip("23"))
    assert sorted(map(sorted, clusters.values())) == [["guitar"], ["stocks"]]
