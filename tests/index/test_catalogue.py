from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from searchctl.index import schema
from searchctl.index.catalogue import (
    ReadConnection,
    bump,
    connect_writer,
    read_state,
    snapshot,
    sqlite_errors,
    transaction,
    translated,
    write_state,
)
from searchctl.index.errors import CollectionDamagedError, CollectionNotFoundError, StorageError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    connection = connect_writer(tmp_path / "catalogue.db")
    schema.migrate(connection)
    connection.close()
    return tmp_path / "catalogue.db"


def test_migrations_are_applied_once_and_named(path: Path) -> None:
    connection = connect_writer(path)
    assert schema.applied(connection) == schema.MIGRATION_NAMES
    schema.migrate(connection)
    assert schema.applied(connection) == schema.MIGRATION_NAMES
    assert schema.is_current(connection)


def test_writer_keeps_its_promises(path: Path) -> None:
    connection = connect_writer(path)
    pragmas = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in
               ("journal_mode", "synchronous", "foreign_keys", "page_size", "busy_timeout")}  # fmt: skip
    assert pragmas == {
        "journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "page_size": 16384, "busy_timeout": 30000,
    }  # fmt: skip


def test_reader_cannot_write(path: Path) -> None:
    reader = ReadConnection(path)
    assert reader.connection.execute("PRAGMA wal_autocheckpoint").fetchone() == (0,)
    with pytest.raises(StorageError, match="read-only"), sqlite_errors(path):
        write_state(reader.connection, generation=5)
    with pytest.raises(CollectionNotFoundError) as caught:
        ReadConnection(path.parent / "nowhere.db")
    assert caught.value.next_command == ("index", "PATH")


def test_transaction_is_all_or_nothing(path: Path) -> None:
    connection = connect_writer(path)
    with pytest.raises(ZeroDivisionError), transaction(connection):
        write_state(connection, generation=7)
        raise ZeroDivisionError
    assert read_state(connection).generation == 0
    with transaction(connection):
        write_state(connection, generation=7)
    assert read_state(connection).generation == 7


def test_snapshot_sees_one_commit(path: Path) -> None:
    writer, owner = connect_writer(path), ReadConnection(path)
    reader = owner.connection
    with snapshot(reader):
        assert read_state(reader).changes == 0
        with transaction(writer):
            bump(writer, "changes")
        with snapshot(reader):
            assert read_state(reader).changes == 0
    assert read_state(reader).changes == 1
    assert not reader.in_transaction


def test_bump_raises_only_the_named_counters_and_notes_the_time(path: Path) -> None:
    connection = connect_writer(path)
    before = datetime.now(UTC)
    bump(connection, "changes")
    bump(connection, "changes", "vector_changes")
    state = read_state(connection)
    assert (state.changes, state.vector_changes, state.generation) == (2, 1, 0)
    assert state.updated is not None
    assert before <= state.updated


def test_map_of_sqlite_errors(subtests: pytest.Subtests) -> None:
    for code, expected in [
        (sqlite3.SQLITE_FULL, StorageError),
        (sqlite3.SQLITE_READONLY, StorageError),
        (sqlite3.SQLITE_IOERR | 3 << 8, StorageError),  # extended codes count as their family
        (sqlite3.SQLITE_BUSY, StorageError),
        (sqlite3.SQLITE_CANTOPEN, StorageError),
        (sqlite3.SQLITE_CORRUPT, CollectionDamagedError),
        (sqlite3.SQLITE_NOTADB, CollectionDamagedError),
        (sqlite3.SQLITE_ERROR, sqlite3.OperationalError),
        (sqlite3.SQLITE_CONSTRAINT, sqlite3.OperationalError),
    ]:
        with subtests.test(code=code, expected=expected):
            error = sqlite3.OperationalError("what SQLite said")
            error.sqlite_errorcode = code
            mapped = translated(error, Path("/c/catalogue.db"))
            assert type(mapped) is expected
            assert "what SQLite said" in str(mapped)
            if expected is not sqlite3.OperationalError:
                assert "/c" in str(mapped)


def test_mistakes_of_our_own_are_not_dressed_up(path: Path) -> None:
    connection = connect_writer(path)
    with pytest.raises(sqlite3.OperationalError, match="no such table"), sqlite_errors(path):
        connection.execute("SELECT * FROM nonsense")
    connection.close()
    with pytest.raises(sqlite3.ProgrammingError), sqlite_errors(path):
        connection.execute("SELECT 1")
