"""What a collection was made from, on the disk: whole, synced, and written without a heavy library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from searchctl.app.collection.paths import collection_to_write
from searchctl.app.collection.sources import FILE_NAME, PART_NAME, Source, read_sources, remember_sources
from searchctl.index.walk import WalkOptions

SOURCE = Source(path="docs", options=WalkOptions(types=("md",)))


def test_the_file_and_its_name_are_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    remember_sources(tmp_path, [SOURCE], unfinished=[])
    assert synced == [(tmp_path / FILE_NAME).stat().st_ino, tmp_path.stat().st_ino]
    assert read_sources(tmp_path) == [SOURCE]


def test_what_a_kill_left_is_written_over_and_makes_no_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / PART_NAME).write_text('{"schema"')
    assert collection_to_write(tmp_path) == tmp_path
    remember_sources(tmp_path, [SOURCE], unfinished=[])
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_the_module_loads_nothing_heavy() -> None:
    script = (
        "import sys, searchctl.app.collection.sources\n"
        "sys.exit(str([name for name in ('torch', 'transformers', 'numpy', 'faiss') if name in sys.modules] or ''))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == ""
