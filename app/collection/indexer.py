"""Bringing a collection up to date: what earlier runs were told, what is on disk now, and the run itself."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...index.chunking import LEAST_TOKENS, most_overlap
from ...index.errors import EncoderMismatchError
from ...index.lock import write_lock
from ...index.protocol import Collection, CollectionSettings
from ...index.walk import WalkOptions
from ..errors import AppError, ExitCode
from ..options import CHUNK_OVERLAP, CHUNK_TOKENS
from .changes import Survey, check_places, check_read, is_gone, is_there, outside
from .encoder_choice import EncoderChoice, LazyEncoder, collection_encoder, config_from_json, config_to_json
from .indexing import IndexHooks, IndexRun, IndexSummary
from .opening import create_collection, open_collection
from .paths import absolute_path, stored_path
from .sources import Source, read_sources, read_unfinished, remember_sources, widened
from .swap import is_collection, rebuild_folder, require_rebuild_room, swap_in
from .talk import Talk

if TYPE_CHECKING:
    from ...encoder.protocol import Encoder


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


Place = tuple[Path, WalkOptions]
"""An absolute, resolved path to index, with what to take from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRequest:
    """What to index and how."""

    places: tuple[Place, ...]
    choice: EncoderChoice = field(default_factory=EncoderChoice)
    chunk_tokens: int | None = None
    """None: what the collection has, else the default."""
    chunk_overlap: int | None = None
    prune: bool = False


