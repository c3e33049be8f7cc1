"""Token rows that are made once: every epoch comes back to the same texts, and tokenising them again takes time."""

from __future__ import annotations

from collections.abc import Sequence

from ..encoder.protocol import Role
from ..encoder.tokenize import TextTokenizer, TokenRow

LIMIT_BYTES = 512 * 2**20
_ROW_BYTES = 300
"""Of a row's objects and its place in the table, the ids not counted; the texts are held by the data anyway."""


def cut_share(rows: Sequence[TokenRow]) -> float:
    """Return the share of the rows whose text was cut at the end of its room."""
    return sum(row.truncated for row in rows) / max(1, len(rows))


class TokenCache:
    """A `TextTokenizer` that remembers its rows, up to a limit of memory.

    What no longer fits is tokenised each time and never put in the place of another: an epoch reads all texts before it
    comes back to the first, and a cache that drops the oldest would then never find anything.
    """

    def __init__(self, tokenizer: TextTokenizer, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._tokenizer, self._left = tokenizer, limit_bytes
        self._rows: dict[tuple[Role, str | None], dict[str, TokenRow]] = {}

    def __call__(self, texts: Sequence[str], *, role: Role, instruction: str | None) -> list[TokenRow]:
        """Return one row per text, in order; raises as the tokenizer does."""
        known = self._rows.setdefault((role, instruction), {})
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        made = dict(zip(missing, self._tokenizer(missing, role=role, instruction=instruction), strict=True))
        rows = [known[text] if text in known else made[text] for text in texts]
        for text, row in made.items():
            self._left -= row.ids.nbytes + _ROW_BYTES
            if self._left < 0:
                break
            known[text] = row
        return rows
