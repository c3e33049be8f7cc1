"""The probe as one HTML page that needs nothing from elsewhere: pictures inline, light and dark.

An SVG takes its text colour from the page (`currentColor`), so it reads on a light and on a dark ground.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...training.probing.prefix_test import Histogram, PrefixScores, histogram
from ...training.probing.probe import RULE, Answer, Probe, layer_failures
from ...training.probing.tolerance import NEAR_ONE, Tolerance
from ..terminal.console import printable
from .report import Subject, error, influence, proof_line

POSITIVE, NEGATIVE = "#2f7fc1", "#e07b1f"
"""Blue and orange: told apart with every kind of colour vision, and on both grounds."""
_INK = "#010203"
"""Stands for the page's text colour until the SVG is written."""
_MOST_NAMED = 130
"""Tokens that can be named along the axis."""
_DPI = 160


def heat_map_png(tolerance: Tolerance, *, title: str) -> bytes:
    """Return the heat map as a PNG on white, with the model in its title."""
    with _style("black"):
        figure = _heat_map(tolerance, title=title)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def heat_map_svg(tolerance: Tolerance) -> str:
    """Return the heat map as an SVG element for a page."""
    with _style(_INK):
        return _svg(_heat_map(tolerance, title=None))


def histogram_svg(counts: Histogram) -> str:
    """Return both histograms, one over the other, as an SVG element for a page."""
    with _style(_INK):
        figure = Figure(figsize=(7.2, 3.4), layout="constrained")
        axes = figure.subplots()
        width = counts.edges[1] - counts.edges[0]
        for values, name, color in (
            (counts.positive, "cos(q, s+): same meaning", POSITIVE),
            (counts.negative, "cos(q, s-): another meaning", NEGATIVE),
        ):
            axes.bar(
                counts.edges[:-1],
                values,
                width=width,
                align="edge",
                label=name,
                facecolor=(color, 0.45),
                edgecolor=color,
                linewidth=1.2,
            )
        axes.set_xlabel("cosine of the pooled prefix states")
        axes.set_ylabel("triples")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(loc="upper left", frameon=False)
        return _svg(figure)


def _heat_map(tolerance: Tolerance, *, title: str | None) -> Figure:
    rows, tokens = tolerance.cosines.shape
    figure = Figure(
        figsize=(max(7.5, min(14.0, 0.1 * tokens + 2.4)), 2.0 + 0.115 * min(rows, 60)), layout="constrained"
    )
    axes = figure.subplots()
    image = axes.imshow(tolerance.cosines, cmap="viridis", vmin=0, vmax=1, aspect="auto", interpolation="none")
    axes.set_ylabel("layer, first on top")
    # Row 0 is the embedding, and row i + 1 what layer i passes on.
    step = max(1, math.ceil((rows - 1) / 8))
    # With many layers the first would be written over the embedding.
    numbers = range(0 if step == 1 else step, rows - 1, step)
    axes.set_yticks([0, *(number + 1 for number in numbers)], ["embedding", *map(str, numbers)])
    if tokens <= _MOST_NAMED:
        axes.set_xlabel("token")
        axes.set_xticks(range(tokens), [_label(token) for token in tolerance.tokens], rotation=90, fontsize=7)
        axes.tick_params(axis="x", length=1.5, pad=1)
    else:
        axes.set_xlabel("token position")
    for side in axes.spines.values():
        side.set_visible(False)
    extend = "min" if float(tolerance.cosines.min()) < 0 else "neither"
    bar = figure.colorbar(image, ax=axes, pad=0.012, aspect=18, extend=extend)
    bar.set_label("cosine, causal and bidirectional")
    bar.outline.set_visible(False)
    if title is not None:
        axes.set_title(f"{printable(title)}: states with and without looking ahead", loc="left", fontsize=10)
    return figure


def _label(token: str) -> str:
    """Return a token for the axis, a blank one shown as underscores and a long one cut."""
    shown = printable(token.strip() or token.replace(" ", "_")).replace("\n", "\\n").replace("\t", "\\t")
    return shown if len(shown) <= 14 else shown[:13] + "~"


