"""Pairs that were made, as `corpus.read_pairs` reads them, and the manifest beside them that says how."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from blake3 import blake3

from ...index.durable import write_whole
from .corpus import Pair, source_name
from .json_lines import SUFFIXES


def is_pair_file(path: Path) -> bool:
    """Return whether the name is one of a data file."""
    return path.name.endswith(SUFFIXES) and source_name(path) != ""


def manifest_of(path: Path) -> Path:
    """Return where the manifest of a data file stands."""
    return path.with_name(f"{source_name(path)}.manifest.json")


def write_pairs(
    path: Path, pairs: Iterable[Pair], manifest: Callable[[], Mapping[str, Any]], *, part: Path | None = None
) -> str:
    """Put `pairs` in the place of `path`, packed where its name ends in .gz, then its manifest; return the digest.

    `manifest` is asked for its content after the last pair. The digest, of the lines unpacked, and their number come
    into it as "output"; a training run says the same digest of its data. The same pairs give the same bytes.
    "negatives" is left out of pairs without any. `part` is that of `write_whole`, for both files.
    """
    hasher, count = blake3(), 0

    def write(file: IO[bytes]) -> None:
        nonlocal count
        for pair in pairs:
            line = _line(pair)
            hasher.update(line)
            file.write(line)
            count += 1
        # An old manifest beside new pairs would say what is not so; until they are all there, it is true.
        manifest_of(path).unlink(missing_ok=True)

    def write_packed(file: IO[bytes]) -> None:
        # Without the time and the name that gzip puts into its header.
        packed = gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0)
        with packed, io.BufferedWriter(packed) as lines:
            write(lines)

    write_whole(path, write_packed if path.name.endswith(".gz") else write, part=part)
    output = {"file": path.name, "digest": hasher.hexdigest(), "pairs": count}
    content = json.dumps({**manifest(), "output": output}, indent=2, ensure_ascii=False) + "\n"
    write_whole(manifest_of(path), content.encode(), part=part)
    return hasher.hexdigest()


def _line(pair: Pair) -> bytes:
    row: dict[str, object] = {"query": pair.query, "positive": pair.positive}
    if pair.negatives:
        row["negatives"] = list(pair.negatives)
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"
