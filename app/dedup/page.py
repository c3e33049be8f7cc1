"""The report of `searchctl dedup` as one HTML page that needs nothing from elsewhere, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..pages.data import asset, data_block, page_item, room_for_texts, script, text_limit
from ..pages.parts import SCRIPTLESS, byte_datum, card, cut_note, datum, document, facts, heading, safe, share
from ..terminal.console import harmless
from ..terminal.wording import many

_SCRIPTS = ("elements.js", "diff.js", "charts.js", "dedup.js")
_TIERS = {
    "exact": ("Exact", "the same text after normalising", "--s0"),
    "near": ("Near", "nearly the same words", "--s1"),
    "semantic": ("Semantic", "the same meaning", "--s2"),
}
_LEGEND = (
    '<p class="note">In the texts, <del>words with a dashed line</del> are in {left} only, '
    "<ins>words with a solid line</ins> in {right} only.</p>"
)


def page(report: Mapping[str, Any], *, command: str) -> str:
    """Return the page of a report of schema 1; `command` is what made it.

    Texts are cut, and the page says where, so that it stays below page_data.MOST_BYTES; a report with more numbers
    than fit makes a larger page without texts.
    """
    leaks = report["against"] is not None
    limit = text_limit((item["text"] for item in _items(report)), room_for_texts(_data(report, 0)))
    cut = sum(len(item["text"]) > limit for item in _items(report))
    title = f"Leaks of {report['collection']} into {report['against']}" if leaks else "Duplicates"
    sections = [
        ("similarity", "Similarity", _similarity(report)),
        ("groups", "Leaks" if leaks else "Groups", _groups(report, leaks)),
        ("border", "Border cases", _border(report)),
    ]
    head = _head(report, title, command, leaks) + cut_note(limit, cut, "items") + SCRIPTLESS
    return document(
        title,
        head,
        sections,
        style=asset("report.css"),
        data=data_block(_data(report, limit)),
        script=script(_SCRIPTS),
    )


def _items(report: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for group in report["groups"]:
        yield group["kept"]
        yield from group["dropped"]
    for pair in (*report["border"]["accepted"], *report["border"]["rejected"]):
        yield pair["a"]
        yield pair["b"]


def _data(report: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return what the page's script reads, each text cut to `limit`."""
    copied = ("level", "threshold", "near_threshold", "floor", "curve", "histogram")
    return {key: report[key] for key in copied} | {
        "against": None if report["against"] is None else harmless(report["against"]),
        "groups": [_group(group, limit) for group in report["groups"]],
        "border": {side: [_pair(pair, limit) for pair in pairs] for side, pairs in report["border"].items()},
    }


def _group(group: Mapping[str, Any], limit: int) -> dict[str, Any]:
    dropped = [
        page_item(item, limit) | {key: item[key] for key in ("tier", "score", "cosine")} for item in group["dropped"]
    ]
    return dict(group) | {"kept": page_item(group["kept"], limit), "dropped": dropped}


def _pair(pair: Mapping[str, Any], limit: int) -> dict[str, Any]:
    return dict(pair) | {"a": page_item(pair["a"], limit), "b": page_item(pair["b"], limit)}


def _head(report: Mapping[str, Any], title: str, command: str, leaks: bool) -> str:
    unit = _unit(report)
    what = f"{many(report['items'], unit)} of {report['collection']}"
    lead = f"{what}, compared with {many(report['against_items'], unit)} of {report['against']}" if leaks else what
    keep = None if leaks else report["keep"]
    settings = facts(
        [
            ("compared", f"{unit}s of {many(report['documents'], 'document')}"),
            ("kept of a group", keep and f"the {keep.replace('-', ' ')}" + (" one" if "path" not in keep else "")),
            ("near from", f"{report['near_threshold']:g} of the words in common (Jaccard)"),
            ("semantic from", f"cosine {report['threshold']:g}; pairs are known from {report['floor']:g} up"),
        ]
    )
    this = f"<dl><dt>this page</dt><dd><code>{safe(command)}</code></dd></dl>"
    return f'{heading(title, lead)}<ul class="tiles">{_cards(report, leaks)}</ul>{settings}{this}'


