"""A GGUF file of a plain Llama made into a folder that transformers loads, with numpy alone.

The folder is that which transformers' own reader makes (encoder/models/gguf_convert.py), so that an encoder has one
fingerprint whatever is installed.

Shape suffixes: O outputs, I inputs.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .gguf_file import GgufFile

# How llama.cpp splits text before merging, by the file's own name for it (llama.cpp, src/llama-vocab.cpp).
LIKE_GPT2 = frozenset(["default", "gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais"])
DIGITS_APART = frozenset(["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"])
# The file's number for tokens that stand for themselves and are never part of a text.
CONTROL = 3

_GLOBAL = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_OUTPUT = {"output.weight": "lm_head.weight"}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def is_plain_llama(source: GgufFile) -> bool:
    """Tell whether this module knows all that is in the file."""
    names = set(source.tensors)
    layers = range(int(source.field("llama.block_count", 0)))
    known = {f"blk.{number}.{part}.weight" for number in layers for part in _LAYER} | set(_GLOBAL)
    return (
        source.field("general.architecture") == "llama"
        and known <= names <= known | set(_OUTPUT)
        and source.field("llama.rope.scaling.type", "none") == "none"
        and not source.field("llama.expert_count", 0)
        and source.field("tokenizer.ggml.model") == "gpt2"
        and source.field("tokenizer.ggml.pre") in LIKE_GPT2 | DIGITS_APART
        and not source.field("tokenizer.ggml.add_bos_token", False)
        and source.tensors["token_embd.weight"].shape[0] == len(source.field("tokenizer.ggml.tokens"))
    )


def convert_plain_llama(source: GgufFile, target: Path) -> None:
    """Write weights in bf16, config and tokenizer into the new folder `target`."""
    target.mkdir(parents=True)
    _write_weights(source, target / "model.safetensors")
    tied = source.tensors.keys().isdisjoint(_OUTPUT)
    _write_json(target / "config.json", _config(source, tied=tied))
    _write_json(target / "tokenizer_config.json", _tokenizer_config(source))
    _write_tokenizer(source, target / "tokenizer.json")
    template = source.field("tokenizer.chat_template")
    if template is not None:
        (target / "chat_template.jinja").write_text(template, encoding="utf-8")


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _write_weights(source: GgufFile, path: Path) -> None:
    heads = {
        "attn_q": int(source.field("llama.attention.head_count")),
        "attn_k": int(source.field("llama.attention.head_count_kv", source.field("llama.attention.head_count"))),
    }
    placed = sorted(((*_place(tensor.name), tensor) for tensor in source.tensors.values()), key=lambda item: item[0])
    # By hand: numpy has no bf16, and the format is a length, a JSON header padded to eight bytes, and the numbers.
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for place, _, tensor in placed:
        begin, end = end, end + 2 * tensor.count
        header[place] = {"dtype": "BF16", "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, part, tensor in placed:
            weight = source.read(tensor)
            file.write(_bf16(_halves_together(weight, heads[part]) if part in heads else weight).data)


def _place(name: str) -> tuple[str, str]:
    """Return what transformers calls a tensor, and which part of a layer it is, "" for one outside of the layers."""
    if not name.startswith("blk."):
        return {**_GLOBAL, **_OUTPUT}[name], ""
    _, number, part, _ = name.split(".")
    return f"model.layers.{number}.{_LAYER[part]}.weight", part


def _halves_together(weight_OI: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo llama.cpp's order of a head's outputs, in which the two components that turn together are neighbours."""
    pairs = weight_OI.reshape(heads, -1, 2, weight_OI.shape[1])
    return pairs.swapaxes(1, 2).reshape(weight_OI.shape)


def _bf16(value: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits rounded to the nearest bf16, ties to even, as torch does."""
    bits = np.ascontiguousarray(value).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _config(source: GgufFile, *, tied: bool) -> dict[str, Any]:
    """Return config.json as transformers writes it."""
    heads, width = int(source.field("llama.attention.head_count")), int(source.field("llama.embedding_length"))
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": source.field("tokenizer.ggml.bos_token_id"),
        "dtype": "bfloat16",
        "eos_token_id": source.field("tokenizer.ggml.eos_token_id"),
        "head_dim": int(source.field("llama.rope.dimension_count", width // heads)),
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": int(source.field("llama.feed_forward_length")),
        "max_position_embeddings": int(source.field("llama.context_length")),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": int(source.field("llama.block_count")),
        "num_key_value_heads": int(source.field("llama.attention.head_count_kv", heads)),
        "pad_token_id": source.field("tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        "rms_norm_eps": float(source.field("llama.attention.layer_norm_rms_epsilon")),
        "rope_parameters": {
            "rope_theta": float(source.field("llama.rope.freq_base", 10000.0)),
            "rope_type": "default",
        },
        "tie_word_embeddings": tied,
        "unk_token_id": source.field("tokenizer.ggml.unknown_token_id"),
        "use_cache": True,
        "vocab_size": len(source.field("tokenizer.ggml.tokens")),
    }


def _tokenizer_config(source: GgufFile) -> dict[str, Any]:
    tokens = source.field("tokenizer.ggml.tokens")
    named = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
    numbers = {key: source.field(f"tokenizer.ggml.{name}_token_id") for key, name in named.items()}
    return {
        "backend": "tokenizers",
        **{key: tokens[number] for key, number in numbers.items() if number is not None},
        "model_max_length": int(source.field("llama.context_length")),
        "tokenizer_class": "TokenizersBackend",
    }


def _write_tokenizer(source: GgufFile, path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    tokens = source.field("tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in source.field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={token: number for number, token in enumerate(tokens)},
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="",
            fuse_unk=False,
        )
    )
    kinds = source.field("tokenizer.ggml.token_type")
    special = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    apart = source.field("tokenizer.ggml.pre") in DIGITS_APART
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, splitter]) if apart else splitter
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1")
    tokenizer.save(str(path))
