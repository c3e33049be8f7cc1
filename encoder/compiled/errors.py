"""Why a model has no graph."""

from ..errors import EncoderError


class NotCompiledError(EncoderError):
    """This model cannot be made into a graph, for the reason in the message; torch runs it."""
