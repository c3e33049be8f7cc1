"""stdout holds results only, exit codes mean what they say, and the terminal gets colours while pipes do not."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.options import ColorMode
from searchctl.app.terminal.console import wants_color

MAIN = [sys.executable, "-c", "from searchctl.app.cli import main; main()"]


def in_terminal(folder: Path, *args: str, env: dict[str, str] | None = None) -> str:
    """Return what a command writes to a terminal of 80 columns on stdout; stderr is dropped."""
    parent, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **(env or {})}
    with subprocess.Popen([*MAIN, *args], cwd=folder, stdout=child, stderr=subprocess.DEVNULL, env=environment):
        os.close(child)
        shown = bytearray()
        while True:
            try:
                block = os.read(parent, 65536)
            except OSError:
                break
            if not block:
                break
            shown += block
    os.close(parent)
    return shown.decode()


def test_terminal_has_colour_and_links_and_fits_80_columns(library: Any) -> None:
    shown = in_terminal(library.folder, "query", "heron fish", "-k", "2")
    assert "\x1b[" in shown
    assert f"file://{library.folder}/docs/animals/birds.txt" in shown
    plain = in_terminal(library.folder, "query", "heron fish", "-k", "2", env={"NO_COLOR": "1"})
    assert "\x1b" not in plain
    assert max(len(line.rstrip("\r")) for line in plain.split("\n")) <= 80


def test_colour_decision(subtests: pytest.Subtests) -> None:
    for mode, env, terminal, expected in [
        ("auto", {}, True, True),
        ("auto", {}, False, False),
        ("auto", {"NO_COLOR": "1"}, True, False),
        ("auto", {"NO_COLOR": ""}, True, True),
        ("auto", {"FORCE_COLOR": "1"}, False, True),
        ("auto", {"FORCE_COLOR": "0"}, False, False),
        ("auto", {"CLICOLOR_FORCE": "1"}, False, True),
        ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, True, False),
        ("auto", {"TERM": "dumb"}, True, False),
        ("always", {"NO_COLOR": "1"}, False, True),
        ("never", {"FORCE_COLOR": "1"}, True, False),
    ]:
        with (
            subtests.test(mode=mode, env=env, terminal=terminal, expected=expected),
            pytest.MonkeyPatch.context() as monkeypatch,
        ):
            for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
                monkeypatch.delenv(name, raising=False)
            for name, value in {"TERM": "xterm", **env}.items():
                monkeypatch.setenv(name, value)

            class Stream:
                def isatty(self) -> bool:
                    return terminal

            assert wants_color(Stream(), ColorMode(mode)) is expected  # type: ignore[arg-type]


def test_color_always_colours_a_pipe(library: Any) -> None:
    assert "\x1b[" in library("query", "heron", "--color", "always").out
    assert "\x1b[" not in library("query", "heron").out


@pytest.mark.parametrize("form", ["json", "table"])
def test_sigpipe_ends_quietly_with_141(library: Any, form: str) -> None:
    """`searchctl query ... | head -1`, with more output than a pipe holds; Rich would end it with 1, "no hit"."""
    for number in range(40):
        library.write(f"many/{number}.txt", f"heron number {number}. " + "fish and water " * 120)
    library.index("many")
    process = library.start("query", "heron", "-k", "400", "--full", "--format", form)
    process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert (process.wait(timeout=60), err) == (141, "")


def test_index_writes_nothing_to_stdout(shell: Any) -> None:
    shell.write("a.txt", "alpha\n")
    ended = shell("index", "a.txt", "--model", "hashing")
    assert (ended.code, ended.out) == (0, "")
    assert "1 added" in ended.err
    assert shell("index", "a.txt", "-q").err == ""


def test_errors_are_json_when_the_format_is(new_shell: Any, subtests: pytest.Subtests) -> None:
    for args in [
        ("query", "x", "--format", "json"),
        ("query", "x", "--format=jsonl"),
        ("query", "--nonsense", "--format", "json"),
        ("status", "-f", "json"),
        ("index", "nowhere", "--model", "hashing", "--format", "json"),
    ]:
        with subtests.test(args=args):
            shell = new_shell()
            ended = shell(*args)
            assert (ended.code, ended.out) == (2, "")
            told = json.loads(ended.err)
            assert set(told) == {"error", "type", "hint"}
            assert told["error"]


def test_hint_is_the_next_command(shell: Any) -> None:
    assert json.loads(shell("query", "x", "--format", "json").err)["hint"] == "searchctl index PATH"


def test_did_you_mean(new_shell: Any, subtests: pytest.Subtests) -> None:
    for args, meant in [
        (("qurey", "x"), "query"),
        (("query", "x", "--fromat", "json"), "--format"),
        (("models", "lst"), "list"),
    ]:
        with subtests.test(args=args, meant=meant):
            shell = new_shell()
            ended = shell(*args)
            assert ended.code == 2
            assert "did you mean" in ended.err.lower()
            assert meant in ended.err


def test_usage_errors_end_with_2(new_shell: Any, subtests: pytest.Subtests) -> None:
    for args in [
        (),
        ("query", "x", "-k", "0"),
        ("query", "x", "--mode", "magic"),
        ("query",),
        ("models",),
        ("embed", "--role", "x"),
    ]:
        with subtests.test(args=args):
            shell = new_shell()
            ended = shell(*args)
            assert ended.code == 2
            assert "Traceback" not in ended.err


def test_traceback_only_with_debug(shell: Any) -> None:
    assert "Traceback" not in shell("query", "x").err
    assert "Traceback" in shell("query", "x", "--debug").err
    assert "Traceback" in shell("--debug", "query", "x").err


def test_common_options_count_before_and_after_the_command(library: Any) -> None:
    assert library("-q", "query", "zzz", "--mode", "lexical").err == ""
    assert library("query", "zzz", "--mode", "lexical", "-q").err == ""


def test_flag_wins_over_environment_over_default(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHCTL_K", "2")
    monkeypatch.setenv("SEARCHCTL_FORMAT", "files")
    assert len(library("query", "heron fish power").out.splitlines()) == 2
    assert len(library("query", "heron fish power", "-k", "1").out.splitlines()) == 1
    monkeypatch.setenv("SEARCHCTL_COLLECTION", str(library.folder / "nowhere"))
    assert library("query", "heron").code == 2
    assert library("query", "heron", "--collection", library.folder / ".searchctl").code == 0


def test_version_says_what_a_bug_report_needs(shell: Any) -> None:
    ended = shell("--version")
    assert ended.code == 0
    assert ended.out.startswith("searchctl 0.")
    assert "Python 3." in ended.out


def test_disk_full_is_an_error_in_words(shell: Any) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    shell.write("a.txt", "alpha\n")
    with Path("/dev/full").open("w") as full:
        process = shell.start("embed", "a.txt", "--model", "hashing", "-f", "jsonl", stdout=full)
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    assert "No space left on device" in err
    assert "Traceback" not in err


def through_shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run `line` in sh, with `searchctl` as the program; only a shell can start a program with a stream closed."""
    program = shlex.join(MAIN)
    script = f'searchctl() {{ {program} "$@"; }}; {line}'
    return subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_closed_streams_are_as_the_null_device(library: Any, subtests: pytest.Subtests) -> None:
    """Python gives None for a closed stream: tracebacks, and exit 1, which says that there was no hit."""
    for line, code in [
        ("searchctl query heron -l >&-", 0),
        ("searchctl query heron -l >&- 2>&-", 0),
        ("searchctl query heron -l <&- >&- 2>&-", 0),
        ("searchctl query - <&-", 2),
        ("searchctl query heron --nonsense 2>&-", 2),
        ("searchctl embed --model hashing -f jsonl <&-", 0),
        ("searchctl embed --model hashing -f npy >&- </dev/null", 0),
    ]:
        with subtests.test(line=line, code=code):
            ended = through_shell(library.folder, line)
            assert ended.returncode == code, ended.stderr
            assert "Traceback" not in ended.stderr
            assert "bug" not in ended.stderr


def test_hits_are_printed_with_stderr_closed(library: Any) -> None:
    ended = through_shell(library.folder, "searchctl query heron -l 2>&-")
    assert ended.returncode == 0
    assert "docs/animals/birds.txt" in ended.stdout


def test_talk_that_nobody_reads_ends_with_141_too(library: Any) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = library.start("query", "zzz", "--mode", "lexical", stderr=writer)
    os.close(writer)
    process.communicate(timeout=60)
    assert process.returncode == 141


def test_an_error_keeps_its_code_where_stderr_takes_no_words(library: Any, subtests: pytest.Subtests) -> None:
    for args in ["--nonsense", "--nonsense --format json", "--collection nowhere --debug"]:
        with subtests.test(args=args):
            if not Path("/dev/full").exists():
                pytest.skip("this system has no /dev/full")
            assert through_shell(library.folder, f"searchctl query heron {args} 2>/dev/full").returncode == 2
            reader, writer = os.pipe()
            os.close(reader)
            process = library.start("query", "heron", *args.split(), stderr=writer)
            os.close(writer)
            process.communicate(timeout=60)
            assert process.returncode == 2
