"""A corpus of passages in a collection of its own, filled and searched by the product's own means, to measure them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from blake3 import blake3

from ...encoder.config import EncoderConfig
from ...index.chunking import Chunker
from ...index.protocol import ChunkPlace, CollectionSettings, DocumentRecord, FileRecord, Writer
from ...index.readers import read_document
from ...training.errors import EvaluationError
from ..collection.embedding import EmbedQueue
from ..collection.encoder_choice import config_to_json
from ..collection.opening import create_collection
from ..options import SearchMode
from ..search.hits import Question, SearchRequest
from ..search.searcher import Searcher
from ..search.snippets import QueryEncoder

if TYPE_CHECKING:
    from ...encoder.protocol import EncoderInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class FillProgress:
    """How far a filling has come."""

    passages: int
    """Read so far."""
    known: int
    """Of these, those that an interrupted filling left: nothing of them is encoded."""
    tokens_done: int
    tokens_seen: int
    """To encode in the passages read so far."""
    encode_s: float

    def tokens_expected(self, total: int) -> int:
        """Return how many tokens `total` passages give to encode, those not yet read taken to be like those read."""
        return self.tokens_seen * (total - self.known) // max(self.passages - self.known, 1)

    def share(self, total: int) -> float:
        """Return the share of `total` passages that is done."""
        encoded = self.tokens_done / self.tokens_seen if self.tokens_seen else 1.0
        return (self.known + (self.passages - self.known) * encoded) / max(total, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What a filling did."""

    passages: int
    empty: int
    """Without title and text: they are in no index, and no query finds them."""
    chunks_embedded: int
    tokens: int
    truncated: int
    encode_s: float


FILE = "corpus.jsonl"
GROUP = 1000
"""Passages in one document of the catalogue: what is looked at again when a killed filling is repeated."""
QUERIES = 256
"""Queries encoded as one batch; the long rankings of more would fill the memory."""

Ranking = list[tuple[str, float]]