@contextmanager
def _style(ink: str) -> Iterator[None]:
    with mpl.rc_context(), warnings.catch_warnings():
        # A token in a script that matplotlib's own font lacks: the page has the browser's fonts for it.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        mpl.rcParams.update(
            {
                "text.color": ink,
                "axes.labelcolor": ink,
                "axes.edgecolor": ink,
                "xtick.color": ink,
                "ytick.color": ink,
                "font.size": 10,
                # A token may be a dollar sign.
                "text.parse_math": False,
                # Letters stay letters, in the fonts of the page.
                "svg.fonttype": "none",
                # Equal probes give equal files.
                "svg.hashsalt": "searchctl",
            }
        )
        yield


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")


_WORDS = {
    Answer.CANNOT: "Cannot be bidirectional",
    Answer.NEEDS_MNTP: "Needs MNTP",
    Answer.TOLERATES: "Tolerates bidirectional attention",
    Answer.UNCLEAR: "Unclear",
    Answer.ADAPTED: "With adapters",
}
_STYLE = """
:root { color-scheme: light dark; --ground: #fbfbfa; --card: #ffffff; --ink: #1d2430; --quiet: #5d6675;
  --line: #e1e4e8; --good: #1a7f4b; --bad: #c0362c; --warn: #9a6700; --bar: #2f7fc1; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171c; --card: #1c2027; --ink: #e4e8ee; --quiet: #9aa4b2;
  --line: #303742; --good: #4cc38a; --bad: #ff7b6f; --warn: #e3b341; --bar: #5aa5e0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 1.7rem; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 4px; }
.facts, .note, footer { color: var(--quiet); font-size: .9rem; }
.facts { margin: 4px 0 24px; overflow-wrap: anywhere; }
.note { margin: 0 0 16px; max-width: 75ch; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 22px 24px;
  margin: 0 0 20px; }
.verdict { border-left: 5px solid var(--tone); }
.verdict strong { display: block; font-size: 1.35rem; color: var(--tone); }
.verdict p { margin: 6px 0 0; max-width: 80ch; }
.tolerates { --tone: var(--good); } .cannot { --tone: var(--bad); }
.needs-mntp { --tone: var(--warn); } .unclear, .adapted { --tone: var(--quiet); }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 14px; margin: 0 0 18px; }
.numbers div { border-left: 2px solid var(--line); padding-left: 12px; }
.numbers b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; font-weight: 600; }
.numbers span { color: var(--quiet); font-size: .85rem; line-height: 1.3; display: block; }
.picture { overflow-x: auto; margin: 0 0 12px; }
.picture svg { display: block; width: 100%; height: auto; min-width: 620px; }
.picture.small svg { max-width: 720px; min-width: 0; margin: 0 auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 500; color: var(--quiet); }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; }
.yes { color: var(--good); } .no { color: var(--bad); }
.bar { display: inline-block; height: .62em; background: var(--bar); border-radius: 2px; margin-left: 8px; }
.mean { white-space: nowrap; min-width: 190px; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--quiet); }
blockquote { margin: 10px 0 0; padding-left: 14px; border-left: 2px solid var(--line); color: var(--quiet);
  font-size: .92rem; overflow-wrap: anywhere; }
@media (max-width: 600px) { section { padding: 16px; } main { padding: 24px 12px; } }
"""


def probe_page(subject: Subject) -> str:
    """Return the page."""
    probe = subject.probe
    title = f"Probe of {escape(subject.title)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<p class="facts">{escape(subject.facts)}, fingerprint {escape(probe.info.fingerprint[:12])}</p>
{_verdict(subject)}
{_tolerance(probe.tolerance)}
{_prefix(probe)}
{_proof(probe)}
<footer>{escape(RULE)}</footer>
</main>
</body>
</html>
"""


def _verdict(subject: Subject) -> str:
    answer = subject.probe.verdict.answer
    sentence = re.sub("`([^`]+)`", r"<code>\1</code>", escape(subject.sentence[:1].upper() + subject.sentence[1:]))
    return f"""<section class="verdict {answer.value}">
<strong>{_WORDS[answer]}</strong>
<p>{sentence}.</p>
</section>"""


def _number(value: str, meaning: str) -> str:
    return f"<div><b>{value}</b><span>{escape(meaning)}</span></div>"


def _tolerance(tolerance: Tolerance) -> str:
    numbers = (
        _number(f"{tolerance.similarity:.3f}", "mean of all layers, first token left out"),
        _number(f"{tolerance.lowest_layer:.3f}", "lowest layer"),
        _number(
            f"{tolerance.last_layer:.3f}", f"last layer ({tolerance.last_before_norm.mean():.3f} before the final norm)"
        ),
        _number(f"{tolerance.share_near_one:.0%}", f"of the cells above {NEAR_ONE}"),
        _number(f"{tolerance.first_token:.3f}", "first token, the attention sink"),
    )
    cut = f" The text was {tolerance.cut:,} tokens longer and was cut." if tolerance.cut else ""
    return f"""<section>
