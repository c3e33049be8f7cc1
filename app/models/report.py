"""What `searchctl models` says about models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from ...encoder.compiled.open import find_compiled
from ...encoder.config import Runtime
from ...encoder.depth import parse_layers, stated_layers
from ...encoder.models.cache import folder_bytes, pulled
from ...encoder.models.identity import identify
from ...encoder.models.pull import HUB_NAME
from ...encoder.models.registry import ENTRIES, ModelEntry, find
from ...encoder.models.resolve import resolve
from ...encoder.models.sidecar import Sidecar
from ...encoder.open import choose_runtime
from ..collection.encoder_choice import EncoderChoice
from ..errors import AppError
from ..options import cache_folder
from ..terminal.console import Terminal, printable
from ..terminal.wording import size

SCHEMA = 1


def folder_of(name: str) -> Path | None:
    """Return where a model's files are, None when they are not on this machine. Raises AppError for an unknown name."""
    path = Path(name).expanduser()
    if find(name) is None and path.exists():
        return path.absolute()
    found = pulled(name, cache=cache_folder())
    if found is None and find(name) is None and not HUB_NAME.fullmatch(name):
        _unknown(name)
    return found


def _unknown(name: str) -> None:
    from difflib import get_close_matches

    close = get_close_matches(name, [entry.name for entry in ENTRIES], n=1)
    meant = f"Did you mean {close[0]}? " if close else ""
    raise AppError(
        f"{name}: no model of that name and no such folder. {meant}".rstrip(), next_command=("models", "list")
    )


def _on_disk(entry: ModelEntry) -> Path | None:
    return None if entry.source == "builtin" else pulled(entry.name, cache=cache_folder())


def list_to_json() -> str:
    """Return the JSON document of `models list`."""
    rows = []
    for entry in ENTRIES:
        folder = _on_disk(entry)
        rows.append(
            {
                "name": entry.name,
                "source": entry.source,
                "reference": entry.reference,
                "licence": entry.licence,
                "gated": entry.gated,
                "parameters": entry.parameters,
                "dim": entry.dim,
                "context": entry.context,
                "recipe": entry.recipe,
                "notes": entry.notes,
                "here": entry.source == "builtin" or folder is not None,
                "folder": None if folder is None else str(folder),
                "bytes": None if folder is None else folder_bytes(folder),
            }
        )
    return json.dumps({"schema": SCHEMA, "models": rows}, ensure_ascii=False, indent=2) + "\n"


