"""`searchctl embed`: lines and JSON lines to .npy and JSON lines."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from searchctl.app.models import embed as embed_run
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


def test_empty_line_names_file_and_line(new_shell: Any, subtests: pytest.Subtests) -> None:
    for bad in ["", "   ", "\t"]:
        with subtests.test(bad=bad):
            shell = new_shell()
            shell.write("texts.txt", f"one\n{bad}\nthree\n")
            ended = shell("embed", "texts.txt", "--model", "hashing", "-o", "out.npy")
            assert ended.code == 2
            assert "texts.txt:2" in ended.err
            assert sorted(path.name for path in shell.folder.iterdir()) == ["texts.txt"]


def test_bad_json_line_names_file_and_line(new_shell: Any, subtests: pytest.Subtests) -> None:
    for line, said in [("{", "no valid JSON"), ('{"other": 1}', "'other'"), ('{"text": 5}', "no text")]:
        with subtests.test(line=line, said=said):
            shell = new_shell()
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


def test_usage_errors(new_shell: Any, subtests: pytest.Subtests) -> None:
    for args in [("-o", "out.txt"), ("-o", "out.npy", "-f", "jsonl"), ("missing.txt",)]:
        with subtests.test(args=args):
            shell = new_shell()
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
    assert "--output vectors.npy" in err


def test_json_that_no_encoder_can_take_names_file_and_line(new_shell: Any, subtests: pytest.Subtests) -> None:
    """A lone surrogate, 100,000 brackets and a number of 5,000 digits ended in "This is a bug in searchctl"."""
    for line, said in [
        ('{"text": "\\ud800x"}', "U+D800"),
        ('{"text": "x", "id": "\\ud800"}', "U+D800"),
        ("[" * 100_000, "nested too deeply"),
        ('{"text": "x", "id": ' + "9" * 5000 + "}", "cannot be read"),
    ]:
        with subtests.test(line=line, said=said):
            shell = new_shell()
            shell.write("rows.jsonl", '{"text": "fine"}\n' + line + "\n")
            ended = shell("embed", "rows.jsonl", "--model", "hashing", "-f", "jsonl")
            assert ended.code == 2
            assert "rows.jsonl:2" in ended.err
            assert said in ended.err
            assert "bug" not in ended.err


def test_a_pipe_is_written_to_and_stays(new_shell: Any, subtests: pytest.Subtests) -> None:
    for form in ["npy", "jsonl"]:
        with subtests.test(form=form):
            shell = new_shell()
            fifo = shell.folder / f"out.{form}"
            os.mkfifo(fifo)
            received: list[bytes] = []
            reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()), daemon=True)
            reader.start()
            assert shell("embed", "-o", fifo, "--model", "hashing", stdin="\n".join(TEXTS)).code == 0
            reader.join(timeout=10)
            assert fifo.is_fifo()
            assert received
            if form == "npy":
                assert np.array_equal(load(received[0]), expected(TEXTS))
            else:
                assert len(received[0].splitlines()) == len(TEXTS)


def test_a_device_is_written_to_and_stays(shell: Any) -> None:
    # A terminal of our own: never a shared device such as /dev/null, which a broken product would replace as root.
    parent, child = pty.openpty()
    terminal = Path(os.ttyname(child))
    try:
        assert shell("embed", "-o", terminal, "-f", "jsonl", "--model", "hashing", stdin="one\n").code == 0
        assert os.read(parent, 8) == b'{"row": '
        assert terminal.is_char_device()
    finally:
        os.close(child)
        os.close(parent)


def test_a_link_stays_and_its_target_is_replaced(shell: Any) -> None:
    (shell.folder / "far").mkdir()
    link = shell.folder / "out.npy"
    link.symlink_to("far/real.npy")
    for texts in (TEXTS[:1], TEXTS):  # dangling, then there
        assert shell("embed", "-o", "out.npy", "--model", "hashing", stdin="\n".join(texts)).code == 0
        assert link.is_symlink()
        assert np.array_equal(np.load(shell.folder / "far/real.npy"), expected(texts))
    assert [path.name for path in (shell.folder / "far").iterdir()] == ["real.npy"]


def test_out_as_stdout_appends_where_the_shell_appends(shell: Any) -> None:
    # Under /proc nothing can be replaced; as /dev/stdout a broken product would, as root, replace the system's own.
    file = shell.write("all.jsonl", b"kept\n")
    with file.open("ab") as stream:
        process = shell.start(
            *("embed", "-o", "/proc/self/fd/1", "-f", "jsonl", "--model", "hashing"),
            stdin=subprocess.PIPE,
            stdout=stream,
        )
        process.communicate("one\n", timeout=60)
    assert [line[:5] for line in file.read_text().splitlines()] == ["kept", '{"row']


def test_a_folder_as_output_is_refused(new_shell: Any, subtests: pytest.Subtests) -> None:
    for out in ["folder", "folder.npy", ""]:
        with subtests.test(out=out):
            shell = new_shell()
            if out:
                (shell.folder / out).mkdir()
            ended = shell("embed", "-o", out, "-f", "npy", "--model", "hashing", stdin="one\n")
            assert ended.code == 2
            assert "a folder: expected a file" in ended.err


def test_output_in_a_missing_folder_is_named_as_it_was_typed(shell: Any) -> None:
    ended = shell("embed", "-o", "nowhere/out.npy", "--model", "hashing", stdin="one\n")
    assert ended.code == 2
    assert "--output is nowhere/out.npy" in ended.err
    assert ".searchctl-" not in ended.err


def test_sigterm_leaves_no_temporary_file(shell: Any) -> None:
    process = shell.start("embed", "-o", "out.npy", "--model", "hashing", stdin=subprocess.PIPE)
    process.stdin.write("one line\n" * (embed_run.BLOCK_TEXTS + 4000))  # a block and a wait for more
    process.stdin.flush()
    deadline = time.monotonic() + 30
    while not any(path.name.startswith(".searchctl-") for path in shell.folder.iterdir()):
        assert time.monotonic() < deadline, "no temporary file appeared"
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert list(shell.folder.iterdir()) == []
    for stream in (process.stdin, process.stdout, process.stderr):
        stream.close()


def test_empty_model_is_refused(new_shell: Any, subtests: pytest.Subtests) -> None:
    for args in [("--model", ""), ("--model", " ")]:
        with subtests.test(args=args):
            shell = new_shell()
            ended = shell("embed", *args, stdin="one\n")
            assert ended.code == 2
            assert "searchctl models list" in ended.err


def test_empty_model_name_is_refused(new_shell: Any, subtests: pytest.Subtests) -> None:
    for command in ["info", "pull", "path"]:
        with subtests.test(command=command):
            shell = new_shell()
            ended = shell("models", command, "")
            assert ended.code == 2
            assert "the model is ''" in ended.err


def test_vectors_do_not_take_the_place_of_the_texts(shell: Any) -> None:
    texts = shell.write("d.jsonl", '{"id": 1, "text": "wool"}\n')
    before = texts.read_bytes()
    ended = shell("embed", "d.jsonl", "-o", "./d.jsonl", "--model", "hashing")
    assert (ended.code, "--output is d.jsonl, which the texts are read from" in ended.err) == (2, True), ended.err
    assert texts.read_bytes() == before


def test_a_long_whole_number_is_an_id(shell: Any) -> None:
    shell.write("d.jsonl", '{"id": 1' + "0" * 400 + ', "text": "wool"}\n')
    ended = shell("embed", "d.jsonl", "-f", "jsonl", "--model", "hashing")
    assert (ended.code, json.loads(ended.out)["id"]) == (0, 10**400), ended.err
