"""How `searchctl train mine` runs: pairs read and checked, scored by an encoder or by BM25, written and shown."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from rich.text import Text

from ... import __version__
from ...training.data.corpus import Pair, PairSource, data_files, read_pairs, read_texts, source_name
from ...training.data.hard_negatives import MiningCounts
from ...training.data.pair_files import is_pair_file, manifest_of, write_pairs
from ...training.recipe import Recipe, SourceSettings
from ..collection.encoder_choice import EncoderChoice
from ..collection.paths import shown_path
from ..errors import AppError
from ..terminal.console import Terminal
from ..terminal.progress import pull_bar
from ..terminal.wording import duration
from .hard_negative_scoring import EncoderScoring, LexicalScoring, Scoring
from .pairs import checked_output, say_example
from .run import recipe_named

if TYPE_CHECKING:
    from ...training.data.hard_negatives import MinedPair, MiningSettings


PART = "part"
"""The output until it is whole."""
_LOCK = "lock"


def workspace_of(output: Path) -> Path:
    """Return where the workspace of an output is."""
    return output.with_name(f".{source_name(output)}.mining")


@contextmanager
def workspace(output: Path) -> Iterator[Path]:
    """Hold the workspace of `output`, one process at a time; it goes when the work is done.

    When the work fails it stays as far as something is in it, and the next run goes on with that. Raises AppError while
    another process holds it.
    """
    folder = workspace_of(output)
    folder.mkdir(exist_ok=True)
    # The operating system drops the lock with its process: a killed run holds nothing.
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise AppError(f"another process is making {output}: wait for its end, or name another --output") from None
    try:
        (folder / PART).unlink(missing_ok=True)  # a killed run's
        yield folder
    except BaseException:
        (folder / _LOCK).unlink(missing_ok=True)
        with suppress(OSError):  # not empty: there are vectors to go on with
            folder.rmdir()
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()


_EXAMPLES = 3


@dataclass(slots=True, kw_only=True)
class MinedReport:
    """Counts over the pairs of one file, and a few pairs from its beginning, middle and end to look at."""

    total: int
    counts: MiningCounts = field(default_factory=MiningCounts)
    examples: list[MinedPair] = field(default_factory=list)

    def add(self, mined: MinedPair) -> None:
        """Count one pair, in the order of the file."""
        self.counts.add(mined)
        due = len(self.examples) * self.total // _EXAMPLES
        if self.counts.pairs > due and len(self.examples) < _EXAMPLES and len(mined.pair.negatives) > mined.own:
            self.examples.append(mined)

    def to_json(self) -> dict[str, Any]:
        """Return the counts for the manifest."""
        counts = self.counts
        return {
            "negatives": {"there_before": counts.own, "mined": counts.mined},
            "pairs_by_negatives": {str(number): counts.by_negatives[number] for number in sorted(counts.by_negatives)},
            "rejected_by_margin": {"candidates": counts.rejected, "pairs": counts.with_rejected},
        }

    def show(self, terminal: Terminal) -> None:
        """Tell the counts and the examples."""
        counts = self.counts
        before = f", {counts.own:,} were there before" if counts.own else ""
        terminal.say(Text.assemble("mined: ", (f"{counts.mined:,} negatives", "green"), before))
        spread = ", ".join(f"{number}: {counts.by_negatives[number]:,}" for number in sorted(counts.by_negatives))
        terminal.say(f"pairs by negatives   {spread}")
        terminal.say(
            f"left out by margin   {counts.rejected:,} candidates of {counts.with_rejected:,} pairs, which may answer "
            "the query too"
        )
        if without := counts.by_negatives[0]:
            terminal.notice(
                f"{without:,} of {counts.pairs:,} pairs have no negative: they are kept, and meet those of others"
            )
        if self.examples:
            terminal.say("for example:")
        for mined in self.examples:
            negative, score = mined.pair.negatives[mined.own], mined.found.scores[0]
            say_example(
                terminal,
                (
                    ("query", mined.pair.query),
                    (f"+ {mined.found.positive:.3g}", mined.pair.positive),
                    (f"- {score:.3g}", negative),
                ),
            )


SCHEMA = 1
_REPORT_EVERY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class MineWish:
    """What a person typed."""

    pairs: tuple[Path, ...]
    output: Path
    lexical: bool
    corpus: tuple[Path, ...]
    count: int
    margin: float
    skip_top: int
    instruction: str | None
    recipe: str | None
    force: bool
    choice: EncoderChoice
    typed: tuple[str, ...]
    """Options of the encoder that stand in the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _More:
    """Texts of --corpus."""

    texts: tuple[str, ...]
    sources: tuple[dict[str, Any], ...]
    """For the manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One file to mine negatives for."""

    source: PairSource
    output: Path
    more: _More
    settings: MiningSettings