def show_list(terminal: Terminal) -> None:
    """Print the known models as a table."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("name", "weights", "dims", "here", "licence"):
        justify: JustifyMethod = "right" if name in ("weights", "dims") else "left"
        table.add_column(name, justify=justify, no_wrap=name != "licence")
    for entry in ENTRIES:
        folder = _on_disk(entry)
        if entry.source == "builtin":
            here = Text("built in", style="green")
        elif folder is not None:
            here = Text(size(folder_bytes(folder)), style="green")
        else:
            here = Text("no", style="dim")
        licence = entry.licence + (" *" if entry.gated else "")
        table.add_row(
            Text(entry.name, style="bold"),
            count(entry.parameters) if entry.parameters else "-",
            str(entry.dim),
            here,
            Text(licence, style="dim"),
        )
    terminal.show(table)
    terminal.say(Text("* accept the licence on the hub first", style="dim"))
    terminal.say(Text("any other decoder LLM: --model FOLDER, or --model owner/name from the hub", style="dim"))


def count(number: int) -> str:
    """Return a number of weights as a person says it."""
    return f"{number / 1e9:.1f} B" if number >= 0.9995e9 else f"{number / 1e6:.0f} M"


def describe(choice: EncoderChoice) -> dict[str, Any]:
    """Return all that is known of a model; fingerprint and prompt as resolved when its files are here."""
    assert choice.model is not None
    entry = find(choice.model)
    builtin = entry is not None and entry.source == "builtin"
    folder = None if builtin else folder_of(choice.model)
    described: dict[str, Any] = {
        "schema": SCHEMA,
        "name": choice.model if entry is None else entry.name,
        "source": "local" if entry is None else entry.source,
        "reference": None if entry is None else entry.reference,
        "licence": None if entry is None else entry.licence,
        "gated": None if entry is None else entry.gated,
        "parameters": None if entry is None else entry.parameters,
        "context": None if entry is None else entry.context,
        "recipe": None if entry is None else entry.recipe,
        "notes": None if entry is None else entry.notes,
        "here": builtin or folder is not None,
        "folder": None if folder is None else str(folder),
        "bytes": None if folder is None or not folder.is_dir() else folder_bytes(folder),
        "encoder": None,
        "runtime": None,
        "compiled": None,
        "adapters": [],
        "settings": None if entry is None else _settings(entry.sidecar),
    }
    if described["here"]:
        config = choice.config()
        info = identify(config, cache=cache_folder())
        described["encoder"] = {
            "revision": info.revision,
            "dim": info.dim,
            "max_tokens": info.max_tokens,
            "pooling": info.pooling,
            "fingerprint": info.fingerprint,
        }
        if not builtin:
            resolved = resolve(config, cache=cache_folder())
            runtime, reason = choose_runtime(resolved, config)
            compiled = find_compiled(resolved, cache=cache_folder()) if runtime is Runtime.COMPILED else None
            described["runtime"] = {"name": runtime.value, "reason": reason}
            if compiled is not None:
                folder, record = compiled
                described["compiled"] = {
                    "folder": str(folder),
                    "bytes": folder_bytes(folder),
                    "proof": record["proof"],
                }
            described["adapters"] = [str(path) for path in resolved.adapters]
            described["settings"] = _settings(resolved.sidecar)
            described["licence"] = resolved.licence
    return described


def _settings(sidecar: Sidecar) -> dict[str, Any]:
    return {
        "pooling": sidecar.pooling.value,
        "max_tokens": sidecar.max_tokens,
        "dense_weight": sidecar.dense_weight,
        "layers": None if sidecar.layers is None else stated_layers(sidecar.layers),
        "projection": sidecar.projection,
        "prompt": sidecar.prompt.to_dict(),
    }


def show_model(terminal: Terminal, described: dict[str, Any]) -> None:
    """Print what `describe` returned for a person."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in _facts(described):
        table.add_row(key, Text(printable(value)))
    terminal.show(table)
    if not described["here"]:
        terminal.say(f"not on this machine: {terminal.command('models', 'pull', described['name'])} fetches it")


def _facts(described: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [("name", described["name"]), ("from", f"{described['source']} {described['reference'] or ''}".strip())]
    for key in ("licence", "recipe", "notes", "folder"):
        if described[key]:
            facts.append((key, str(described[key])))
    if described["parameters"]:
        facts.append(("weights", count(described["parameters"])))
    if described["bytes"]:
        facts.append(("on disk", size(described["bytes"])))
    encoder, settings = described["encoder"], described["settings"]
    if encoder is not None:
        facts.append(("revision", encoder["revision"]))
        facts.append(("vectors", f"{encoder['dim']} dimensions, {encoder['pooling']} pooling"))
        facts.append(("longest text", f"{encoder['max_tokens']:,} tokens"))
        facts.append(("fingerprint", encoder["fingerprint"]))
    if described["runtime"] is not None:
        facts.append(("runtime", f"{described['runtime']['name']} ({described['runtime']['reason']})"))
    if described["compiled"] is not None:
        facts.append(("compiled", f"{size(described['compiled']['bytes'])} in {described['compiled']['folder']}"))
    facts += [("adapter", folder) for folder in described["adapters"]]
    if settings is not None:
        facts += [(f"prompt {key}", json.dumps(text)) for key, text in settings["prompt"].items() if text]
        if settings["layers"] is not None:
            facts.append(("layers kept", ", ".join(map(str, parse_layers(settings["layers"])))))
        if settings["projection"] is not None:
            facts.append(("projection", settings["projection"]))
        if settings["dense_weight"] is not None:
            facts.append(("dense weight", str(settings["dense_weight"])))
    return facts
