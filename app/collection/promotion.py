"""Another encoder for a collection: its stored chunks are embedded into a new generation, which takes its place.

The new generation is an ordinary collection beside the old one, filled as `searchctl index` fills its own, with
documents that come from the old catalogue and not from files: so it is under the same crash contract.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...encoder.config import Precision
from ...encoder.models.cache import folder_bytes
from ...index.durable import write_whole
from ...index.errors import CollectionDamagedError
from ...index.lock import write_lock
from ...index.protocol import Batch, Collection, CollectionSettings, DocumentRecord, Writer
from ..errors import AppError
from .embedding import EmbedQueue
from .encoder_choice import EncoderChoice, LazyEncoder, config_from_json, config_to_json, promote_command
from .generations import (
    RECORD_FILE,
    Filled,
    Generation,
    PromotionRecord,
    Switched,
    comparable,
    kept_generation,
    read_record,
    unfinished_promotion,
    write_record,
    write_successor,
)
from .indexing import IndexHooks, IndexProgress
from .opening import create_collection, open_collection, open_folder
from .sources import FILE_NAME
from .swap import discard, previous_folder, promote_folder, require_promotion_room, swap_keeping
from .talk import Talk

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ...encoder.protocol import Encoder, EncoderInfo


_log = logging.getLogger(__name__)

_COUNT_BATCH = 512


class Promotion:
    """Gives a collection another encoder."""

    def __init__(self, path: Path, talk: Talk) -> None:
        """`path` is the collection's own folder."""
        self.path = path
        self._talk = talk

    def promote(self, choice: EncoderChoice, hooks: IndexHooks, *, drop_unfinished: bool = False) -> Switched:
        """Embed all chunks of the collection with the encoder of `choice`, and put the result in its place.

        What `choice` does not say is the model's own, and not the old encoder's.
        The old collection answers queries until then, and is kept beside it afterwards. Ended early and repeated, it
        goes on from there, and brings over what has changed in the collection meanwhile. Raises AppError when a
        promotion to another encoder is unfinished, unless `drop_unfinished`.
        """
        open_collection(self.path, self._talk).close()  # completes a half-made catalogue, which takes the lock itself
        with (
            write_lock(self.path),
            closing(open_collection(self.path, self._talk)) as old,
        ):  # again: a swap may have come in between
            before = old.settings
            if before is None:
                raise AppError(
                    f"{self.path} holds nothing yet, so that there is nothing to embed again: choose the encoder with "
                    "the first run",
                    next_command=("index", "PATH", "--model", choice.model or "NAME"),
                )
            encoder = LazyEncoder(choice.config(), self._talk)
            info = encoder.info()
            wanted = replace(
                before,
                encoder_name=info.name,
                encoder_revision=info.revision,
                encoder_fingerprint=info.fingerprint,
                encoder_config=config_to_json(encoder.config),
                dim=info.dim,
            )
            if wanted == before:
                return self._switched(before, before, info, Filled(), changed=False)
            require_promotion_room(self.path)  # before hours of embedding
            with closing(self._begin(old, wanted, encoder, drop_unfinished=drop_unfinished)) as new:
                filled = self._fill(old, new, encoder, wanted, hooks)
            self._carry_sources()
            earlier = kept_generation(self.path)
            old.close()
            write_successor(self.path, wanted)
            with (hooks.shield or nullcontext)():
                swap_keeping(self.path, promote_folder(self.path), step=self._talk.step)
        dropped = None if earlier is None else earlier.name
        return self._switched(wanted, before, info, filled, changed=True, dropped=dropped)

    def _begin(
        self, old: Collection, wanted: CollectionSettings, encoder: LazyEncoder, *, drop_unfinished: bool
    ) -> Collection:
        """Return the collection to fill: what an earlier promotion to this encoder left, else a new one.

        `encoder` goes on in the precision that promotion was begun with.
        """
        folder, begun = promote_folder(self.path), unfinished_promotion(self.path)
        if begun is not None and (
            begun.problem is not None or begun.settings not in (None, wanted) or _clashing(begun, encoder)
        ):
            if not drop_unfinished and (begun.problem is not None or begun.vectors):
                raise self._occupied(begun, wanted, encoder)
            discard(self.path, folder)
            begun = None
        now = old.lineage()
        if begun is not None and begun.vectors:
            _log.warning("going on with a promotion begun before: %s vectors are there", f"{begun.vectors:,}")
            record = read_record(folder)
            if record is not None and record.lineage != now:
                _log.warning("the collection has changed since then: the changes are brought over")
            if begun.precision not in (None, encoder.config.precision):
                _log.warning("going on in precision %s, as it was begun", begun.precision)
                encoder.config = replace(encoder.config, precision=begun.precision)
        new = create_collection(folder, step=self._talk.step)
        write_record(folder, PromotionRecord(lineage=now, precision=encoder.config.precision))
        return new

    def _occupied(self, begun: Generation, wanted: CollectionSettings, encoder: LazyEncoder) -> AppError:
        asked = encoder.config.precision
        fresh = promote_command(replace(config_from_json(wanted.encoder_config), precision=asked), "--yes")
        drop = "--yes drops it and begins this one"
        if begun.settings is None:
            unread = f"the unfinished promotion in {begun.folder} cannot be read: {begun.problem}. {drop}"
            return AppError(unread, next_command=fresh)
        held = f"{begun.folder} holds {begun.vectors:,} vectors of an unfinished promotion to {begun.name}"
        if begun.settings != wanted and comparable(begun.settings, wanted):
            other = f"{held}, begun with other chunks or with the model in another place. {drop}"
            return AppError(other, next_command=fresh)
        if begun.settings == wanted:
            held += (
                f", begun with --precision {begun.precision}, and this command has --precision {asked}: the vectors of "
                "one promotion are computed in one"
            )
        return AppError(f"{held}. Finish it first; {drop}", next_command=promote_command(begun.config()))

    def _fill(
        self,
        old: Collection,
        new: Collection,
        encoder: LazyEncoder,
        wanted: CollectionSettings,
        hooks: IndexHooks,
    ) -> Filled:
        shield = hooks.shield or nullcontext
        with new.writer() as writer:
            writer.configure(wanted)
            self._take_over(writer, old, wanted)
            reused = new.status().vectors
            pending = old.differing_documents(new)
            if gone := writer.files().keys() - old.files().keys():
                writer.remove(gone)
            filled = Filled()
            if pending:
                filled = _Filling(writer, encoder.open(), pending, hooks).run(old.documents_at(list(pending)))
            with shield():
                # Incomplete as the old one is: what its interrupted run had not read is still to be read.
                writer.finish(skipped=old.skipped(), whole=old.status().complete)
        return replace(filled, vectors_reused=min(reused, new.status().vectors))

    def _take_over(self, writer: Writer, old: Collection, wanted: CollectionSettings) -> None:
        """Take the vectors that are needed from a generation of the same encoder, where there is one."""
        kept = kept_generation(self.path)
        for folder, settings in (
            (self.path, old.settings),
            (previous_folder(self.path), None if kept is None else kept.settings),
        ):
            if settings is None or not comparable(settings, wanted):
                continue
            with closing(open_folder(folder)) as seed:
                try:
                    _take_vectors(writer, old, seed, wanted.dim)
                except CollectionDamagedError as error:
                    _log.warning("%s is damaged (%s): what it cannot give is embedded again", folder, error)

    def _carry_sources(self) -> None:
        """Give the new generation the places that were indexed, with the runs that have not ended."""
        folder = promote_folder(self.path)
        source = self.path / FILE_NAME
        if source.is_file():
            write_whole(folder / FILE_NAME, source.read_bytes())
        else:
            (folder / FILE_NAME).unlink(missing_ok=True)
        (folder / RECORD_FILE).unlink(missing_ok=True)

    def _switched(
        self,
        settings: CollectionSettings,
        before: CollectionSettings,
        info: EncoderInfo,
        filled: Filled,
        *,
        changed: bool,
        dropped: str | None = None,
    ) -> Switched:
        return Switched(
            settings=settings,
            before=before,
            max_tokens=info.max_tokens,
            changed=changed,
            filled=filled,
            kept_bytes=folder_bytes(previous_folder(self.path)),
            dropped=dropped,
        )