def run_mine(terminal: Terminal, wish: MineWish) -> None:
    """Mine negatives for each file of pairs. Raises AppError for a mistake, before anything is written."""
    _check(wish)
    outputs = _outputs(wish)
    recipe = None if wish.recipe is None else recipe_named(wish.recipe)
    with terminal.waiting("reading and checking the data"):
        # All of it, before the first minute is spent: a mistake in the last file shows at once.
        sources = [read_pairs(path.expanduser()) for path in wish.pairs]
        more = _more(terminal, wish, outputs)
    settings = _settings(wish)
    with ExitStack() as stack:
        scoring: Scoring
        if wish.lexical:
            scoring = LexicalScoring(terminal)
        else:
            pulling = stack.enter_context(pull_bar(terminal, wish.choice.model or "the model"))
            scoring = EncoderScoring(terminal, wish.choice, pulling, wish.instruction, recipe)
        for number, (source, output) in enumerate(zip(sources, outputs, strict=True)):
            try:
                _mine_file(terminal, _Job(source=source, output=output, more=more, settings=settings), scoring)
            except KeyboardInterrupt:
                _tell_kept(terminal, output, done=wish.pairs[:number])
                raise
    if recipe is not None:
        _tell_other_table(terminal, recipe, sources, outputs)
    data = " ".join(f"--data {shlex.quote(shown_path(output))}" for output in outputs)
    terminal.say(f"train with `searchctl train run {_trained(wish, recipe)} {data}`")


def _trained(wish: MineWish, recipe: Recipe | None) -> str:
    """Return the options of a training command that can start: a recipe that is named is taken as it is."""
    if recipe is None:
        return "--stages supervised"
    stages = "mntp,simcse,supervised" if recipe.supervised.start == "simcse" else "supervised"
    return f"--stages {stages} --recipe {shlex.quote(str(wish.recipe))}"


def _check(wish: MineWish) -> None:
    if not 0 < wish.margin <= 1:
        raise AppError(f"--margin is {wish.margin:g}: expected a share of the positive's score, above 0 and at most 1")
    if wish.lexical and wish.typed:
        option = "--" + wish.typed[0].replace("_", "-")
        raise AppError(f"{option} is of an encoder, and --lexical has none: expected one of the two")
    if wish.instruction is not None and wish.recipe is not None:
        raise AppError("--instruction and --recipe both say what queries are told: expected one of the two")


def _outputs(wish: MineWish) -> list[Path]:
    """Return where each file goes: --output itself, or the file of the same name in it."""
    inputs = [*wish.pairs, *wish.corpus]
    if len(wish.pairs) == 1 and is_pair_file(wish.output) and not wish.output.is_dir():
        return [checked_output(wish.output, inputs, force=wish.force)]
    folder = wish.output.expanduser()
    if is_pair_file(folder) and not folder.is_dir():
        raise AppError(
            f"--output is {wish.output} and there are {len(wish.pairs)} files of pairs: expected a folder, for a batch "
            "of training is sampled from one file"
        )
    _check_names(wish.pairs)
    if not folder.is_dir():
        raise AppError(
            f"--output is {wish.output}: expected a name ending in .jsonl or .jsonl.gz, or a folder that is there"
        )
    return [checked_output(folder / path.name, inputs, force=wish.force) for path in wish.pairs]


def _check_names(pairs: Sequence[Path]) -> None:
    """Raise AppError for two files whose results in one folder would have one name, or one manifest."""
    seen: dict[str, Path] = {}
    for path in pairs:
        first = seen.setdefault(source_name(path), path)
        if first is not path:
            same = f"one manifest, {manifest_of(path).name}" if first.name != path.name else "one name"
            raise AppError(f"{first} and {path}: their results would have {same}; mine them into folders of their own")


def _settings(wish: MineWish) -> MiningSettings:
    from ...training.data.hard_negatives import MiningSettings

    return MiningSettings(count=wish.count, margin=wish.margin, skip_top=wish.skip_top)


