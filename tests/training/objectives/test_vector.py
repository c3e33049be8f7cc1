"""Distillation of vectors: what a step takes, what is copied, what the folder holds, and the same bytes."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from searchctl.encoder.config import EncoderConfig, Runtime
from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.models.identity import identify
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Role
from searchctl.training.data.corpus import Pair, PairSource
from searchctl.training.distributed import Ranks
from searchctl.training.errors import TrainingError
from searchctl.training.objectives.contrastive import SupervisedTraining
from searchctl.training.objectives.projection_fit import fit_ridge, nearest_basis, principal_basis
from searchctl.training.objectives.sampling import draw_rows, plan_steps
from searchctl.training.objectives.teacher import find_teacher
from searchctl.training.objectives.teacher_cache import CachedTeacher
from searchctl.training.objectives.vector import WINDOW, TextKind, VectorTraining, text_kinds
from searchctl.training.recipe import DistillStage, ModelSettings, Schedule, SourceSettings, Stage
from searchctl.training.trainable import Trainable

from .. import test_training_core as core
from ..chain import test_chain as chain

data, run, weights = chain.data, chain.run, chain.weights
ONLY = (Stage.DISTILL,)
STAGE = DistillStage(
    lora=chain.LORA, schedule=chain.FAST, batch=8, length=32, loss="vector", projection=16, cached=False
)
RECIPE = replace(chain.RECIPE, distill=STAGE)
PAIRS = tuple(Pair(f"ask {i} " + "more of it " * (i % 9), f"answer {i}", ("wrong", f"no {i}")) for i in range(60))
SOURCE = PairSource(name="s", digest="", pairs=PAIRS)
LONGER = ["The river rises in the Alps. It is longer than most of the others.", "A third text of another kind."]
MARK = {"fingerprint": "f", "precision": "fp32", "max_tokens": 512}
CACHE = tempfile.TemporaryDirectory()


def teacher_of(*names: str | Path, weights: Sequence[float] = ()) -> Any:
    return find_teacher(
        [str(name) for name in names],
        weights,
        device=torch.device("cpu"),
        dtype=torch.float32,
        cache=Path(CACHE.name),
    )


class Listening(HashingEncoder):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, Role, str | None]] = []

    def encode(self, texts: Sequence[str], *, role: Role, instruction: str | None = None, **more: Any) -> Any:
        self.asked += [(text, role, instruction) for text in texts]
        return super().encode(texts, role=role, instruction=instruction, **more)


def distilling(
    folder: Path, output: Path, kinds: Sequence[TextKind], **changes: Any
) -> tuple[VectorTraining, Trainable, Listening]:
    stage = replace(STAGE, **{"schedule": Schedule(steps=2 * WINDOW + 5), **changes})
    model, teacher = core.trainable(folder, projection=stage.projection), Listening()
    objective = VectorTraining(
        model,
        stage,
        core.texts_of(folder, stage.length),
        teacher,
        kinds=kinds,
        held_out=kinds,
        folder=output,
        begun=False,
        seed=1,
    )
    return objective, model, teacher


# What is sampled.


def test_every_side_is_a_kind_of_texts_each_text_once() -> None:
    settings = {"s": SourceSettings(weight=2.0, instruction="Find it")}
    kinds = text_kinds([SOURCE], LONGER, settings, cut=True)
    assert [(kind.name, kind.weight, len(kind.side.texts)) for kind in kinds] == [
        ("s query", 2.0, 60),
        ("s positive", 2.0, 60),
        ("s negative", 2.0, 61),
        ("texts", 1.0, 3),
    ]
    assert [(kind.side.role, kind.side.instruction) for kind in kinds] == [
        (Role.QUERY, "Find it"),
        (Role.DOCUMENT, None),
        (Role.DOCUMENT, None),
        (Role.DOCUMENT, None),
    ]
    alike = text_kinds([SOURCE], [], {"s": SourceSettings(instruction="Alike", symmetric=True)}, cut=True)
    assert [(kind.side.role, kind.side.instruction) for kind in alike[:2]] == [(Role.QUERY, "Alike")] * 2
    assert text_kinds([SOURCE], [], {"s": SourceSettings(weight=0)}, cut=True) == []


def test_draws_are_those_of_a_plan_with_batches_of_one() -> None:
    plan = plan_steps([5, 7, 3], [1.0, 2.0, 0.0], batch=1, steps=40, seed=3)
    expected = [(int(plan.sources[step]), plan.rows(step)[0]) for step in range(40)]
    assert draw_rows([5, 7, 3], [1.0, 2.0, 0.0], count=40, seed=3).tolist() == [list(each) for each in expected]


def test_steps_of_a_window_share_its_texts_by_length_and_its_tokens_evenly(tiny_folder: Path, tmp_path: Path) -> None:
    objective, _, _ = distilling(tiny_folder, tmp_path, text_kinds([SOURCE], [], {}, cut=True), length=128)
    sampled = objective._sampled
    for first, steps in ((0, WINDOW), (WINDOW, WINDOW), (2 * WINDOW, 5)):
        batches = [
            [(lesson.text, len(lesson.row.ids)) for _, lesson in objective._texts(number)]
            for number in range(first, first + steps)
        ]
        asked = [objective._kinds[kind].side.texts[row] for kind, row in sampled[first * 8 : (first + steps) * 8]]
        assert sorted(text for batch in batches for text, _ in batch) == sorted(asked)
        tokens = [sum(length for _, length in batch) for batch in batches]
        longest = max(length for batch in batches for _, length in batch)
        assert max(tokens) - min(tokens) <= 2 * longest
        # No step has texts both shorter and longer than those of another.
        spans = [(min(length for _, length in batch), max(length for _, length in batch)) for batch in batches]
        assert all(before[1] <= after[0] for before, after in pairwise(sorted(spans)))
        assert spans != sorted(spans)


def test_processes_share_a_step(tiny_folder: Path, tmp_path: Path) -> None:
    objective, _, teacher = distilling(tiny_folder, tmp_path, text_kinds([SOURCE], [], {}, cut=True))
    whole = [lesson.read for _, lesson in objective._texts(3)]
    teacher.asked.clear()
    objective._ranks = Ranks(rank=1, count=2)
    objective.step(3)
    assert sorted(text for text, _, _ in teacher.asked) == sorted(whole[1::2]) and len(whole) > 2


def test_the_teacher_reads_no_more_than_the_student(tiny_folder: Path, tmp_path: Path) -> None:
    long = [f"thing {i} " + "iron and bread " * 30 for i in range(8)]
    kinds = [TextKind(name="long", side=text_kinds([], long, {}, cut=False)[0].side)]
    objective, _, teacher = distilling(tiny_folder, tmp_path, kinds)
    result = objective.step(0)
    assert result.metrics["cut"] == 1.0
    tokenizer = core.texts_of(tiny_folder, 32)
    whole = core.texts_of(tiny_folder, 10_000)
    for text, _, _ in teacher.asked:
        assert len(whole([text], role=Role.DOCUMENT, instruction=None)[0].ids) <= 32
        source = next(each for each in long if each.startswith(text))
        mine, other = (tokenizer([each], role=Role.DOCUMENT, instruction=None)[0].ids for each in (text, source))
        assert len(mine) >= 31 and mine[:-1].tolist() == other[: len(mine) - 1].tolist()


# What is copied.


def test_loss_and_held_out_by_hand(tiny_folder: Path, tmp_path: Path) -> None:
    kinds = text_kinds([SOURCE], [], {}, cut=True)[:1]
    objective, model, _ = distilling(tiny_folder, tmp_path, kinds)
    texts = [lesson for _, lesson in objective._texts(0)]
    basis = np.load(tmp_path / "teacher-basis.npy")
    taught = torch.from_numpy(HashingEncoder().encode([lesson.read for lesson in texts], role=Role.QUERY) @ basis)
    model.decoder.eval()
    with torch.no_grad():
        pooled = core.embed(model, [text.row for text in texts], STAGE.pooling)
    by_hand = float((1 - cosine_similarity(pooled, taught)).mean())
    assert objective.step(0).loss == pytest.approx(by_hand, rel=1e-4)
    scores = objective.held_out()
    assert scores.keys() == {"loss", "spearman"} and scores == objective.held_out()
    found = core.gradients(model)
    assert {"projection.weight", "projection.bias"} <= found.keys()
    assert all(float(value.abs().max()) > 0 for name, value in found.items() if name.startswith("projection"))


def test_it_learns(tiny_folder: Path, tmp_path: Path) -> None:
    kinds = text_kinds([SOURCE], [], {}, cut=True)[:1]
    objective, model, _ = distilling(tiny_folder, tmp_path, kinds, batch=16)
    assert model.projection is not None
    torch.manual_seed(2)
    model.projection.reset_parameters()  # the fit alone solves what a hashing teacher sets
    before = objective.held_out()["loss"]
    optimizer = torch.optim.AdamW([value for _, value in model.parameters()], lr=3e-3)
    for number in range(40):
        objective.step(number)
        optimizer.step()
        optimizer.zero_grad()
    assert objective.held_out()["loss"] < 0.8 * before


# Where the projection begins.


def test_basis_has_the_main_directions_first_and_keeps_cosines() -> None:
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(
        torch.randn(500, 8) * torch.tensor([0.1, 3, 1, 0.1, 2, 0.1, 0.5, 0.1]), dim=1
    )
    basis = principal_basis(vectors, 8)
    rotated = vectors @ basis
    torch.testing.assert_close(rotated @ rotated.T, vectors @ vectors.T, atol=1e-5, rtol=1e-5)
    power = rotated.pow(2).sum(dim=0)
    assert power.tolist() == sorted(power.tolist(), reverse=True)
    assert basis.abs().argmax(dim=0)[:3].tolist() == [1, 4, 2]
    torch.testing.assert_close(principal_basis(vectors, 3), basis[:, :3])
    with pytest.raises(ValueError, match="components is 9: expected at most the teacher's 8"):
        principal_basis(vectors, 9)


def test_the_nearest_basis_undoes_a_rotation() -> None:
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(300, 8), dim=1)
    turned, _ = torch.linalg.qr(torch.randn(8, 8))
    basis = nearest_basis(vectors, 3 * (vectors @ turned))
    torch.testing.assert_close(basis, turned, atol=1e-4, rtol=0)
    fewer = nearest_basis(vectors, vectors @ turned[:, :5])
    torch.testing.assert_close(fewer.T @ fewer, torch.eye(5), atol=1e-5, rtol=0)
    assert float(cosine_similarity(vectors @ fewer, vectors @ turned[:, :5]).mean()) > 0.98
    with pytest.raises(ValueError, match="the student has 8 components: expected at most 5"):
        nearest_basis(vectors[:, :5], vectors)


def test_ridge_finds_a_linear_map_and_scales_it() -> None:
    torch.manual_seed(0)
    states, true = torch.randn(400, 12) * 3 + 1, torch.randn(12, 5)
    targets = 0.01 * (states @ true + 2)
    linear = torch.nn.Linear(12, 5)
    assert fit_ridge(linear, states, targets) > 0.999
    made = linear(states).detach()
    assert float(cosine_similarity(made, targets).min()) > 0.999
    assert float(linear.weight.detach().pow(2).mean().sqrt()) == pytest.approx(12**-0.5, rel=1e-4)


# The teacher's vectors.


def test_known_vectors_are_not_computed_again_and_are_the_same_bits(tmp_path: Path) -> None:
    listening = Listening()
    first = CachedTeacher(listening, tmp_path, mark=MARK)
    texts = ["iron", "bread", "iron", "wool"]
    made = first.encode(texts, role=Role.DOCUMENT)
    assert [text for text, _, _ in listening.asked] == ["iron", "bread", "wool"]
    again = Listening()
    second = CachedTeacher(again, tmp_path, mark=MARK)
    np.testing.assert_array_equal(second.encode([*texts, "paper"], role=Role.DOCUMENT)[:4], made)
    assert [text for text, _, _ in again.asked] == ["paper"]
    exact = HashingEncoder().encode(texts, role=Role.DOCUMENT)
    np.testing.assert_array_equal(made, exact.astype(np.float16).astype(np.float32))
    # Another role or instruction is another vector, and so is one of a teacher with another limit.
    second.encode(["iron"], role=Role.QUERY)
    second.encode(["iron"], role=Role.DOCUMENT, instruction="")
    CachedTeacher(again, tmp_path, mark={**MARK, "max_tokens": 8}).encode(["iron"], role=Role.DOCUMENT)
    assert len(again.asked) == 4
    assert second.encode([], role=Role.QUERY).shape == (0, second.info.dim)


def test_a_teacher_of_bare_texts_reads_one_text_once(tmp_path: Path) -> None:
    listening = Listening()
    bare = CachedTeacher(listening, tmp_path, mark=MARK, instructed=False)
    vectors = [bare.encode(["iron"], role=Role.QUERY, instruction=said) for said in (None, "Find it")]
    assert listening.asked == [("iron", Role.QUERY, None)]
    np.testing.assert_array_equal(*vectors)


def test_a_damaged_file_of_vectors_is_said(tmp_path: Path) -> None:
    CachedTeacher(Listening(), tmp_path, mark=MARK).encode(["iron"], role=Role.DOCUMENT)
    (path,) = tmp_path.glob("*.sqlite")
    for beside in tmp_path.glob("*.sqlite-*"):
        beside.unlink()
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 20_000)
    with pytest.raises(TrainingError, match=r"vectors of the teacher cannot be (kept there|read)"):
        CachedTeacher(Listening(), tmp_path, mark=MARK).encode(["iron"], role=Role.DOCUMENT)


def test_a_folder_that_takes_no_vectors_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="vectors of the teacher cannot be kept there"):
        CachedTeacher(Listening(), tmp_path / "file" / "deep", mark=MARK)


def test_several_teachers_are_put_side_by_side(tiny_folder: Path) -> None:
    pair = teacher_of(tiny_folder, "hashing", weights=(2.0, 1.0))
    texts = ["iron is hard", "bread rises"]
    alone = [teacher_of(name).open().encode(texts, role=Role.DOCUMENT) for name in (tiny_folder, "hashing")]
    together = pair.open().encode(texts, role=Role.DOCUMENT)
    assert pair.info.dim == together.shape[1] == sum(each.shape[1] for each in alone)
    # Cosines are the mean of both, weighed by the squares of the weights.
    expected = (4 * (alone[0] @ alone[0].T) + alone[1] @ alone[1].T) / 5
    np.testing.assert_allclose(together @ together.T, expected, atol=1e-3)
    other = teacher_of(tiny_folder, "hashing", weights=(1.0, 1.0))
    assert other.info.fingerprint != pair.info.fingerprint
    with pytest.raises(TrainingError, match="has 1 numbers for 2 teachers"):
        teacher_of(tiny_folder, "hashing", weights=(1.0,))


# The stage in the chain.


def test_projection_and_layers_are_in_the_folder(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cut = replace(resolve(EncoderConfig(model=str(tiny_folder))))
    cut = replace(cut, sidecar=replace(cut.sidecar, layers=(0, 2)))
    outcome, seen = run(tiny_folder, data, out, recipe=RECIPE, stages=ONLY, teacher=teacher_of("hashing"), model=cut)
    assert outcome.complete
    said = json.loads((out / "searchctl.json").read_text())
    assert (said["layers"], said["projection"]) == ([0, 2], "distill/projection.safetensors")
    last = seen[-1][1].held_out
    assert last is not None and last.keys() == {"loss", "spearman", "dev"}
    vectors = chain.vectors(out)
    assert vectors.shape[1] == 16
    assert identify(EncoderConfig(model=str(out))).dim == 16
    # The stage's own folder is the same model.
    np.testing.assert_array_equal(chain.vectors(out / "distill"), vectors)
    encoder = open_encoder(EncoderConfig(model=str(out), runtime=Runtime.TORCH))
    assert encoder.model.config.num_hidden_layers == 2  # type: ignore[attr-defined]
    # Texts and pairs are read, both.
    names = json.loads((out / "distill" / "stage.json").read_text())["data"]
    assert sorted(names) == ["pairs", "plain"]


@pytest.mark.slow
def test_a_projection_is_trained_further_and_the_one_below_stays(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    teacher = teacher_of("hashing")
    run(tiny_folder, data, tmp_path / "one", recipe=RECIPE, stages=ONLY, teacher=teacher)
    first = chain.vectors(tmp_path / "one")
    further = replace(RECIPE, distill=replace(STAGE, projection=None, start="merged"))
    model = resolve(EncoderConfig(model=str(tmp_path / "one")))
    # In the basis that was learnt: what one run ended with is what the next begins with.
    _, before = run(tiny_folder, data, tmp_path / "one-again", recipe=RECIPE, stages=ONLY, teacher=teacher)
    _, after = run(tiny_folder, data, tmp_path / "further", recipe=further, stages=ONLY, teacher=teacher, model=model)
    ended, began = before[-1][1].held_out, after[0][1].held_out
    assert ended is not None and began is not None and began["loss"] <= ended["loss"] + 0.01
    supervised = replace(RECIPE.supervised, start="merged", schedule=Schedule(steps=1, learning_rate=1e-12))
    recipe = replace(RECIPE, supervised=supervised)
    run(tiny_folder, data, tmp_path / "two", recipe=recipe, stages=(Stage.SUPERVISED,), model=model)
    np.testing.assert_allclose(chain.vectors(tmp_path / "two"), first, atol=1e-2)
    supervised = replace(supervised, schedule=chain.FAST)
    run(
        tiny_folder,
        data,
        tmp_path / "three",
        recipe=replace(RECIPE, supervised=supervised),
        stages=(Stage.SUPERVISED,),
        model=model,
    )
    assert np.abs(chain.vectors(tmp_path / "three") - first).max() > 1e-3
    np.testing.assert_array_equal(chain.vectors(tmp_path / "one"), first)
    # The adapter itself may be trained further, and its projection with it.
    same = replace(further, distill=replace(further.distill, start="previous"))
    run(tiny_folder, data, tmp_path / "four", recipe=same, stages=ONLY, teacher=teacher, model=model)
    again = resolve(EncoderConfig(model=str(tmp_path / "four")))
    assert [path.name for path in again.adapters] == ["distill"] and again.projection is not None
    assert np.abs(chain.vectors(tmp_path / "four") - first).max() > 1e-3
    shutil.rmtree(tmp_path / "one")
    assert chain.vectors(tmp_path / "three").shape[1] == 16


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_bytes(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    longer = replace(STAGE, schedule=replace(STAGE.schedule, steps=9))
    recipe = replace(RECIPE, distill=longer, model=ModelSettings(layers=None))
    options: dict[str, Any] = {"recipe": recipe, "stages": ONLY, "teacher": teacher_of("hashing")}
    run(tiny_folder, data, tmp_path / "whole", **options)
    for _ in range(8):
        outcome, _ = run(
            tiny_folder,
            data,
            tmp_path / "broken",
            stop=lambda seen: bool(seen) and seen[-1][1].step in (2, 8),
            **options,
        )
        if outcome.complete:
            break
    assert outcome.complete
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")
    projections = [
        (tmp_path / name / "distill" / "projection.safetensors").read_bytes() for name in ("whole", "broken")
    ]
    assert projections[0] == projections[1]


# Beside the contrastive loss.


def test_supervised_training_adds_the_distance_to_the_teacher(tiny_folder: Path, tmp_path: Path) -> None:
    found = {}
    for weight in (0.0, 0.5):
        stage = replace(RECIPE.supervised, teacher_weight=weight, batch=8, schedule=Schedule(steps=4, warmup_steps=0))
        objective = SupervisedTraining(
            core.trainable(tiny_folder, projection=16),
            stage,
            core.texts_of(tiny_folder, 32),
            sources=[SOURCE],
            held_out=[SOURCE],
            seed=1,
            teacher=HashingEncoder() if weight else None,
            folder=tmp_path,
        )
        # The fit of the projection is the teacher's doing; from here on both are the same model.
        torch.manual_seed(7)
        projection = objective._trainable.projection
        assert projection is not None
        projection.reset_parameters()
        result = objective.step(0)
        batch = objective._contrast("s", objective._batch(0)[1], 0, Ranks())
        found[weight] = (result, batch, objective)
    plain, (with_teacher, batch, objective) = found[0.0][0], found[0.5]
    assert "distance" not in plain.metrics
    assert with_teacher.loss == pytest.approx(plain.loss + 0.5 * with_teacher.metrics["distance"], rel=1e-5)
    basis = np.load(tmp_path / "teacher-basis.npy")
    texts = [lesson.read for lesson in batch.lessons]
    taught = torch.from_numpy(HashingEncoder().encode(texts, role=Role.DOCUMENT) @ basis)
    by_hand = float((1 - cosine_similarity(batch.views.evaluate(), taught)).mean())
    assert with_teacher.metrics["distance"] == pytest.approx(by_hand, rel=1e-4)
    assert objective.held_out().keys() == {"loss", "accuracy"}


def test_a_supervised_stage_with_a_teacher_in_the_chain(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    supervised = replace(RECIPE.supervised, teacher_weight=1.0, start="merged", batch=4)
    recipe = replace(RECIPE, supervised=replace(supervised, schedule=Schedule(steps=5, learning_rate=3e-3)))
    options: dict[str, Any] = {"recipe": recipe, "stages": (Stage.SUPERVISED,)}
    with pytest.raises(TrainingError, match="the supervised stage has no teacher"):
        run(tiny_folder, data, tmp_path / "none", **options)
    options["teacher"] = teacher_of("hashing")
    run(tiny_folder, data, tmp_path / "whole", **options)
    run(tiny_folder, data, tmp_path / "broken", stop=lambda seen: bool(seen) and seen[-1][1].step == 2, **options)
    outcome, _ = run(tiny_folder, data, tmp_path / "broken", **options)
    assert outcome.complete and weights(tmp_path / "whole") == weights(tmp_path / "broken")
    said = json.loads((tmp_path / "whole" / "supervised" / "stage.json").read_text())
    assert said["teacher"]["name"] == "hashing"
    with pytest.raises(TrainingError, match=r"supervised cannot be gone on from: the teacher is another"):
        run(tiny_folder, data, tmp_path / "whole", **{**options, "teacher": teacher_of(tiny_folder)})
