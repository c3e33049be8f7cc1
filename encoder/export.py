"""An encoder written as a plain folder that other programs load: adapters merged, no code of ours in it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel

from .config import Attention, EncoderConfig, ExportFormat, Method, Pooling, Precision
from .errors import ExportError
from .export_check import (
    LoadSentenceTransformer,
    ProbeVectors,
    check_dtype,
    foreign_vectors,
    least_cosine,
    probe_vectors,
    require_bidirectional,
)
from .export_tokens import require_same_tokens, takes_instructions
from .identity import identify_resolved
from .load import MERGE_FP32_LIMIT, eos_token, load_transformer, parameter_bound, quiet_loading
from .merged_folder import copy_licences, write_merged
from .model_cache import PullCallback, folder_bytes
from .model_card import Origin, model_card
from .model_folder import read_json, width
from .new_folder import leftovers, new_folder, require_new, require_room
from .open import open_encoder
from .protocol import EncoderInfo
from .resolve import ResolvedModel, resolve
from .sentence_folder import SentencePlan, plan_sentence_folder, stated_limits, write_modules, write_tokenizer
from .sidecar import write_sidecar
from .tokenize import TextTokenizer, load_tokenizer
from .transformer import TransformerEncoder

Notice = Callable[[str], None]
DescribeOrigin = Callable[[ResolvedModel], Origin]


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
        ours, dtype = _write_weights(folder, resolved, config, info, notice=notice, told=told)
        if plan is None:
            write_merged(folder, resolved, info)
        else:
            write_modules(folder, plan, versions=request.versions)
            if plan.sidecar is not None:
                write_sidecar(folder, plan.sidecar)
            limits += stated_limits(plan, resolved.sidecar.prompt, precision, instructed=instructed)
        copy_licences(resolved.folder, folder)
        cosine = _check(folder, request, plan, ours, dtype, told=told)
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
) -> tuple[ProbeVectors, torch.dtype]:
    """Write the merged weights with their config, and return the encoder's probe vectors and what they were made in.

    The model is let go, so that the check can load what was written.
    """
    encoder = load_transformer(resolved, config, info, notice=notice)
    model = encoder.model
    told("writing the weights")
    _save(model, folder)
    dtype = check_dtype(config.precision, model.num_parameters())
    told("computing vectors to compare with")
    model.to(dtype)  # type: ignore[arg-type]
    return probe_vectors(encoder, dtype), dtype


def _save(model: PreTrainedModel, folder: Path) -> None:
    """Write weights and config. Raises ExportError without room, and for a config that cannot say bidirectional."""
    need = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    require_room(folder, need)
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


def _check(
    folder: Path,
    request: ExportRequest,
    plan: SentencePlan | None,
    ours: ProbeVectors,
    dtype: torch.dtype,
    *,
    told: Notice,
) -> float | None:
    """Return the least cosine between the written folder's vectors and the encoder's, None when nobody could look."""
    require_bidirectional(folder, dtype)
    if plan is None:
        told("checking: the folder is opened and its vectors are compared")
        precision = Precision.FP32 if dtype is torch.float32 else Precision.BF16
        opened = EncoderConfig(model=str(folder), precision=precision, device="cpu")
        encoder = open_encoder(opened, notice=lambda message: None)
        assert isinstance(encoder, TransformerEncoder)
        return least_cosine(ours, probe_vectors(encoder, dtype))
    if request.loader is None:
        return None
    told("checking: sentence-transformers opens the folder and its vectors are compared")
    try:
        with quiet_loading():
            model = request.loader(folder, dtype)
    except (ImportError, OSError, ValueError, RuntimeError, TypeError, KeyError) as error:
        raise ExportError(
            f"sentence-transformers does not load the folder ({type(error).__name__}: {error}). Nothing was written."
        ) from error
    return least_cosine(ours, foreign_vectors(model, plan, dtype))
