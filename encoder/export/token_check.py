"""Whether transformers' tokenizer of an exported folder, and what sentence-transformers pools of it, are ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import Pooling
from ..errors import EmptyTextError, EncoderError, ExportError
from ..load import quiet_loading
from ..protocol import Role
from ..tokenize import TextTokenizer, TokenRow
from .sentence_folder import INSTEAD, SentencePlan

INSTRUCTION = "Given a question, find passages that answer it"
# How texts begin and end: each class of characters that tokenizers cut at or merge over.
STARTS = (
    *("a", "The cat sat.", "hello", "x1", "7", "42 mice", "3.14", "(see", '"quoted"', "'s", "-", "...", ":)", "#tag"),
    *("<b>bold</b>", "http://a.b/c?d=e", "/usr/bin", "[1]", "{}", "@you", "$5", "=", "\\n", "_", "~", "\u00e9t\u00e9"),
    *(
        "\u6771\u4eac\u306f",
        "\u0440\u0443\u0441\u0441\u043a\u0438\u0439",
        "\u0e44\u0e17\u0e22",
        "\u05e2\u05d1",
        "\u0301a",
    ),
    *("\U0001f642 smile", "e\u0301", "\u200bzero", "\ufb01ligature", "def f(x):\n    return x", "a" * 40, "Q: a\nA: b"),
)
# White space around a text: some tokenizers merge it with a prompt, or give its tokens no characters of their own.
EDGES = (
    " a",
    "  a",
    "\na",
    "\n\n\na",
    "\ta",
    "\r\na",
    "\u00a0a",
    "a ",
    "a  ",
    "a\n",
    "a\n\n",
    " 7",
    "  \u6771",
    "a \n ",
)


def require_same_tokens(plan: SentencePlan, ours: TextTokenizer, folder: Path) -> tuple[str, ...]:
    """Return what is not the same and has to be said, as sentences; () when all is.

    Compares what transformers' tokenizer of `folder` gives, and what sentence-transformers would pool of it, with our
    rows. Raises ExportError when a text that neither begins nor ends with white space differs.
    """
    theirs = _their_tokenizer(folder)
    added = ours.tokenizer.get_added_tokens_decoder()
    names = [token.content for token in added.values()][:16]
    marked = [text for name in names for text in (f"{name}a", f"a {name} b")]
    long = ["word and " * plan.max_tokens + "end", "\u6771\u4eac" * plan.max_tokens]
    edges: list[str] = []
    for role in Role:
        prompt = plan.prompts[role]
        found = _differing(plan, ours, theirs, role, [*STARTS, *marked, *long])
        for block in () if found else _crossing(ours, prompt):
            found = found or _differing(plan, ours, theirs, role, block)
        inner = [text for text in found if text == text.strip()]
        if inner:
            special = prompt.endswith(tuple(token.content for token in added.values()))
            same = _same_alone(ours, theirs, inner[0])
            raise ExportError(_why(prompt, plan.pooling, inner[0], role, same=same, special=special))
        edges += found or _differing(plan, ours, theirs, role, EDGES)
    if not edges:
        return ()
    return (
        "Strip your texts: white space at the beginning or end of a text is pooled differently by "
        "sentence-transformers with this tokenizer. All other texts get the same vectors.",
    )


def takes_instructions(plan: SentencePlan, ours: TextTokenizer, folder: Path) -> bool:
    """Return whether a query with an instruction of the user's own, put before it as ours is, gets the same vector."""
    told = replace(ours, prompt=replace(ours.prompt, query_instruction=INSTRUCTION))
    prompts = {**plan.prompts, Role.QUERY: plan.begin + told.prompt.dress("", role=Role.QUERY).full}
    try:
        require_same_tokens(replace(plan, prompts=prompts), told, folder)
    except EncoderError:
        return False
    return plan.pooling is not Pooling.WEIGHTED_MEAN


def _their_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    with quiet_loading():
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)


def _differing(plan: SentencePlan, ours: TextTokenizer, theirs: Any, role: Role, texts: Sequence[str]) -> list[str]:
    prompt = plan.prompts[role]
    texts, rows = _rows(ours, role, texts)
    limit = {"truncation": "longest_first", "max_length": plan.max_tokens}
    ids = theirs([prompt + text for text in texts], **limit)["input_ids"]
    counted = 0
    if prompt:
        alone = theirs([prompt], **limit)["input_ids"][0]
        counted = len(alone) - (1 if alone and alone[-1] in theirs.all_special_ids else 0)
    return [
        text
        for text, row, found in zip(texts, rows, ids, strict=True)
        if not (found == row.ids.tolist() and _same_pool(plan.pooling, row, counted))
    ]


def _rows(ours: TextTokenizer, role: Role, texts: Sequence[str]) -> tuple[list[str], list[TokenRow]]:
    """Return the texts that leave a token, and their rows: of control characters a normaliser may leave none."""
    left = list(texts)
    while True:
        try:
            return left, ours(left, role=role, instruction=None)
        except EmptyTextError as error:
            del left[error.row]


def _same_pool(pooling: Pooling, row: TokenRow, counted: int) -> bool:
    length = len(row.ids)
    if pooling is Pooling.LAST:
        return row.end == length
    return pooling is Pooling.FIRST or (row.start == counted and row.end == length)


def _crossing(ours: TextTokenizer, prompt: str) -> Iterator[list[str]]:
    """Yield texts, in blocks, that a token of the vocabulary could join to the end of `prompt`."""
    if not prompt:
        return
    block: list[str] = []
    for token in range(ours.tokenizer.get_vocab_size()):
        piece = ours.tokenizer.decode([token], skip_special_tokens=False)
        for cut in range(1, len(piece)):
            rest = piece[cut:]
            if prompt.endswith(piece[:cut]) and not rest.isspace() and "\ufffd" not in rest:
                block += [rest, f"{rest} word"]
        if len(block) > 1000:
            yield block
            block = []
    if block:
        yield block


def _same_alone(ours: TextTokenizer, theirs: Any, text: str) -> bool:
    alone = theirs([text], add_special_tokens=False)["input_ids"][0]
    return bool(alone == ours.tokenizer.encode(text, add_special_tokens=False).ids)


def _why(prompt: str, pooling: Pooling, text: str, role: Role, *, same: bool, special: bool) -> str:
    """Return why `text` differs.

    `same`: alone it becomes the same tokens; `special`: the prompt ends in a special token.
    """
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    if prompt and same:
        hint = (
            ""
            if special
            else "A prompt that ends in a special token can be exported; one that ends in a space can not. "
        )
        return (
            f"the {role.value} prompt {prompt!r} and a text like {shown!r} share a token, or are cut into tokens "
            "otherwise than each alone: sentence-transformers counts the tokens of the prompt alone, would pool others "
            f"than ours ({pooling}) does, and the vectors would differ. {hint}{INSTEAD}"
        )
    return (
        f"a text like {shown!r} becomes other tokens, or others are pooled, in transformers' tokenizer than in ours: "
        f"the vectors would differ. {INSTEAD}"
    )