<h2>Tolerance</h2>
<p class="note">How near each token's state stays to what it was when the model may look ahead: the cosine of its causal
and its bidirectional state, layer by layer. Bright is unchanged. A model that stays bright throughout takes
bidirectional attention without training. Layers are as they pass on their states; the last is after the final norm.</p>
<div class="numbers">{"".join(numbers)}</div>
<div class="picture" role="img" aria-label="Heat map of the cosine by layer and token">{heat_map_svg(tolerance)}</div>
<details><summary>The text, {len(tolerance.tokens):,} tokens</summary>
<blockquote>{escape(tolerance.text)}{cut}</blockquote></details>
</section>"""


def _prefix(probe: Probe) -> str:
    scores, causal = probe.bidirectional, probe.causal
    low, high = scores.interval.low, scores.interval.high
    numbers = (
        _number(f"{scores.right} of {len(scores.positive)}", "triples nearer to s+"),
        _number(f"{scores.auc:.3f}", "AUC; 0.5 is chance"),
        _number(f"{scores.mean_difference:+.4f}", f"mean difference, 95 % interval {low:+.4f} to {high:+.4f}"),
        _number(f"{scores.p_value:.2g}", "p of the sign test"),
        _number(
            f"{causal.undecided} of {len(causal.positive)}",
            f"undecided when causal, as must be; prefix states differ by {error(causal.prefix_error)} at most",
        ),
    )
    return f"""<section>
<h2>Prefix test</h2>
<p class="note">Three texts begin with the same words: q and s+ go on with the same meaning, s- with another. Only the
states of the shared words are compared. A causal model cannot tell the texts apart by them; a bidirectional one that
uses what it sees brings q nearer to s+.</p>
<div class="numbers">{"".join(numbers)}</div>
<div class="picture small" role="img" aria-label="Histograms of cos(q, s+) and cos(q, s-)">{
        histogram_svg(histogram(scores))
    }</div>
<details><summary>All {len(probe.triples)} triples, worst first</summary>
<div class="scroll">{_triples(probe, scores)}</div></details>
</section>"""


def _triples(probe: Probe, scores: PrefixScores) -> str:
    order = sorted(range(len(probe.triples)), key=lambda number: scores.differences[number])
    rows = []
    for number in order:
        triple = probe.triples[number]
        rows.append(
            f"<tr><td>{escape(triple.prefix)}</td><td>{escape(triple.query)}</td><td>{escape(triple.positive)}</td>"
            f"<td>{escape(triple.negative)}</td><td class=n>{scores.positive[number]:.3f}</td>"
            f"<td class=n>{scores.negative[number]:.3f}</td></tr>"
        )
    head = (
        "<tr><th>prefix</th><th>q</th><th>s+</th><th>s-</th><th class=n>cos(q, s+)</th><th class=n>cos(q, s-)</th></tr>"
    )
    return f"<table><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table>"


def _proof(probe: Probe) -> str:
    rows = []
    for layer, mean in zip(probe.proof.layers, probe.tolerance.by_row[1:], strict=True):
        reasons = layer_failures(layer)
        verdict = f'<td class="no">{escape("; ".join(reasons))}</td>' if reasons else '<td class="yes">yes</td>'
        rows.append(
            f"<tr><td>{escape(layer.name)}</td><td>{escape(layer.kind)}</td>"
            f"<td class=n>{influence(layer.least_influence, layer.most_influence)}</td>{verdict}"
            f'<td class="mean">{mean:.3f}<span class="bar" style="width:{max(0.0, 120 * mean):.0f}px"></span></td></tr>'
        )
    line = proof_line(probe)
    others = [text for text in probe.failures if not text.startswith(("layer ", "in layer "))]
    failed = f'<p class="no">{escape("; ".join(others))}</p>' if others else ""
    return f"""<section>
<h2>Proof</h2>
<p class="note">Each layer is called by itself: does an earlier token's state change when only the last token changes?
{escape(line[:1].upper() + line[1:])}.</p>{failed}
<div class="scroll"><table><thead><tr><th>layer</th><th>kind</th><th class="n">influence of the future</th>
<th>bidirectional</th><th>similarity</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>
</section>"""
