"""A sentence-transformers folder that gives our vectors: what it can say, and what has to be refused.

Its modules are Transformer, Pooling, Dense where there is a projection, and Normalize. It puts a prompt before a text,
counts the tokens of the prompt alone, and pools the tokens after that many. Ours pools the tokens that hold a character
of the text. Both are the same where every token of the whole string belongs to the prompt or to the text, and nothing
else is in the row. Read in sentence-transformers 6.2.0: base/modules/transformer.py `preprocess` and
`_get_prompt_length`, sentence_transformer/modules/pooling.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, processors

from ..config import Pooling, Precision
from ..errors import ExportError
from ..models.folder import MODULES, SINGLE, read_json
from ..models.projection import load_projection, save_projection
from ..models.sidecar import Sidecar
from ..prompts import PromptFormat
from ..protocol import Role

DENSE = "2_Dense"
INSTEAD = "Use --format merged: that folder keeps it all, for searchctl and for transformers."
# Ours, their name, and whether theirs must count the prompt in: "cls" without it is the first token of the text.
MODES = {
    Pooling.MEAN: ("mean", False),
    Pooling.WEIGHTED_MEAN: ("weightedmean", False),
    Pooling.LAST: ("lasttoken", True),
    Pooling.FIRST: ("cls", True),
}
VERSIONED = ("sentence-transformers", "transformers", "torch")
# The keys of 1_Pooling/config.json that every version since 2.3 reads; 6.2 turns them into its own.
MODE_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SentencePlan:
    """What the folder will say besides the weights."""

    pooling: Pooling
    max_tokens: int
    states: int
    """Components of a token's state."""
    width: int
    """Components of a whole vector: those of a state, or what a projection gives."""
    dim: int
    projection: Path | None
    prompts: Mapping[Role, str]
    begin: str
    """Special tokens at the beginning of each row that are part of the prompts here; "" for none."""
    pad: str
    tokenizer: str
    """JSON of tokenizer.json."""
    sidecar: Sidecar | None
    """Makes `--model` give the same vectors from this folder, of full width; None where the changed tokenizer does not
    allow it, and `resolve` then refuses the folder."""


def plan_sentence_folder(
    tokenizer: Tokenizer,
    sidecar: Sidecar,
    *,
    folder: Path,
    max_tokens: int,
    states: int,
    width: int,
    dim: int,
    projection: Path | None,
    eos: int | None,
) -> SentencePlan:
    """Return the plan for `sidecar`'s pooling and prompts; `tokenizer` is that of `folder`, and is changed.

    `eos` is the token that pooling "last" appends. Raises ExportError for what sentence-transformers cannot do.
    """
    pooling, prompt = sidecar.pooling, sidecar.prompt
    if prompt.suffix:
        raise ExportError(
            f"the template puts {prompt.suffix!r} after each text, and sentence-transformers knows prompts before a "
            f"text only: the vectors would differ. {INSTEAD}"
        )
    begin = ""
    if pooling in (Pooling.MEAN, Pooling.WEIGHTED_MEAN):
        begin = _move_begin(tokenizer, pooling)
    elif pooling is Pooling.LAST:
        assert eos is not None
        _append(tokenizer, eos)
    prompts = {role: begin + prompt.dress("", role=role).full for role in Role}
    if pooling is Pooling.WEIGHTED_MEAN and any(prompts.values()):
        said = next(text for text in prompts.values() if text)
        raise ExportError(
            f"pooling weighted_mean with the prompt {said!r}: our weights begin at the text, those of "
            f"sentence-transformers at the prompt, so the vectors would differ. {INSTEAD}"
        )
    return SentencePlan(
        pooling=pooling,
        max_tokens=max_tokens,
        states=states,
        width=width,
        dim=dim,
        projection=projection,
        prompts=prompts,
        begin=begin,
        pad=_pad(tokenizer, folder, prompts),
        tokenizer=tokenizer.to_str(pretty=True),
        sidecar=None if pooling is Pooling.LAST else _own(sidecar, begin, max_tokens),
    )


