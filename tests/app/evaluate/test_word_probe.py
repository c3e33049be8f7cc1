"""`searchctl eval word`: a table and JSON of the word-level probe, kept and read back."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from searchctl.app.evaluate.commands import WordCompare as Compare
from searchctl.training.evaluation.results import ResultStore
from searchctl.training.probing.word_probe import STEPS

LEXICON = {
    "the": "DT I-NP O",
    "a": "DT I-NP O",
    "of": "IN I-PP O",
    "capital": "NN I-NP O",
    "city": "NN I-NP O",
    "bread": "NN I-NP O",
    "Paris": "NNP I-NP I-LOC",
    "France": "NNP I-NP I-LOC",
    "rises": "VBZ I-VP O",
    "turns": "VBZ I-VP O",
}


def columns(seed: int, sentences: int) -> str:
    rng = random.Random(seed)
    lines = ["-DOCSTART- -X- O O", ""]
    for _ in range(sentences):
        lines += [f"{word} {LEXICON[word]}" for word in rng.choices(list(LEXICON), k=rng.randint(2, 6))]
        lines.append("")
    return "\n".join(lines)


@pytest.fixture
def words_folder(shell: Any) -> Path:
    for seed, (name, count) in enumerate({"eng.train": 40, "eng.testa": 10, "eng.testb": 20}.items()):
        shell.write(f"conll/{name}", columns(seed, count))
    folder: Path = shell.folder / "conll"
    return folder


@pytest.fixture(scope="module")
def chain(make_folder: Callable[..., Path], bring_adapter: Callable[..., None]) -> Path:
    """A model with an adapter of MNTP of its own."""
    folder = make_folder(seed=3)
    bring_adapter(folder, "mntp")
    return folder


def word(shell: Any, model: Path, *more: str) -> Any:
    return shell(
        *("eval", "word", "--data", "conll", "--model", model, "--precision", "fp32", "--results", "res", *more)
    )


@pytest.mark.usefixtures("words_folder")
def test_a_home_in_the_environment_is_that_of_the_user(
    shell: Any, chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Path.home()
    (shell.folder / "conll").rename(home / "conll")
    monkeypatch.setenv("SEARCHCTL_EVAL_WORDS", "~/conll")
    monkeypatch.setenv("SEARCHCTL_RESULTS", "~/scores")
    ended = shell(
        *("eval", "word", "--model", chain, "--precision", "fp32", "--task", "pos", "--baseline", "uni", "--steps", "2")
    )
    assert 0 == ended.code, ended.err
    assert (home / "scores").is_dir()
    assert not (shell.folder / "~").exists()


@pytest.mark.usefixtures("words_folder")
def test_every_step_on_every_task_as_json(shell: Any, chain: Path) -> None:
    ended = word(shell, chain, "--steps", "150", "--compare", "paper", "--format", "json")
    assert ended.code == 0, ended.err
    found = ended.json
    assert [(row["label"], row["alignment"]) for row in found["rows"]] == [
        ("Uni", "same_token"),
        ("Bi", "same_token"),
        ("Bi+MNTP", "next_token"),
    ]
    assert found["tasks"] == ["chunk", "ner", "pos"]
    tested = sum(1 for line in columns(2, 20).splitlines() if line and not line.startswith("-DOC"))
    for row in found["rows"]:
        for task, entry in row["tasks"].items():
            assert entry["words"] == tested
            assert 0 <= entry["low"] <= entry["accuracy"] <= entry["high"] <= 1
            kept = [
                document
                for document in map(json.loads, (file.read_text() for file in (shell.folder / "res").glob("word-*")))
                if (document["label"], document["task"]) == (row["label"], task)
            ]
            assert [(one["accuracy"], sum(one["correct"]) / tested) for one in kept] == [(entry["accuracy"],) * 2]
    bi = found["rows"][1]["tasks"]["pos"]
    assert bi["paper"] == {"S-LLaMA-1.3B": 0.8918, "LLaMA-2-7B": 0.9062, "Mistral-7B": 0.907}
    assert bi["difference"]["from"] == "uni"
    uni = found["rows"][0]["tasks"]["pos"]
    assert uni["difference"] is None
    assert bi["difference"]["value"] == bi["accuracy"] - uni["accuracy"]
    assert len({row["tasks"]["pos"]["fingerprint"] for row in found["rows"]}) == 3
    # The other results of the folder do not take these for theirs.
    assert ResultStore(shell.folder / "res").all() == []


@pytest.mark.usefixtures("words_folder")
def test_what_is_there_is_read_back_and_another_task_needs_no_pass(shell: Any, chain: Path) -> None:
    args = ("--baseline", "bi", "--steps", "50", "--format", "json", "--task")
    first = word(shell, chain, *args, "pos", "-v")
    assert first.code == 0, first.err
    assert "fp32 on cpu" in first.err
    folder = shell.folder / "res"

    def kept(pattern: str) -> dict[str, int]:
        return {str(file): file.stat().st_mtime_ns for file in folder.rglob(pattern)}

    states, results = kept("*.npy"), kept("word-*.json")
    assert (len(states), len(results)) == (3, 1)
    again = word(shell, chain, *args, "pos", "-v")
    assert (again.code, again.json) == (0, first.json)
    assert "Bi, pos: there already" in again.err
    both = word(shell, chain, *args, "pos", "--task", "ner", "-v")
    # Said when a model is loaded.
    assert "fp32 on cpu" not in both.err
    assert both.json["rows"][0]["tasks"]["pos"] == first.json["rows"][0]["tasks"]["pos"]
    assert kept("*.npy") == states
    assert results.items() < kept("word-*.json").items()
    # Other training, other result, same states.
    other = word(shell, chain, "--baseline", "bi", "--steps", "51", "--format", "json", "--task", "pos")
    assert other.json["rows"][0]["tasks"]["pos"]["settings"]["steps"] == 51
    assert (kept("*.npy"), len(kept("word-*.json"))) == (states, 3)


@pytest.mark.usefixtures("words_folder")
def test_lost_states_give_the_same_numbers_again(shell: Any, chain: Path) -> None:
    args = ("--baseline", "mntp", "--steps", "60", "--format", "json", "--task", "chunk")
    first = word(shell, chain, *args).json["rows"][0]["tasks"]["chunk"]
    for file in (shell.folder / "res").rglob("*"):
        if file.name in ("train-00000.npy",) or file.name.startswith("word-"):
            file.unlink()
    again = word(shell, chain, *args).json["rows"][0]["tasks"]["chunk"]
    same = {name: value for name, value in first.items() if name not in ("seconds", "finished")}
    assert same == {name: again[name] for name in same}


@pytest.mark.usefixtures("words_folder")
def test_the_table_has_steps_down_tasks_across_and_the_paper_beside(shell: Any, chain: Path) -> None:
    args = ("--baseline", "uni", "--baseline", "bi", "--task", "ner", "--steps", "30")
    ended = word(shell, chain, *args, "--compare", "paper")
    assert ended.code == 0, ended.err
    header, uni, bi = ended.out.splitlines()
    assert header.split() == ["ner", "ner,", "paper"]
    number = r"\d+\.\d\d \[\d+\.\d, \d+\.\d\]"
    assert re.fullmatch(rf"Uni +{number} +96\.09 / 96\.59 / 96\.52", uni)
    assert re.fullmatch(rf"Bi +{number} +92\.17 / 92\.31 / 97\.14", bi)
    assert "Bi - Uni: ner " in ended.err
    assert "token states kept in" in ended.err


@pytest.mark.usefixtures("words_folder")
def test_words_beyond_the_limit_are_counted(shell: Any, chain: Path) -> None:
    ended = word(shell, chain, "--baseline", "bi", "--task", "pos", "--steps", "5", "--max-tokens", "4", "-f", "json")
    assert ended.code == 0, ended.err
    entry = ended.json["rows"][0]["tasks"]["pos"]
    lost = sum(entry["left_out"].values())
    assert lost > 0
    tested = sum(1 for line in columns(2, 20).splitlines() if line and not line.startswith("-DOC"))
    assert entry["words"] + entry["left_out"]["test"] == tested
    assert f"note: {lost:,} of " in ended.err
    assert "--max-tokens" in ended.err


def test_a_malformed_line_ends_before_any_model_is_looked_for(shell: Any, words_folder: Path) -> None:
    shell.write("conll/eng.testa", "a DT I-NP O\n\nb NN\n")
    ended = shell("eval", "word", "--data", words_folder, "--model", "nosuchmodel", "--format", "json")
    assert (ended.code, ended.out) == (2, "")
    assert json.loads(ended.err)["type"] == "DataError"
    assert "eng.testa, line 3: 2 columns" in json.loads(ended.err)["error"]


@pytest.mark.usefixtures("words_folder")
def test_a_step_that_the_model_has_not_is_an_error(shell: Any, chain: Path) -> None:
    ended = word(shell, chain, "--baseline", "simcse")
    assert (ended.code, ended.out) == (2, "")
    assert "has no step simcse, it has uni, bi, mntp" in ended.err
    ended = shell("eval", "word", "--data", "conll", "--model", "hashing")
    assert ended.code == 2
    assert "hashing has no token states" in ended.err
    assert not (shell.folder / ".searchctl-eval").exists()


def test_help_names_the_default_number_of_steps(shell: Any) -> None:
    ended = shell("eval", "word", "--help")
    assert ended.code == 0
    assert f"Default: {STEPS}." in re.sub(r"\s+", " ", ended.out)
    assert [one.value for one in Compare] == ["paper"]
