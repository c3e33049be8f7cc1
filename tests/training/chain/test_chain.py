"""All three stages one after the other on a tiny model: the folder they leave, what resumes, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.models.identity import identify
from searchctl.encoder.models.resolve import ResolvedModel, resolve
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Role
from searchctl.training.chain.request import TrainRequest
from searchctl.training.chain.run import TrainOutcome, train
from searchctl.training.data.training_data import read_data
from searchctl.training.errors import DataError, TrainingError
from searchctl.training.loop import Moment
from searchctl.training.objectives.dev_pairs import DevPairs
from searchctl.training.objectives.teacher import Teacher
from searchctl.training.recipe import (
    LoraSettings,
    MntpStage,
    Recipe,
    Schedule,
    SimcseStage,
    SourceSettings,
    Stage,
    SupervisedStage,
)

PAPER = (Stage.MNTP, Stage.SIMCSE, Stage.SUPERVISED)
WORDS = ("wool", "iron", "bread", "river", "paper")
LORA = LoraSettings(rank=4, alpha=8)
FAST = Schedule(steps=4, learning_rate=3e-3)
RECIPE = Recipe(
    name="tiny",
    source="this test",
    mntp=MntpStage(lora=LORA, schedule=FAST, batch=4, length=32),
    simcse=SimcseStage(lora=LORA, schedule=FAST, batch=8, length=32),
    supervised=SupervisedStage(
        lora=LORA,
        schedule=FAST,
        batch=8,
        length=32,
        sources={"pairs": SourceSettings(instruction="Find the answer"), "left-out": SourceSettings(weight=0)},
    ),
)
DEV = DevPairs(name="dev", first=("wool is warm", "iron is hard"), second=("wool", "bread"), gold=(5.0, 0.0))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    lines = [json.dumps({"text": f"Sentence {i} of 200 tells of {WORDS[i % 5]} and more."}) for i in range(200)]
    (folder / "plain.jsonl").write_text("\n".join(lines) + "\n")
    rows = [{"query": f"what is thing {i}", "positive": f"thing {i} is {WORDS[i % 5]}"} for i in range(60)]
    with gzip.open(folder / "pairs.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    (folder / "left-out.jsonl").write_text(json.dumps(rows[0]) + "\n" + json.dumps(rows[1]) + "\n")
    return folder


def run(
    base: Path,
    data: Path,
    output: Path,
    *,
    recipe: Recipe = RECIPE,
    stages: tuple[Stage, ...] = PAPER,
    stop: Callable[[list[tuple[Stage, Moment]]], bool] = lambda seen: False,
    max_seconds: float | None = None,
    chain: int | None = 0,
    model: ResolvedModel | None = None,
    teacher: Teacher | None = None,
) -> tuple[TrainOutcome, list[tuple[Stage, Moment]]]:
    seen: list[tuple[Stage, Moment]] = []
    request = TrainRequest(
        base=model or resolve(EncoderConfig(model=str(base), chain=chain)),
        stages=stages,
        data=(data,),
        recipe=recipe,
        output=output,
        device=torch.device("cpu"),
        dtype=torch.float32,
        dev=(DEV,),
        teacher=teacher,
        save_every=2,
        evaluate_every=2,
        max_seconds=max_seconds,
        command="searchctl train",
    )
    outcome = train(
        request,
        read_data(request.data, stages),
        told=lambda stage, moment: seen.append((stage, moment)),
        stop=lambda: stop(seen),
    )
    return outcome, seen


def weights(output: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in output.glob("*/adapter_model.safetensors")}


def vectors(folder: Path, chain: int | None = None) -> np.ndarray:
    encoder = open_encoder(EncoderConfig(model=str(folder), chain=chain))
    return encoder.encode(["wool is warm", "a river of iron"], role=Role.DOCUMENT)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    data = folder / "data"
    data.mkdir()
    lines = [json.dumps({"text": f"Sentence {i} of 200 tells of {WORDS[i % 5]} and more."}) for i in range(200)]
    (data / "plain.jsonl").write_text("\n".join(lines) + "\n")
    rows = [{"query": f"what is thing {i}", "positive": f"thing {i} is {WORDS[i % 5]}"} for i in range(60)]
    (data / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome, _ = run(tiny_folder, data, folder / "out")
    assert outcome.complete
    assert [(part.stage, part.outcome.finished) for part in outcome.stages] == [(stage, True) for stage in PAPER]
    return folder / "out"


def test_the_output_folder_is_a_model_and_each_step_changes_it(trained: Path, tiny_folder: Path) -> None:
    # The supervised LoRA was fresh, on top of MNTP: SimCSE's is a branch of its own.
    assert [folder.name for folder in resolve(EncoderConfig(model=str(trained))).adapters] == ["mntp", "supervised"]
    bare, mntp, whole = vectors(trained, 0), vectors(trained, 1), vectors(trained)
    np.testing.assert_array_equal(bare, vectors(tiny_folder))
    assert np.abs(mntp - bare).max() > 1e-4
    assert np.abs(whole - mntp).max() > 1e-4
    assert len({identify(EncoderConfig(model=str(trained), chain=chain)).fingerprint for chain in (0, 1, 2)}) == 3


def test_the_manifest_says_what_it_was_made_from(trained: Path, tiny_folder: Path) -> None:
    manifest = json.loads((trained / "manifest.json").read_text())
    assert manifest["base"] == str(tiny_folder)
    assert manifest["command"] == "searchctl train"
    assert list(manifest["stages"]) == ["mntp", "simcse", "supervised"]
    assert {name: entry["rows"] for name, entry in manifest["data"].items()} == {"plain": 200, "pairs": 60}
    config = json.loads((trained / "mntp" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_folder)
    assert config["target_modules"] and config["r"] == 4


def test_the_log_holds_every_step_with_held_out_scores(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "train.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [(s.value, n) for s in PAPER for n in range(5)]
    last = {line["stage"]: line["held_out"] for line in lines if line["step"] == 4}
    assert last["mntp"].keys() == {"loss", "accuracy"}
    assert last["simcse"].keys() == {"loss", "uniformity", "alignment", "dev"}
    assert last["supervised"].keys() == {"loss", "accuracy", "dev"}


@pytest.mark.slow
def test_a_chain_stopped_in_each_stage_ends_with_the_same_bytes(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    run(tiny_folder, data, tmp_path / "whole")
    for _ in range(12):
        outcome, _ = run(
            tiny_folder, data, tmp_path / "broken", stop=lambda seen: bool(seen) and seen[-1][1].step in (1, 3)
        )
        if outcome.complete:
            break
    assert weights(tmp_path / "whole").keys() == {"mntp", "simcse", "supervised"}
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")


def test_finished_stages_are_not_run_again(trained: Path, tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    run(tiny_folder, data, tmp_path / "out")
    outcome, seen = run(tiny_folder, data, tmp_path / "out")
    assert (outcome, seen) == (TrainOutcome(stages=(), complete=True), [])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "adapters"), [("simcse", ["mntp", "supervised"]), ("merged", ["mntp", "simcse", "supervised"])]
)
def test_supervised_may_start_from_simcse(
    start: str, adapters: list[str], tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, supervised=replace(RECIPE.supervised, start=start))  # type: ignore[arg-type]
    run(tiny_folder, data, tmp_path / "out", recipe=recipe)
    found = [folder.name for folder in resolve(EncoderConfig(model=str(tmp_path / "out"))).adapters]
    assert found == adapters


def test_held_out_texts_are_never_trained_on(data: Path) -> None:
    read = read_data([data], PAPER)
    assert len(read.texts) + len(read.unseen_texts) == 200
    assert not set(read.texts) & set(read.unseen_texts)
    assert len(read.unseen_texts) == 4  # 2 %
    again = read_data([data], PAPER)
    assert read == again


def test_two_in_a_hundred_queries_are_held_out_however_many_pairs_they_have(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for queries, each, held in [(12, 120, 2), (50, 100, 2), (500, 3, 10), (100, 1, 2)]:
        with subtests.test(queries=queries, each=each, held=held):
            tmp_path = tmp_path_factory.mktemp("row")
            rows = [{"query": f"title {i % queries}", "positive": f"text {i}"} for i in range(queries * each)]
            (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            read = read_data([tmp_path], [Stage.SUPERVISED])
            seen, unseen = ({pair.query for pair in part[0].pairs} for part in (read.pairs, read.unseen_pairs))
            assert (len(seen), len(unseen)) == (queries - held, held)
            assert not seen & unseen
            assert len(read.unseen_pairs[0].pairs) == held * each


def test_bad_data_is_named_by_file_and_line_before_the_first_step(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for line, said in [
        ('{"text": "fine"}\n{"text": ""}', "line 2: text is ''"),
        ('{"text": "fine"}\nnot json', "line 2: .*JSON"),
        ('{"text": "fine"}\n[1]', "line 2: holds .1., expected an object"),
        ('{"query": "q", "positive": "p"}\n{"query": "q"}', "line 2: positive is missing"),
        ('{"query": "q", "positive": "p", "negatives": "n"}', "line 1: negatives is 'n'"),
        ('{"query": "q", "positive": "p", "negatives": ""}', "line 1: negatives is ''"),
        ('{"query": "q", "positive": "p", "negatives": 0}', "line 1: negatives is 0"),
        ('{"query": "q", "positive": "p", "negatives": false}', "line 1: negatives is False"),
        ("", ".*empty"),
        ('{"text": "a line separator \u2028 ends no line"}\n{"text": 3}', "line 2: text is 3"),
    ]:
        with subtests.test(line=line, said=said):
            tmp_path = tmp_path_factory.mktemp("row")
            path = tmp_path / "bad.jsonl"
            path.write_text(line)
            with pytest.raises(DataError, match=rf"bad\.jsonl[:,] {said}"):
                read_data([path], PAPER)


def test_supervised_without_pairs_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "plain.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    with pytest.raises(TrainingError, match="needs pairs"):
        read_data([tmp_path], PAPER)


def test_stages_out_of_order_are_refused(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="in this order"):
        run(tiny_folder, data, tmp_path / "out", stages=(Stage.SIMCSE, Stage.MNTP))
