"""How `searchctl eval init` and `eval own` run: a test set from a collection, and its search measured on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...encoder.protocol import Role
from ...index.errors import CollectionNotFoundError
from ...index.protocol import Collection, CollectionSettings
from ...training.errors import EvaluationError
from ...training.evaluation.measurement import Json
from ...training.evaluation.own_collection import MakingStep, counted, make_test_set
from ...training.evaluation.own_collection_folder import Passage as SourcePassage
from ...training.evaluation.own_collection_folder import (
    StoredTestSet,
    check_free,
    exact_thresholds,
    ndcg,
    read_test_set,
    recall,
    reciprocal_rank,
    share_found,
    write_test_set,
)
from ..collection.encoder_choice import EncoderChoice, LazyEncoder, config_from_json
from ..collection.indexer import chunk_sizes
from ..collection.items import INCOMPLETE
from ..collection.opening import open_collection
from ..collection.paths import existing_collection, shown_path
from ..collection.stored_vectors import StoredVectors, text_hash
from ..collection.talk import Talk
from ..options import DENSE_WEIGHT, ReportFormat, SearchMode, cache_folder
from ..terminal.console import Terminal
from ..terminal.progress import pull_bar
from .corpus_index import CorpusIndex, Passage
from .own_collection_report import InitWords, ModeScores, OwnReport, OwnWords, show_own, show_test_set

if TYPE_CHECKING:
    from ...encoder.protocol import Encoder, EncoderInfo


MODES = (SearchMode.LEXICAL, SearchMode.DENSE, SearchMode.HYBRID)


def test_set_folder(collection: Path) -> Path:
    """Return where a collection's test set is kept: beside it, for a rebuild puts another folder in its place."""
    return collection.with_name(f"{collection.name}.eval")


def run_init(terminal: Terminal, given: Path | None, out: Path | None, *, count: int, seed: int, force: bool) -> None:
    """Make the test set of a collection and tell what is in it."""
    path = existing_collection(given)
    folder = test_set_folder(path) if out is None else out.expanduser().absolute()
    check_free(folder, force=force)
    with closing(open_collection(path, Talk())) as collection:
        settings = _settings(collection)
        status = collection.status()
        with terminal.progress("Making") as update:
            told = InitWords(update).told
            passages = list(counted(_passages(collection), MakingStep.READ, status.chunks, told))
            test_set = make_test_set(passages, count=count, seed=seed, told=told)
    source: dict[str, Json] = {
        "seed": seed,
        "asked": count,
        "collection": str(path),
        "generation": status.generation,
        "documents": status.documents,
        "chunk_tokens": settings.chunk_tokens,
        "encoder": {"name": settings.encoder_name, "fingerprint": settings.encoder_fingerprint},
    }
    write_test_set(test_set, folder, source, force=force, hidden=out is None)
    if not status.complete:
        terminal.notice(INCOMPLETE)
    show_test_set(terminal, test_set, folder, asked=count, hint=_hint(given, out))


def _hint(given: Path | None, out: Path | None) -> str:
    options = "" if given is None else f" --collection {shown_path(given)}"
    return f"searchctl eval own{options}" + ("" if out is None else f" --data {shown_path(out)}")


def _settings(collection: Collection) -> CollectionSettings:
    if collection.settings is None:
        raise CollectionNotFoundError(f"the collection {collection.path} is empty", next_command=("index", "PATH"))
    return collection.settings