def _cards(report: Mapping[str, Any], leaks: bool) -> str:
    summary = report["summary"]
    items, dropped, saved = report["items"], summary["dropped"], summary["bytes_saved"]
    unit = _unit(report).capitalize() + "s"
    other = f"against {datum('against-items', report['against_items'])}" if leaks else ""
    count = datum("items", items)
    groups = datum("groups-count", summary["groups"])
    kept = f"{datum('kept', summary['kept'])} items kept, one of each"
    cards = [
        card(unit, count, f"{datum('documents', report['documents'])} documents", other),
        card("Leaked into", groups, f"of {safe(report['against'])}") if leaks else card("Groups", groups, kept),
        card("Leaked" if leaks else "Dropped", datum("dropped", dropped), f"{share(dropped, items)} of all"),
        card(
            "Bytes leaked" if leaks else "Bytes saved",
            byte_datum("bytes-saved", saved),
            f"{share(saved, report['bytes'])} of {byte_datum('bytes', report['bytes'])}",
        ),
    ]
    for tier, (name, meaning, swatch) in _TIERS.items():
        counts = summary["tiers"][tier]
        pairs = f"{datum(f'{tier}-pairs', counts['pairs'])} pairs, {byte_datum(f'{tier}-bytes', counts['bytes'])}"
        cards.append(card(name, datum(f"{tier}-dropped", counts["dropped"]), meaning, pairs, swatch=swatch))
    return "".join(cards)


def _unit(report: Mapping[str, Any]) -> str:
    return "document" if report["level"] == "document" else "passage"


def _similarity(report: Mapping[str, Any]) -> str:
    return (
        "<p>How many pairs another threshold would take, and what that would drop. Point at a curve, or choose it and "
        "use the arrow keys.</p>"
        '<p class="readout" id="curve-values" aria-live="polite"></p>'
        '<div class="charts"><figure id="curve-pairs"><figcaption>Pairs</figcaption></figure>'
        f'<figure id="curve-dropped"><figcaption>{"Leaked" if report["against"] else "Dropped"}</figcaption></figure>'
        '<figure id="curve-bytes"><figcaption>Bytes</figcaption></figure></div><div id="curve-numbers"></div>'
        '<div class="charts two"><figure id="cosines"><figcaption>Cosines of all pairs</figcaption></figure>'
        '<figure id="sizes"><figcaption>Sizes of groups</figcaption></figure></div>'
    )


def _groups(report: Mapping[str, Any], leaks: bool) -> str:
    tiers = "".join(f'<option value="{tier}">{name}</option>' for tier, (name, _, _) in _TIERS.items())
    heads = "".join(
        f'<th scope="col" class="{kind}"><button type="button" data-by="{key}">{name}</button></th>'
        for key, name, kind in (
            ("path", "In the other collection" if leaks else "Kept", ""),
            ("size", "Size", ""),
            ("lowest", "Lowest score", ""),
            ("bytes_saved", "Leaked" if leaks else "Saved", ""),
            ("exact", "Exact", "wide"),
            ("near", "Near", "wide"),
            ("semantic", "Semantic", "wide"),
        )
    )
    return (
        f'<p>{_groups_words(report, leaks)}</p><form class="filters" id="group-filters">'
        '<label>Text or path <input type="search" id="group-text" autocomplete="off"></label>'
        f'<label>Tier <select id="group-tier"><option value="">all</option>{tiers}</select></label>'
        '<span class="note" role="status" id="group-status"></span></form>'
        f"{_LEGEND.format(left='the other collection' if leaks else 'the kept item', right='this item')}"
        f'<div><table class="lines" id="group-table"><thead><tr>{heads}</tr></thead><tbody></tbody></table></div>'
    )


def _groups_words(report: Mapping[str, Any], leaks: bool) -> str:
    if leaks:
        return (
            f"What stands in {safe(report['collection'])} and in {safe(report['against'])}: a test on one after "
            "training on the other would measure memory. Open a line to read the texts."
        )
    return (
        "Of each group one item is kept; every other is at or above a threshold to it. Open a line to read the texts."
    )


def _border(report: Mapping[str, Any]) -> str:
    return (
        f"<p>The pairs on both sides of the threshold {report['threshold']:g}: where the first of one list should be "
        f"in the other, another threshold is better.</p>{_LEGEND.format(left='the left text', right='the right text')}"
        '<h3>Least similar that were accepted</h3><div id="accepted"></div>'
        '<h3>Most similar that were rejected</h3><div id="rejected"></div>'
    )
