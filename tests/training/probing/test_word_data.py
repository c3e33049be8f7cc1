"""CoNLL columns: sentences as they stand, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchctl.training.errors import DataError
from searchctl.training.probing.word_data import WordTask, load_words, read_columns

GOOD = "EU NNP I-NP I-ORG\nrejects VBZ I-VP O\n\nPeter NNP I-NP I-PER\n"


def write(folder: Path, train: str | bytes = GOOD, dev: str = GOOD, test: str = GOOD) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in (("eng.train", train), ("eng.testa", dev), ("eng.testb", test)):
        (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def test_words_and_labels_by_column(tmp_path: Path) -> None:
    data = load_words(write(tmp_path / "d", test="a DT B-NP O\n"))
    first, second = data.splits["train"]
    assert first.words == ("EU", "rejects")
    assert first.text == "EU rejects"
    assert first.labels == {
        WordTask.POS: ("NNP", "VBZ"),
        WordTask.CHUNK: ("I-NP", "I-VP"),
        WordTask.NER: ("I-ORG", "O"),
    }
    assert second.words == ("Peter",)
    assert [sentence.words for sentence in data.splits["test"]] == [("a",)]
    assert list(data.splits) == ["train", "dev", "test"]


def test_document_starts_empty_lines_and_line_ends_are_no_words(subtests: pytest.Subtests) -> None:
    for raw in [
        b"-DOCSTART- -X- O O\n\na DT I-NP O\n\nb NN I-NP O\n",
        b"-DOCSTART- -X- -X- O\na DT I-NP O\n\n\n\nb NN I-NP O",
        b"\xef\xbb\xbfa DT I-NP O\r\n\r\nb NN I-NP O\r\n", b"a\tDT\tI-NP\tO\n \t\nb  NN  I-NP  O \n",
        b"a DT I-NP O\n\n-DOCSTART- -X- O O\n\nb NN I-NP O\n\n",
    ]:  # fmt: skip
        with subtests.test(raw=raw):
            sentences = list(read_columns(Path("x"), raw))
            assert [(s.words, s.labels[WordTask.POS]) for s in sentences] == [(("a",), ("DT",)), (("b",), ("NN",))]


def test_a_no_break_space_is_part_of_its_word() -> None:
    (sentence,) = read_columns(Path("x"), "10\u00a0000 CD I-NP O\n".encode())
    assert sentence.words == ("10\u00a0000",)


def test_a_malformed_line_is_named(tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests) -> None:
    for raw, line, said in [
        (b"a DT I-NP O\n\nb NN I-NP\n", 3, "3 columns ('b NN I-NP'), expected 4"),
        (b"a DT I-NP O O\n", 1, "5 columns"),
        (b"a DT I-NP O\n\xff NN I-NP O\n", 2, "expected UTF-8"),
        ("a DT I-NP O\n\u00a0 NN I-NP O\n".encode(), 2, "at least one visible character"),
    ]:
        with subtests.test(raw=raw, line=line, said=said):
            tmp_path = tmp_path_factory.mktemp("row")
            folder = write(tmp_path / "d", train=raw)
            with pytest.raises(DataError, match="expected") as caught:
                load_words(folder)
            assert (caught.value.path, caught.value.line) == (folder / "eng.train", line)
            assert f"eng.train, line {line}: " in str(caught.value)
            assert said in str(caught.value)


def test_missing_and_empty_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        load_words(tmp_path / "nowhere")
    folder = write(tmp_path / "d", test="-DOCSTART- -X- O O\n\n")
    with pytest.raises(DataError, match=r"eng\.testb: holds no sentence"):
        load_words(folder)
    (folder / "eng.testa").unlink()
    with pytest.raises(DataError, match=r"eng\.testa: no such file"):
        load_words(folder)


def test_the_digest_tells_any_change_apart(tmp_path: Path) -> None:
    variants = [
        write(tmp_path / "a"),
        write(tmp_path / "b", dev=GOOD.replace("I-PER", "O")),
        # The same bytes one after the other, cut elsewhere.
        write(tmp_path / "c", train=GOOD + "\n"),
        write(tmp_path / "d", dev="\n" + GOOD),
    ]
    assert len({load_words(folder).digest for folder in variants}) == 4
    assert load_words(variants[0]).digest == load_words(write(tmp_path / "e")).digest
