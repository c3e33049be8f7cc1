"""What lies beside a collection: the generation that a promotion kept, and one that is being made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ...encoder.config import EncoderConfig, Precision
from ...encoder.models.cache import folder_bytes
from ...index.durable import write_whole
from ...index.errors import IndexRoomError
from ...index.file_names import CATALOGUE_FILE
from ...index.protocol import CollectionSettings
from .encoder_choice import config_from_json
from .opening import open_folder
from .swap import previous_folder, promote_folder

RECORD_FILE = "promotion.json"
"""In the folder of an unfinished promotion: what `PromotionRecord` has."""

SUCCESSOR_FILE = "successor.json"
"""In the folder of a kept generation: the settings of the collection that took its place."""


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
    precision: Precision | None = None
    """Which one an unfinished promotion was begun with; None: not known."""

    @property
    def name(self) -> str:
        """Its encoder, in words."""
        return "an encoder that cannot be read" if self.settings is None else self.settings.encoder_name

    def config(self) -> EncoderConfig:
        """Return the encoder's configuration, in the precision it was begun with; `settings` must be there."""
        assert self.settings is not None
        return replace(config_from_json(self.settings.encoder_config), precision=self.precision or Precision.AUTO)


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
    folder = promote_folder(collection)
    generation, record = _generation(folder), read_record(folder)
    return generation if generation is None or record is None else replace(generation, precision=record.precision)


def _generation(folder: Path) -> Generation | None:
    if not (folder / CATALOGUE_FILE).is_file():
        return None
    size = folder_bytes(folder)
    try:
        collection = open_folder(folder)
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


def described(settings: CollectionSettings) -> str:
    """Return who the encoder is, so that two of one name can be told apart."""
    return f"{settings.encoder_name} ({settings.encoder_fingerprint[:12]}, {settings.dim} dimensions)"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRecord:
    """How a promotion was begun."""

    lineage: Mapping[str, str | int]
    """Which state of the collection it is made from, as `Collection.lineage` has it."""
    precision: Precision
    """As it was asked for."""


def read_record(folder: Path) -> PromotionRecord | None:
    """Return what `write_record` wrote, None when it is not there or unreadable: then nothing is known."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        return PromotionRecord(lineage=dict(record["lineage"]), precision=Precision(record["precision"]))
    return None


def write_record(folder: Path, record: PromotionRecord) -> None:
    """Note how a promotion was begun."""
    document = {"lineage": dict(record.lineage), "precision": str(record.precision)}
    write_whole(folder / RECORD_FILE, json.dumps(document).encode())


def read_successor(folder: Path) -> CollectionSettings | None:
    """Return what `write_successor` wrote, None when it is not there or unreadable: then nothing is known."""
    with suppress(OSError, ValueError, TypeError):
        return CollectionSettings(**json.loads((folder / SUCCESSOR_FILE).read_text(encoding="utf-8")))
    return None


def write_successor(collection: Path, settings: CollectionSettings) -> None:
    """Note in a collection, just before it is kept, what takes its place; elsewhere than beside it nobody reads it."""
    write_whole(collection / SUCCESSOR_FILE, json.dumps(asdict(settings)).encode())
