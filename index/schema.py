"""The tables of a collection and how an older catalogue is brought up to date (sqlite-utils migrations)."""

from __future__ import annotations

import sqlite3
from typing import Any

from .errors import IndexRoomError

MIGRATION_SET = "searchctl"

TOKENIZER = "porter unicode61 remove_diacritics 2 categories ''L* N* Co Mn Mc''"
"""Marks count as letters, so that a Hindi or Thai word is not cut at its vowel signs."""

SQL_FTS = f"""
    CREATE VIRTUAL TABLE chunk_fts USING fts5(
        text, context, path, content='chunk_texts', content_rowid='id', tokenize='{TOKENIZER}')
"""

_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE documents (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        path TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        mtime_ns INTEGER NOT NULL,
        inode INTEGER NOT NULL,
        content_hash TEXT NOT NULL,
        format TEXT NOT NULL,
        title TEXT,
        date TEXT,
        metadata TEXT NOT NULL,
        chunk_count INTEGER NOT NULL)""",
    "CREATE INDEX documents_content_hash ON documents (content_hash)",
    """CREATE TABLE vectors (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        hash TEXT NOT NULL UNIQUE,
        vector BLOB NOT NULL)""",
    """CREATE TABLE chunks (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        document_id INTEGER NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
        ordinal INTEGER NOT NULL,
        text TEXT NOT NULL,
        context TEXT NOT NULL,
        headings TEXT NOT NULL,
        anchor_kind TEXT,
        anchor_value TEXT,
        line_start INTEGER,
        line_end INTEGER,
        char_start INTEGER,
        char_end INTEGER,
        tokens INTEGER NOT NULL,
        vector_id INTEGER NOT NULL REFERENCES vectors (id),
        UNIQUE (document_id, ordinal))""",
    "CREATE INDEX chunks_vector_id ON chunks (vector_id)",
    "CREATE TABLE skipped (path TEXT PRIMARY KEY, reason TEXT NOT NULL) WITHOUT ROWID",
    # What FTS5 indexes: search_text() is registered by every connection, see lexical.searchable.
    """CREATE VIEW chunk_texts AS
        SELECT chunks.id AS id, chunks.document_id AS document_id, search_text(chunks.text) AS text,
               search_text(chunks.context) AS context, search_text(documents.path) AS path
        FROM chunks JOIN documents ON documents.id = chunks.document_id""",
    SQL_FTS,
)

MIGRATION_NAMES = ("m001_initial",)
"""In order; a catalogue that has others was made by a newer searchctl."""


def applied(connection: sqlite3.Connection) -> tuple[str, ...]:
    """Return the names of the migrations this catalogue has had, () for an empty file."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = '_sqlite_migrations'").fetchone():
        return ()
    rows = connection.execute(
        "SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY rowid", [MIGRATION_SET]
    )
    return tuple(name for (name,) in rows)


def is_current(connection: sqlite3.Connection) -> bool:
    """Return whether no migration is pending. Raises IndexRoomError for a catalogue of a newer searchctl."""
    names = applied(connection)
    if newer := set(names) - set(MIGRATION_NAMES):
        raise IndexRoomError(
            f"the collection was written by a newer searchctl (its schema has {', '.join(sorted(newer))}, this one "
            f"knows up to {MIGRATION_NAMES[-1]}): upgrade with `pip install --upgrade searchctl`"
        )
    return len(names) == len(MIGRATION_NAMES)


def migrate(connection: sqlite3.Connection) -> None:
    """Apply every pending migration, each in its own transaction; the caller holds the write lock."""
    # Imported here: a query only reads, and sqlite_utils costs more to import than opening the catalogue.
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

    migrations = Migrations(MIGRATION_SET)

    @migrations(name="m001_initial")
    def initial(db: Any) -> None:
        for statement in _TABLES:
            db.conn.execute(statement)
        db["meta"].insert_all(
            {"key": key, "value": "0"} for key in ("generation", "changes", "vector_changes", "complete")
        )

    migrations.apply(Database(connection, execute_plugins=False))
