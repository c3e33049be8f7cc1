"""`searchctl embed`: lines and JSON lines to .npy and JSON lines."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
from typing import Any

import numpy as np
import pytest

from searchctl.app import embed_run
from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.protocol import Role

TEXTS = ["the heron waits", "bees dance", "a power cut", "the tide rises and falls"]


def expected(texts: list[str]) -> Any:
    return HashingEncoder().encode(texts, role=Role.DOCUMENT)


def load(raw: bytes) -> Any:
    return np.load(io.BytesIO(raw), allow_pickle=False)


def test_lines_to_npy_in_input_order(shell: Any) -> None:
    shell.write("texts.txt", "\n".join(TEXTS) + "\n")
    ended = shell("embed", "texts.txt", "-o", "out.npy", "--model", "hashing")
    assert (ended.code, ended.out) == (0, ""), ended.err
    vectors = np.load(shell.folder / "out.npy")
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, expected(TEXTS))
    assert sorted(path.name for path in shell.folder.iterdir()) == ["out.npy", "texts.txt"]


def test_stdin_to_npy_on_stdout(shell: Any) -> None:
    ended = shell("embed", "--model", "hashing", stdin="\n".join(TEXTS))
    assert ended.code == 0, ended.err
    assert np.array_equal(load(ended.raw), expected(TEXTS))


def test_json_lines_with_ids_and_field(shell: Any) -> None:
    rows = [{"id": f"d{number}", "body": text} for number, text in enumerate(TEXTS)]
    shell.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    ended = shell("embed", "rows.jsonl", "--field", "body", "--model", "hashing", "-f", "jsonl")
    assert ended.code == 0, ended.err
    parsed = [json.loads(line) for line in ended.out.splitlines()]
    assert [(row["row"], row["id"]) for row in parsed] == [(n, f"d{n}") for n in range(4)]
    assert np.array_equal(np.array([row["embedding"] for row in parsed], dtype=np.float32), expected(TEXTS))


def test_many_blocks_equal_one(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text number {number} about {number * 7}" for number in range(50)]
    monkeypatch.setattr(embed_run, "BLOCK_TEXTS", 8)
    ended = shell("embed", "-", "--model", "hashing", stdin="\n".join(texts))
    assert np.array_equal(load(ended.raw), expected(texts))


def test_no_text_gives_an_empty_array_of_the_right_width(shell: Any) -> None:
    ended = shell("embed", "--model", "hashing", "--dim", "64", stdin="")
    assert ended.code == 0, ended.err
    assert load(ended.raw).shape == (0, 64)


@pytest.mark.parametrize("bad", ["", "   ", "\t"])
def test_empty_line_names_file_and_line(shell: Any, bad: str) -> None:
    shell.write("texts.txt", f"one\n{bad}\nthree\n")
    ended = shell("embed", "texts.txt", "--model", "hashing", "-o", "out.npy")
    assert ended.code == 2
    assert "texts.txt:2" in ended.err
    assert sorted(path.name for path in shell.folder.iterdir()) == ["texts.txt"]


@pytest.mark.parametrize(
    ("line", "said"), [("{", "no valid JSON"), ('{"other": 1}', "'other'"), ('{"text": 5}', "no text")]
)
def test_bad_json_line_names_file_and_line(shell: Any, line: str, said: str) -> None:
    shell.write("rows.jsonl", '{"text": "fine"}\n' + line + "\n")
    ended = shell("embed", "rows.jsonl", "--model", "hashing", "-f", "jsonl")
    assert ended.code == 2
    assert "rows.jsonl:2" in ended.err
    assert said in ended.err


def test_undecodable_line_names_file_and_line(shell: Any) -> None:
    shell.write("texts.txt", b"fine\n\xff\xfe\n")
    ended = shell("embed", "texts.txt", "--model", "hashing", "-f", "jsonl")
    assert ended.code == 2
    assert "texts.txt:2" in ended.err


def test_truncated_texts_are_counted(shell: Any) -> None:
    "one two\n" + "word " * 20 + "\n" + "x " * 9
    ended = shell(
        "embed", "--model", "hashing", "--max-tokens", "4", stdin="one two\n" + "word " * 20 + "\n" + "x " * 9
    )
    assert ended.code == 0
    assert "2 of 3 texts were longer than 4 tokens" in ended.err


@pytest.mark.parametrize("args", [("-o", "out.txt"), ("-o", "out.npy", "-f", "jsonl"), ("missing.txt",)])
def test_usage_errors(shell: Any, args: tuple[str, ...]) -> None:
    ended = shell("embed", *args, "--model", "hashing", stdin="x\n")
    assert ended.code == 2
    assert "expected" in ended.err


def test_failed_run_leaves_the_old_file(shell: Any) -> None:
    old = shell.write("out.npy", b"old")
    assert shell("embed", "-o", "out.npy", "--model", "hashing", stdin="one\n\n").code == 2
    assert old.read_bytes() == b"old"


def test_several_files_follow_each_other(shell: Any) -> None:
    shell.write("a.txt", "one\ntwo\n")
    shell.write("b.jsonl", '{"text": "three"}\n')
    ended = shell("embed", "a.txt", "b.jsonl", "--model", "hashing")
    assert np.array_equal(load(ended.raw), expected(["one", "two", "three"]))


def test_windows_line_ends_and_byte_order_mark_are_not_text(shell: Any) -> None:
    shell.write("a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n")
    ended = shell("embed", "a.txt", "--model", "hashing")
    assert np.array_equal(load(ended.raw), expected(["one", "two"]))


def test_npy_to_a_terminal_is_refused(shell: Any) -> None:
    parent, child = pty.openpty()
    process = shell.start("embed", "--model", "hashing", stdout=child, stdin=subprocess.DEVNULL)
    os.close(child)
    err = process.communicate(timeout=60)[1]
    os.close(parent)
    assert process.returncode == 2
    assert "--out vectors.npy" in err
