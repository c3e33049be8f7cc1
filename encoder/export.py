"""An encoder written as a plain folder that other programs load: adapters merged, no code of ours in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from safetensors import SafetensorError
from transformers import AutoConfig

from .config import Attention, EncoderConfig, ExportFormat, Method, Pooling, Precision
from .errors import ExportError
from .export_check import (
    LoadSentenceTransformer,
    ProbeVectors,
    foreign_vectors,
    least_cosine,
    probe_vectors,
    require_same_tokens,
    takes_instructions,
)
from .identity import identify_resolved
from .load import MERGE_FP32_LIMIT, eos_token, load_transformer, parameter_bound, quiet_loading
from .model_cache import PullCallback, folder_bytes
from .model_card import Origin, model_card
from .model_folder import read_json, width
from .new_folder import leftovers, new_folder, require_new, require_room
from .open import open_encoder
from .protocol import EncoderInfo
from .resolve import ResolvedModel, resolve
from .sentence_folder import SentencePlan, plan_sentence_folder, stated_limits, write_modules, write_tokenizer
from .sidecar import Sidecar, write_sidecar
from .tokenize import TextTokenizer, load_tokenizer
from .transformer import TransformerEncoder

Notice = Callable[[str], None]
DescribeOrigin = Callable[[ResolvedModel], Origin]

# What transformers knows as files of a tokenizer, and what a licence may ask to hand on.
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
    *("vocab.json", "merges.txt", "chat_template.jinja"),
)
LICENCE_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What to write, and where."""

    config: EncoderConfig
    """`device` and `batch_tokens` are not used: an export runs on the CPU. `precision` is that of the weights; AUTO is
    fp32 below two billion weights, bf16 above."""
    output: Path
    """A new folder, or an empty one."""
    form: ExportFormat
    describe: DescribeOrigin
    """Tells for the model card where the resolved model comes from."""
    command: str
    versions: dict[str, str]
    """Packages by name, for the card."""
    loader: LoadSentenceTransformer | None
    """Loads the written folder for the check against sentence-transformers; None where that is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written."""

    folder: Path
    form: ExportFormat
    info: EncoderInfo
    adapters: int
    precision: Precision
    bytes: int
    cosine: float | None
    """Least cosine to the encoder's own vectors in the check; None when there was no check."""
    limits: tuple[str, ...]
    """What a user of the folder must know, as sentences."""


