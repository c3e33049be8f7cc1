from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from searchctl.index.errors import CollectionLockedError
from searchctl.index.file_names import OWNER_FILE
from searchctl.index.lock import read_owner, write_lock

HOLD = """
import sys
from pathlib import Path
from searchctl.index.lock import write_lock
with write_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_second_writer_is_refused_with_the_pid_and_start_of_the_first(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        owner = read_owner(tmp_path)
        with (
            pytest.raises(CollectionLockedError, match=f"process {process.pid} .*started 2") as caught,
            write_lock(tmp_path),
        ):
            pass
        assert caught.value.pid == process.pid
        assert owner is not None
        assert owner.started in str(caught.value)
    finally:
        process.communicate("")
    with write_lock(tmp_path) as unclean:
        assert not unclean


def test_a_killed_owner_does_not_keep_the_lock(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / OWNER_FILE).exists()
    with write_lock(tmp_path) as unclean:
        assert unclean
        owner = read_owner(tmp_path)
        assert owner is not None
        assert owner.pid == os.getpid()
    assert not (tmp_path / OWNER_FILE).exists()


def test_same_process_is_refused_too(tmp_path: Path) -> None:
    with write_lock(tmp_path), pytest.raises(CollectionLockedError) as caught, write_lock(tmp_path):
        pass
    assert caught.value.pid == os.getpid()


def test_lock_without_a_name_is_still_refused(tmp_path: Path) -> None:
    with write_lock(tmp_path):
        (tmp_path / OWNER_FILE).write_text("not json")
        with pytest.raises(CollectionLockedError, match="has not left its name") as caught, write_lock(tmp_path):
            pass
    assert caught.value.pid is None


def test_name_of_another_owner_is_left_alone(tmp_path: Path) -> None:
    """After a swap of folders the name in the folder's place is that of the new collection's own writer."""
    with write_lock(tmp_path):
        (tmp_path / OWNER_FILE).write_text('{"pid": 1, "host": "h", "started": "s"}')
    owner = read_owner(tmp_path)
    assert owner is not None
    assert owner.pid == 1
