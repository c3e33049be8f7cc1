"""Content hashes of large files, remembered: hashing gigabytes at each command would take seconds."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

from blake3 import blake3

from .cache import cache_root

FILE_NAME = "hashes.json"
# A file written this recently may change again within one tick of the file system's clock (git's "racy" problem).
RACY_NS = 50_000_000


def content_hash(path: Path, *, cache: Path | None = None) -> str:
    """Return the blake3 hex digest of the file's content, from the cache when the file has not changed since."""
    return content_hashes([path], cache=cache)[0]


def content_hashes(paths: list[Path], *, cache: Path | None = None) -> list[str]:
    """Return the digest of each file. A missing or damaged cache costs time only; one that cannot be written too."""
    store = cache_root(cache) / FILE_NAME
    known = _read(store)
    fresh: dict[str, str] = {}
    digests = []
    for path in paths:
        key = _key(path)
        digest = known.get(key)
        if digest is None:
            digest = _hash(path)
            if key == _key(path) and not _racy(path):
                fresh[key] = digest
        digests.append(digest)
    if fresh:
        _write(store, fresh)
    return digests


def _key(path: Path) -> str:
    real = path.resolve()
    stat = real.stat()
    # ctime too: a copy that keeps size and mtime (cp -p over the file) changes it.
    return f"{real}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{stat.st_ino}"


def _racy(path: Path) -> bool:
    stat = path.stat()
    return time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) < RACY_NS


def _hash(path: Path) -> str:
    hasher = blake3(max_threads=blake3.AUTO)
    if path.stat().st_size:
        hasher.update_mmap(path)
    return hasher.hexdigest()


def _read(store: Path) -> dict[str, str]:
    try:
        data = json.loads(store.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {key: value for key, value in data.items() if isinstance(value, str) and len(value) == 64}


def _write(store: Path, fresh: dict[str, str]) -> None:
    # Read again: another process may have written since. The last of two at once wins, and the other hashes again.
    kept = {key: value for key, value in _read(store).items() if Path(key.rsplit("|", 4)[0]).exists()}
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{FILE_NAME}-", dir=store.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(kept | fresh, file, indent=0)
        Path(temporary).replace(store)
    except OSError:
        # A cache that cannot be kept changes no result.
        return
