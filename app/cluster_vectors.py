"""The vectors that clusters are made of: those that are stored, or others of the same texts under an instruction."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from ..encoder.protocol import EncodeProgress, Role
from ..index.items import Items, with_vectors
from ..training.evaluation.vector_cache import CachedEncoder
from .collection_contents import StoredVectors, embedded_texts

if TYPE_CHECKING:
    from ..index.collection import FolderCollection
    from .encoders import LazyEncoder

INSTRUCTED_FILE = "instructed.sqlite"
"""In the collection's folder: vectors under instructions, each text once an instruction."""


def instructed(
    collection: FolderCollection,
    items: Items,
    instruction: str,
    lazy: LazyEncoder,
    *,
    show: Callable[[float, str], None],
) -> Items:
    """Return the items with vectors under `instruction`, which all texts get as queries do.

    What was encoded stays in the collection's folder: another run, also after a kill, encodes only what is new.
    """
    hashes = sorted({hash_ for part in items.parts for hash_, _ in part})
    texts = embedded_texts(collection, hashes)

    def progress(event: EncodeProgress) -> None:
        show(event.texts_done / max(event.texts_total, 1), f"{event.texts_done:,} of {event.texts_total:,} texts")

    file = collection.path / INSTRUCTED_FILE
    with closing(CachedEncoder(StoredVectors(lazy=lazy, collection=None), file, kind="instructed")) as encoder:
        vectors = encoder.encode(texts, role=Role.DOCUMENT, instruction=instruction, progress=progress)
    return with_vectors(items, hashes, vectors)
