"""What libraries say while an evaluation runs: their warnings to whoever listens, their progress bars off."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .errors import EvaluationError

_LIBRARIES = ("mteb", "datasets", "huggingface_hub", "sentence_transformers", "bm25s")


class _Relay(logging.Handler):
    """Hands warnings of libraries to `said`."""

    def __init__(self, said: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said(record.getMessage())


@contextmanager
def listening(said: Callable[[str], None]) -> Iterator[None]:
    """Hand what libraries warn of to `said` while inside. Raises EvaluationError without the extra eval."""
    _quiet_datasets()
    relay = _Relay(said)
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [relay], False
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *rest, **more: said(str(message))
            yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate


def _quiet_datasets() -> None:
    try:
        import datasets
    except ImportError as error:
        raise EvaluationError("evaluation needs the extra eval: `pip install 'searchctl[eval]'`") from error
    datasets.disable_progress_bars()
