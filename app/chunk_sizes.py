"""How large chunks are, from what was asked for and what the encoder reads."""

from __future__ import annotations

from ..index.chunking import LEAST_TOKENS, most_overlap
from .errors import AppError
from .settings import CHUNK_OVERLAP, CHUNK_TOKENS


def chunk_sizes(tokens: int | None, overlap: int | None, limit: int | None) -> tuple[int, int]:
    """Return a chunk's tokens and those that neighbours share; `limit` is the encoder's longest text, where known.

    Raises AppError for sizes of which no chunks can be made.
    """
    size = tokens or min(CHUNK_TOKENS, limit or CHUNK_TOKENS)
    if size < LEAST_TOKENS:
        what = f"--chunk-tokens is {tokens}" if tokens else f"the encoder reads {limit} tokens of a text at most"
        raise AppError(f"{what}: expected at least {LEAST_TOKENS}, or no sense is left in a chunk")
    shared = min(CHUNK_OVERLAP, size // 8) if overlap is None else overlap
    if shared > (most := most_overlap(size)):
        raise AppError(f"--chunk-overlap is {shared}: expected at most {most}, a quarter of a chunk's {size} tokens")
    return size, shared
