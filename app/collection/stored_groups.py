"""What the last `dedup` and `cluster` runs found, kept in the collection's folder for queries: two JSON files.

They speak of chunks by the hash of their text, and of documents by their path: ids change when a file is indexed
again. Losing them loses nothing that the command does not make again. A rebuild or promotion makes a new folder, which
has none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ...index.durable import write_whole
from ..errors import AppError, ResultNotStoredError

if TYPE_CHECKING:
    from ...index.protocol import Collection, Ids


DUPLICATES_FILE = "duplicates.json"
CLUSTERS_FILE = "clusters.json"
SCHEMA = 1

Level = Literal["chunk", "document"]
"""What was compared. A member of a group is the hash of a chunk's vector, or the stored path of a document."""

_DEDUP, _CLUSTER = ("dedup",), ("cluster",)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDuplicates:
    """Groups of items that say the same."""

    level: Level
    threshold: float
    """Least cosine of a semantic pair."""
    near_threshold: float
    """Least Jaccard similarity of a near pair."""
    changes: int
    """`Collection.changes` of the commit that was compared."""
    groups: tuple[tuple[str, ...], ...]
    """Two members or more each; no member is in two."""
    contents: Mapping[str, str] = field(default_factory=dict)
    """Of documents, the content hash of each as it was compared; chunks are named after theirs."""

    def still(self, collection: Collection) -> StoredDuplicates:
        """Return what holds for the documents that are as they were."""
        if self.level == "chunk":
            return self
        files = collection.files()
        same = {path for path, hash_ in self.contents.items() if path in files and files[path].content_hash == hash_}
        groups = (tuple(path for path in group if path in same) for group in self.groups)
        return replace(self, groups=tuple(group for group in groups if len(group) > 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCluster:
    id: int
    title: str
    medoid: str
    """The member nearest to the centre."""
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredClusters:
    """Items by what they are about."""

    level: Level
    method: str
    settings: Mapping[str, Any]
    """How it was done, as JSON values."""
    changes: int
    """`Collection.changes` of the commit that was clustered."""
    next_id: int
    """No cluster, of this run or one before, has this id or a higher one."""
    clusters: tuple[StoredCluster, ...]
    noise: tuple[str, ...]
    """Items that belong to no cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Items by the names that groups have for them."""

    level: Level
    names: tuple[str, ...]

    def find(self, collection: Collection) -> Ids:
        """Return the ascending ids of their chunks, as far as they are still there."""
        if self.level == "document":
            return collection.find_chunks(paths=self.names)
        return collection.find_chunks(hashes=self.names)


def write_duplicates(folder: Path, found: StoredDuplicates) -> None:
    """Put what `dedup` found into a collection's folder, in place of what was there.

    Raises ResultNotStoredError when the folder cannot be written to: the caller may say so and go on.
    """
    _check_duplicates(found)
    _write(folder / DUPLICATES_FILE, asdict(found), _DEDUP)


def write_clusters(folder: Path, found: StoredClusters) -> None:
    """Put what `cluster` found into a collection's folder, in place of what was there.

    Raises ResultNotStoredError when the folder cannot be written to: the caller may say so and go on.
    """
    _check_clusters(found)
    _write(folder / CLUSTERS_FILE, asdict(found), _CLUSTER)


def read_duplicates(folder: Path) -> StoredDuplicates | None:
    """Return what `dedup` found last in the collection of this folder, None before its first run.

    Raises AppError for a damaged file and one of a newer searchctl.
    """
    return _read(folder / DUPLICATES_FILE, _duplicates, _DEDUP)


def read_clusters(folder: Path) -> StoredClusters | None:
    """Return what `cluster` found last in the collection of this folder, None before its first run.

    Raises AppError for a damaged file and one of a newer searchctl.
    """
    return _read(folder / CLUSTERS_FILE, _clusters, _CLUSTER)


def _write(path: Path, values: Mapping[str, object], command: tuple[str, ...]) -> None:
    text = json.dumps({"schema": SCHEMA, **values}, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise ResultNotStoredError(
            f"cannot write {path}: {error.strerror or error}. Make the folder writable, then run the command again: "
            "queries go by what is stored there",
            next_command=command,
        ) from error


_Stored = TypeVar("_Stored")


def _read(path: Path, parse: Callable[[dict[str, Any]], _Stored], command: tuple[str, ...]) -> _Stored | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AppError(
            f"cannot read {path}: {error.strerror or error}. Make it readable, or delete it",
            next_command=command,
        ) from error
    try:
        data = json.loads(content.decode("utf-8"))
        if not isinstance(data, dict):
            raise TypeError("no JSON object")
        schema = _take(data, "schema", int)
        if schema <= SCHEMA:
            return parse(data)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise AppError(f"{path} is damaged ({what}): make it again", next_command=command) from error
    raise AppError(
        f"{path} was written by a newer searchctl (schema {schema}, this one knows {SCHEMA}): make it again, "
        "or upgrade with `pip install --upgrade searchctl`",
        next_command=command,
    )


def _duplicates(data: dict[str, Any]) -> StoredDuplicates:
    _check_keys(data, StoredDuplicates, "schema")
    found = StoredDuplicates(
        level=_level(data),
        threshold=_number(data, "threshold"),
        near_threshold=_number(data, "near_threshold"),
        changes=_take(data, "changes", int),
        groups=tuple(_texts(group, "a group") for group in _take(data, "groups", list)),
        contents=_take(data, "contents", dict),
    )
    _check_duplicates(found)
    return found


def _clusters(data: dict[str, Any]) -> StoredClusters:
    _check_keys(data, StoredClusters, "schema")
    found = StoredClusters(
        level=_level(data),
        method=_take(data, "method", str),
        settings=_take(data, "settings", dict),
        changes=_take(data, "changes", int),
        next_id=_take(data, "next_id", int),
        clusters=tuple(_cluster(item) for item in _take(data, "clusters", list)),
        noise=_texts(_take(data, "noise", list), "noise"),
    )
    _check_clusters(found)
    return found


def _cluster(item: object) -> StoredCluster:
    if not isinstance(item, dict):
        raise TypeError(f"a cluster is {str(item)[:40]!r}, expected an object")
    _check_keys(item, StoredCluster)
    return StoredCluster(
        id=_take(item, "id", int),
        title=_take(item, "title", str),
        medoid=_take(item, "medoid", str),
        members=_texts(_take(item, "members", list), "members"),
    )


def _check_duplicates(found: StoredDuplicates) -> None:
    """Raise ValueError for groups that cannot be."""
    if any(len(group) < 2 for group in found.groups):
        raise ValueError("a group has fewer than two members")
    named = {path for group in found.groups for path in group} if found.level == "document" else set()
    if named != set(found.contents) or not all(isinstance(hash_, str) for hash_ in found.contents.values()):
        raise ValueError("contents are not those of the documents in the groups")
    _check_apart(found.groups)


def _check_clusters(found: StoredClusters) -> None:
    """Raise ValueError for clusters that cannot be."""
    ids = [cluster.id for cluster in found.clusters]
    if len(set(ids)) != len(ids):
        raise ValueError("two clusters have the same id")
    if ids and (min(ids) < 0 or max(ids) >= found.next_id):
        raise ValueError(f"a cluster has id {min(ids) if min(ids) < 0 else max(ids)}, next_id is {found.next_id}")
    for cluster in found.clusters:
        if cluster.medoid not in cluster.members:
            raise ValueError(f"the medoid of cluster {cluster.id} is not among its members")
    _check_apart([*(cluster.members for cluster in found.clusters), found.noise])


def _check_apart(groups: Sequence[Sequence[str]]) -> None:
    seen: set[str] = set()
    for group in groups:
        for member in group:
            if member in seen:
                raise ValueError(f"{member} is there twice")
            seen.add(member)


def _check_keys(data: dict[str, Any], kind: type, *more: str) -> None:
    """Raise ValueError for a key that no field has; one that lacks is found when it is taken."""
    if unknown := set(data) - {entry.name for entry in fields(kind)} - set(more):
        raise ValueError(f"{min(unknown)!r} is not known")


_Kind = TypeVar("_Kind", int, str, list[Any], dict[str, Any])


def _take(data: dict[str, Any], key: str, kind: type[_Kind]) -> _Kind:
    """Return a value of this very type. Raises KeyError and TypeError."""
    value = data[key]
    if type(value) is not kind:
        raise TypeError(f"{key} is {str(value)[:40]!r}, expected {kind.__name__}")
    return value


def _number(data: dict[str, Any], key: str) -> float:
    value = data[key]
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{key} is {str(value)[:40]!r}, expected a number")
    return float(value)


def _level(data: dict[str, Any]) -> Level:
    level = data["level"]
    if level == "chunk":
        return "chunk"
    if level == "document":
        return "document"
    raise ValueError(f"level is {str(level)[:40]!r}, expected chunk or document")


def _texts(values: object, what: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) and value for value in values):
        raise TypeError(f"{what} is no list of names")
    return tuple(values)