def export_model(
    request: ExportRequest,
    *,
    notice: Notice,
    told: Notice,
    cache: Path | None = None,
    progress: PullCallback | None = None,
) -> Exported:
    """Write the encoder and return what was written; the folder appears when it is complete and was checked.

    `told` gets a line at each step, `notice` one for each choice made for the user. Raises ExportError for a folder
    that holds something, for what the format cannot do, and when the written folder gives other vectors; and what
    `resolve` and `load_transformer` raise. Holds one copy of the weights at a time.
    """
    # Whole path: a model given as "." or a link must not move the name.
    output = request.output.resolve()
    require_new(output)
    _require_plain(request)
    resolved = resolve(request.config, cache=cache, progress=progress)
    precision = _precision(request.config.precision, resolved)
    config = replace(request.config, precision=precision, device="cpu", batch_tokens=None)
    info = identify_resolved(resolved, config, cache=cache)
    for left in leftovers(output):
        notice(f"{left} is left by an export that was killed, or belongs to one that still runs: remove it if not")
    with new_folder(output) as folder:
        plan = _plan(resolved, info) if request.form is ExportFormat.SENTENCE_TRANSFORMERS else None
        limits: tuple[str, ...] = ()
        instructed = True
        if plan is not None:
            limits, instructed = _begin_sentence_folder(folder, plan, resolved, info)
        told(_loading(resolved, precision))
        ours = _write_weights(folder, resolved, config, info, notice=notice, told=told)
        if plan is None:
            _write_merged(folder, resolved, info)
        else:
            write_modules(folder, plan, versions=request.versions)
            if plan.sidecar is not None:
                write_sidecar(folder, plan.sidecar)
            limits += stated_limits(plan, resolved.sidecar.prompt, precision, instructed=instructed)
        _copy_licences(resolved.folder, folder)
        cosine = _check(folder, request, plan, ours, config, told=told)
        card = model_card(
            request.describe(resolved),
            form=request.form,
            info=info,
            prompt=resolved.sidecar.prompt,
            plan=plan,
            instructed=instructed,
            precision=precision,
            limits=limits,
            cosine=cosine,
            name=output.name,
            command=request.command,
            versions=request.versions,
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
    return Exported(
        folder=output,
        form=request.form,
        info=info,
        adapters=len(resolved.adapters),
        precision=precision,
        bytes=folder_bytes(output),
        cosine=cosine,
        limits=limits,
    )


def _require_plain(request: ExportRequest) -> None:
    """Raise ExportError for settings that a folder of weights cannot carry."""
    config = request.config
    if config.attention is not Attention.BIDIRECTIONAL or config.method is not Method.PLAIN:
        raise ExportError(
            f"attention {config.attention} with method {config.method}: a folder can say neither causal attention nor "
            "echo to the programs that load it. Expected bidirectional and plain."
        )
    if config.dim is not None and request.form is ExportFormat.MERGED:
        raise ExportError(
            f"dim is {config.dim}: a merged folder holds the whole model. Give --dim {config.dim} to the command that "
            "opens it, or use --format sentence-transformers, which keeps it."
        )


def _precision(asked: Precision, resolved: ResolvedModel) -> Precision:
    if asked is not Precision.AUTO:
        return asked
    return Precision.FP32 if parameter_bound(resolved.folder) < MERGE_FP32_LIMIT else Precision.BF16


def _loading(resolved: ResolvedModel, precision: Precision) -> str:
    count = len(resolved.adapters)
    merged = f", merging {count} adapter{'s' if count > 1 else ''}" if count else ""
    return f"loading {resolved.folder.name if resolved.entry is None else resolved.entry.name}{merged}, in {precision}"


def _plan(resolved: ResolvedModel, info: EncoderInfo) -> SentencePlan:
    pooling = Pooling(info.pooling)
    return plan_sentence_folder(
        load_tokenizer(resolved.folder),
        replace(resolved.sidecar, pooling=pooling),
        folder=resolved.folder,
        max_tokens=info.max_tokens,
        width=width(resolved.folder),
        dim=info.dim,
        eos=_eos(resolved, pooling),
    )


def _eos(resolved: ResolvedModel, pooling: Pooling) -> int | None:
    if pooling is not Pooling.LAST:
        return None
    return eos_token(AutoConfig.from_pretrained(str(resolved.folder)), resolved.folder)


def _begin_sentence_folder(
    folder: Path, plan: SentencePlan, resolved: ResolvedModel, info: EncoderInfo
) -> tuple[tuple[str, ...], bool]:
    """Write the tokenizer and return the limits, and whether instructions given later keep the vectors the same.

    Before the weights are loaded: what is refused is refused at once.
    """
    write_tokenizer(folder, plan)
    # transformers asks config.json which tokenizer class a model has.
    shutil.copyfile(resolved.folder / "config.json", folder / "config.json")
    ours = TextTokenizer(
        tokenizer=load_tokenizer(resolved.folder),
        prompt=resolved.sidecar.prompt,
        max_tokens=info.max_tokens,
        eos=_eos(resolved, plan.pooling),
    )
    return require_same_tokens(plan, ours, folder), takes_instructions(plan, ours, folder)


def _write_weights(
    folder: Path, resolved: ResolvedModel, config: EncoderConfig, info: EncoderInfo, *, notice: Notice, told: Notice
) -> ProbeVectors:
    """Write the merged weights with their config, and return the encoder's probe vectors. The model is let go."""
    encoder = load_transformer(resolved, config, info, notice=notice)
    ours = probe_vectors(encoder)
    model = encoder.model
    need = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    require_room(folder, need)
    told("writing the weights")
    # What points at code beside the base's weights, or at where they lay, says nothing true here.
    if hasattr(model.config, "auto_map"):
        del model.config.auto_map
    model.config.name_or_path = ""
    try:
        with quiet_loading():
            model.save_pretrained(str(folder))
    except SafetensorError as error:
        raise ExportError(f"{folder.parent.parent}: the weights could not be written ({error}). Free space?") from error
    for path in folder.glob("*.safetensors"):
        # safetensors writes files that only their owner can read.
        path.chmod((folder / "config.json").stat().st_mode)
    if read_json(folder / "config.json").get("is_causal") is not False:
        raise ExportError(
            f"{type(model).__name__} does not keep is_causal in its config.json: other programs would load it as a "
            "causal model. It can be used with searchctl only."
        )
    return ours


def _write_merged(folder: Path, resolved: ResolvedModel, info: EncoderInfo) -> None:
    for name in TOKENIZER_FILES:
        if (resolved.folder / name).is_file():
            shutil.copyfile(resolved.folder / name, folder / name)
    path = folder / "tokenizer_config.json"
    if path.is_file() and "auto_map" in (said := read_json(path)):
        del said["auto_map"]
        path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_sidecar(folder, _alone(resolved.sidecar, info))


def _alone(sidecar: Sidecar, info: EncoderInfo) -> Sidecar:
    """Return the settings of a model that has its adapters in its weights."""
    return replace(sidecar, pooling=Pooling(info.pooling), max_tokens=info.max_tokens, adapters=(), base=None)


def _copy_licences(source: Path, folder: Path) -> None:
    for pattern in LICENCE_FILES:
        for path in sorted(source.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)


def _check(
    folder: Path,
    request: ExportRequest,
    plan: SentencePlan | None,
    ours: ProbeVectors,
    config: EncoderConfig,
    *,
    told: Notice,
) -> float | None:
    """Return the least cosine between the written folder's vectors and the encoder's, None when nobody could look."""
    if plan is None:
        told("checking: the folder is opened and its vectors are compared")
        opened = EncoderConfig(model=str(folder), precision=config.precision, device="cpu")
        encoder = open_encoder(opened, notice=lambda message: None)
        assert isinstance(encoder, TransformerEncoder)
        return least_cosine(ours, probe_vectors(encoder))
    if request.loader is None:
        return None
    told("checking: sentence-transformers opens the folder and its vectors are compared")
    try:
        with quiet_loading():
            model = request.loader(folder)
    except (ImportError, OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise ExportError(
            f"sentence-transformers does not load the folder ({type(error).__name__}: {error}). Nothing was written."
        ) from error
    return least_cosine(ours, foreign_vectors(model, plan))
