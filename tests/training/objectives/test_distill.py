"""Distillation: losses by hand, gradients, and the stage."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, kl_div

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.models.identity import identify
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.protocol import Role
from searchctl.training.data.corpus import Pair, PairSource
from searchctl.training.distributed import Ranks
from searchctl.training.errors import DataError, TrainingError
from searchctl.training.evaluation.step_curve import curve_steps
from searchctl.training.objectives.dev_pairs import OWN_SCORES, WatchedObjective, read_dev, spearman
from searchctl.training.objectives.distill import (
    DistillTraining,
    embedding_distance,
    other_similarities,
    pair_lessons,
    similarity_divergence,
    text_lessons,
)
from searchctl.training.objectives.sampling import plan_steps
from searchctl.training.objectives.teacher import Teacher, find_teacher
from searchctl.training.recipe import DevSettings, DistillStage, Schedule, SourceSettings, Stage
from searchctl.training.trainable import Trainable

from .. import test_training_core as core
from ..chain import test_chain as chain

data, run, weights = chain.data, chain.run, chain.weights
STAGE = DistillStage(lora=chain.LORA, schedule=chain.FAST, batch=8, length=32)
RECIPE = replace(chain.RECIPE, distill=STAGE)
NONE = torch.zeros(2, 2, dtype=torch.bool)


CACHE = tempfile.TemporaryDirectory()
"""Vectors of the teachers of this file: the user's cache is left alone."""


def teacher_of(*names: str | Path) -> Teacher:
    return find_teacher(
        [str(name) for name in names],
        device=torch.device("cpu"),
        dtype=torch.float32,
        cache=Path(CACHE.name),
    )