def _clashing(begun: Generation, encoder: LazyEncoder) -> bool:
    """Return whether another precision was asked for than the one that vectors of the promotion have."""
    asked = encoder.config.precision
    return bool(begun.vectors) and asked is not Precision.AUTO and begun.precision not in (None, asked)


class _Filling:
    """Documents of one catalogue on their way into another."""

    def __init__(self, writer: Writer, encoder: Encoder, pending: dict[str, int], hooks: IndexHooks) -> None:
        """`pending` has the tokens of each document, as counted when it was stored."""
        self._tokenizer = encoder.tokenizer
        self._pending = pending
        self._tokens = sum(pending.values())
        self._progress = hooks.progress
        self._queue = EmbedQueue(writer, encoder, shield=hooks.shield or nullcontext, progress=self._tell)
        self._documents_done = self._tokens_done = 0

    def run(self, documents: Iterator[DocumentRecord]) -> Filled:
        for document in documents:
            self._queue.add(_counted(document, self._tokenizer))
            self._documents_done += 1
            self._tokens_done += self._pending[document.file.path]
            self._tell()
        self._queue.flush()
        return Filled(
            chunks_embedded=self._queue.chunks_embedded,
            tokens_embedded=self._queue.tokens_embedded,
            texts_truncated=self._queue.texts_truncated,
            encode_s=self._queue.encode_s,
        )

    def _tell(self) -> None:
        self._progress(
            IndexProgress(
                files_done=self._documents_done,
                files_total=len(self._pending),
                bytes_done=self._tokens_done,
                bytes_total=self._tokens,
                tokens_done=self._queue.tokens_embedded + self._queue.tokens_in_flight,
                tokens_seen=self._queue.tokens_seen,
                encode_s=self._queue.encode_s_so_far,
            )
        )


def _counted(document: DocumentRecord, tokenizer: Tokenizer) -> DocumentRecord:
    """Return the document with its tokens counted by this tokenizer."""
    chunks = []
    for at in range(0, len(document.chunks), _COUNT_BATCH):
        block = document.chunks[at : at + _COUNT_BATCH]
        encodings = tokenizer.encode_batch_fast([chunk.embed_text for chunk in block], add_special_tokens=False)
        chunks += [replace(chunk, tokens=len(encoding)) for chunk, encoding in zip(block, encodings, strict=True)]
    return replace(document, chunks=chunks)


def _take_vectors(writer: Writer, old: Collection, seed: Collection, dim: int) -> None:
    """Take over the vectors of `seed` that chunks of the old collection need and the new one lacks."""
    for hashes, vectors in seed.hashed_vectors(dim):
        needed = old.stored_hashes(writer.missing(hashes))
        rows = [row for row, hash_ in enumerate(hashes) if hash_ in needed]
        if rows:
            writer.commit(Batch(hashes=[hashes[row] for row in rows], vectors=vectors[rows]))
