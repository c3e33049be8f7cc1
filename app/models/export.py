"""How `searchctl models export` runs: the encoder found, written, checked, and what to do with it."""

from __future__ import annotations

import json
import platform
import shlex
import sys
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ... import __version__
from ...encoder.config import EncoderConfig, ExportFormat, Pooling, Precision
from ..collection.encoder_choice import choice_of
from ..errors import AppError
from ..options import cache_folder
from ..terminal.console import Terminal
from ..terminal.progress import pull_bar
from ..terminal.wording import size

if TYPE_CHECKING:
    from ...encoder.export.export import Exported
    from ...encoder.export.model_card import Origin
    from ...encoder.models.resolve import ResolvedModel


MADE_WITH = ("torch", "transformers", "tokenizers", "safetensors", "peft", "sentence-transformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportWish:
    """What a person typed."""

    model: str
    output: Path
    form: ExportFormat
    precision: Precision
    adapters: tuple[Path, ...]
    pooling: Pooling | None
    dim: int | None
    max_tokens: int | None


def run_export(terminal: Terminal, wish: ExportWish) -> None:
    """Write the encoder to a folder and print that. Raises AppError for a model that has no files."""
    config = _config(wish)
    # peft asks transformers by names that are on their way out: nothing that a person exporting can fix.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    from ...encoder.export.check import sentence_transformers_loader
    from ...encoder.export.export import ExportRequest, export_model

    request = ExportRequest(
        config=config,
        output=wish.output.expanduser(),
        form=wish.form,
        describe=lambda resolved: origin_of(wish.model, resolved),
        command=_command(wish),
        versions=_versions(),
        loader=sentence_transformers_loader(),
    )
    with ExitStack() as stack:
        exported = export_model(
            request,
            told=terminal.say,
            cache=cache_folder(),
            progress=stack.enter_context(pull_bar(terminal, config.model)),
        )
    _show(terminal, exported)


def _config(wish: ExportWish) -> EncoderConfig:
    config = choice_of(
        model=wish.model,
        adapter=list(wish.adapters),
        pooling=wish.pooling,
        attention=None,
        method=None,
        dim=wish.dim,
        max_tokens=wish.max_tokens,
        precision=wish.precision,
        device="cpu",
        batch_tokens=None,
    ).config()
    if config.model == "hashing":
        raise AppError(
            "hashing is part of searchctl and has no weights to export: expected a decoder model",
            next_command=("models", "export", "smollm2-135m", "-o", "my-model"),
        )
    return config


def origin_of(name: str, resolved: ResolvedModel) -> Origin:
    """Return what the model card says of where an encoder comes from, with what the manifests of its trainings say.

    `name` is the model as typed. Names only: paths of this machine mean nothing on another.
    """
    from ...encoder.export.model_card import Origin, stated_licence
    from ...encoder.models.pull import HUB_NAME
    from ...training.chain.output_folder import plain_base

    entry = resolved.entry
    place = None if entry is not None else Path(name).expanduser().resolve()
    manifests = _manifests(place, resolved.adapters)
    # An adapter that was named besides may have been trained on another base than the one it is merged into here.
    manifest = {} if place is None else manifests.get(place) or manifests.get(place.parent, {})
    said = str(manifest.get("base") or plain_base(resolved))
    on_hub = HUB_NAME.fullmatch(said) is not None and not Path(said).expanduser().exists()
    hub_base = entry.reference if entry is not None and entry.source == "hub" else said if on_hub else None
    told = [each["data"] for each in manifests.values() if isinstance(each.get("data"), dict)]
    data = {key: row for each in told for key, row in each.items()}
    return Origin(
        base=entry.name if entry is not None else said if on_hub else Path(said).expanduser().resolve().name,
        source=entry.reference if entry is not None else hub_base,
        hub_base=hub_base,
        revision=str(manifest.get("base_revision") or resolved.revision),
        licence=resolved.licence or _text(manifest.get("base_licence")) or stated_licence(resolved.folder),
        adapters=tuple(folder.name for folder in resolved.adapters),
        data=tuple(
            (Path(key).name, _text(row.get("licence")) if isinstance(row, dict) else None) for key, row in data.items()
        ),
    )


def _manifests(model: Path | None, adapters: tuple[Path, ...]) -> dict[Path, dict[str, Any]]:
    """Return what trainings wrote of a model's folder and of its adapters, by folder, the last adapter's last.

    A folder that an adapter lies in tells of it only where it has trained it, or was begun with a copy of it.
    """
    found = {} if model is None else {model: _manifest(model)}
    for adapter in adapters:
        manifest = _manifest(adapter.parent)
        if adapter.name in manifest.get("stages", ()) or adapter.name.startswith("base-"):
            found.setdefault(adapter.resolve().parent, manifest)
    return {folder: manifest for folder, manifest in found.items() if manifest}


def _manifest(folder: Path) -> dict[str, Any]:
    """Return what `searchctl train` wrote about a folder, {} for any other folder."""
    from ...training.chain.output_folder import MANIFEST

    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "stages" in found else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _command(wish: ExportWish) -> str:
    """Return the command as it would be typed beside the model and the output."""
    model = wish.model if not Path(wish.model).expanduser().exists() else Path(wish.model).resolve().name
    words = ["searchctl", "models", "export", model, "-o", wish.output.resolve().name, "--format", wish.form.value]
    words += ["--precision", wish.precision.value] if wish.precision is not Precision.AUTO else []
    words += [word for folder in wish.adapters for word in ("--adapter", folder.resolve().name)]
    for option, value in (("--pooling", wish.pooling), ("--dim", wish.dim), ("--max-tokens", wish.max_tokens)):
        words += [option, str(value)] if value is not None else []
    return shlex.join(words)


def _versions() -> dict[str, str]:
    found = {"searchctl": __version__, "python": platform.python_version()}
    for package in MADE_WITH:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _show(terminal: Terminal, exported: Exported) -> None:
    """Print the folder, and on stderr what it is and the lines that load it."""
    count = exported.adapters
    merged = f"{count} adapter{'s' if count > 1 else ''} merged" if count else "no adapters"
    terminal.say(f"written: {size(exported.bytes)} in {exported.precision}, {merged}, {exported.info.dim} components")
    if exported.cosine is not None:
        terminal.say(f"checked: the least cosine to the encoder's own vectors is {exported.cosine:.6f}")
    else:
        terminal.notice(
            "sentence-transformers is not installed here, so the vectors were not compared; the tokens were. "
            "`pip install sentence-transformers` and export again to have both checked"
        )
    for limit in exported.limits:
        terminal.notice(limit)
    sys.stdout.flush()
    terminal.write(f"{exported.folder}\n")
    sys.stdout.flush()
    terminal.say("it is loaded by:")
    for line in loading_lines(exported):
        terminal.say(Text(f"    {line}", style="bold"))
    if exported.form is ExportFormat.MERGED:
        terminal.say(f"or by searchctl, with pooling and template: --model {shlex.quote(str(exported.folder))}")


def loading_lines(exported: Exported) -> tuple[str, str]:
    """Return the two lines of Python that load the folder."""
    library, loader = {
        ExportFormat.SENTENCE_TRANSFORMERS: ("sentence_transformers", "SentenceTransformer({})"),
        ExportFormat.MERGED: ("transformers", "AutoModel.from_pretrained({})"),
    }[exported.form]
    call = loader.format(json.dumps(str(exported.folder), ensure_ascii=False))
    return f"from {library} import {loader.partition('(')[0].partition('.')[0]}", f"model = {call}"
