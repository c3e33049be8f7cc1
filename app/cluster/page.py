"""The report of `searchctl cluster` as one HTML page that needs nothing from elsewhere, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..pages.data import asset, data_block, page_item, room_for_texts, script, shown_text, text_limit
from ..pages.parts import SCRIPTLESS, card, cut_note, datum, document, facts, heading, safe
from ..terminal.console import harmless
from ..terminal.wording import many

_MAPLESS = ("elements.js", "charts.js", "looks.js", "cluster.js")
_WITH_MAP = ("elements.js", "charts.js", "looks.js", "map_points.js", "map_labels.js", "map_view.js", "cluster.js")
_EXAMPLES_BYTES = 3_000_000
"""What the medoids and representatives of all clusters may take of a page; they are read, so they are longer."""
_EXAMPLES_CHARS = 3_000
_METHODS = {"kmeans": "k-means", "hdbscan": "HDBSCAN", "agglomerative": "agglomerative", "leiden": "Leiden"}


def page(report: Mapping[str, Any], *, command: str) -> str:
    """Return the page of a report of schema 1; `command` is what made it.

    Texts are cut, and the page says where, so that it stays below page_data.MOST_BYTES; a report with more numbers
    than fit makes a larger page without texts. Without coordinates there is no map, and the page says so.
    """
    assignments = report["assignments"]
    examples = _example_limit(report["clusters"])
    limit = text_limit((one["text"] for one in assignments), room_for_texts(_data(report, examples, 0)))
    cut = sum(len(one["text"]) > limit for one in assignments)
    mapped = any(one["x"] is not None for one in assignments)
    sections = [
        ("map-section", "Map" if mapped else "Search", _map(mapped)),
        ("sizes-section", "Sizes", _sizes(report)),
        ("clusters-section", "Clusters", _clusters()),
    ]
    title = f"Clusters of {report['collection']}"
    head = _head(report, title, command) + cut_note(limit, cut, "items") + SCRIPTLESS
    return document(
        title,
        head,
        sections,
        style=asset("report.css") + asset("map.css"),
        data=data_block(_data(report, examples, limit)),
        script=script(_WITH_MAP if mapped else _MAPLESS),
    )


def _example_limit(clusters: Sequence[Mapping[str, Any]]) -> int:
    texts = (item["text"] for cluster in clusters for item in _examples(cluster))
    return text_limit(texts, _EXAMPLES_BYTES, most=_EXAMPLES_CHARS)


def _examples(cluster: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the representatives; the medoid is nearly always the first of them, else it comes before them."""
    own: list[Mapping[str, Any]] = list(cluster["representatives"])
    medoid = cluster["medoid"]
    return own if any(item["key"] == medoid["key"] for item in own) else [medoid, *own]


def _data(report: Mapping[str, Any], examples: int, limit: int) -> dict[str, Any]:
    """Return what the page's script reads: points by column, and names that many of them share only once."""
    clusters = report["clusters"]
    return {
        "level": report["level"],
        "clusters": [_cluster(cluster, examples) for cluster in clusters],
        "noise": report["noise"] and {"size": report["noise"]["size"], "share": report["quality"]["noise_share"]},
        "choice": report["quality"]["choice"],
        "points": _points(report["assignments"], {cluster["id"]: at for at, cluster in enumerate(clusters)}, limit),
    }


def _cluster(cluster: Mapping[str, Any], limit: int) -> dict[str, Any]:
    kept = {key: cluster[key] for key in ("id", "size", "share", "documents", "cohesion", "known")}
    medoid = cluster["medoid"]["key"]
    return kept | {
        "title": harmless(cluster["title"]),
        "keywords": [[harmless(word), weight] for word, weight in cluster["keywords"]],
        "examples": [page_item(item, limit) | {"medoid": item["key"] == medoid} for item in _examples(cluster)],
    }


def _points(assignments: Sequence[Mapping[str, Any]], numbers: Mapping[int, int], limit: int) -> dict[str, Any]:
    names: dict[str, int] = {}

    def name(text: str) -> int:
        return names.setdefault(harmless(text), len(names))

    texts = [shown_text(one["text"], limit) for one in assignments]
    # A place is nearly always the path and then lines: only what follows is repeated for each point.
    follows = [one["place"].startswith(one["path"]) for one in assignments]
    starts = [one["path" if path else "place"] for one, path in zip(assignments, follows, strict=True)]
    return {
        "start": [name(start) for start in starts],
        "place": [harmless(one["place"][len(start) :]) for one, start in zip(assignments, starts, strict=True)],
        "title": [-1 if one["title"] is None else name(one["title"]) for one in assignments],
        "text": [text for text, _ in texts],
        "cut": [cut for _, cut in texts],
        "cluster": [-1 if one["cluster"] is None else numbers[one["cluster"]] for one in assignments],
        "near": [_rounded(one["to_center"]) for one in assignments],
        "x": [_rounded(one["x"]) for one in assignments],
        "y": [_rounded(one["y"]) for one in assignments],
        "names": list(names),
    }


