"""An encoder written as a plain folder that other programs load: adapters merged, no code of ours in it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedModel

from ..config import Attention, EncoderConfig, ExportFormat, Method, Pooling, Precision
from ..errors import ExportError
from ..load import MERGE_FP32_LIMIT, cast_weights, eos_token, load_transformer, quiet_loading
from ..models.cache import PullCallback, folder_bytes
from ..models.folder import read_json, stored_weights, weight_files, width
from ..models.identity import full_width, identify_resolved
from ..models.resolve import ResolvedModel, resolve
from ..models.sidecar import write_sidecar
from ..protocol import EncoderInfo
from ..tokenize import TextTokenizer, load_tokenizer
from .check import LoadSentenceTransformer, ProbeVectors, check_dtype, check_folder, probe_vectors
from .merged_folder import copy_licences, write_merged
from .model_card import Origin, model_card
from .new_folder import leftovers, new_folder, require_new, require_room
from .sentence_folder import SentencePlan, plan_sentence_folder, stated_limits, write_modules, write_tokenizer
from .token_check import require_same_tokens, takes_instructions

Told = Callable[[str], None]
_log = logging.getLogger(__name__)
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
    fp32_limit: int = MERGE_FP32_LIMIT
    """From this many weights on a model is large: AUTO is bf16, adapters are merged in it, and the check may use it."""
    cpu_dtype: torch.dtype | None = None
    """What the CPU computes in best, for the check of a large model; None to find out."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """The encoder that is exported."""

    resolved: ResolvedModel
    config: EncoderConfig
    """On the CPU, in the precision of the weights."""
    info: EncoderInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stated:
    """What the folder says besides the weights."""

    plan: SentencePlan | None
    """None for a merged folder."""
    limits: tuple[str, ...] = ()
    instructed: bool = True
    """Whether an instruction given later keeps the vectors the same."""


def export_model(
    request: ExportRequest,
    *,
    told: Told,
    cache: Path | None = None,
    progress: PullCallback | None = None,
) -> Exported:
    """Write the encoder and return what was written; the folder appears when it is complete and was checked.

    `told` gets a line at each step. Raises ExportError for a folder
    that holds something, for what the format cannot do, and when the written folder gives other vectors; and what
    `resolve` and `load_transformer` raise. Holds one copy of the weights at a time.
    """
    # Whole path: a model given as "." or a link must not move the name.
    output = request.output.resolve()
    require_new(output)
    _require_plain(request)
    source = _source(request, cache=cache, progress=progress)
    for left in leftovers(output):
        _log.warning(
            "%s is left by an export that was killed, or belongs to one that still runs: remove it if not", left
        )
    with new_folder(output) as folder:
        stated = _begin(folder, request, source)
        told(_loading(source))
        ours, dtype = _write_weights(folder, request, source, told=told)
        _write_beside(folder, request, source, stated.plan)
        cosine = check_folder(folder, stated.plan, ours, dtype, loader=request.loader, told=told)
        card = _card(request, source, stated, cosine, name=output.name)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return Exported(
        folder=output,
        form=request.form,
        info=source.info,
        adapters=len(source.resolved.adapters),
        precision=source.config.precision,
        bytes=folder_bytes(output),
        cosine=cosine,
        limits=stated.limits,
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


def _source(request: ExportRequest, *, cache: Path | None, progress: PullCallback | None) -> _Source:
    resolved = resolve(request.config, cache=cache, progress=progress)
    precision = _precision(request, resolved)
    config = replace(request.config, precision=precision, device="cpu", batch_tokens=None)
    return _Source(resolved=resolved, config=config, info=identify_resolved(resolved, config, cache=cache))


def _precision(request: ExportRequest, resolved: ResolvedModel) -> Precision:
    if request.config.precision is not Precision.AUTO:
        return request.config.precision
    small = stored_weights(weight_files(resolved.folder)) < request.fp32_limit
    return Precision.FP32 if small else Precision.BF16


def _begin(folder: Path, request: ExportRequest, source: _Source) -> _Stated:
    """Return what the folder will say; for sentence-transformers write the tokenizer, and compare its tokens.

    Before the weights are loaded: what is refused is refused at once.
    """
    if request.form is ExportFormat.MERGED:
        return _Stated(plan=None)
    resolved, info = source.resolved, source.info
    pooling = Pooling(info.pooling)
    eos = _eos(resolved, pooling)
    plan = plan_sentence_folder(
        load_tokenizer(resolved.folder),
        replace(resolved.sidecar, pooling=pooling),
        folder=resolved.folder,
        max_tokens=info.max_tokens,
        states=width(resolved.folder),
        width=full_width(resolved),
        dim=info.dim,
        projection=resolved.projection,
        eos=eos,
    )
    write_tokenizer(folder, plan)
    # transformers asks config.json which tokenizer class a model has.
    shutil.copyfile(resolved.folder / "config.json", folder / "config.json")
    prompt = resolved.sidecar.prompt
    tokenizer = load_tokenizer(resolved.folder)
    ours = TextTokenizer(tokenizer=tokenizer, prompt=prompt, max_tokens=info.max_tokens, eos=eos)
    limits = require_same_tokens(plan, ours, folder)
    instructed = takes_instructions(plan, ours, folder)
    limits += stated_limits(plan, prompt, source.config.precision, instructed=instructed)
    return _Stated(plan=plan, limits=limits, instructed=instructed)


def _eos(resolved: ResolvedModel, pooling: Pooling) -> int | None:
    if pooling is not Pooling.LAST:
        return None
    return eos_token(AutoConfig.from_pretrained(str(resolved.folder), trust_remote_code=False), resolved.folder)


def _loading(source: _Source) -> str:
    resolved = source.resolved
    count = len(resolved.adapters)
    merged = f", merging {count} adapter{'s' if count > 1 else ''}" if count else ""
    name = resolved.folder.name if resolved.entry is None else resolved.entry.name
    return f"loading {name}{merged}, in {source.config.precision}"


def _write_weights(
    folder: Path, request: ExportRequest, source: _Source, *, told: Told
) -> tuple[ProbeVectors, torch.dtype]:
    """Write the merged weights with their config, and return the encoder's probe vectors and what they were made in.

    The model is let go, so that the check can load what was written.
    """
    limit = request.fp32_limit
    encoder = load_transformer(source.resolved, source.config, source.info, fp32_limit=limit)
    model = encoder.model
    told("writing the weights")
    _save(model, folder)
    dtype = check_dtype(source.config.precision, model.num_parameters(), fp32_limit=limit, cpu_dtype=request.cpu_dtype)
    told("computing vectors to compare with")
    cast_weights(model, dtype)
    return probe_vectors(encoder, dtype), dtype


def _write_beside(folder: Path, request: ExportRequest, source: _Source, plan: SentencePlan | None) -> None:
    """Write what makes a folder of weights a model, and the licences."""
    if plan is None:
        write_merged(folder, source.resolved, source.info)
    else:
        write_modules(folder, plan, versions=request.versions)
        if plan.sidecar is not None:
            write_sidecar(folder, plan.sidecar)
    copy_licences(source.resolved.folder, folder)


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


def _card(request: ExportRequest, source: _Source, stated: _Stated, cosine: float | None, *, name: str) -> str:
    return model_card(
        request.describe(source.resolved),
        form=request.form,
        info=source.info,
        prompt=source.resolved.sidecar.prompt,
        plan=stated.plan,
        instructed=stated.instructed,
        precision=source.config.precision,
        limits=stated.limits,
        cosine=cosine,
        name=name,
        command=request.command,
        versions=request.versions,
    )
