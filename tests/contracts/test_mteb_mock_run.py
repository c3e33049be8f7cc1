"""mteb's own check of a model: every mock task on text runs through the model as it is measured."""

from collections.abc import Iterator
from pathlib import Path

import mteb
import pytest
from mteb.results.task_result import TaskResult

from searchctl.encoder.config import EncoderConfig, Precision
from searchctl.training.evaluation.bm25 import Bm25Model
from searchctl.training.evaluation.encoder_model import EncoderModel
from searchctl.training.evaluation.measurement import EvalTask, EvaluatedModel, Meter, TaskInstructions
from searchctl.training.evaluation.mteb_encoder import OpenedModel

TASKS = {"encoder": 28, "bm25": 9}
"""Mock tasks on text alone; for bm25 those that rank documents."""


@pytest.fixture(params=sorted(TASKS), scope="module")
def opened(
    request: pytest.FixtureRequest, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, OpenedModel]]:
    folder = tmp_path_factory.mktemp("mock-run")
    config = EncoderConfig(model=str(tiny_folder), precision=Precision.FP32, device="cpu")
    models: dict[str, EvaluatedModel] = {
        "encoder": EncoderModel("it", config, cache=folder),
        "bm25": Bm25Model(),
    }
    instructions = TaskInstructions(query="find", document=None)
    task = EvalTask(name="mock", task_type="Retrieval", data="-", instructions=instructions, make=mteb.AbsTask)
    with models[request.param].open(task, folder / "work") as opened:
        yield request.param, opened


@pytest.mark.slow
def test_every_mock_task_on_text_runs_and_is_counted(opened: tuple[str, OpenedModel]) -> None:
    name, it = opened
    results = mteb.mock_run(it.model)
    ran = {task: result for task, result in results.items() if result is not None}
    failed = {task: result.exception for task, result in ran.items() if not isinstance(result, TaskResult)}
    assert {} == failed
    assert TASKS[name] == len(ran)
    meter: Meter = it.meter
    assert meter.texts > 0
    assert meter.tokens > 0
    assert (0, 0) == (meter.empty, meter.truncated)
