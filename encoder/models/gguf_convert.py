"""A GGUF file made into a folder that transformers loads: bf16 safetensors, config, tokenizer.

Runs as `python -m searchctl.encoder.models.gguf_convert SOURCE TARGET` in a process of its own: the caller loads
no torch, the memory is given back, and what transformers prints goes nowhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import ModelFilesError, PullError
from .gguf_file import GgufFile
from .gguf_llama import DIGITS_APART, LIKE_GPT2, convert_plain_llama, is_plain_llama

# Keys of tokenizer_config.json and config.json that tell of the conversion and not of the model.
PASSING_KEYS = ("is_local", "local_files_only", "_model_name_or_path", "_name_or_path", "name_or_path")


def convert_apart(source: Path, target: Path, *, python: str = sys.executable) -> None:
    """Convert `source` to the new folder `target` in a process of its own.

    Raises PullError when the disk is full, ModelFilesError for a file that transformers cannot load.
    """
    # -P: a folder called torch or searchctl in the working directory must not be imported.
    command = [python, "-P", "-m", "searchctl.encoder.models.gguf_convert", str(source), str(target)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
    )
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    reason = lines[-1] if lines else f"the converter ended with code {done.returncode}"
    if "No space left" in done.stderr:
        raise PullError(f"disk full while converting {source.name} in {target.parent}: free space and run it again")
    if done.returncode < 0:
        raise PullError(
            f"converting {source.name} was ended by signal {-done.returncode}, often because memory ran out: "
            "close other programs and run it again"
        )
    raise ModelFilesError(
        f"{source}: cannot be converted ({reason}). Expected a GGUF of a decoder architecture that transformers reads."
    )


def convert_gguf(source: Path, target: Path) -> None:
    """Write the model of the GGUF file `source` into the new folder `target`.

    The causal LM is kept whole (training needs its head); tied embeddings are stored once. A plain Llama needs no
    torch; for any other torch and transformers are imported.
    """
    require_one_file(source)
    opened = GgufFile(source)
    if is_plain_llama(opened):
        convert_plain_llama(opened, target)
    else:
        _convert_by_transformers(source, target)


def _convert_by_transformers(source: Path, target: Path) -> None:
    if find_spec("transformers") is None:
        raise ValueError(
            "its architecture is read by transformers, which is not installed: `pip install 'searchctl[torch]'`"
        )
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {
        "gguf_file": source.name,
        "dtype": torch.bfloat16,
        "trust_remote_code": False,
        "output_loading_info": True,
    }
    # Newer releases keep the packed blocks unless told; older ones always unpack.
    if hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    loaded: Any = AutoModelForCausalLM.from_pretrained(str(source.parent), **options)
    model, loading = loaded
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise ValueError(f"{len(missing)} tensors of {type(model).__name__} are not in it, first {missing[0]}")
    require_plain_rotation(source, model.config.get_text_config())
    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), gguf_file=source.name)
    _mend_splitting(tokenizer.backend_tokenizer, tokenizer_kind(source))
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if limit is not None:
        tokenizer.model_max_length = limit
    target.mkdir(parents=True)
    model.save_pretrained(str(target), max_shard_size="5GB")
    tokenizer.save_pretrained(str(target))
    for name in ("config.json", "tokenizer_config.json"):
        _forget(target / name, PASSING_KEYS)
    for path in target.iterdir():
        path.chmod(0o644)


def require_one_file(source: Path) -> None:
    """Raise ValueError for one part of several, or unless the file is a whole model."""
    parts = GgufFile(source).field("split.count")
    if parts is not None and int(parts) > 1:
        raise ValueError(f"it is one of {parts} parts; join them with `llama-gguf-split --merge FIRST-PART WHOLE`")


def require_plain_rotation(source: Path, config: Any) -> None:
    """Return when the rotary positions are those of the file. Raises ValueError for a scaling that was dropped.

    transformers' GGUF reader knows no scaling for some architectures (LLaMA 3.1 among them) and says nothing.
    """
    opened = GgufFile(source)
    kind = opened.field(f"{opened.field('general.architecture')}.rope.scaling.type") or "none"
    scaled = kind != "none" or "rope_freqs.weight" in opened.tensors
    rope = getattr(config, "rope_parameters", None) or {}
    if scaled and rope.get("rope_type", "default") == "default":
        raise ValueError(
            "its rotary positions are scaled, which transformers' GGUF reader drops; use the model's folder of "
            "safetensors"
        )


def tokenizer_kind(source: Path) -> str | None:
    """Return the GGUF's own name for how its tokenizer splits text before merging, e.g. "smollm"."""
    kind: str | None = GgufFile(source).field("tokenizer.ggml.pre")
    return kind


def _mend_splitting(tokenizer: Any, kind: str | None) -> None:
    """Split digits one by one where the model was trained so. Raises ValueError for a way of splitting not known here.

    transformers' GGUF reader splits as GPT-2 does where its architecture has no converter of its own.
    """
    from tokenizers import pre_tokenizers

    found = tokenizer.pre_tokenizer
    if not isinstance(found, pre_tokenizers.ByteLevel) or kind is None or kind in LIKE_GPT2:
        return
    if kind not in DIGITS_APART:
        raise ValueError(
            f"its tokenizer splits text as {kind!r}, which transformers' GGUF reader does not; use the model's folder "
            "of safetensors"
        )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _forget(path: Path, keys: tuple[str, ...]) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    for key in keys:
        data.pop(key, None)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_once() -> None:
    """Remember what the gguf package has read, for this process: transformers asks it for the same again and again.

    Once per module for the table of names, and four times for the whole file: 28 s of CPU became 12 for the default
    model.
    """
    import gguf

    module: Any = gguf
    module.GGUFReader = lru_cache(maxsize=1)(gguf.GGUFReader)
    module.get_tensor_name_map = lru_cache(maxsize=4)(gguf.get_tensor_name_map)


if __name__ == "__main__":
    _read_once()
    convert_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
