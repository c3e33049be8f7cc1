"""The command line: its commands, and the one boundary where an exception becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from .command_groups import LazyGroup
from .errors import ExitCode, Failure, explain
from .options import Color, Debug, Quiet, Verbose
from .terminal.invocation import Invocation

app = typer.Typer(
    name="searchctl",
    cls=LazyGroup,
    help="Search your own files by meaning, with a decoder LLM as the text encoder. Everything runs on this machine.",
    epilog='Start with: [bold]searchctl index PATH[/bold], then [bold]searchctl query "what you look for"[/bold]',
    no_args_is_help=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(version_line() + "\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
    color: Color = None,
) -> None:
    ctx.ensure_object(Invocation).add(quiet=quiet, verbose=verbose, debug=debug, color=color)
    if ctx.invoked_subcommand is None:
        sys.stdout.write(ctx.get_help())
        raise typer.Exit(ExitCode.ERROR)


def version_line() -> str:
    """Return the version with what a bug report needs: Python and the system."""
    import platform

    from .. import __version__

    return f"searchctl {__version__} (Python {platform.python_version()}, {platform.system()} {platform.machine()})"


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(args: Sequence[str]) -> int:
    """Run one command and return its exit code; every exception ends here."""
    _open_closed_streams()
    _silence_libraries()
    invocation = Invocation()
    try:
        code = _invoke(list(args), invocation)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # A reader is gone (`| head`). Python would flush both streams once more at exit, and complain.
        _drop(1)
        with _sturdy_stderr():
            pass
        return ExitCode.PIPE_CLOSED
    except KeyboardInterrupt:
        _flush_stdout()
        with _sturdy_stderr():
            invocation.terminal().say("interrupted")
        return ExitCode.INTERRUPTED
    except typer.TyperException as error:
        if not error.format_message():  # a group by itself, whose help was shown
            return ExitCode.ERROR
        return _fail(_usage(error), args, invocation)
    except Exception as error:
        _flush_stdout()
        if invocation.debug:
            with _sturdy_stderr():
                traceback.print_exc()
        return _fail(explain(error, collection=invocation.collection), args, invocation)


def _invoke(args: list[str], invocation: Invocation) -> int:
    command = get_command(app)
    if "_SEARCHCTL_COMPLETE" in os.environ:
        command.main(args, prog_name="searchctl")  # shell completion: prints and exits
    try:
        with command.make_context("searchctl", args, obj=invocation) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except typer.Abort:
        return ExitCode.INTERRUPTED
    finally:
        from .terminal.console import stop_listening

        stop_listening()
    return ExitCode.OK


def _usage(error: typer.TyperException) -> Failure:
    """Return what to say about a command line that cannot be understood."""
    message = (
        error.format_message().replace("Value error, ", "").replace("(Possible options: ", "(Did you mean ").rstrip()
    )
    if message.endswith(")") and "(Did you mean " in message:
        message = message[:-1] + "?)"
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "searchctl"
    return Failure(
        error=message.rstrip("."),
        type="UsageError",
        hint=f"{path} --help",
        code=ExitCode.ERROR,
    )


def _fail(failure: Failure, args: Sequence[str], invocation: Invocation) -> int:
    with _sturdy_stderr():
        if _wants_json(args):
            import json

            told = {"error": failure.error, "type": failure.type, "hint": failure.hint}
            sys.stderr.write(json.dumps(told, ensure_ascii=False) + "\n")
        else:
            invocation.terminal().fail(failure.error, failure.hint)
    return failure.code


def _open_closed_streams() -> None:
    """Put the null device where the caller closed a standard stream (`>&-`), which Python gives as None."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


@contextmanager
def _sturdy_stderr() -> Iterator[None]:
    """Let the last words go where stderr takes none: the exit code still has to be right."""
    try:
        yield
        sys.stderr.flush()
    except OSError:
        _drop(2)  # else Python, flushing at exit, would fail and change the exit code


def _wants_json(args: Sequence[str]) -> bool:
    """Return whether the command line asks for JSON, read before parsing: parsing may be what fails."""
    words = list(args[: args.index("--")] if "--" in args else args)
    for position, word in enumerate(words):
        if word in ("--format", "-f"):
            return words[position + 1 : position + 2] in (["json"], ["jsonl"])
        if word in ("--format=json", "--format=jsonl", "-fjson", "-fjsonl"):
            return True
    command = next((word for word in words if not word.startswith("-")), "")
    variable = {"query": "SEARCHCTL_FORMAT", "embed": "SEARCHCTL_EMBED_FORMAT"}.get(command, "SEARCHCTL_REPORT_FORMAT")
    return os.environ.get(variable) in ("json", "jsonl")


def _silence_libraries() -> None:
    """Keep native libraries off our streams; set before anything imports them, and only where unset."""
    quiet = {
        "TOKENIZERS_PARALLELISM": "true",
        "TRANSFORMERS_VERBOSITY": "error",
        "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GLOG_minloglevel": "2",
        # Idle threads of a parallel region sleep instead of spinning: beside other work, spinning made loading the
        # default model 3 to 6 times slower on 2 cores. On an idle machine sleeping costs about a tenth (746 against
        # 833 tokens/s): OMP_WAIT_POLICY=ACTIVE in the environment takes that back.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    for name, value in quiet.items():
        os.environ.setdefault(name, value)


def _drop(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    if null != descriptor:
        os.close(null)


def _flush_stdout() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _drop(1)