class SearchEncoder(QueryEncoder, Protocol):
    """What filling and searching ask of an encoder; a `LazyEncoder` has it."""

    def info(self) -> EncoderInfo: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What is searched for: a document of a retrieval task."""

    id: str
    title: str
    text: str


class CorpusIndex:
    """A collection of passages, indexed as rows of a JSONL file are; a passage ranks by its best chunk.

    Reader, chunks, catalogue, lexical index, FAISS and fusion are those of `searchctl index` and `searchctl query`, and
    so are the rankings. Call `fill` before `rank`, and `close` at the end. What a killed filling committed stays.
    """

    def __init__(
        self,
        folder: Path,
        encoder: SearchEncoder,
        config: EncoderConfig,
        *,
        chunks: tuple[int, int],
        group: int = GROUP,
    ) -> None:
        """`config` is what `encoder` was made of; `chunks` is size and overlap. Other settings, another sub-folder."""
        info = encoder.info()
        self._encoder = encoder
        self._group = group
        self._settings = CollectionSettings(
            encoder_name=info.name,
            encoder_revision=info.revision,
            encoder_fingerprint=info.fingerprint,
            encoder_config=config_to_json(config),
            dim=info.dim,
            chunk_tokens=chunks[0],
            chunk_overlap=chunks[1],
        )
        digest = blake3(json.dumps([asdict(self._settings), group]).encode()).hexdigest()
        self.collection = create_collection(folder / digest[:16])
        self._searcher = Searcher(self.collection, encoder)
        self._ids: dict[str, list[str]] = {}
        self._passage_of: dict[int, str] = {}
        self._largest: list[int] = []
        self.places: list[ChunkPlace] = []
        """All chunks, once filled."""

    def close(self) -> None:
        self.collection.close()

    def fill(
        self, passages: Iterable[Passage], *, progress: Callable[[FillProgress], None] = lambda progress: None
    ) -> Filled:
        """Make the collection hold exactly these passages and embed what it lacks; the same again embeds nothing.

        Raises EvaluationError for an id given twice and for a text that is not valid Unicode.
        """
        self._ids = {}
        seen: set[str] = set()
        with self.collection.writer() as writer:
            writer.configure(self._settings)
            filling = _Filling(writer, self._encoder, self._settings, progress)
            known = writer.files()
            for number, group in enumerate(_grouped(passages, self._group)):
                path = _path(number)
                self._ids[path] = [passage.id for passage in group]
                _check_new(self._ids[path], seen)
                data = b"".join(map(_row, group))
                file = _record(path, data)
                is_there = path in known and known[path].content_hash == file.content_hash
                filling.count(group, known=is_there)
                if not is_there:
                    filling.add(file, data)
            filled = filling.finish()
            if gone := known.keys() - self._ids.keys():
                writer.remove(gone)
            writer.finish(skipped={})
        self._locate()
        return filled

    def _locate(self) -> None:
        """Read which chunk is whose."""
        self.places = self.collection.chunk_places()
        self._passage_of = {place.id: self._ids[place.path][place.row - 1] for place in self.places}
        counts: dict[str, int] = {}
        for id_ in self._passage_of.values():
            counts[id_] = counts.get(id_, 0) + 1
        self._largest = sorted(counts.values(), reverse=True)

    def rank(self, query: str, mode: SearchMode, k: int, *, instruction: str | None = None) -> Ranking:
        """Return the k best passages of one query with their scores, best first; as `rank_all`."""
        return self.rank_all([query], mode, k, instruction=instruction)[0]

    def rank_all(
        self,
        queries: Sequence[str],
        mode: SearchMode,
        k: int,
        *,
        instruction: str | None = None,
        dense_weight: float | None = None,
    ) -> list[Ranking]:
        """Return for each query its k best passages, fewer where the search finds no more.

        A passage has the score of its best chunk. `instruction` and `dense_weight` None are the model's own.
        """
        if not self._passage_of:
            return [[] for _ in queries]
        # However many chunks the passages before it have, the k-th passage begins within so many chunks.
        depth = min(sum(self._largest[: k - 1]) + 1, len(self._passage_of))
        request = SearchRequest(mode=mode, k=depth, instruction=instruction, dense_weight=dense_weight, snippets=False)
        rankings: list[Ranking] = []
        for at in range(0, len(queries), QUERIES):
            questions = [Question(text=query) for query in queries[at : at + QUERIES]]
            for found in self._searcher.rank(questions, request):
                rankings.append(self._best((id_, score.total) for id_, score in found)[:k])
        return rankings

    def _best(self, chunks: Iterable[tuple[int, float]]) -> Ranking:
        best: dict[str, float] = {}
        for id_, score in chunks:
            best.setdefault(self._passage_of[id_], score)
        return list(best.items())


class _Filling:
    """Cuts and embeds what is new; the encoder is opened for the first of it."""

    def __init__(
        self,
        writer: Writer,
        encoder: SearchEncoder,
        settings: CollectionSettings,
        progress: Callable[[FillProgress], None],
    ) -> None:
        self._writer = writer
        self._encoder = encoder
        self._settings = settings
        self._progress = progress
        self._chunker: Chunker | None = None
        self._queue: EmbedQueue | None = None
        self._passages = 0
        self._known = 0
        self._empty = 0

    def count(self, group: Sequence[Passage], *, known: bool) -> None:
        self._passages += len(group)
        self._known += len(group) if known else 0
        self._empty += sum(not passage.title.strip() and not passage.text.strip() for passage in group)

    def add(self, file: FileRecord, data: bytes) -> None:
        if self._chunker is None or self._queue is None:
            encoder, settings = self._encoder.open(), self._settings
            self._chunker = Chunker(encoder.tokenizer, max_tokens=settings.chunk_tokens, overlap=settings.chunk_overlap)
            self._queue = EmbedQueue(self._writer, encoder, shield=nullcontext, progress=self._tell)
        document = read_document(data, FILE)
        self._queue.add(
            DocumentRecord(
                file=file,
                format=document.format,
                title=document.title,
                date=document.date,
                metadata=document.metadata,
                chunks=self._chunker.chunk(document),
            )
        )
        self._tell()

    def finish(self) -> Filled:
        queue = self._queue
        if queue is not None:
            queue.flush()
        return Filled(
            passages=self._passages,
            empty=self._empty,
            chunks_embedded=0 if queue is None else queue.chunks_embedded,
            tokens=0 if queue is None else queue.tokens_embedded,
            truncated=0 if queue is None else queue.texts_truncated,
            encode_s=0.0 if queue is None else queue.encode_s,
        )

    def _tell(self) -> None:
        assert self._queue is not None
        self._progress(
            FillProgress(
                passages=self._passages,
                known=self._known,
                tokens_done=self._queue.tokens_embedded + self._queue.tokens_in_flight,
                tokens_seen=self._queue.tokens_seen,
                encode_s=self._queue.encode_s_so_far,
            )
        )


def _grouped(passages: Iterable[Passage], size: int) -> Iterator[list[Passage]]:
    rest = iter(passages)
    while group := list(islice(rest, size)):
        yield group


def _check_new(ids: Sequence[str], seen: set[str]) -> None:
    """Add `ids` to those seen. Raises EvaluationError for one that is there."""
    for id_ in ids:
        if id_ in seen:
            raise EvaluationError(f"the passage id {id_!r} is given twice: expected distinct ids")
        seen.add(id_)


def _row(passage: Passage) -> bytes:
    try:
        passage.title.encode()
        passage.text.encode()
    except UnicodeEncodeError as error:
        raise EvaluationError(
            f"passage {passage.id!r} is not valid Unicode at character {error.start}: expected UTF-8"
        ) from error
    return json.dumps({"title": passage.title, "text": passage.text}).encode() + b"\n"


def _path(number: int) -> str:
    """Return the path of a group: the words of a path are searched too, so all groups have the same ones."""
    return f"{number:b}".replace("0", "-").replace("1", "_") + f"/{FILE}" if number else FILE


def _record(path: str, data: bytes) -> FileRecord:
    return FileRecord(path=path, size=len(data), mtime_ns=0, inode=0, content_hash=blake3(data).hexdigest())