def _passages(collection: Collection) -> Iterator[SourcePassage]:
    for chunk in collection.all_chunks():
        # Ids stand in a table with tabs between and one row a line.
        name = chunk.path if chunk.path.isprintable() else ascii(chunk.path)
        yield SourcePassage(
            id=f"{name}#{chunk.ordinal}",
            document=chunk.path,
            title=chunk.title,
            headings=chunk.headings,
            context=chunk.context,
            text=chunk.text,
            position=chunk.ordinal,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRequest:
    """What to measure."""

    data: Path | None
    """None: the collection's own test set."""
    k: int
    choice: EncoderChoice
    instruction: str | None = None
    dense_weight: float | None = None


def run_own(terminal: Terminal, request: OwnRequest, given: Path | None, form: ReportFormat) -> None:
    """Measure lexical, dense and hybrid search on a test set and print the report."""
    path = existing_collection(given)
    folder = test_set_folder(path) if request.data is None else request.data.expanduser().absolute()
    if request.data is None and not folder.is_dir():
        raise EvaluationError(f"the collection {path} has no test set yet", next_command=("eval", "init"))
    test_set = read_test_set(folder)
    words = OwnWords()
    with pull_bar(terminal, request.choice.model or "the model") as pulling:
        talk = Talk(pulling=pulling, loading=words.loading, cache=cache_folder())
        with closing(open_collection(path, talk)) as collection:
            settings = _settings(collection)
            # Another model than the collection's own may be measured too.
            lazy = LazyEncoder(request.choice.config(config_from_json(settings.encoder_config)), talk)
            lazy.info()  # fetches a model that is not here before another bar is shown
            try:
                with terminal.progress("Measuring") as update:
                    words.update = update
                    report = _Own(collection, settings, test_set, lazy, request).measure(folder, words)
            except KeyboardInterrupt:
                terminal.say("passages encoded so far are kept: run the same command again to go on")
                raise
    show_own(terminal, report, form)


@dataclass(slots=True)
class _Reusing:
    """The encoder of a corpus index over a collection's own vectors."""

    lazy: LazyEncoder
    vectors: StoredVectors

    def info(self) -> EncoderInfo:
        return self.lazy.info()

    def open(self) -> Encoder:
        return self.vectors

    def dense_weight(self) -> float | None:
        return self.lazy.dense_weight()


class _Own:
    """One measurement of a collection's search."""

    def __init__(
        self,
        collection: Collection,
        settings: CollectionSettings,
        test_set: StoredTestSet,
        lazy: LazyEncoder,
        request: OwnRequest,
    ) -> None:
        self._collection = collection
        self._settings = settings
        self._test_set = test_set
        self._request = request
        self._is_own = lazy.info().fingerprint == settings.encoder_fingerprint
        self._encoder = _Reusing(lazy, StoredVectors(lazy=lazy, collection=collection if self._is_own else None))

    def measure(self, folder: Path, words: OwnWords) -> OwnReport:
        """Return the report; the test corpus is kept in a collection below `folder`, so that it is embedded once."""
        data, request = self._test_set.data, self._request
        passages = [
            Passage(id=id_, title=title, text=text)
            for id_, title, text in zip(data.document_ids, data.titles, data.texts, strict=True)
        ]
        config = self._encoder.lazy.config
        with closing(CorpusIndex(folder / "search", self._encoder, config, chunks=self._chunks())) as index:
            index.fill(passages, progress=lambda progress: words.filling(progress, len(passages)))
            words.filled(len(data.queries))
            found = self._faiss_recall(index, words)
            modes = {mode: self._score(index, mode) for mode in MODES}
        reuse = self._encoder.vectors.reuse
        status = self._collection.status()
        return OwnReport(
            collection=self._collection.path,
            data=folder,
            encoder=self._encoder.info(),
            is_own_encoder=self._is_own,
            k=request.k,
            dense_weight=self._dense_weight(),
            passages=len(passages),
            query_ids=data.query_ids,
            kinds=self._test_set.kinds,
            modes=modes,
            faiss_recall=found,
            reuse=reuse,
            gone=self._gone(passages),
            uncut=len(passages) - len(self._test_set.cut),
            generations=(self._test_set.generation, status.generation),
        )

    def _dense_weight(self) -> float:
        given = self._request.dense_weight
        recommended = self._encoder.dense_weight() if given is None else given
        return DENSE_WEIGHT if recommended is None else recommended

    def _chunks(self) -> tuple[int, int]:
        if self._is_own:
            return self._settings.chunk_tokens, self._settings.chunk_overlap
        limit = self._encoder.info().max_tokens
        return chunk_sizes(min(self._settings.chunk_tokens, limit), None, limit)

    def _score(self, index: CorpusIndex, mode: SearchMode) -> ModeScores:
        data, request = self._test_set.data, self._request
        began = time.perf_counter()
        rankings = index.rank_all(
            data.queries, mode, request.k, instruction=request.instruction, dense_weight=request.dense_weight
        )
        seconds = time.perf_counter() - began
        answers = [
            ([id_ for id_, _ in ranking], data.judgements[query])
            for query, ranking in zip(data.query_ids, rankings, strict=True)
        ]
        return ModeScores(
            ndcg=tuple(ndcg(ranking, grades, request.k) for ranking, grades in answers),
            recall=tuple(recall(ranking, grades, request.k) for ranking, grades in answers),
            reciprocal_rank=tuple(reciprocal_rank(ranking, grades, request.k) for ranking, grades in answers),
            seconds_per_query=seconds / len(rankings),
        )

    def _faiss_recall(self, index: CorpusIndex, words: OwnWords) -> tuple[float, ...]:
        """Return for each query the share of the k nearest chunks, by exact search, that the FAISS index finds."""
        k, collection = self._request.k, index.collection
        encoder, began = self._encoder.open(), time.perf_counter()
        queries = encoder.encode(
            self._test_set.data.queries,
            role=Role.QUERY,
            instruction=self._request.instruction,
            progress=lambda progress: words.asking(progress, began),
        )
        chunks_of: dict[int, int] = {}
        for place in index.places:
            chunks_of[place.vector] = chunks_of.get(place.vector, 0) + 1
        thresholds = exact_thresholds(queries, collection.all_vectors(queries.shape[1]), chunks_of, k)
        expected = min(k, len(index.places))
        return tuple(
            share_found(collection.cosines(query, collection.dense(query, k).ids), threshold, expected)
            for query, threshold in zip(queries, thresholds, strict=True)
        )

    def _gone(self, passages: list[Passage]) -> int:
        """Return how many passages of the test set, of those not cut, the collection has no longer as they are."""
        uncut = [passage for passage in passages if passage.id not in self._test_set.cut]
        hashes = [text_hash(f"{p.title}\n{p.text}" if p.title else p.text) for p in uncut]
        present = self._collection.stored_hashes(hashes)
        return sum(hash_ not in present for hash_ in hashes)
