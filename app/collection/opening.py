"""A collection and its encoder, opened: all that a command needs that only reads."""

from __future__ import annotations

from pathlib import Path

from ...index.collection import FolderCollection
from ...index.protocol import CollectionSettings
from .encoder_choice import EncoderChoice, LazyEncoder, Talk, config_from_json
from .swap import is_collection


def open_collection(path: Path, talk: Talk) -> FolderCollection:
    """Return the collection in its own folder. Raises CollectionNotFoundError when there is none."""
    is_collection(path)  # completes a swap that was killed, and waits for one that another process is in the middle of
    return FolderCollection.open(path, step=talk.step)


def collection_encoder(settings: CollectionSettings | None, choice: EncoderChoice, talk: Talk) -> LazyEncoder:
    """Return the collection's own encoder, loaded when first needed; where it has none yet, the one that is chosen.

    Raises EncoderMismatchError when `choice` names another one.
    """
    base = None if settings is None else config_from_json(settings.encoder_config)
    encoder = LazyEncoder(choice.config(base), talk, expected=settings)
    if choice.names_encoder and settings is not None:
        encoder.info()
    return encoder
