"""A recipe that nobody named is fitted to model and data; what a stage lacks is said before the first step."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from searchctl.encoder.config import EncoderConfig, Pooling
from searchctl.encoder.models.resolve import ResolvedModel, resolve
from searchctl.training.chain.fitting import with_possible_batches, with_possible_lengths, with_possible_start
from searchctl.training.chain.output_folder import STAGE, write_json
from searchctl.training.chain.preflight import check_needs
from searchctl.training.chain.request import TrainRequest
from searchctl.training.chain.run import train
from searchctl.training.data.training_data import Data, read_data
from searchctl.training.distributed import Ranks
from searchctl.training.errors import TrainingError
from searchctl.training.objectives.dev_pairs import DevPairs
from searchctl.training.recipe import MntpStage, Recipe, Schedule, SimcseStage, SourceSettings, Stage, SupervisedStage

SIMCSE_START = Recipe(name="chosen", source="this test", supervised=SupervisedStage(start="simcse"))
M, S, P = Stage.MNTP, Stage.SIMCSE, Stage.SUPERVISED


def data_of(folder: Path, *, pairs: int, texts: int = 0, name: str = "pairs") -> Data:
    folder.mkdir(exist_ok=True)
    rows = [{"query": f"what is thing {i}", "positive": f"thing {i} is wool"} for i in range(pairs)]
    if pairs:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if texts:
        lines = [json.dumps({"text": f"Sentence {i} tells of wool."}) + "\n" for i in range(texts)]
        (folder / "plain.jsonl").write_text("".join(lines))
    return read_data([folder], (P,) if pairs else (M,))


def model(tmp_path: Path, tiny_folder: Path, adapters: tuple[str, ...], rank: int = 16) -> ResolvedModel:
    folders = []
    for name in adapters:
        folders.append(tmp_path / "model" / name)
        folders[-1].mkdir(parents=True)
        (folders[-1] / "adapter_config.json").write_text(json.dumps({"r": rank, "lora_alpha": 32}))
    return replace(resolve(EncoderConfig(model=str(tiny_folder))), name="mine", adapters=tuple(folders))


@pytest.mark.parametrize(
    ("adapters", "stages", "start", "said"),
    [
        (("mntp", "supervised"), [(P,), ()], "previous", "the last adapter of mine, supervised, is trained further"),
        (("mntp", "simcse"), [(P,), ()], "previous", "the last adapter of mine, simcse, is trained further"),
        ((), [(P,), ()], "fresh", "a fresh adapter on top of mine, which has none, is trained"),
        ((), [(M, P), ()], "fresh", "a fresh adapter on top of the adapter of mntp is trained"),
        (("mntp", "supervised"), [(P,), (M,)], "fresh", "a fresh adapter on top of the adapter of mntp"),
        ((), [(M, S, P), ()], "simcse", None),
        ((), [(P,), (M, S)], "simcse", None),
        (("mntp",), [(M, S), ()], "simcse", None),
    ],
)
def test_a_start_that_cannot_be_had_is_changed_and_told(
    adapters: tuple[str, ...],
    stages: list[tuple[Stage, ...]],
    start: str,
    said: str | None,
    *,
    tiny_folder: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    asked, finished = stages
    for stage in finished:
        (output / stage).mkdir(parents=True)
        write_json(output / stage / STAGE, {})
    recipe, told = with_possible_start(SIMCSE_START, model(tmp_path, tiny_folder, adapters), asked, output)
    assert recipe.supervised.start == start
    assert (told is None) == (said is None)
    assert told is None or (said is not None and said in told and f'start = "{start}"' in told)
    assert replace(recipe, supervised=replace(recipe.supervised, start="simcse")) == SIMCSE_START


def test_an_adapter_that_is_trained_further_keeps_its_rank(tiny_folder: Path, tmp_path: Path) -> None:
    base = model(tmp_path, tiny_folder, ("mntp", "supervised"), rank=4)
    recipe, told = with_possible_start(SIMCSE_START, base, (P,), tmp_path / "out")
    assert (recipe.supervised.lora.rank, recipe.supervised.lora.alpha) == (4, 32)
    assert told is not None and "with its rank 4 and alpha 32" in told


def test_any_other_start_is_left_as_it_is(tiny_folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(name="chosen", source="this test")
    base = model(tmp_path, tiny_folder, ("mntp",))
    assert with_possible_start(recipe, base, (P,), tmp_path / "out") == (recipe, None)


def test_a_batch_that_the_pairs_cannot_fill_is_lowered_and_told(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for pairs, processes, batch in [(300, 1, 256), (70, 1, 64), (70, 3, 63), (600, 1, 512)]:
        with subtests.test(pairs=pairs, processes=processes, batch=batch):
            tmp_path = tmp_path_factory.mktemp("row")
            data = data_of(tmp_path / "data", pairs=pairs)
            recipe, told = with_possible_batches(SIMCSE_START, data, (P,), processes)
            assert recipe.supervised.batch == batch
            assert replace(recipe, supervised=replace(recipe.supervised, batch=512)) == SIMCSE_START
            kept = len(data.pairs[0].pairs)
            expected = [] if batch == 512 else [f"pairs has {kept} to train on: batches of {batch} are taken instead"]
            assert len(told) == len(expected) and all(words in line for words, line in zip(expected, told, strict=True))


def test_simcse_too_gets_a_batch_that_its_sentences_fill(tmp_path: Path) -> None:
    recipe, told = with_possible_batches(SIMCSE_START, data_of(tmp_path / "d", pairs=0, texts=50), (M, S), 1)
    assert (recipe.simcse.batch, len(told)) == (32, 1)
    assert recipe.mntp == SIMCSE_START.mntp


def test_texts_longer_than_the_model_reads_are_shortened_and_told(tiny_folder: Path, tmp_path: Path) -> None:
    base = model(tmp_path, tiny_folder, ())
    recipe, told = with_possible_lengths(SIMCSE_START, base, (M, S, P))
    assert (recipe.mntp.length, recipe.simcse.length, recipe.supervised.length) == (256, 128, 256)
    assert [line.split(":")[0] for line in told] == ["mntp", "supervised"]
    assert "was made for 256: 256 are taken instead (mntp.length)" in told[0]
    assert with_possible_lengths(recipe, base, (M, S, P)) == (recipe, [])


FAST = Schedule(steps=2)
SMALL = Recipe(
    name="tiny",
    source="this test",
    mntp=MntpStage(schedule=FAST, batch=2, length=16),
    simcse=SimcseStage(schedule=FAST, batch=8, length=32),
    supervised=SupervisedStage(schedule=FAST, batch=8, length=32),
)


def request(folder: Path, tmp_path: Path, recipe: Recipe, dev: tuple[DevPairs, ...] = ()) -> TrainRequest:
    return TrainRequest(
        base=resolve(EncoderConfig(model=str(folder))),
        stages=(M, S, P),
        data=(),
        recipe=recipe,
        output=tmp_path / "out",
        device=torch.device("cpu"),
        dtype=torch.float32,
        dev=dev,
    )


LONG = "Given a question of many words, retrieve relevant documents that best answer the question that was asked"
ASKED = SupervisedStage(schedule=FAST, batch=8, length=32, sources={"pairs": SourceSettings(instruction=LONG)})
HEAVY = SupervisedStage(schedule=FAST, batch=8, sources={"pairs": SourceSettings(weight=0)})


def test_what_a_later_stage_lacks_is_said_before_the_first_step(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for change, processes, said in [
        (
            lambda r: replace(r, supervised=replace(r.supervised, batch=64)),
            1,
            r"pairs \(58\): set supervised.batch to 58",
        ),
        (lambda r: replace(r, supervised=replace(r.supervised, batch=60)), 2, r"set supervised.batch to 58 or less"),
        (lambda r: replace(r, simcse=replace(r.simcse, batch=99)), 1, r"texts \(98\): set simcse.batch to 98 or less"),
        (lambda r: replace(r, supervised=HEAVY), 1, "supervised: no source of pairs has a weight above 0"),
        (
            lambda r: replace(r, supervised=replace(r.supervised, batch=9)),
            2,
            "supervised.batch is 9: expected a multiple",
        ),
        (lambda r: replace(r, mntp=replace(r.mntp, batch=3)), 2, "mntp.batch is 3: expected a multiple of the 2"),
        (
            lambda r: replace(r, supervised=ASKED),
            1,
            r"supervised: the template and the instruction of \[supervised.sources.pairs\] leave none of the 32 tokens",
        ),
        (lambda r: replace(r, simcse=replace(r.simcse, length=1, pooling=Pooling.LAST)), 1, "a larger simcse.len"),
        # The tiny model has 256 places and 32 dimensions.
        (lambda r: replace(r, mntp=replace(r.mntp, length=257)), 1, "mntp.length is 257: expected at most 256"),
        (lambda r: replace(r, simcse=replace(r.simcse, length=300)), 1, "Set simcse.length to 256 or less"),
        (
            lambda r: replace(r, supervised=replace(r.supervised, dimensions=(8, 32))),
            1,
            "supervised.dimensions has 32: expected less than the 32 dimensions",
        ),
    ]:
        with subtests.test(change=change, processes=processes, said=said):
            tmp_path = tmp_path_factory.mktemp("row")
            data = data_of(tmp_path / "data", pairs=60, texts=100)
            with pytest.raises(TrainingError, match=said):
                check_needs(request(tiny_folder, tmp_path, change(SMALL)), data, Ranks(count=processes))
            check_needs(request(tiny_folder, tmp_path, SMALL), data, Ranks())


def test_an_instruction_of_development_pairs_needs_room_too(tiny_folder: Path, tmp_path: Path) -> None:
    dev = DevPairs(name="sts", first=("a",), second=("b",), gold=(1.0,), instruction=LONG)
    with pytest.raises(TrainingError, match=r"simcse: .* instruction of \[dev.sts\] leave none of the 32 tokens"):
        check_needs(request(tiny_folder, tmp_path, SMALL, (dev,)), data_of(tmp_path / "d", pairs=60), Ranks())


def test_training_asks_for_all_of_it_before_anything_is_written(tiny_folder: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL, supervised=replace(SMALL.supervised, batch=64))
    asked = request(tiny_folder, tmp_path, recipe)
    with pytest.raises(TrainingError, match=r"set supervised\.batch to 58 or less"):
        train(asked, data_of(tmp_path / "d", pairs=60), told=lambda *_: None, stop=lambda: False)
    assert not asked.output.exists()


def test_a_stage_that_is_finished_needs_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    asked = request(tiny_folder, tmp_path, replace(SMALL, supervised=replace(SMALL.supervised, batch=64)))
    (asked.output / "supervised").mkdir(parents=True)
    write_json(asked.output / "supervised" / STAGE, {})
    check_needs(asked, data_of(tmp_path / "d", pairs=60), Ranks())
