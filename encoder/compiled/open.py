"""From a resolved model to an encoder that ONNX Runtime runs: built, proved and kept in the cache on first use."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Attention, EncoderConfig, Pooling, Precision
from ..errors import ModelFilesError
from ..models.cache import PullCallback, PullProgress, cache_root, placing, require_space
from ..models.folder import read_config, tensor_shapes, weight_files
from ..models.hash_cache import content_hashes
from ..models.identity import digest_of, weight_parts
from ..models.resolve import ResolvedModel
from ..protocol import EncoderInfo
from ..tokenize import TextTokenizer, load_tokenizer
from .errors import NotCompiledError
from .shape import decoder_shape
from .weights import merged_weights, place_of, plain_lora, read_tensors

if TYPE_CHECKING:
    import onnxruntime

    from .encoder import CompiledEncoder

_log = logging.getLogger(__name__)

GRAPH_VERSION = 1
"""Raised when the same files become another graph: what was built before is built again."""
GRAPH_FILE, RECORD_FILE = "graph.onnx", "compiled.json"
KEPT = 4
"""Compiled encoders that stay in the cache, those used last."""
LARGEST = 2_000_000_000
"""Weights; a larger model in fp32 would not fit a laptop, and torch runs it in bf16."""


def open_compiled(
    resolved: ResolvedModel,
    config: EncoderConfig,
    info: EncoderInfo,
    *,
    cache: Path | None = None,
    progress: PullCallback | None = None,
) -> CompiledEncoder:
    """Return the encoder as a graph, which is built when the cache has none of these very files.

    Raises NotCompiledError when this model, or this way to use it, needs torch; PullError where the cache cannot be
    written; ModelFilesError and NotBidirectionalError as the torch encoder does.
    """
    require_fit(resolved, config)
    pooling = config.pooling or resolved.sidecar.pooling
    eos = _eos(resolved.folder) if pooling is Pooling.LAST else None
    folder = compiled_folder(resolved, cache=cache)
    record = _read(folder, cache)
    if record is None:
        build(resolved, folder, progress)
        record = _read(folder, cache)
        _prune(folder)
    if record is None:
        raise ModelFilesError(f"{folder}: what was written there cannot be read back: check the disk")
    os.utime(folder)
    _log.info("%s: fp32 on cpu (compiled)", info.name)
    from .encoder import CompiledEncoder

    return CompiledEncoder(
        session=_session(str(folder / GRAPH_FILE)),
        texts=TextTokenizer(
            tokenizer=load_tokenizer(resolved.folder),
            prompt=resolved.sidecar.prompt,
            max_tokens=info.max_tokens,
            method=config.method,
            eos=eos,
        ),
        info=info,
        pooling=pooling,
        known_tokens=record["known_tokens"],
        **({} if config.batch_tokens is None else {"batch_tokens": config.batch_tokens}),
    )


def require_fit(resolved: ResolvedModel, config: EncoderConfig) -> None:
    """Raise NotCompiledError with the reason unless a graph can do what `config` asks."""
    if config.attention is not Attention.BIDIRECTIONAL:
        raise NotCompiledError(f"attention is {config.attention}")
    if config.precision is Precision.BF16:
        raise NotCompiledError("a graph computes in fp32")
    if config.device not in {"auto", "cpu"}:
        raise NotCompiledError(f"device is {config.device}")
    decoder_shape(read_config(resolved.folder), None)
    for folder in resolved.adapters:
        plain_lora(folder)
    if (config.pooling or resolved.sidecar.pooling) is Pooling.LAST:
        _eos(resolved.folder)
    if _kept_numbers(resolved) > LARGEST:
        raise NotCompiledError(f"it has more than {LARGEST:,} weights")


def compiled_folder(resolved: ResolvedModel, *, cache: Path | None) -> Path:
    """Return where the graph of these files lies or will lie. Pooling, width, prompt and length do not decide it."""
    key = digest_of({"graph": GRAPH_VERSION, **weight_parts(resolved, cache=cache)})
    return cache_root(cache) / "compiled" / f"{Path(resolved.plain).name}-{key[:16]}"


def find_compiled(resolved: ResolvedModel, *, cache: Path | None) -> tuple[Path, dict[str, Any]] | None:
    """Return the graph of these files that the cache has, and what was recorded of it; nothing is checked or made."""
    folder = compiled_folder(resolved, cache=cache)
    try:
        return folder, json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _kept_numbers(resolved: ResolvedModel) -> int:
    """Return how many numbers the layers that are used have, from the headers of the files."""
    shapes = [item for path in weight_files(resolved.folder) for item in tensor_shapes(path).items()]
    return sum(math.prod(shape) for name, shape in shapes if place_of(name, resolved.sidecar.layers) is not None)


def build(resolved: ResolvedModel, folder: Path, progress: PullCallback | None) -> None:
    """Make the graph of `resolved` in `folder`, proved, in one step; a second process waits for the first."""
    from .check import require
    from .graph import DATA_FILE, build_graph

    layers = resolved.sidecar.layers
    shape = decoder_shape(read_config(resolved.folder), None if layers is None else len(layers))

    def report(step: int) -> None:
        if progress is not None:
            progress(PullProgress(stage="compile", done=step, total=3))

    with placing(folder, progress) as staging:
        if staging is None:
            return
        require_space(staging, 4 * _kept_numbers(resolved))
        model = staging / "model"
        model.mkdir()
        report(0)
        weights = merged_weights(resolved)
        report(1)
        projection = None if resolved.projection is None else read_tensors(resolved.projection)
        with (model / DATA_FILE).open("wb") as data:
            graph = build_graph(shape, weights, projection, data)
        del weights
        report(2)
        (model / GRAPH_FILE).write_bytes(graph.whole.SerializeToString())
        parts = [_runner(part.SerializeToString(), model) for part in graph.parts]
        proof = require(resolved.name, parts, _runner(graph.whole.SerializeToString(), model), graph.known_tokens)
        names = [GRAPH_FILE, DATA_FILE]
        record = {
            "model": resolved.name,
            "known_tokens": graph.known_tokens,
            "hashes": dict(zip(names, content_hashes([model / name for name in names], cache=staging), strict=True)),
            "proof": asdict(proof),
            "onnxruntime": _runtime().__version__,
        }
        (model / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        report(3)


def _read(folder: Path, cache: Path | None) -> dict[str, Any] | None:
    """Return what was recorded of a whole graph; None where there is none. What is damaged is put away, with a word."""
    if not folder.is_dir():
        return None
    try:
        record: dict[str, Any] = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        hashes = record["hashes"]
        whole = content_hashes([folder / name for name in hashes], cache=cache) == list(hashes.values())
        if whole and isinstance(record["known_tokens"], int):
            return record
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    _log.warning("the compiled encoder in %s is damaged: it is built again", folder)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _prune(newest: Path) -> None:
    """Remove what was not used for longest. A process that runs one keeps its files until it ends."""
    folders = [path for path in newest.parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
    folders.sort(key=lambda path: (path == newest, path.stat().st_mtime))
    for path in folders[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)


def _eos(folder: Path) -> int:
    """Return the token that pooling "last" appends."""
    eos = read_config(folder).get("eos_token_id")
    eos = eos[0] if isinstance(eos, list) and eos else eos
    if not isinstance(eos, int):
        raise NotCompiledError("its config.json names no eos_token_id")
    return eos


def _runtime() -> Any:
    import onnxruntime

    return onnxruntime


def _session(model: str | bytes, *, folder: Path | None = None) -> onnxruntime.InferenceSession:
    runtime = _runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin while they wait take the cores from whatever else runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _runner(model: bytes, folder: Path) -> Callable[..., Any]:
    """Return a function that opens the graph, runs it on inputs in its order, and lets it go."""

    def run(*inputs: Any) -> Any:
        session = _session(model, folder=folder)
        names = [value.name for value in session.get_inputs()]
        return session.run(None, dict(zip(names, inputs, strict=True)))[0]

    return run