class Indexer:
    """Brings the collection of one folder up to date, or makes it again."""

    def __init__(self, path: Path, talk: Talk) -> None:
        """`path` is the collection's own folder; it need not be there for `index`."""
        self.path = path
        self.talk = talk

    def places(self) -> tuple[Place, ...]:
        """Return the paths of earlier runs with their options."""
        base = self.path.parent
        return tuple((absolute_path(source.path, base), source.options) for source in read_sources(self.path))

    def look(self, collection: Collection) -> Survey:
        """Return how the files on disk differ from the collection; nothing is read or changed.

        What vanished is in `gone`, whether a run would keep it or not.
        """
        known = collection.files()
        found = self._survey(collection, self.remembered(known), prune=True)
        for path in found.unaccounted():
            found.compare(path)
        return found

    def remembered(self, known: Mapping[str, object]) -> list[Place]:
        """Return the places of earlier runs that are there, or that should be because files in them are indexed."""
        base = self.path.parent
        return [
            (path, options)
            for path, options in self.places()
            if is_there(path) or len(outside(known, [path], base)) < len(known)
        ]

    def index(self, request: IndexRequest, hooks: IndexHooks) -> IndexSummary:
        """Bring the collection up to date with the request's places; it is made when it is not there."""
        if not is_collection(self.path):  # before a folder is made for nothing
            check_places(request.places, {}, self.path.parent)
            chunk_sizes(request.chunk_tokens, request.chunk_overlap, request.choice.max_tokens)
            collection_encoder(None, request.choice, self.talk).info()
        collection = create_collection(self.path, step=self.talk.step)
        try:
            return self._run(collection, request, hooks)
        finally:
            collection.close()

    def rebuild(self, request: IndexRequest, hooks: IndexHooks) -> IndexSummary:
        """Make the collection again beside the old one, which answers queries until the new one is whole.

        Everything indexed before is read again, also outside of the request's places. Ended early and repeated, it
        goes on from there. The old settings hold where the request says nothing. A place that has vanished, or lost
        all its files, or an indexed file that cannot be read now, ends it and leaves the old collection as it was,
        unless the request prunes.
        """
        old = open_collection(self.path, self.talk)
        try:
            with write_lock(self.path):
                request = self._whole(old, request)
                chunk_sizes(request.chunk_tokens, request.chunk_overlap, request.choice.max_tokens)
                known = old.files()
                old.close()
                collection = self._fresh(request)
                try:
                    summary = self._run(collection, request, hooks)
                    lacking = known.keys() - collection.files().keys()
                finally:
                    collection.close()
                if not request.prune:
                    check_read(lacking, summary.failed, self.path.parent)
                swap_in(self.path)
        finally:
            old.close()
        return summary

    def _whole(self, old: Collection, request: IndexRequest) -> IndexRequest:
        """Return the request with everything the old collection holds, and its settings where nothing was said."""
        named = {path for path, _ in request.places}
        known = old.files()
        earlier = dict(self.remembered(known))
        places = [
            (path, widened(options, earlier[path]) if path in earlier else options) for path, options in request.places
        ]
        places += [place for place in earlier.items() if place[0] not in named]
        if request.prune:
            places = [place for place in places if is_there(place[0])]
        found = self._survey(old, places, prune=request.prune)
        if found.protected:
            folders = ", ".join(str(absolute_path(folder, self.path.parent)) for folder in found.protected)
            raise AppError(
                f"{folders}: every indexed file is gone, as when a drive is not mounted. The collection is as it was. "
                "Bring the files back, or say that they are really gone",
                code=ExitCode.INCOMPLETE,
                next_command=("index", "--rebuild", "--prune"),
            )
        others = (absolute_path(path, self.path.parent) for path in found.unaccounted())
        places += [(path, WalkOptions()) for path in others if is_there(path)]
        settings = old.settings
        if settings is None:
            return replace(request, places=tuple(places))
        config = request.choice.config(config_from_json(settings.encoder_config))
        tokens, overlap = request.chunk_tokens or settings.chunk_tokens, request.chunk_overlap
        if overlap is None:  # the old one, unless it is too much for smaller chunks
            overlap = (
                settings.chunk_overlap if tokens == settings.chunk_tokens else min(settings.chunk_overlap, tokens // 8)
            )
        choice = request.choice.naming(config)
        return replace(request, places=tuple(places), choice=choice, chunk_tokens=tokens, chunk_overlap=overlap)

    def _fresh(self, request: IndexRequest) -> Collection:
        """Return the collection to build: what an earlier rebuild left if it is of the same kind, else a new one."""
        require_rebuild_room(self.path)  # before hours of embedding
        folder = rebuild_folder(self.path)
        if folder.exists():
            collection = create_collection(folder)
            present = collection.settings
            if present is None or present == self._settings(
                request, collection_encoder(None, request.choice, self.talk)
            ):
                return collection
            collection.close()
            shutil.rmtree(folder)
        return create_collection(folder, step=self.talk.step)

    def _run(self, collection: Collection, request: IndexRequest, hooks: IndexHooks) -> IndexSummary:
        settings = self._fixed_settings(collection, request)
        encoder = collection_encoder(settings, request.choice, self.talk)

        def opened() -> tuple[Encoder, CollectionSettings]:
            return encoder.open(), settings or self._settings(request, encoder)

        base = self.path.parent  # not that of a rebuild, which is elsewhere where the collection is linked
        check_places(request.places, collection.files(), base)
        sources = [Source(path=stored_path(path, base), options=options) for path, options in request.places]
        interrupted = not collection.status().complete
        with collection.writer() as writer:
            found = self._survey(collection, request.places, prune=request.prune)
            left = self._left(collection, sources) if interrupted else []
            remember_sources(collection.path, sources, unfinished=[*left, *sources])
            summary = IndexRun(writer, found, opened, hooks, whole=not left).run()
            forget = self._lost(collection.files()) if request.prune else set()
            remember_sources(collection.path, sources, unfinished=left, forget=forget)
            return summary

    def _lost(self, known: Mapping[str, object]) -> set[str]:
        """Return the stored paths of places that are gone, of which nothing is indexed."""
        there = {path for path, _ in self.remembered(known)}
        return {stored_path(path, self.path.parent) for path, _ in self.places() if path not in there and is_gone(path)}

    def _left(self, collection: Collection, sources: Sequence[Source]) -> list[Source]:
        """Return the sources of interrupted runs that a run of `sources` does not finish; a vanished one is done."""
        if collection.path != self.path:
            return []  # a rebuild looks at everything
        return [
            source
            for source in read_unfinished(collection.path)
            if is_there(absolute_path(source.path, self.path.parent)) and not any(new.covers(source) for new in sources)
        ]

    def _survey(self, collection: Collection, places: Sequence[Place], *, prune: bool) -> Survey:
        """Return the survey of all places; those with the same options are walked as one."""
        base = self.path.parent
        grouped: dict[WalkOptions, list[Path]] = {}
        for path, options in places:
            grouped.setdefault(options, []).append(path)
        whole = Survey(collection=self.path, known=collection.files())
        for options, roots in grouped.items():
            whole.walk(roots, options, prune=prune)
        named = {path for path, _ in places}
        special = [path for path, _ in self.places() if path not in named and not named.isdisjoint(path.parents)]
        # A path that was named itself is not for a run of a folder above it to drop.
        whole.deselected = list(outside(dict.fromkeys(whole.deselected), special, base))
        whole.carried = outside(collection.skipped(), [path for path, _ in places], base)
        return whole

    def _fixed_settings(self, collection: Collection, request: IndexRequest) -> CollectionSettings | None:
        """Return the settings the run must keep to, None when the collection is empty and may take any.

        Raises EncoderMismatchError when the request wants other chunks than the collection has.
        """
        settings = collection.settings
        if settings is None:
            return None
        status = collection.status()
        if not status.documents and not status.vectors:
            return None
        for name in ("chunk_tokens", "chunk_overlap"):
            wanted, present = getattr(request, name), getattr(settings, name)
            if wanted is not None and wanted != present:
                option = "--" + name.replace("_", "-")
                raise EncoderMismatchError(
                    f"{option} is {wanted}, the collection was made with {present}: one collection has chunks of one "
                    "kind. Leave the option out, or rebuild it",
                    next_command=("index", "--rebuild", option, str(wanted)),
                )
        return settings

    def _settings(self, request: IndexRequest, encoder: LazyEncoder) -> CollectionSettings:
        info = encoder.info()
        tokens, overlap = chunk_sizes(request.chunk_tokens, request.chunk_overlap, info.max_tokens)
        return CollectionSettings(
            encoder_name=info.name,
            encoder_revision=info.revision,
            encoder_fingerprint=info.fingerprint,
            encoder_config=config_to_json(encoder.config),
            dim=info.dim,
            chunk_tokens=tokens,
            chunk_overlap=overlap,
        )
