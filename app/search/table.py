"""Hits for a person: where, under which headings, how good, and the best passage with its words picked out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.text import Text

from ...index.readers.languages import LANGUAGES
from ..collection.paths import shown_path
from ..options import SearchMode
from ..terminal.console import UNBOUNDED_WIDTH, harmless, printable
from ..terminal.wording import WIDEST
from .formats import duplicate_words, explanation
from .hits import Answer, Freshness, Hit

_INDENT = 4
_BARS = 5
_SNIPPET_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """What to show of each hit."""

    mode: SearchMode
    width: int
    links: bool
    explain: bool = False
    full: bool = False


def show_answer(console: Console, answer: Answer, options: TableOptions, *, titled: bool) -> None:
    """Print the hits of one query; `titled` puts the query before them."""
    if titled:
        console.print(Text(printable(answer.question.text), style="bold underline"))
    top = answer.hits[0].score.total if answer.hits else 0.0
    for position, hit in enumerate(answer.hits):
        if position:
            console.print()
        _show_hit(console, hit, options, top=top)
    if titled:
        console.print()


def _show_hit(console: Console, hit: Hit, options: TableOptions, *, top: float) -> None:
    bounded = options.width < UNBOUNDED_WIDTH
    width = min(options.width, WIDEST)
    score = _score(hit, options, top)
    head = Text(f"{hit.rank:>2}  ", style="bold")
    head.append_text(_place(hit, options))
    if bounded:
        room = width - cell_len(score.plain) - 2
        if head.cell_len > room:
            head.truncate(room, overflow="ellipsis")
        head.append(" " * max(2, width - head.cell_len - cell_len(score.plain)))
    else:
        head.append("  ")
    head.append_text(score)
    console.print(head, no_wrap=True, overflow="ignore", crop=False)
    trail = _trail(hit)
    if trail.plain:
        if bounded:
            trail.truncate(width - _INDENT, overflow="ellipsis")
        _print(console, trail, options)
    if options.explain:
        _print(console, Text(explanation(hit, options.mode), style="cyan"), options)
    body = _body(hit, options)
    if body.plain:
        _print(console, body, options, is_code=hit.chunk.format in LANGUAGES)
    if hit.duplicates:
        others = Text(printable(duplicate_words(hit)), style="dim")
        if bounded:
            others.truncate(width - _INDENT, overflow="ellipsis")
        _print(console, others, options)


def _print(console: Console, text: Text, options: TableOptions, *, is_code: bool = False) -> None:
    if options.width >= UNBOUNDED_WIDTH:
        console.print(Text(" " * _INDENT) + text, soft_wrap=True)
        return
    width = min(options.width, WIDEST) - _INDENT
    lines = list(text.split("\n", allow_blank=True)) if is_code else list(text.wrap(console, width))
    if len(lines) > _SNIPPET_LINES and not options.full:
        lines = lines[:_SNIPPET_LINES]
        lines[-1].truncate(width - 1)
        lines[-1].append("…")
    for line in lines:
        line.rstrip()
        line.truncate(width, overflow="ellipsis")
        console.print(Padding(line, (0, 0, 0, _INDENT), expand=False), no_wrap=True, crop=False)


def _place(hit: Hit, options: TableOptions) -> Text:
    shown = printable(shown_path(hit.file))
    link = Style(link=hit.file.as_uri()) if options.links and hit.file.is_absolute() else Style()
    folder, slash, name = shown.rpartition("/")
    place = Text.assemble((folder + slash, Style.parse("cyan") + link), (name, Style.parse("bold cyan") + link))
    if hit.line is not None:
        place.append(f":{hit.line}", style="green")
    anchor = hit.chunk.anchor
    if anchor is not None and anchor.kind not in ("heading", "symbol"):  # those stand in the line below
        place.append(f"  {anchor.kind} {printable(anchor.value)}", style="green")
    if hit.freshness is Freshness.CHANGED:
        place.append("  changed since indexed", style="yellow")
    elif hit.freshness is Freshness.MISSING:
        place.append("  file is gone", style="red")
    return place


def _score(hit: Hit, options: TableOptions, top: float) -> Text:
    total = hit.score.total
    number = f"{total:.2f}"
    if options.width >= UNBOUNDED_WIDTH:
        return Text(number)
    # A fused score has a scale of its own, 0 to 1; the others say something only beside the best.
    share = total if options.mode is SearchMode.HYBRID else total / top if top > 0 else 0.0
    filled = max(1, round(_BARS * min(share, 1.0))) if total > 0 else 0
    return Text.assemble(("●" * filled, "green"), ("·" * (_BARS - filled), "dim"), (f" {number}", "bold"))


def _trail(hit: Hit) -> Text:
    chunk = hit.chunk
    steps = [step for step in chunk.headings if step]
    if chunk.title and chunk.title not in steps[:1]:
        steps.insert(0, chunk.title)
    return Text(" › ".join(printable(step) for step in steps), style="dim italic")


def _body(hit: Hit, options: TableOptions) -> Text:
    """Return the passage on one line or, with `full`, the chunk as it stands."""
    if options.full:
        return Text(printable(hit.chunk.text).rstrip("\n"))
    snippet = hit.snippet
    if snippet is None:
        return Text()
    text = Text(harmless(snippet.text), style="dim")
    text.stylize(Style(dim=False), *snippet.passage)
    for span in snippet.matches:
        text.stylize(Style(bold=True, dim=False, color="yellow"), *span)
    if not snippet.matches and snippet.passage != (0, 0):
        text.stylize(Style(bold=True), *snippet.passage)
    if hit.chunk.format in LANGUAGES:
        return _dedented(text)
    text = _one_line(text)
    if snippet.cut_before:
        text = Text("…", style="dim") + text
    if snippet.cut_after:
        text.append("…", style="dim")
    return text


def _dedented(text: Text) -> Text:
    """Return lines of code without the indentation they share."""
    text = text.copy()
    text.expand_tabs(4)
    lines = list(text.split("\n", allow_blank=True))
    full = [line.plain for line in lines if line.plain.strip()]
    shared = min((len(line) - len(line.lstrip()) for line in full), default=0)
    return Text("\n").join(line[shared:] if line.plain.strip() else Text() for line in lines)


def _one_line(text: Text) -> Text:
    """Return `text` with every run of white space as one space."""
    pieces: list[Text] = []
    at = 0
    for gap in re.finditer(r"\s+", text.plain):
        if gap.start() > at:
            pieces.append(text[at : gap.start()])
        at = gap.end()
    if at < len(text.plain):
        pieces.append(text[at:])
    return Text(" ").join(pieces)
