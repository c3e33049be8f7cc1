"""Files of pairs: read back as written, whole or as they were, with a manifest that is true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from searchctl.training.data.corpus import Pair, read_pairs
from searchctl.training.data.pair_files import manifest_of, write_pairs

PAIRS = (Pair("ein Zug", "grün\nund\u2028rot"), Pair("q", "p", ("n 1", "n 2")))


def test_pairs_are_read_back_with_the_digest_of_the_manifest(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for name in ["made.jsonl", "made.jsonl.gz"]:
        with subtests.test(name=name):
            tmp_path = tmp_path_factory.mktemp("row")
            path = tmp_path / name
            digest = write_pairs(path, PAIRS, lambda: {"seed": 3})
            source = read_pairs(path)
            assert (source.name, source.pairs, source.digest) == ("made", PAIRS, digest)
            manifest = json.loads((tmp_path / "made.manifest.json").read_text())
            assert manifest == {"seed": 3, "output": {"file": name, "digest": digest, "pairs": 2}}
            first = path.read_bytes()
            write_pairs(path, PAIRS, lambda: {"seed": 3})
            assert path.read_bytes() == first


def test_a_failure_half_way_leaves_the_old_pairs_and_their_manifest(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl.gz"
    write_pairs(path, PAIRS, lambda: {"seed": 3})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def broken() -> Iterator[Pair]:
        yield PAIRS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pairs(path, broken(), lambda: {"seed": 4})
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_new_pairs_never_stand_beside_an_old_manifest(tmp_path: Path) -> None:
    path = tmp_path / "made.jsonl"
    write_pairs(path, PAIRS, lambda: {"seed": 3})

    def no_manifest() -> dict[str, int]:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_pairs(path, PAIRS[:1], no_manifest)
    assert read_pairs(path).pairs == PAIRS[:1]
    assert not manifest_of(path).exists()