@pytest.fixture(scope="module")
def wide_folder(make_folder: Callable[..., Path]) -> Path:
    return make_folder(seed=3, hidden_size=48)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder with the stages before, each of them short."""
    folder = tmp_path_factory.mktemp("earlier")
    rows = [{"query": f"what is thing {i}", "positive": f"thing {i} is {chain.WORDS[i % 5]}"} for i in range(60)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    short = Schedule(steps=2, learning_rate=3e-3)
    stages = {name: replace(getattr(RECIPE, name), schedule=short) for name in ("mntp", "simcse", "supervised")}
    run(tiny_folder, folder / "pairs.jsonl", folder / "out", recipe=replace(RECIPE, **stages))
    return folder / "out"


def test_divergence_by_hand() -> None:
    student = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    student_others = torch.tensor([[3.0, 4.0], [1.0, 0.0]])  # cosines 0.6 and 1, 0.8 and 0
    teacher = torch.tensor([[0.0, 0.0, 1.0], [0.0, 5.0, 0.0]])
    teacher_others = torch.tensor([[0.0, 0.6, 0.8], [1.0, 0.0, 0.0]])  # cosines 0.8 and 0, 0.6 and 0
    found = similarity_divergence(student, student_others, teacher, teacher_others, temperature=0.5, excluded_BC=NONE)
    p = [np.exp(np.array(row)) / np.exp(np.array(row)).sum() for row in ([1.6, 0.0], [1.2, 0.0])]
    q = [np.exp(np.array(row)) / np.exp(np.array(row)).sum() for row in ([1.2, 2.0], [1.6, 0.0])]
    by_hand = np.mean([(a * np.log(a / b)).sum() for a, b in zip(p, q, strict=True)])
    assert by_hand > 0.1
    assert float(found) == pytest.approx(by_hand, rel=1e-5)


def test_divergence_is_that_of_torch_and_zero_for_the_teacher_itself() -> None:
    torch.manual_seed(0)
    vectors, taught = torch.randn(6, 5), torch.randn(6, 9)
    own = torch.eye(6, dtype=torch.bool)

    def shares(of: Tensor) -> Tensor:
        cosines = cosine_similarity(of[:, None], of[None, :], dim=2) / 0.1
        return torch.stack([torch.cat([row[:i], row[i + 1 :]]) for i, row in enumerate(cosines)]).log_softmax(dim=1)

    expected = kl_div(shares(vectors), shares(taught), reduction="batchmean", log_target=True)
    found = similarity_divergence(vectors, vectors, taught, taught, temperature=0.1, excluded_BC=own)
    torch.testing.assert_close(found, expected)
    same = similarity_divergence(taught, taught, taught, 2 * taught, temperature=0.1, excluded_BC=own)
    assert float(same) == pytest.approx(0.0, abs=1e-6)


def test_an_anchor_without_candidates_teaches_nothing_and_breaks_nothing() -> None:
    torch.manual_seed(0)
    vectors, taught = torch.randn(3, 4, requires_grad=True), torch.randn(3, 4)
    excluded = torch.tensor([[True, True, True], [True, True, False], [False, True, True]])
    loss = similarity_divergence(vectors, vectors, taught, taught, temperature=0.05, excluded_BC=excluded)
    assert float(loss.detach()) == 0.0  # one candidate each: all of both distributions
    loss.backward()  # type: ignore[no-untyped-call]
    assert vectors.grad is not None and torch.isfinite(vectors.grad).all()


def test_embedding_distance_by_hand() -> None:
    student, teacher = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 7.0]])
    assert float(embedding_distance(student, teacher)) == pytest.approx((0.4 + 0.0) / 2)


def test_similarities_of_each_pair_once() -> None:
    vectors = torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    excluded = torch.eye(4, dtype=torch.bool)
    excluded[0, 3] = excluded[3, 0] = True
    assert other_similarities(vectors, excluded).tolist() == pytest.approx([0.6, 0.0, 0.8, 0.6, 0.0])


def test_chunks_change_no_gradient(tiny_folder: Path, make_folder: Callable[..., Path]) -> None:
    teacher = teacher_of(make_folder(seed=5)).open()
    lessons = pair_lessons([PairSource(name="p", digest="", pairs=core.PAIRS)], {})
    found = []
    for chunk in (100, 3):
        model = core.trainable(tiny_folder)
        model.decoder.train()
        stage = DistillStage(batch=8, length=32, chunk=chunk)
        objective = DistillTraining(
            model, stage, core.texts_of(tiny_folder), teacher, sources=lessons, held_out=lessons, seed=1
        )
        value = objective.step(0).loss
        found.append((value, core.gradients(model)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    for name, value in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], value, atol=1e-5, rtol=1e-4)
    assert max(float(value.abs().max()) for value in found[0][1].values()) > 1e-3


def test_sources_are_drawn_by_weight_times_rows_and_one_a_step() -> None:
    plan = plan_steps([100, 300, 50], [3.0, 1.0, 0.0], batch=10, steps=4000, seed=4)
    sampled = [int((plan.sources == source).sum()) for source in range(3)]
    assert sampled[2] == 0 and abs(sampled[0] - 2000) < 130  # four standard deviations of a fair coin
    # Each source goes through its own rows, all of them before any comes again.
    first = [plan.rows(step) for step in np.flatnonzero(plan.sources == 1)[:30]]
    assert sorted(row for rows in first for row in rows) == list(range(300))
    second = [plan.rows(step) for step in np.flatnonzero(plan.sources == 0)[:20]]
    assert sorted(row for rows in second[10:] for row in rows) == list(range(100)) and second[10:] != second[:10]


class Listening(HashingEncoder):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, Role, str | None]] = []

    def encode(self, texts: Sequence[str], *, role: Role, instruction: str | None = None, **more: Any) -> Any:
        self.asked += [(text, role, instruction) for text in texts]
        return super().encode(texts, role=role, instruction=instruction, **more)


PAIRS = tuple(Pair(f"ask {i}", f"answer {i}") for i in range(6))


def distilling(model: Trainable, folder: Path, sources: Any, **changes: Any) -> tuple[DistillTraining, Listening]:
    teacher = Listening()
    stage = DistillStage(**{"batch": 4, "length": 32, "schedule": Schedule(steps=6), **changes})
    objective = DistillTraining(model, stage, core.texts_of(folder), teacher, sources=sources, held_out=sources, seed=1)
    return objective, teacher


def test_the_teacher_is_asked_as_the_source_says(tiny_folder: Path, subtests: pytest.Subtests) -> None:
    for settings, queries, positives in [
        (SourceSettings(), (Role.QUERY, None), (Role.DOCUMENT, None)),
        (SourceSettings(instruction="Find it"), (Role.QUERY, "Find it"), (Role.DOCUMENT, None)),
        (SourceSettings(instruction="Alike", symmetric=True), (Role.QUERY, "Alike"), (Role.QUERY, "Alike")),
    ]:
        with subtests.test(settings=settings, queries=queries, positives=positives):
            sources = pair_lessons([PairSource(name="s", digest="", pairs=PAIRS)], {"s": settings})
            objective, teacher = distilling(core.trainable(tiny_folder), tiny_folder, sources)
            objective.step(0)
            said = {text.split()[0]: (role, instruction) for text, role, instruction in teacher.asked}
            assert said == {"ask": queries, "answer": positives}
            assert len(teacher.asked) == 8


def test_sources_without_weight_are_no_lessons() -> None:
    source = PairSource(name="s", digest="", pairs=PAIRS)
    assert pair_lessons([source], {"s": SourceSettings(weight=0)}) == []


def test_plain_texts_are_cut_into_sentences_unless_told_otherwise() -> None:
    text = "The river rises in the Alps and flows north. It is longer than most of the others."
    assert [len(text_lessons([text], cut=cut)[0].sides[0].texts) for cut in (True, False)] == [2, 1]


def test_the_same_text_is_compared_with_the_others_only(tiny_folder: Path) -> None:
    """A batch in which all positives are one text: they are no candidates of each other."""
    pairs = tuple(Pair(f"ask {i}", "the answer") for i in range(4))
    sources = pair_lessons([PairSource(name="s", digest="", pairs=pairs)], {})
    objective, _ = distilling(core.trainable(tiny_folder), tiny_folder, sources)
    lesson = objective._lesson(sources[0], [range(4)], Ranks())
    assert lesson.excluded.sum(dim=1).tolist() == [1, 1, 1, 1, 4, 4, 4, 4]
    assert np.isfinite(objective.step(0).loss)


def test_held_out_tells_loss_and_correlation_with_the_teacher(tiny_folder: Path) -> None:
    model = core.trainable(tiny_folder)
    sources = pair_lessons([PairSource(name="s", digest="", pairs=PAIRS)], {"s": SourceSettings(instruction="Find it")})
    objective, teacher = distilling(model, tiny_folder, sources, temperature=0.2)
    scores = objective.held_out()
    texts = [*(pair.query for pair in PAIRS), *(pair.positive for pair in PAIRS)]
    tokens = core.texts_of(tiny_folder, 32)
    rows = tokens(texts[:6], role=Role.QUERY, instruction="Find it") + tokens(
        texts[6:], role=Role.DOCUMENT, instruction=None
    )
    model.decoder.eval()
    with torch.no_grad():
        student = core.embed(model, rows, STAGE.pooling)
    taught = torch.from_numpy(HashingEncoder().encode(texts, role=Role.QUERY))
    own = torch.eye(12, dtype=torch.bool)
    loss = similarity_divergence(student, student, taught, taught, temperature=0.2, excluded_BC=own)
    above = np.triu_indices(12, 1)
    unit = torch.nn.functional.normalize(student, dim=1)
    agreement = spearman((unit @ unit.T).numpy()[above], (taught @ taught.T).numpy()[above])
    assert scores["loss"] == pytest.approx(float(loss), rel=1e-4)
    # Texts that share no word are equally far in the teacher's space but for rounding, which ranks feel.
    assert scores["spearman"] == pytest.approx(agreement, abs=3e-3)
    assert scores == objective.held_out()
    assert len(teacher.asked) == 12  # once for all looks


# The stage in the chain.

ONLY = (Stage.DISTILL,)


def test_distillation_after_all_stages(
    earlier: Path, tiny_folder: Path, wide_folder: Path, data: Path, tmp_path: Path
) -> None:
    out, teacher = tmp_path / "out", teacher_of(wide_folder)
    shutil.copytree(earlier, out)
    outcome, seen = run(tiny_folder, data, out, recipe=RECIPE, stages=ONLY, teacher=teacher)
    assert outcome.complete
    last = seen[-1][1].held_out
    assert last is not None and last.keys() == {"loss", "spearman", "dev"}
    looks = [json.loads(line)["held_out"] or {} for line in (out / "train.jsonl").read_text().splitlines()]
    # The names that no development pairs may have are those of all stages.
    assert {name for look in looks for name in look} - {"dev"} == set(OWN_SCORES)
    said = json.loads((out / "manifest.json").read_text())["stages"]["distill"]
    assert said["teacher"] == {
        "name": str(wide_folder),
        "revision": "local",
        "licence": None,
        "dim": 48,
        "fingerprint": teacher.info.fingerprint,
        "precision": "fp32",
        "max_tokens": teacher.info.max_tokens,
    }
    assert [("pairs", "pairs")] == [(name, entry["kind"]) for name, entry in said["data"].items()]
    assert said["recipe"]["distill"]["sources"]["pairs"]["instruction"] == "Find the answer"
    assert said["dev"] == {"dev": {"blake3": None, "rows": 2, "instruction": None}}
    with pytest.raises(TrainingError, match=r"distill cannot be gone on from: the teacher is another\."):
        run(tiny_folder, data, out, recipe=RECIPE, stages=ONLY, teacher=teacher_of("hashing"))


def names(folder: Path) -> list[str]:
    return [adapter.name for adapter in resolve(EncoderConfig(model=str(folder))).adapters]


@pytest.mark.parametrize(
    ("start", "adapters", "begun"),
    [
        # SimCSE's was a branch of its own: supervised training began again on top of MNTP.
        ("merged", ["mntp", "supervised", "distill"], "supervised"),
        ("fresh", ["mntp", "distill"], "mntp"),
        ("previous", ["mntp", "distill"], "supervised"),
    ],
)
def test_what_the_lora_starts_from(
    start: Any, adapters: list[str], begun: str, *, earlier: Path, tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    # No rate to speak of: the stage ends with what it began with.
    still = replace(STAGE, start=start, schedule=Schedule(steps=1, learning_rate=1e-12))
    out = tmp_path / "out"
    shutil.copytree(earlier, out)
    recipe = replace(RECIPE, distill=still)
    run(tiny_folder, data, out, recipe=recipe, stages=ONLY, teacher=teacher_of("hashing"))
    assert names(out) == adapters
    np.testing.assert_allclose(chain.vectors(out), chain.vectors(out / begun), atol=1e-6)
    other = "mntp" if begun == "supervised" else "supervised"
    assert np.abs(chain.vectors(out) - chain.vectors(out / other)).max() > 1e-5
    # Step 0 of the stage's curve is this start, whether or not the stage is finished.
    begun_with = identify(EncoderConfig(model=str(out / begun), pooling=STAGE.pooling)).fingerprint
    for _ in range(2):
        step = curve_steps(out, Stage.DISTILL, EncoderConfig())[0]
        assert (0, begun_with) == (step.step, identify(step.config).fingerprint)
        shutil.rmtree(out / "distill", ignore_errors=True)


def test_a_start_that_is_gone_is_told(earlier: Path, tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(earlier, out)
    recipe = replace(RECIPE, distill=replace(STAGE, start="previous", schedule=Schedule(steps=1)))
    run(tiny_folder, data, out, recipe=recipe, stages=ONLY, teacher=teacher_of("hashing"))
    for stage in ("simcse", "supervised", "mntp"):
        (out / stage / "stage.json").unlink()
    with pytest.raises(DataError, match=r"stage.json: says that distill went on with the stage before, but .* holds"):
        curve_steps(out, Stage.DISTILL, EncoderConfig())


@pytest.mark.slow
def test_a_stopped_run_ends_with_the_same_bytes(
    tiny_folder: Path, wide_folder: Path, data: Path, tmp_path: Path
) -> None:
    # 59 pairs in batches of 16: the last of these steps are of a third epoch.
    longer = replace(STAGE, batch=16, schedule=replace(STAGE.schedule, steps=9))
    recipe, options = replace(RECIPE, distill=longer), {"stages": ONLY, "teacher": teacher_of(wide_folder)}
    run(tiny_folder, data, tmp_path / "whole", recipe=recipe, **options)
    for _ in range(8):
        outcome, _ = run(
            tiny_folder,
            data,
            tmp_path / "broken",
            recipe=recipe,
            stop=lambda seen: bool(seen) and seen[-1][1].step in (2, 8),
            **options,
        )
        if outcome.complete:
            break
    assert outcome.complete
    assert weights(tmp_path / "whole") == weights(tmp_path / "broken")


def test_the_teacher_may_be_the_untrained_base(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    recipe = replace(RECIPE, distill=replace(STAGE, loss="vector", length=128))
    _, seen = run(tiny_folder, data, tmp_path / "out", recipe=recipe, stages=ONLY, teacher=teacher_of(tiny_folder))
    held_out = seen[0][1].held_out
    assert held_out is not None  # the student is the teacher still
    # The teacher's vectors have passed through float16.
    assert held_out["loss"] == pytest.approx(0.0, abs=1e-5) and held_out["spearman"] == pytest.approx(1.0)


def test_plain_texts_are_read_where_there_are_no_pairs(tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    (data / "pairs.jsonl.gz").unlink()
    (data / "left-out.jsonl").unlink()
    run(tiny_folder, data, tmp_path / "out", recipe=RECIPE, stages=ONLY, teacher=teacher_of("hashing"))
    said = json.loads((tmp_path / "out" / "distill" / "stage.json").read_text())
    assert [("plain", "texts")] == [(name, entry["kind"]) for name, entry in said["data"].items()]


def test_mistakes_are_said_before_anything_is_made(
    tiny_folder: Path, wide_folder: Path, data: Path, tmp_path: Path
) -> None:
    def refused(words: str, **changes: Any) -> None:
        options = {"recipe": RECIPE, "stages": ONLY, "teacher": teacher_of("hashing"), **changes}
        with pytest.raises(TrainingError, match=words):
            run(tiny_folder, data, tmp_path / "out", **options)
        assert not (tmp_path / "out" / "distill").exists()

    refused("distill stage has no teacher: expected --teacher", teacher=None)
    wide = replace(RECIPE, distill=replace(STAGE, loss="vector", projection=49))
    refused("have 48 components, those of the student 49: set", recipe=wide, teacher=teacher_of(wide_folder))
    previous = replace(RECIPE, distill=replace(STAGE, start="previous"))
    refused("there is no stage before it", recipe=previous)
    other = replace(previous, simcse=replace(RECIPE.simcse, lora=replace(chain.LORA, alpha=16)))
    refused("distill.lora.alpha is 8: expected 16, that of the simcse", recipe=other, stages=(Stage.SIMCSE, *ONLY))
    with pytest.raises(TrainingError, match=r"the teacher is 'nowhere': no model is called"):
        teacher_of("nowhere")


def test_the_output_folder_cannot_teach_itself(earlier: Path, tiny_folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(earlier, out)
    options: dict[str, Any] = {"recipe": RECIPE, "stages": ONLY}
    with pytest.raises(TrainingError, match="the --output folder, which becomes another model with each stage"):
        run(tiny_folder, data, out, teacher=teacher_of(out), **options)
    assert run(tiny_folder, data, out, teacher=teacher_of(out / "simcse"), **options)[0].complete


def test_adapters_that_the_base_brings_cannot_be_left_out(
    earlier: Path, tiny_folder: Path, data: Path, tmp_path: Path
) -> None:
    recipe = replace(RECIPE, distill=replace(STAGE, start="fresh"))
    options: dict[str, Any] = {"stages": ONLY, "teacher": teacher_of("hashing"), "chain": None}
    with pytest.raises(TrainingError, match=r'brings a supervised adapter .* expected "merged"'):
        run(earlier, data, tmp_path / "out", recipe=recipe, **options)
    run(earlier, data, tmp_path / "out", recipe=RECIPE, **options)
    assert names(tmp_path / "out") == ["base-1", "base-2", "distill"]


def test_a_teacher_whose_files_changed_is_refused(make_folder: Callable[..., Path]) -> None:
    folder = make_folder(seed=9)
    teacher = teacher_of(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 1e-3}))
    with pytest.raises(TrainingError, match="the teacher's files changed"):
        teacher.open()


# Development pairs.


def test_both_sides_of_development_pairs_get_the_instruction_of_their_file(tiny_folder: Path, tmp_path: Path) -> None:
    rows = [{"a": f"wool {i}", "b": f"iron {i * i} bread", "score": i} for i in range(8)]
    (tmp_path / "sts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"sts": DevSettings(instruction="Find what means the same"), "other": DevSettings(instruction="No")}
    model = core.trainable(tiny_folder)
    objective = core.make(core.SIMCSE, tiny_folder, model)
    tokens = core.texts_of(tiny_folder)
    found = {}
    for name, said in (("with", settings), ("without", {})):
        dev = read_dev(tmp_path / "sts.jsonl", said)
        found[name] = WatchedObjective(objective, model, tokens, STAGE.pooling, [dev]).held_out()["sts"]
        assert dev.account() == {
            "blake3": dev.digest,
            "rows": 8,
            "instruction": said.get("sts", DevSettings()).instruction,
        }
    model.decoder.eval()
    for name, instruction in (("with", "Find what means the same"), ("without", None)):
        sides = [[row[side] for row in rows] for side in ("a", "b")]
        with torch.no_grad():
            first, second = (
                core.embed(model, tokens(side, role=Role.DOCUMENT, instruction=instruction), STAGE.pooling)
                for side in sides
            )
        by_hand = spearman(cosine_similarity(first, second).numpy(), [row["score"] for row in rows])
        assert found[name] == pytest.approx(by_hand)
    assert found["with"] != found["without"]
    with pytest.raises(TrainingError, match=r"pairs sts: text 0: .* shorter instruction in \[dev.sts\] of the recipe"):
        dev = read_dev(tmp_path / "sts.jsonl", settings)
        WatchedObjective(objective, model, core.texts_of(tiny_folder, 16), STAGE.pooling, [dev])