def write_tokenizer(folder: Path, plan: SentencePlan) -> None:
    """Write tokenizer.json and its config.

    The padding token is the only one with a name: a prompt that ends in a named special token is counted one short.
    """
    (folder / "tokenizer.json").write_text(plan.tokenizer + "\n", encoding="utf-8")
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "TokenizersBackend",
            "model_max_length": plan.max_tokens,
            "pad_token": plan.pad,
            "padding_side": "right",
            "truncation_side": "right",
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
        },
    )


def write_modules(folder: Path, plan: SentencePlan, *, versions: Mapping[str, str]) -> None:
    """Write the files that make a folder of weights and tokenizer one of sentence-transformers."""
    mode, include_prompt = MODES[plan.pooling]
    places = {"Transformer": "", "Pooling": "1_Pooling"}
    if plan.projection is not None:
        places["Dense"] = DENSE
    normalize = f"{len(places)}_Normalize"
    places["Normalize"] = normalize
    _write(
        folder / MODULES,
        [
            {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{name}"}
            for at, (name, path) in enumerate(places.items())
        ],
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": plan.max_tokens, "do_lower_case": False})
    pooled = {"word_embedding_dimension": plan.states} | {key: name == mode for name, key in MODE_KEYS.items()}
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling" / "config.json", pooled | {"include_prompt": include_prompt})
    if plan.projection is not None:
        _write_dense(folder / DENSE, plan.projection, plan.states, plan.width)
    (folder / normalize).mkdir()
    _write(folder / normalize / "config.json", {})
    said: dict[str, Any] = {
        "__version__": {name.replace("-", "_"): versions[name] for name in VERSIONED if name in versions},
        "model_type": "SentenceTransformer",
        "prompts": {role.value: text for role, text in plan.prompts.items()},
        # Without a name given, a text is a document.
        "default_prompt_name": Role.DOCUMENT.value if plan.prompts[Role.DOCUMENT] else None,
        "similarity_fn_name": "cosine",
    }
    _write(
        folder / "config_sentence_transformers.json",
        said | ({} if plan.dim == plan.width else {"truncate_dim": plan.dim}),
    )


def _write_dense(folder: Path, projection: Path, states: int, width: int) -> None:
    folder.mkdir()
    linear = load_projection(projection)
    save_projection(folder / SINGLE, linear)
    _write(
        folder / "config.json",
        {
            "in_features": states,
            "out_features": width,
            "bias": linear.bias is not None,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )


def stated_limits(
    plan: SentencePlan, prompt: PromptFormat, precision: Precision, *, instructed: bool
) -> tuple[str, ...]:
    """Return what a user of the folder has to know, as sentences."""
    limits = []
    if plan.begin:
        limits.append(
            f"Begin a prompt of your own with {plan.begin}: the model wants it at the beginning of each row, and here "
            "it is part of the prompts, since sentence-transformers would pool it otherwise."
        )
    if not instructed:
        limits.append(
            "Give no instruction of your own as a prompt: searchctl puts one into "
            f"{json.dumps(prompt.instruction, ensure_ascii=False)}, and of a text after such a prompt "
            "sentence-transformers pools other tokens. For instructions export with --format merged."
        )
    if plan.dim != plan.width:
        limits.append(
            f"sentence-transformers cuts vectors to {plan.dim} components after it made them unit length: compare them "
            "by cosine, or encode with normalize_embeddings=True."
        )
        if plan.sidecar is not None:
            limits.append(
                f"searchctl itself gives all {plan.width} components of this folder: add --dim {plan.dim} to --model."
            )
    if plan.sidecar is None:
        limits.append(
            f"searchctl itself does not open this folder with --model, since pooling {plan.pooling} is done by a "
            "changed tokenizer here: keep the original for it, or export with --format merged."
        )
    if precision is Precision.BF16:
        limits.append(
            "The weights are bf16, and sentence-transformers computes in the format of the weights: vectors differ "
            "from those in fp32 by rounding."
        )
    return tuple(limits)


def _own(sidecar: Sidecar, begin: str, max_tokens: int) -> Sidecar:
    prompt: PromptFormat = replace(sidecar.prompt, prefix=begin + sidecar.prompt.prefix)
    return replace(
        sidecar,
        prompt=prompt,
        max_tokens=max_tokens,
        adapters=(),
        layers=None,
        projection=None if sidecar.projection is None else f"{DENSE}/{SINGLE}",
        base=None,
    )


def _move_begin(tokenizer: Tokenizer, pooling: Pooling) -> str:
    """Return the special tokens that the tokenizer puts before each row, "" for none; it puts none from here on.

    They are attended to and not pooled. Theirs pools them unless they are part of the prompt.
    """
    encoding = tokenizer.encode("a")
    special = [bool(flag) for flag in encoding.special_tokens_mask]
    before = special.index(False) if False in special else len(special)
    if any(special[before:]):
        after = "".join(token for token, flag in zip(encoding.tokens, special, strict=True) if flag)
        raise ExportError(
            f"the tokenizer puts special tokens ({after}) after each text. Ours leaves them out of the mean, "
            f"sentence-transformers cannot, so the vectors would differ. {INSTEAD}"
        )
    if not before:
        return ""
    begin = "".join(encoding.tokens[:before])
    if pooling is Pooling.WEIGHTED_MEAN:
        raise ExportError(
            f"pooling weighted_mean and a tokenizer that begins each row with {begin}: our weights begin at the text, "
            f"those of sentence-transformers at {begin}, so the vectors would differ. {INSTEAD}"
        )
    data = json.loads(tokenizer.to_str())["post_processor"]
    steps = data["processors"] if data["type"] == "Sequence" else [data]
    kept = [step for step in steps if step["type"] != "TemplateProcessing"]
    if len(kept) == len(steps) or any(step["type"] != "ByteLevel" for step in kept):
        raise ExportError(
            f"the tokenizer begins each row with {begin} by a step ({data['type']}) that cannot be taken out of it, so "
            f"sentence-transformers would pool {begin}. {INSTEAD}"
        )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=kept[0]["trim_offsets"]) if kept else None
    return begin


def _append(tokenizer: Tokenizer, eos: int) -> None:
    """Make the tokenizer put `eos` after each text, cut ones too."""
    name = tokenizer.id_to_token(eos)
    if name is None:
        raise ExportError(
            f"pooling last appends token {eos}, which the tokenizer does not know, so it cannot append it for "
            f"sentence-transformers. {INSTEAD}"
        )
    last = processors.TemplateProcessing(
        single=["$A", name], pair=["$A", "$B:1", f"{name}:1"], special_tokens=[(name, eos)]
    )
    present = tokenizer.post_processor
    tokenizer.post_processor = last if present is None else processors.Sequence([present, last])


def _pad(tokenizer: Tokenizer, folder: Path, prompts: Mapping[Role, str]) -> str:
    """Return a token to pad with: the model's own where it is one that no prompt ends in, else any special one."""
    added = [token.content for _, token in sorted(tokenizer.get_added_tokens_decoder().items()) if token.special]
    usable = [name for name in added if not any(text.endswith(name) for text in prompts.values())]
    if not usable:
        raise ExportError(
            f"{folder / 'tokenizer.json'}: no special token is left to pad with, and sentence-transformers needs one. "
            f"{INSTEAD}"
        )
    path = folder / "tokenizer_config.json"
    said = read_json(path) if path.is_file() else {}
    for key in ("pad_token", "eos_token", "unk_token"):
        named = said.get(key)
        content = named.get("content") if isinstance(named, dict) else named
        if content in usable:
            return str(content)
    return usable[0]


def _write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
