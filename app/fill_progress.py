"""How far the filling of a corpus index has come, and what it did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FillProgress:
    """How far a filling has come."""

    passages: int
    """Read so far."""
    known: int
    """Of these, those that an interrupted filling left: nothing of them is encoded."""
    tokens_done: int
    tokens_seen: int
    """To encode in the passages read so far."""
    encode_s: float

    def tokens_expected(self, total: int) -> int:
        """Return how many tokens `total` passages give to encode, those not yet read taken to be like those read."""
        return self.tokens_seen * (total - self.known) // max(self.passages - self.known, 1)

    def share(self, total: int) -> float:
        """Return the share of `total` passages that is done."""
        encoded = self.tokens_done / self.tokens_seen if self.tokens_seen else 1.0
        return (self.known + (self.passages - self.known) * encoded) / max(total, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a filling did."""

    passages: int
    empty: int
    """Without title and text: they are in no index, and no query finds them."""
    chunks_embedded: int
    tokens: int
    truncated: int
    encode_s: float
