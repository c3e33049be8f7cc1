"""Duplicates that were planted into a corpus of 5,000 texts: precision and recall of each tier of `searchctl dedup`.

    python benchmarks/planted_duplicates.py DATA --work /tmp/planted --baseline FOLDER

The corpus: beginnings of Wikipedia paragraphs (DATA/train/wikipedia-paragraphs.jsonl.gz), 200 copies of some of them of
each kind (exact; other white space and case; one word changed; sentences in another order), 200 pairs of sentences that
people wrote of the same thing (DATA/pairs/mrpc-test.jsonl, label 1), and as decoys 200 pairs that look alike and say
different things (label 0). It is indexed by `searchctl index`, compared by the code behind `searchctl dedup`; the pairs
it accepts are held against those planted. `--baseline` is a folder of a sentence-transformers model, whose vectors
of the same texts take the place of ours. `--work` keeps the collection, so that a second run embeds nothing.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from searchctl.index.collection import FolderCollection
from searchctl.index.dedup_settings import Level
from searchctl.index.groups.text_pairs import TextPairs, find_text_pairs
from searchctl.index.items import with_vectors
from searchctl.index.protocol import Items

Pair = tuple[int, int]
TOTAL, EACH, WORDS = 5000, 200, 40
KINDS = ("exact", "white space", "one word", "sentence order", "paraphrase")
NEAR = 0.7


def sentences(text: str) -> list[str]:
    return re.findall(r"[^.!?]+[.!?]", text)


def beginnings(data: Path, count: int) -> list[str]:
    """Return beginnings of paragraphs, two whole sentences each, all different."""
    found: dict[str, None] = {}
    with gzip.open(data / "train/wikipedia-paragraphs.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            parts = [part.strip() for part in sentences(json.loads(line)["text"])[:2]]
            words = sum(len(part.split()) for part in parts)
            if len(parts) == 2 and 20 <= words <= WORDS and all(len(part.split()) >= 6 for part in parts):
                found.setdefault(" ".join(parts))
            if len(found) == count:
                return list(found)
    sys.exit(f"only {len(found)} paragraphs fit, {count} are wanted")


def blanks(text: str, chance: random.Random) -> str:
    words = [word.upper() if chance.random() < 0.3 else word for word in text.split()]
    return "".join(word + chance.choice([" ", "  ", "\t", " \u00a0"]) for word in words).rstrip()


def one_word(text: str, chance: random.Random) -> str:
    words = text.split()
    words[chance.randrange(3, len(words) - 1)] = chance.choice(["modern", "another", "nearby", "northern", "famous"])
    return " ".join(words)


def other_order(text: str, chance: random.Random) -> str:
    return " ".join(part.strip() for part in reversed(sentences(text)))


def corpus(data: Path) -> tuple[list[str], dict[Pair, str]]:
    """Return the texts, shuffled, and the planted pairs of their rows with their kinds."""
    chance = random.Random(7)
    made = {"exact": lambda text, _: text, "white space": blanks, "one word": one_word, "sentence order": other_order}
    base = beginnings(data, TOTAL - EACH * (len(made) + 4))
    texts, links = list(base), []
    for number, (kind, change) in enumerate(made.items()):
        for source in range(number * EACH, (number + 1) * EACH):
            links.append((source, len(texts), kind))
            texts.append(change(base[source], chance))
    with (data / "pairs/mrpc-test.jsonl").open(encoding="utf-8") as lines:
        pairs = [json.loads(line) for line in lines]
    for label, kind in ((1, "paraphrase"), (0, "")):
        for pair in [pair for pair in pairs if pair["label"] == label][:EACH]:
            if kind:
                links.append((len(texts), len(texts) + 1, kind))
            texts += [pair["a"], pair["b"]]
    order = chance.sample(range(len(texts)), len(texts))
    row_of = {old: new for new, old in enumerate(order)}
    planted = {(min(row_of[a], row_of[b]), max(row_of[a], row_of[b])): kind for a, b, kind in links}
    return [texts[old] for old in order], planted


def indexed(texts: list[str], work: Path) -> Items:
    work.mkdir(parents=True, exist_ok=True)
    with (work / "corpus.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    began = time.perf_counter()
    subprocess.run(["searchctl", "index", "corpus.jsonl", "--chunk-tokens", "512"], cwd=work, check=True)
    print(f"indexed in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    collection = FolderCollection.open(work / ".searchctl")
    items = collection.items(Level.CHUNK)
    collection.close()
    if [item.ordinal for item in items.items] != list(range(len(texts))):
        sys.exit("a text is not one chunk: rows and chunks differ")
    return items


def baseline_items(items: Items, work: Path, model: str) -> Items:
    from sentence_transformers import SentenceTransformer

    hashes = sorted({hash_ for part in items.parts for hash_, _ in part})
    collection = FolderCollection.open(work / ".searchctl")
    texts = collection.embedded_texts(hashes)
    collection.close()
    vectors = SentenceTransformer(model, device="cpu").encode(texts, normalize_embeddings=True, batch_size=64)
    return with_vectors(items, hashes, np.asarray(vectors, dtype=np.float32))


def members_of(pairs: TextPairs) -> dict[int, list[int]]:
    """Return the items of each text."""
    members: dict[int, list[int]] = defaultdict(list)
    for item, text in enumerate(pairs.texts.tolist()):
        members[text].append(item)
    return members


def item_pairs(pairs: TextPairs, rows: np.ndarray, members: dict[int, list[int]] | None = None) -> set[Pair]:
    """Return the pairs of items whose texts are these pairs of texts."""
    members = members_of(pairs) if members is None else members
    return {
        (min(a, b), max(a, b))
        for row in rows.tolist()
        for a in members[int(pairs.first[row])]
        for b in members[int(pairs.second[row])]
    }


def equal_pairs(pairs: TextPairs) -> set[Pair]:
    members = members_of(pairs)
    return {(a, b) for rows in members.values() for at, a in enumerate(rows) for b in rows[at + 1 :]}


def line(name: str, found: set[Pair], planted: dict[Pair, str]) -> str:
    right = sum(pair in planted for pair in found)
    recall = [f"{sum(pair in found for pair, its in planted.items() if its == kind) / EACH:.3f}" for kind in KINDS]
    precision = f"{right / len(found):.3f}" if found else "-"
    return f"| {name} | {len(found):,} | {precision} | {' | '.join(recall)} |"


def average_precision(pairs: TextPairs, planted: dict[Pair, str]) -> float:
    """Return AP of the pairs by cosine, equal texts first; planted pairs below the floor count as missed."""
    ranked = [(2.0, pair) for pair in sorted(equal_pairs(pairs))]
    members = members_of(pairs)
    for row in np.argsort(-pairs.cosines, kind="stable"):
        ranked += [(float(pairs.cosines[row]), pair) for pair in item_pairs(pairs, np.array([row]), members)]
    places = [place for place, (_, pair) in enumerate(ranked, start=1) if pair in planted]
    return sum(hits / place for hits, place in enumerate(places, start=1)) / len(planted)


def table(name: str, items: Items, planted: dict[Pair, str], thresholds: list[float]) -> None:
    began = time.perf_counter()
    pairs = find_text_pairs(items, floor=0.5)
    took = time.perf_counter() - began
    exact = equal_pairs(pairs)
    near = item_pairs(pairs, np.flatnonzero(pairs.jaccard >= np.float32(NEAR)))
    print(f"\n{name}: AP by cosine {100 * average_precision(pairs, planted):.1f}, pairs found in {took:.1f} s\n")
    print(f"| tier | pairs | precision | {' | '.join(KINDS)} |")
    print(f"| --- | --- | --- | {' | '.join('---' for _ in KINDS)} |")
    print(line("exact", exact, planted))
    print(line(f"near, Jaccard >= {NEAR}", near, planted))
    for threshold in thresholds:
        semantic = item_pairs(pairs, np.flatnonzero(pairs.cosines >= np.float32(threshold)))
        print(line(f"semantic, cosine >= {threshold:.2f}", semantic, planted))
    for threshold in thresholds:
        semantic = item_pairs(pairs, np.flatnonzero(pairs.cosines >= np.float32(threshold)))
        print(line(f"all three, {threshold:.2f}", exact | near | semantic, planted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--baseline", metavar="FOLDER")
    parser.add_argument("--threshold", type=float, nargs="+", default=[0.8, 0.85, 0.9, 0.95])
    options = parser.parse_args()
    texts, planted = corpus(options.data)
    items = indexed(texts, options.work)
    table("searchctl", items, planted, options.threshold)
    if options.baseline:
        table(options.baseline, baseline_items(items, options.work, options.baseline), planted, options.threshold)


if __name__ == "__main__":
    main()
