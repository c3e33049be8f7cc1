"""Errors of the encoder room. Each message says what happened, which value, and what was expected."""

from __future__ import annotations


class EncoderError(Exception):
    """Base of everything this room raises for a user's eyes."""

    def __init__(self, message: str, *, next_command: tuple[str, ...] = ()) -> None:
        """`next_command`: the words of what to type next after "searchctl"; () where nothing in particular helps."""
        super().__init__(message)
        self.next_command = next_command


class EmptyTextError(EncoderError, ValueError):
    """A text to encode is empty or only whitespace; `row` is its position in the input."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(
            f"text {row} is empty or only whitespace ({text[:20]!r}): an encoder needs at least one character. "
            "Remove the row or give it text."
        )
        self.row = row


class NonFiniteError(EncoderError, ArithmeticError):
    """The model returned NaN or Inf for a text; nothing of the batch may be stored."""


class NotBidirectionalError(EncoderError, ValueError):
    """The proof at load failed: a layer stays causal, or padding changes results."""


class UnknownModelError(EncoderError, LookupError):
    """A model name is neither in the registry nor a folder."""


class ModelFilesError(EncoderError, ValueError):
    """A model folder is incomplete or not a decoder language model."""


class PullError(EncoderError, OSError):
    """Model files could not be fetched, or their hash is wrong."""


class ExportError(EncoderError, ValueError):
    """A model cannot be written in the format asked for, or what was written does not give its vectors."""
