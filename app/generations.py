"""What lies beside a collection: the generation that a promotion kept, and one that is being made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..encoder.model_cache import folder_bytes
from ..index.catalogue import CATALOGUE_FILE
from ..index.collection import FolderCollection
from ..index.errors import IndexRoomError
from ..index.protocol import CollectionSettings
from ..training.whole_files import write_whole
from .encoders import config_from_json
from .swap import previous_folder, promote_folder

RECORD_FILE = "promotion.json"
"""In the folder of an unfinished promotion: which state of the collection it was made from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A collection beside the one that answers queries."""

    folder: Path
    settings: CollectionSettings | None
    """None: nothing was embedded, or it cannot be read."""
    documents: int
    vectors: int
    bytes: int
    problem: str | None = None
    """Why it cannot be read."""

    @property
    def name(self) -> str:
        """Its encoder, in words."""
        return "an encoder that cannot be read" if self.settings is None else self.settings.encoder_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What filling a generation took."""

    chunks_embedded: int = 0
    vectors_reused: int = 0
    """There from an earlier run, or taken from a generation of the same encoder."""
    tokens_embedded: int = 0
    texts_truncated: int = 0
    """Of those embedded by this run."""
    encode_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched:
    """What a promotion or a rollback did."""

    settings: CollectionSettings
    """Of the collection as it is now."""
    before: CollectionSettings
    max_tokens: int
    """The encoder's longest input."""
    changed: bool
    """False: it was the collection's encoder already."""
    filled: Filled
    kept_bytes: int
    """Bytes of the generation that is kept, 0 when none is."""
    dropped: str | None = None
    """Encoder of the generation that was kept until now and is deleted."""


def kept_generation(collection: Path) -> Generation | None:
    """Return the generation that `models promote --rollback` goes back to, None when none is kept."""
    return _generation(previous_folder(collection))


def unfinished_promotion(collection: Path) -> Generation | None:
    """Return the generation that a running or killed `models promote` is making, None when there is none."""
    return _generation(promote_folder(collection))


def _generation(folder: Path) -> Generation | None:
    if not (folder / CATALOGUE_FILE).is_file():
        return None
    size = folder_bytes(folder)
    try:
        collection = FolderCollection.open(folder)
        try:
            status = collection.status()
        finally:
            collection.close()
    except IndexRoomError as error:
        return Generation(folder=folder, settings=None, documents=0, vectors=0, bytes=size, problem=str(error))
    return Generation(
        folder=folder,
        settings=status.settings,
        documents=status.documents,
        vectors=status.vectors,
        bytes=size,
    )


def comparable(one: CollectionSettings, other: CollectionSettings) -> bool:
    """Return whether a text has the same vector in both."""
    limits = [config_from_json(settings.encoder_config).max_tokens for settings in (one, other)]
    return (one.encoder_fingerprint, one.dim, limits[0]) == (other.encoder_fingerprint, other.dim, limits[1])


def read_record(folder: Path) -> Mapping[str, Any] | None:
    """Return what `write_record` wrote, None when it is not there or unreadable: then nothing is known."""
    with suppress(OSError, ValueError):
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else None
    return None


def write_record(folder: Path, lineage: Mapping[str, str | int]) -> None:
    """Note which state of the collection, as `collection_contents.lineage` has it, a promotion is made from."""
    write_whole(folder / RECORD_FILE, json.dumps(dict(lineage)).encode())
