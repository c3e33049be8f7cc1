"""Documents of the shape of `dedup --format json` and `cluster --format json`, made up from the user guide.

Numbers of similarity and coordinates are random and clustered; the texts are real. The same seed makes the same.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).resolve().parent.parent / "docs"
TIERS = ("exact", "near", "semantic")
SWAPS = {"the": "this", "is": "was", "and": "or", "a": "one", "it": "that", "file": "document", "with": "by"}
COMMON = {"with", "that", "this", "from", "have", "which", "what", "when", "they", "their", "there", "each", "other"}


def sections() -> list[tuple[str, str, list[str]]]:
    """Return (file name, heading, paragraphs of 60 characters and more) of each section of the guide."""
    found = []
    for page in sorted(GUIDE.glob("*.md")):
        for part in re.split(r"^#+ ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            heading, _, body = part.partition("\n")
            paragraphs = [text.strip() for text in body.split("\n\n") if len(text) >= 60 and "```" not in text]
            if paragraphs:
                found.append((page.stem, heading.strip("` "), paragraphs))
    return found


def item(path: str, number: int, title: str, text: str) -> dict[str, Any]:
    line = 1 + 6 * number
    return {
        "key": f"{path}#{number}",
        "path": path,
        "file": f"/home/ada/{path}",
        "place": f"{path}:{line}-{line + text.count(chr(10))}",
        "lines": [line, line + text.count("\n")],
        "title": title,
        "date": f"2026-{1 + number % 12:02}-{1 + number % 28:02}T08:30:00+00:00",
        "bytes": len(text.encode()),
        "text": text,
    }


def near_text(text: str, chance: random.Random, swaps: int) -> str:
    words = text.split(" ")
    for _ in range(swaps):
        at = chance.randrange(len(words))
        words[at] = SWAPS.get(words[at], words[at].upper())
    return " ".join(words)


def semantic_text(text: str, chance: random.Random) -> str:
    sentences = re.split(r"(?<=[.:;]) ", near_text(text, chance, 6))
    chance.shuffle(sentences)
    return "In short: " + " ".join(sentences)


def dropped_item(number: int, kept: dict[str, Any], chance: random.Random, threshold: float) -> dict[str, Any]:
    tier = chance.choices(TIERS, (3, 4, 5))[0]
    text = kept["text"]
    made = {"exact": text, "near": near_text(text, chance, 2), "semantic": semantic_text(text, chance)}[tier]
    cosine = {"exact": 1.0, "near": chance.uniform(0.96, 0.999), "semantic": chance.uniform(threshold, 0.999)}[tier]
    score = {"exact": 1.0, "near": chance.uniform(0.7, 0.98), "semantic": cosine}[tier]
    path = f"archive/{chance.randrange(40):02}/{Path(kept['path']).stem}-copy.md"
    return item(path, number, kept["title"], made) | {"tier": tier, "score": score, "cosine": cosine}


def dedup_report(*, groups: int, items: int, seed: int = 7, against: str | None = None) -> dict[str, Any]:
    """Return a report with so many groups among so many items."""
    chance = random.Random(seed)
    threshold, floor = 0.95, 0.83
    pool = [(name, heading, text) for name, heading, texts in sections() for text in texts]
    # Drawn by themselves, so that a change of the guide's texts changes no size: two are large, whatever comes.
    draw = random.Random(seed + 1)
    sizes = [45, 31, *(1 + min(24, int(draw.paretovariate(1.4))) for _ in range(2, groups))][:groups]
    made = []
    for number, size in enumerate(sizes):
        name, heading, text = pool[chance.randrange(len(pool))]
        kept = item(f"notes/{name}.md", number, heading, text)
        dropped = [dropped_item(100 * number + at, kept, chance, threshold) for at in range(1, size)]
        dropped = dropped or [dropped_item(100 * number, kept, chance, threshold)]
        made.append((kept, dropped))
    made.sort(key=lambda pair: -len(pair[1]))
    listed = [group_of(number, kept, dropped) for number, (kept, dropped) in enumerate(made, start=1)]
    all_dropped = [one for group in listed for one in group["dropped"]]
    return {
        "schema": 1,
        "collection": "notes",
        "against": against,
        "level": "chunk",
        "keep": "longest",
        "near_threshold": 0.7,
        "threshold": threshold,
        "floor": floor,
        "items": items,
        "against_items": None if against is None else items // 2,
        "documents": items // 4,
        "bytes": items * 640,
        "summary": summary_of(listed, all_dropped),
        "groups": listed,
        "curve": curve_of(all_dropped),
        "histogram": {"start": -1.0, "width": 0.01, "counts": cosines_of(items)},
        "border": {
            "accepted": [pair_of(pool, chance, threshold + 0.0004 * at, "semantic") for at in range(20)],
            "rejected": [pair_of(pool, chance, threshold - 0.0004 * (at + 1), None) for at in range(20)],
        },
    }


def group_of(number: int, kept: dict[str, Any], dropped: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": number,
        "size": 1 + len(dropped),
        "bytes_saved": sum(one["bytes"] for one in dropped),
        "lowest": min(one["score"] for one in dropped),
        "tiers": {tier: sum(one["tier"] == tier for one in dropped) for tier in TIERS},
        "kept": kept,
        "dropped": dropped,
    }


def summary_of(groups: list[dict[str, Any]], dropped: list[dict[str, Any]]) -> dict[str, Any]:
    def tier(name: str) -> dict[str, int]:
        own = [one for one in dropped if one["tier"] == name]
        return {"pairs": 2 * len(own), "dropped": len(own), "bytes": sum(one["bytes"] for one in own)}

    return {
        "groups": len(groups),
        "kept": len(groups),
        "dropped": len(dropped),
        "bytes_saved": sum(one["bytes"] for one in dropped),
        "tiers": {name: tier(name) for name in TIERS},
    }


def curve_of(dropped: list[dict[str, Any]]) -> list[dict[str, Any]]:
    curve, saved = [], sum(one["bytes"] for one in dropped)
    for step in range(83, 101):
        more = int(len(dropped) * math.exp((95 - step) / (2.2 if step < 95 else 6)))
        curve.append(
            {
                "threshold": step / 100,
                "pairs": 2 * more,
                "groups": int(more**0.9),
                "dropped": more,
                "bytes_saved": saved * more // len(dropped),
            }
        )
    return curve


def cosines_of(items: int) -> list[int]:
    pairs = items * (items - 1) // 2
    heights = [math.exp(-(((at - 135) / 16) ** 2)) + 2e-6 * (at > 180) for at in range(200)]
    return [int(pairs * height / sum(heights)) for height in heights]


def pair_of(pool: list[Any], chance: random.Random, cosine: float, tier: str | None) -> dict[str, Any]:
    name, heading, text = pool[chance.randrange(len(pool))]
    first = item(f"notes/{name}.md", chance.randrange(90), heading, text)
    second = item(f"drafts/{name}.md", chance.randrange(90), heading, semantic_text(text, chance))
    return {"a": first, "b": second, "cosine": cosine, "jaccard": chance.uniform(0.2, 0.69), "tier": tier}


def cluster_report(*, items: int, clusters: int, seed: int = 7, mapped: bool = True) -> dict[str, Any]:
    """Return a report with so many items in about so many clusters, some of them noise."""
    chance = random.Random(seed)
    topics = [section for section in sections() if len(section[2]) >= 2]
    centers = [(chance.uniform(-0.85, 0.85), chance.uniform(-0.85, 0.85)) for _ in range(clusters)]
    weights = [chance.paretovariate(0.9) for _ in range(clusters)]
    assignments, whole = [], []
    for number in range(items):
        cluster = chance.choices(range(clusters), weights)[0] if chance.random() > 0.06 else None
        name, heading, texts = topics[(0 if cluster is None else cluster) % len(topics)]
        if cluster is None:
            name, heading, texts = topics[chance.randrange(len(topics))]
        text = " ".join(chance.choices(texts, k=2))
        one = item(f"notes/{number % 997:03}-{name}.md", number, heading, text)
        x, y = (chance.uniform(-1, 1), chance.uniform(-1, 1)) if cluster is None else centers[cluster]
        spread = 0.0 if cluster is None else 0.02 + 0.12 * math.sqrt(weights[cluster] / max(weights))
        place = [max(-1.0, min(1.0, chance.gauss(middle, spread))) for middle in (x, y)]
        whole.append(one)
        assignments.append(
            {key: one[key] for key in ("key", "path", "place", "title", "text")}
            | {"cluster": cluster, "to_center": None if cluster is None else chance.uniform(0.4, 0.95)}
            | {"x": place[0] if mapped else None, "y": place[1] if mapped else None}
        )
    members = {at: [n for n, one in enumerate(assignments) if one["cluster"] == at] for at in range(clusters)}
    found = [cluster_of(at, own, whole, assignments) for at, own in members.items() if own]
    noise = sum(one["cluster"] is None for one in assignments)
    return {
        "schema": 1,
        "collection": "notes",
        "level": "chunk",
        "method": "kmeans",
        "settings": {"n": len(found), "seed": seed, "resolution": None, "min_size": None, "instruction": None},
        "items": items,
        "documents": len({one["path"] for one in assignments}),
        "quality": {
            "silhouette": 0.2134,
            "choice": [
                {"n": n, "silhouette": 0.2134 * math.exp(-(((n - len(found)) / 20) ** 2))}
                for n in sorted({2, 4, 8, 12, 16, 24, 32, 48, 64, len(found)})
            ],
            "noise_share": noise / items,
        },
        "clusters": sorted(found, key=lambda one: -one["size"]),
        "noise": {"size": noise},
        "assignments": assignments,
    }


def cluster_of(at: int, own: list[int], whole: list[Any], assignments: list[Any]) -> dict[str, Any]:
    words = Counter(word for n in own[:50] for word in re.findall(r"[a-z]{4,}", whole[n]["text"].lower()))
    keywords = [[word, round(times / 50, 4)] for word, times in words.most_common(60) if word not in COMMON][:10]
    nearest = sorted(own, key=lambda n: -assignments[n]["to_center"])
    for n in own:
        assignments[n]["cluster"] = at + 1
    return {
        "id": at + 1,
        "size": len(own),
        "share": len(own) / len(whole),
        "documents": len({whole[n]["path"] for n in own}),
        "title": ", ".join(word for word, _ in keywords[:3]),
        "keywords": keywords,
        "cohesion": sum(assignments[n]["to_center"] for n in own) / len(own),
        "medoid": whole[nearest[0]],
        "representatives": [whole[n] for n in nearest[:3]],
        "known": at % 3 > 0,
    }