def _more(terminal: Terminal, wish: MineWish, outputs: Sequence[Path]) -> _More:
    texts: list[str] = []
    sources: list[dict[str, Any]] = []
    written = {output.resolve() for output in outputs}
    for path in data_files([place.expanduser() for place in wish.corpus]) if wish.corpus else ():
        if path.resolve() in written:
            terminal.say(f"{path} is written by this run, and no part of the corpus")
            continue
        plain = read_texts(path)
        if plain is not None:
            found, digest = plain.texts, plain.digest
        else:
            pairs = read_pairs(path)
            found, digest = tuple(pair.positive for pair in pairs.pairs), pairs.digest
        texts += found
        sources.append({"file": str(path), "digest": digest, "texts": len(found)})
    return _More(texts=tuple(texts), sources=tuple(sources))


def _mine_file(terminal: Terminal, job: _Job, scoring: Scoring) -> None:
    from ...training.data.hard_negatives import corpus_of, mine_pairs

    pairs = job.source.pairs
    corpus = corpus_of(pairs, job.more.texts)
    terminal.say(f"{job.source.name}: {len(pairs):,} pairs, negatives from {len(corpus):,} texts")
    report = MinedReport(total=len(pairs))
    with workspace(job.output) as folder:
        scored = scoring.of(job.source, corpus, folder)
        mined = mine_pairs(pairs, corpus, scored.scores, job.settings, least=scored.least)
        with terminal.progress("Mining") as update:
            write_pairs(
                job.output,
                _watched(mined, report, update),
                lambda: {**_about(job, len(corpus)), "scores": scored.details, **report.to_json()},
                part=folder / PART,
            )
    report.show(terminal)
    terminal.write(f"{job.output}\n")


def _tell_kept(terminal: Terminal, output: Path, *, done: Sequence[Path]) -> None:
    """Say how to go on after an interrupt, where something is kept; `done` are the files that are finished."""
    if workspace_of(output).is_dir():
        rest = f"the command without {' '.join(map(str, done))}" if done else "the same command"
        terminal.say(f"vectors computed so far are kept: run {rest} again to go on")


def _tell_other_table(
    terminal: Terminal, recipe: Recipe, sources: Sequence[PairSource], outputs: Sequence[Path]
) -> None:
    """Say where training with `recipe` would use a mined file otherwise than its queries were told here."""
    tables = recipe.supervised.sources
    for source, output in zip(sources, outputs, strict=True):
        name = source_name(output)
        mined, trained = tables.get(source.name), tables.get(name)
        if trained is None:
            same = mined in (None, SourceSettings())
        else:
            same = _words(mined or SourceSettings()) == _words(trained)
        if same:
            continue
        there = f"[supervised.sources.{name}]"
        found = (
            f"finds no {there} and uses the defaults, no instruction, weight 1, not symmetric"
            if trained is None
            else f"uses {there}, which says something else"
        )
        told = "without a table" if mined is None else f"as [supervised.sources.{source.name}] says"
        terminal.notice(
            f"{source.name} was mined {told}; training on {output.name} with recipe {recipe.name} {found}. Give both "
            f"names the same table, or call the file {source.name}{output.name.removeprefix(name)}, in another folder"
        )


def _words(table: SourceSettings) -> tuple[str | None, bool]:
    """Return what decides the texts that an encoder sees; a mined file may well have another weight."""
    return table.instruction, table.symmetric


def _watched(mined: Iterable[MinedPair], report: MinedReport, update: Callable[[float, str], None]) -> Iterator[Pair]:
    """Yield the pairs, counted, and move the bar."""
    began = time.monotonic()
    for number, each in enumerate(mined, start=1):
        report.add(each)
        if number % _REPORT_EVERY == 0:
            share = number / report.total
            left = duration((time.monotonic() - began) * (1 - share) / share)
            update(share, f"{number:,} of {report.total:,} pairs, {left} left")
        yield each.pair


def _about(job: _Job, texts: int) -> dict[str, Any]:
    """Return what the manifest says of the input; `texts` is the size of the corpus."""
    source = job.source
    return {
        "schema": SCHEMA,
        "made_by": f"searchctl {__version__} train mine",
        "input": {"name": source.name, "digest": source.digest, "pairs": len(source.pairs)},
        "corpus": {"texts": texts, "beside_positives": list(job.more.sources)},
        **asdict(job.settings),
    }