def _rounded(value: float | None) -> float | None:
    """Return a value of a point with the digits that are shown or can be seen on the map at its largest."""
    return None if value is None else round(value, 5)


def _head(report: Mapping[str, Any], title: str, command: str) -> str:
    settings, unit = report["settings"], "document" if report["level"] == "document" else "passage"
    told = facts(
        [
            ("method", _METHODS.get(report["method"], report["method"])),
            ("clusters asked for", settings["n"]),
            ("resolution", settings["resolution"]),
            ("smallest cluster", settings["min_size"]),
            ("instruction", settings["instruction"]),
            ("seed", settings["seed"]),
        ]
    )
    this = f"<dl><dt>this page</dt><dd><code>{safe(command)}</code></dd></dl>"
    lead = f"{many(report['items'], unit)} of {many(report['documents'], 'document')}"
    return f'{heading(title, lead)}<ul class="tiles">{_cards(report, unit)}</ul>{told}{this}'


def _cards(report: Mapping[str, Any], unit: str) -> str:
    quality, clusters = report["quality"], report["clusters"]
    silhouette = quality["silhouette"]
    noise, noise_share = report["noise"], quality["noise_share"]
    largest = max((cluster["share"] for cluster in clusters), default=0.0)
    return "".join(
        [
            card("Clusters", datum("clusters-count", len(clusters)), f"the largest has {largest:.1%} of all"),
            card(f"{unit.capitalize()}s", datum("items", report["items"])),
            card("Documents", datum("documents", report["documents"]), swatch="--s2"),
            card(
                "Silhouette",
                datum("silhouette", silhouette, None if silhouette is None else f"{silhouette:.3f}"),
                "from -1 to 1; higher is better parted" if silhouette is not None else "not measured",
                "it chose the number of clusters" if quality["choice"] else "",
                swatch="--s1",
            ),
            card(
                "Noise",
                datum("noise", noise["size"] if noise else 0),
                f"{datum('noise-share', noise_share, f'{noise_share:.1%}')} in no cluster",
                swatch="--s6",
            ),
        ]
    )


_TOOLS = (
    ("zoom-in", "+", "Zoom in"),
    ("zoom-out", "\N{MINUS SIGN}", "Zoom out"),
    ("zoom-home", "Whole map", "Show the whole map"),
)


def _map(mapped: bool) -> str:
    search = (
        '<form class="filters" id="search-form"><label>Search text, title or path '
        '<input type="search" id="search" autocomplete="off"></label>'
        '<span class="note" role="status" id="search-status"></span></form>'
    )
    results = '<div id="results"></div>'
    if not mapped:
        return (
            '<p class="note" id="no-map">This report has no coordinates, so there is no map.</p>'
            f'{search}<div id="pin" class="pin" hidden></div>{results}'
        )
    buttons = "".join(
        f'<button type="button" class="act" id="{key}" aria-label="{name}" title="{name}">{sign}</button>'
        for key, sign, name in _TOOLS
    )
    return (
        "<p>Each mark is one item; near ones are alike, distances between far ones say little. Drag to move, wheel or "
        "pinch to zoom, click a mark to keep its text. With the keyboard: arrows move, + and - zoom, 0 shows all, "
        "Enter keeps the mark in the middle, Escape lets it go.</p>"
        f'{search}<div class="map-grid"><div class="map-box"><canvas id="map" tabindex="0" role="application" '
        'aria-label="Map of all items; arrows move, plus and minus zoom, Enter keeps the mark in the middle"></canvas>'
        f'<div class="map-tools">{buttons}</div><div id="tip" class="tip" role="status" hidden></div></div>'
        '<aside><div class="legend-head"><b>Clusters</b> <button type="button" class="act" id="legend-all" hidden>'
        'Show all</button></div><ul id="legend"></ul></aside></div><div id="pin" class="pin" hidden></div>'
        f"{results}"
    )


def _sizes(report: Mapping[str, Any]) -> str:
    choice = (
        '<figure id="choice"><figcaption>Silhouette over the number of clusters</figcaption></figure>'
        if report["quality"]["choice"]
        else ""
    )
    return (
        f'<div class="charts two"><figure id="sizes"><figcaption>Sizes of clusters</figcaption></figure>{choice}</div>'
    )


def _clusters() -> str:
    heads = "".join(
        f'<th scope="col" class="{kind}"><button type="button" data-by="{key}">{name}</button></th>'
        for key, name, kind in (
            ("title", "Cluster", ""),
            ("id", "Id", "wide"),
            ("size", "Size", ""),
            ("share", "Share", "wide"),
            ("documents", "Documents", "wide"),
            ("cohesion", "Cohesion", ""),
        )
    )
    return (
        "<p>Cohesion is the mean cosine of a cluster's items to its centre. Open a line to read its most typical "
        'items and then all of them. <span class="note" role="status" id="cluster-status"></span></p>'
        f'<div><table class="lines" id="cluster-table"><thead><tr>{heads}</tr></thead><tbody></tbody></table></div>'
    )
