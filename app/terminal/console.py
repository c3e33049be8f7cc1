"""What goes to which stream: results to stdout, talk to stderr, colours and bars to terminals only."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, RenderableType
from rich.text import Text

from ..errors import typed
from ..options import ColorMode

if TYPE_CHECKING:
    from rich.progress import Progress


_LOGGER = logging.getLogger("searchctl")
_PIECE_CHARS = 16384
_DIRECTIONS = frozenset(map(chr, (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
UNBOUNDED_WIDTH = 1_000_000
"""Off a terminal nothing is wrapped or cut, and Rich always has a width."""


class _Console(Console):
    """Lets a reader that went away be told as everywhere else: Rich ends the process with 1, which says "no hit"."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _Listener(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        show = self._terminal.notice if record.levelno >= logging.WARNING else self._terminal.detail
        show(record.getMessage())


def stop_listening() -> None:
    """Show no more of what the program logs."""
    for handler in [each for each in _LOGGER.handlers if isinstance(each, _Listener)]:
        _LOGGER.removeHandler(handler)
    _LOGGER.propagate = True


class Terminal:
    """The two streams of one invocation; built again each time, because Rich keeps what it saw when it was made."""

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        color: ColorMode | None = None,
        collection: Path | None = None,
    ) -> None:
        """`collection` is the --collection of the command: those that are named to a person are about the same."""
        self.quiet = quiet
        self.verbose = verbose and not quiet
        self._color = color or ColorMode.AUTO
        self._collection = collection
        self.is_terminal = sys.stdout.isatty()
        self.width = shutil.get_terminal_size().columns if self.is_terminal else UNBOUNDED_WIDTH
        self.out = self._console(sys.stdout)
        self.err = self._console(sys.stderr)

    def _console(self, stream: TextIO) -> Console:
        colored = wants_color(stream, self._color)
        terminal = stream.isatty()
        return _Console(
            file=stream,
            force_terminal=colored,
            no_color=not colored,
            # Forced colours off a terminal: what the reader can do is unknown, and 256 colours are safe.
            color_system="auto" if colored and terminal else "256" if colored else None,
            width=None if terminal else UNBOUNDED_WIDTH,
            highlight=False,
            soft_wrap=not terminal,
            legacy_windows=False,
        )

    @property
    def has_color(self) -> bool:
        return self.out.color_system is not None

    def write(self, text: str) -> None:
        """Put a result on stdout as it is.

        In pieces: with PYTHONUNBUFFERED a write that ends early as its reader goes away is no error, but the next is.
        """
        for at in range(0, len(text), _PIECE_CHARS):
            sys.stdout.write(text[at : at + _PIECE_CHARS])

    def show(self, renderable: RenderableType) -> None:
        """Put a result on stdout, laid out for the terminal it is; a table off a terminal ends where its words do."""
        if self.is_terminal:
            self.out.print(renderable)
            return
        with self.out.capture() as captured:
            self.out.print(renderable)
        self.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))

    def notice(self, message: str) -> None:
        """Tell a person something that is no result."""
        if not self.quiet:
            self._say(Text.assemble(("note: ", "yellow"), printable(message)))

    def say(self, message: str | Text) -> None:
        """Talk on stderr, unless --quiet."""
        if not self.quiet:
            self._say(Text(printable(message)) if isinstance(message, str) else message)

    def detail(self, message: str) -> None:
        """Talk on stderr, with --verbose only."""
        if self.verbose:
            self._say(Text(printable(message), style="dim"))

    def fail(self, message: str, hint: str | None = None) -> None:
        """Tell an error and the command to type next, even with --quiet."""
        self._say(Text.assemble(("error: ", "bold red"), printable(message)))
        if hint is not None:
            self._say(Text.assemble(("hint: ", "cyan"), printable(hint)))

    def command(self, *words: str) -> str:
        """Return a command of searchctl to name in a sentence, for the collection that this one is about."""
        return f"`{typed(words, collection=self._collection)}`"

    def listen(self) -> None:
        """Show what the program logs: warnings as notices, information with --verbose only."""
        stop_listening()
        _LOGGER.addHandler(_Listener(self))
        _LOGGER.setLevel(logging.INFO)
        _LOGGER.propagate = False  # what a library has put on the root logger would say it again

    def _say(self, text: Text) -> None:
        self.err.print(text, soft_wrap=not sys.stderr.isatty())

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show on a terminal that something without a measure goes on."""
        if self.quiet or not sys.stderr.isatty():
            yield
            return
        with self.err.status(Text(what, style="dim"), spinner_style="cyan"):
            yield

    @contextmanager
    def progress(self, what: str) -> Iterator[Callable[[float, str], None]]:
        """Show one bar on a terminal while inside; call it with the share done and a few words.

        The share never goes back. Off a terminal and with --quiet nothing is shown.
        """
        if self.quiet or not sys.stderr.isatty():
            yield lambda share, words: None
            return
        bar = _bar(self.err)
        task = bar.add_task(what, total=1.0, words="")
        highest = 0.0

        def update(share: float, words: str) -> None:
            nonlocal highest
            highest = max(highest, min(share, 1.0))
            bar.update(task, completed=highest, words=words)

        with bar:
            yield update


def wants_color(stream: TextIO, mode: ColorMode) -> bool:
    """Return whether to colour `stream`: --color, then NO_COLOR, then FORCE_COLOR, then whether it is a terminal."""
    if mode is not ColorMode.AUTO:
        return mode is ColorMode.ALWAYS
    if os.environ.get("NO_COLOR"):
        return False
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        if os.environ.get(name, "0") not in ("", "0"):
            return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def printable(text: str) -> str:
    """Return `text` with what could steer a terminal made visible: a file name may hold escape codes."""
    if text.isprintable():
        return text
    return "".join(ascii(mark)[1:-1] if _steers(mark) and mark not in "\n\t" else mark for mark in text)


def harmless(text: str) -> str:
    """Return `text`, of the same length, with a space for each character that could steer a terminal."""
    return text if text.isprintable() else text.translate(_SPACES)


def _steers(mark: str) -> bool:
    """Return whether a character is a control code, half a surrogate pair, a line separator or turns the direction."""
    return mark in _DIRECTIONS or unicodedata.category(mark) in ("Cc", "Cs", "Zl", "Zp")


_SPACES = {
    code: " "
    # Unicode keeps these categories as they are: no later version adds to them.
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000), *map(ord, _DIRECTIONS))
    if code not in (0x09, 0x0A)
}
"""What `harmless` takes out, for `str.translate`: a page has megabytes of text."""


def _bar(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    return Progress(
        SpinnerColumn(style="cyan"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24, complete_style="cyan", finished_style="green"),
        TaskProgressColumn(),
        TextColumn("[dim]{task.fields[words]}[/dim]"),
        console=console,
        transient=True,
    )


def one_line(text: str) -> str:
    """Return a name so that it takes one line of a table and steers no terminal."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")
