"""The training stages on tiny models: losses against hand-written ones, gradients, packing, and exact resume."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, log_softmax

from searchctl.encoder.bidirectional import decoder_layers
from searchctl.encoder.config import EncoderConfig, Pooling
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Role
from searchctl.encoder.tokenize import TextTokenizer, load_tokenizer
from searchctl.training.checkpoints import Progress, checkpoints, newest_step, save_checkpoint
from searchctl.training.data.corpus import Pair, PairSource
from searchctl.training.data.sentences import sentences
from searchctl.training.errors import TrainingError
from searchctl.training.loop import LoopSettings, Moment, run_stage
from searchctl.training.objectives.contrastive import SimcseTraining, SupervisedTraining
from searchctl.training.objectives.contrastive_loss import cached_backward, info_nce, same_texts, uniformity_alignment
from searchctl.training.objectives.distill import DistillTraining, pair_lessons
from searchctl.training.objectives.embedding import Views, embed
from searchctl.training.objectives.mntp import MntpTraining
from searchctl.training.objectives.mntp_loss import masked_loss
from searchctl.training.objectives.packing import annealed_mask, block_mask, join, pack
from searchctl.training.recipe import (
    DistillStage,
    LoraSettings,
    MntpStage,
    Schedule,
    SimcseStage,
    StageSettings,
    SupervisedStage,
)
from searchctl.training.trainable import Trainable, load_trainable, lora_weights, save_lora

CPU = torch.device("cpu")
TEXTS = [
    f"Sentence number {i} tells of rivers, of bread and of {word}." for i in range(40) for word in ("wool", "iron")
]
PAIRS = tuple(
    Pair(f"what is thing {i}", f"thing {i} is a kind of {i % 7}", (f"thing {i + 1} is not",)) for i in range(40)
)


def trainable(folder: Path, *, dropout: float = 0.0, **options: object) -> Trainable:
    resolved = resolve(EncoderConfig(model=str(folder)))
    lora = LoraSettings(rank=4, alpha=8, dropout=dropout)
    made = load_trainable(resolved, (), lora, device=CPU, dtype=torch.float32, **options)  # type: ignore[arg-type]
    # A fresh LoRA has B = 0, and gradients of A are then 0 too: give both something to do.
    torch.manual_seed(5)
    with torch.no_grad():
        for name, value in made.parameters():
            if "lora_B" in name:
                value.normal_(std=0.05)
    return made


def gradients(model: Trainable) -> dict[str, Tensor]:
    found = {name: value.grad.clone() for name, value in model.parameters() if value.grad is not None}
    for _, value in model.parameters():
        value.grad = None
    return found


def texts_of(folder: Path, length: int = 64) -> TextTokenizer:
    sidecar = resolve(EncoderConfig(model=str(folder))).sidecar
    return TextTokenizer(tokenizer=load_tokenizer(folder), prompt=sidecar.prompt, max_tokens=length)


def test_a_packed_document_has_the_states_it_has_alone(tiny_folder: Path) -> None:
    model = trainable(tiny_folder)
    model.decoder.eval()
    documents = [[5, 9, 30, 7, 11], [40, 41, 42], [8, 8, 100, 101, 102, 103]]
    rows = join([documents])
    with torch.no_grad():
        packed = model.states(rows.ids, block_mask(rows.documents), rows.positions)[0]
        alone = [model.states(torch.tensor([document]), None)[0] for document in documents]
        leaking = model.states(rows.ids, None, rows.positions)[0]
    torch.testing.assert_close(packed, torch.cat(alone), atol=2e-6, rtol=1e-5)
    assert (leaking - torch.cat(alone)).abs().max() > 1e-2  # what the mask keeps apart


def test_annealed_mask_goes_from_causal_to_bidirectional(tiny_folder: Path) -> None:
    model = trainable(tiny_folder)
    model.decoder.eval()
    rows = join([[[5, 9, 30, 7], [40, 41, 42]]])

    def states(mask: Tensor) -> Tensor:
        with torch.no_grad():
            return model.states(rows.ids, mask, rows.positions)

    whole = states(block_mask(rows.documents))
    torch.testing.assert_close(states(annealed_mask(rows.documents, 1.0, torch.float32)), whole, atol=2e-6, rtol=1e-5)
    causal = states(annealed_mask(rows.documents, 0.0, torch.float32))
    before = 0
    for document in ([5, 9, 30, 7], [40, 41, 42]):
        for end in range(1, len(document) + 1):
            # What a token would know if nothing came after it: the mask of its own beginnings, made the slow way.
            beginning = torch.tensor([document[:end]])
            seen = torch.zeros(1, 1, end, end).masked_fill(torch.ones(end, end).tril() == 0, float("-inf"))
            with torch.no_grad():
                alone = model.states(beginning, seen)[0]
            torch.testing.assert_close(causal[0, before : before + end], alone, atol=2e-6, rtol=1e-5)
        before += len(document)
    half = states(annealed_mask(rows.documents, 0.5, torch.float32))
    assert (half - whole).norm() < (causal - whole).norm()


def test_pack_keeps_documents_whole_and_cuts_only_longer_ones() -> None:
    rows = pack([(0, 5), (1, 4), (2, 11), (3, 1), (4, 2)], 8)
    assert rows == [[(0, 0, 5)], [(1, 0, 4)], [(2, 0, 8)], [(2, 8, 11), (4, 0, 2)]]


def test_mntp_loss_is_the_cross_entropy_of_the_state_before(tiny_folder: Path) -> None:
    model = trainable(tiny_folder)
    torch.manual_seed(1)
    states = torch.randn(2, 6, 32)
    targets = torch.randint(512, (2, 6))
    chosen = torch.tensor([[0, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 1]], dtype=torch.bool)
    loss, _ = masked_loss(states, targets, chosen, model.head)
    by_hand = [
        -log_softmax(model.head(states[row, at - 1]), dim=0)[targets[row, at]]
        for row in range(2)
        for at in range(1, 6)
        if chosen[row, at]
    ]
    torch.testing.assert_close(loss, torch.stack(by_hand).mean())


def test_info_nce_by_hand_and_with_exclusions() -> None:
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    candidates = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    cosines = torch.tensor([[0.6, 0.0, 1.0], [0.8, 1.0, 0.0]])
    expected = cross_entropy(cosines / 0.1, torch.tensor([0, 1]))
    torch.testing.assert_close(info_nce(queries, candidates, temperature=0.1), expected)
    # The third candidate is 0.4 nearer to the first query than its positive: left out there by a margin of 0.1.
    left = torch.stack(
        [cross_entropy(torch.tensor([6.0, 0.0]), torch.tensor(0)), cross_entropy(cosines[1] * 10, torch.tensor(1))]
    )
    torch.testing.assert_close(info_nce(queries, candidates, temperature=0.1, margin=0.1), left.mean())
    excluded = torch.tensor([[True, False, True], [False, False, False]])  # a positive stays, whatever is said
    torch.testing.assert_close(info_nce(queries, candidates, temperature=0.1, excluded_BC=excluded), left.mean())


def test_info_nce_over_dimensions_is_the_mean_over_prefixes() -> None:
    torch.manual_seed(0)
    queries, candidates = torch.randn(4, 8), torch.randn(6, 8)
    expected = (
        info_nce(queries[:, :2], candidates[:, :2], temperature=0.05) + info_nce(queries, candidates, temperature=0.05)
    ) / 2
    torch.testing.assert_close(info_nce(queries, candidates, temperature=0.05, dimensions=(2,)), expected)
    with pytest.raises(ValueError, match=r"dimensions are \(2, 8\): expected less than the width, 8"):
        info_nce(queries, candidates, temperature=0.05, dimensions=(2, 8))


def test_same_texts_finds_duplicates_of_query_and_positive() -> None:
    found = same_texts(["a", "b"], ["x", "y"], ["x", "y", "a", "z"])
    assert found.tolist() == [[True, False, True, False], [False, True, False, False]]


def test_uniformity_and_alignment_by_hand() -> None:
    first, second = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    uniformity, alignment = uniformity_alignment(first, second)
    assert uniformity == pytest.approx(-4.0)  # one pair at squared distance 2
    assert alignment == pytest.approx((0 + 2) / 2)


def test_cached_gradients_equal_direct_ones(tiny_folder: Path, subtests: pytest.Subtests) -> None:
    for dropout, cached in [(0.0, True), (0.2, True), (0.2, False)]:
        with subtests.test(dropout=dropout, cached=cached):
            model = trainable(tiny_folder, dropout=dropout, attention_dropout=dropout)
            model.decoder.train()
            rows = texts_of(tiny_folder)(TEXTS[:12], role=Role.DOCUMENT, instruction=None)
            chunks = [rows[at : at + 3] for at in range(0, 12, 3)]

            def loss_of(embeddings: Tensor) -> Tensor:
                return info_nce(embeddings[:6], embeddings[6:], temperature=0.05)

            torch.manual_seed(3)
            direct = loss_of(torch.cat([embed(model, chunk, Pooling.MEAN) for chunk in chunks]))
            direct.backward()  # type: ignore[no-untyped-call]
            expected = gradients(model)
            torch.manual_seed(3)
            calls = []

            def forward(number: int) -> Tensor:
                calls.append((number, torch.is_grad_enabled()))
                return embed(model, chunks[number], Pooling.MEAN)

            loss, _ = cached_backward(4, forward, loss_of, device=CPU, cached=cached)
            once, again = [(n, False) for n in range(4)], [(n, True) for n in range(4)]
            assert calls == [*once, *again] if cached else calls == again
            found = gradients(model)
            torch.testing.assert_close(loss, direct.detach())
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4)
            assert max(float(value.abs().max()) for value in expected.values()) > 1e-3


def test_checkpointing_changes_no_gradient(tiny_folder: Path, subtests: pytest.Subtests) -> None:
    for cached in [False, True]:
        with subtests.test(cached=cached):
            found, passes = [], []
            rows = texts_of(tiny_folder)(TEXTS[:8], role=Role.DOCUMENT, instruction=None)
            for checkpointing in (False, True):
                model = trainable(tiny_folder, checkpointing=checkpointing, dropout=0.2, attention_dropout=0.2)
                model.decoder.train()
                calls: list[object] = []
                _, first = decoder_layers(model.decoder.get_base_model())[0]
                first.self_attn.register_forward_pre_hook(lambda module, *_, calls=calls: calls.append(module))
                torch.manual_seed(3)
                views = Views(model, rows, Pooling.MEAN, 4, cached=cached)
                views.backward(lambda both: info_nce(*both.chunk(2), temperature=0.05))
                found.append(gradients(model))
                passes.append(len(calls))
            # Two chunks: with gradients; before that without, where they are cached; once more, where states were
            # let go.
            assert passes == ([4, 6] if cached else [2, 4])
            assert max(float(value.abs().max()) for value in found[0].values()) > 1e-3
            for name, value in found[0].items():
                torch.testing.assert_close(found[1][name], value, atol=0, rtol=0)


def test_dropout_makes_two_views_and_inference_has_none(tiny_folder: Path) -> None:
    model = trainable(tiny_folder, attention_dropout=0.3)
    rows = texts_of(tiny_folder)(TEXTS[:2], role=Role.DOCUMENT, instruction=None)
    model.decoder.train()
    first, second = embed(model, rows, Pooling.MEAN), embed(model, rows, Pooling.MEAN)
    assert float(cosine_similarity(first, second).max()) < 0.99999
    model.decoder.eval()
    torch.testing.assert_close(embed(model, rows, Pooling.MEAN), embed(model, rows, Pooling.MEAN), atol=0, rtol=0)


def test_a_saved_adapter_gives_the_encoder_the_vectors_of_training(tiny_folder: Path, tmp_path: Path) -> None:
    model = trainable(tiny_folder)
    model.base_name = str(tiny_folder)
    save_lora(model, tmp_path / "adapter")
    model.decoder.eval()
    rows = texts_of(tiny_folder)(TEXTS[:5], role=Role.DOCUMENT, instruction=None)
    with torch.no_grad():
        trained = torch.nn.functional.normalize(embed(model, rows, Pooling.MEAN), dim=1)
    encoder = open_encoder(EncoderConfig(model=str(tmp_path / "adapter")))
    vectors = torch.from_numpy(encoder.encode(TEXTS[:5], role=Role.DOCUMENT))
    torch.testing.assert_close(vectors.float(), trained, atol=1e-2, rtol=0)
    base = open_encoder(EncoderConfig(model=str(tiny_folder)))
    assert float((torch.from_numpy(base.encode(TEXTS[:5], role=Role.DOCUMENT)) - trained).abs().max()) > 2e-2


MNTP = MntpStage(schedule=Schedule(steps=6, learning_rate=1e-3), batch=4, length=32, chunk=3)
SIMCSE = SimcseStage(schedule=Schedule(steps=6, learning_rate=1e-3), batch=6, length=32, chunk=4)
SUPERVISED = SupervisedStage(schedule=Schedule(steps=6, learning_rate=1e-3), batch=6, length=32, chunk=5)
# Of 30 pairs, so that the last step is of a second epoch.
DISTILL = DistillStage(schedule=Schedule(steps=6, learning_rate=1e-3), batch=6, length=32, chunk=5)
STAGES = {"mntp": MNTP, "simcse": SIMCSE, "supervised": SUPERVISED, "distill": DISTILL}


def make(stage: StageSettings, folder: Path, model: Trainable, **share: int) -> object:
    if isinstance(stage, MntpStage):
        return MntpTraining(
            model, stage, load_tokenizer(folder), texts=TEXTS[:60], held_out=TEXTS[60:], seed=7, **share
        )
    if isinstance(stage, SimcseStage):
        return SimcseTraining(model, stage, texts_of(folder), texts=TEXTS[:60], held_out=TEXTS[60:], seed=7, **share)
    seen = PairSource(name="p", digest="d", pairs=PAIRS[:30])
    unseen = PairSource(name="p", digest="d", pairs=PAIRS[30:])
    if isinstance(stage, SupervisedStage):
        return SupervisedTraining(model, stage, texts_of(folder), sources=[seen], held_out=[unseen], seed=7, **share)
    teacher = open_encoder(EncoderConfig(model="hashing"))
    lessons, unseen_lessons = pair_lessons([seen], {}), pair_lessons([unseen], {})
    return DistillTraining(
        model, stage, texts_of(folder), teacher, sources=lessons, held_out=unseen_lessons, seed=7, **share
    )


def run(
    stage: StageSettings,
    folder: Path,
    work: Path,
    *,
    stop: Callable[[int], bool] = lambda step: False,
) -> tuple[dict[str, Tensor], list[Moment]]:
    resolved = resolve(EncoderConfig(model=str(folder)))
    model = load_trainable(resolved, (), LoraSettings(rank=4, alpha=8), device=CPU, dtype=torch.float32)
    moments: list[Moment] = []
    run_stage(
        model,
        make(stage, folder, model),  # type: ignore[arg-type]
        stage.schedule,
        LoopSettings(folder=work, settings="same", save_every=2, evaluate_every=3),
        told=moments.append,
        stop=lambda: stop(moments[-1].step),
    )
    return lora_weights(model), moments


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_weights_of_an_unbroken_one(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for stage in STAGES.values():
        with subtests.test(stage=stage):
            tmp_path = tmp_path_factory.mktemp("row")
            whole, moments = run(stage, tiny_folder, tmp_path / "whole")
            assert [moment.step for moment in moments] == [0, 1, 2, 3, 4, 5, 6]
            run(stage, tiny_folder, tmp_path / "broken", stop=lambda step: step == 1)
            run(stage, tiny_folder, tmp_path / "broken", stop=lambda step: step == 5)
            # Those of every second step, wherever a run was stopped: curves over checkpoints have the same points.
            assert [path.name for path in checkpoints(tmp_path / "broken")] == ["step-000004", "step-000005"]
            resumed, rest = run(stage, tiny_folder, tmp_path / "broken")
            assert [moment.step for moment in rest] == [6]
            assert whole.keys() == resumed.keys()
            assert all(torch.equal(whole[name], resumed[name]) for name in whole)
            assert moments[-1].held_out == rest[-1].held_out


def test_checkpoints_go_by_their_number_and_not_by_their_name(tiny_folder: Path, tmp_path: Path) -> None:
    model = trainable(tiny_folder)
    optimizer = torch.optim.AdamW([value for _, value in model.parameters()])
    for step in (999_998, 999_999, 1_000_000, 1_000_001):
        progress = Progress(step=step, tokens=0, seconds=0.0, settings="same")
        save_checkpoint(tmp_path, model, optimizer, progress, keep_all=False)
        assert newest_step(tmp_path) == step
    assert [path.name for path in checkpoints(tmp_path)] == ["step-1000000", "step-1000001"]


# A process of its own and not a fork: the tokenizer's threads do not come along in a fork, which then waits for ever.
KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("core", sys.argv[1])
core = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core)

def die(step):
    if step == 5:  # one step after the checkpoint of step 4
        os.kill(os.getpid(), signal.SIGKILL)
    return False

core.run(core.STAGES[sys.argv[4]], Path(sys.argv[2]), Path(sys.argv[3]), stop=die)
"""


@pytest.mark.parametrize("name", ["supervised", pytest.param("distill", marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_weights_of_an_unbroken_one(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    whole, _ = run(STAGES[name], tiny_folder, tmp_path / "whole")
    words = [str(Path(__file__)), str(tiny_folder), str(tmp_path / "killed"), name]
    ended = subprocess.run([sys.executable, "-c", KILLED, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    resumed, rest = run(STAGES[name], tiny_folder, tmp_path / "killed")
    assert [moment.step for moment in rest] == [5, 6]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
def test_the_held_out_loss_falls(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for stage in STAGES.values():
        with subtests.test(stage=stage):
            tmp_path = tmp_path_factory.mktemp("row")
            longer = replace(stage, schedule=Schedule(steps=40, learning_rate=5e-3))
            _, moments = run(longer, tiny_folder, tmp_path)
            held_out = [moment.held_out["loss"] for moment in moments if moment.held_out is not None]
            assert held_out[-1] < held_out[0]


def test_a_loss_that_is_no_number_stops_and_keeps_the_batch(tiny_folder: Path, tmp_path: Path) -> None:
    model = trainable(tiny_folder)
    with torch.no_grad():
        next(value for _, value in model.parameters()).fill_(float("nan"))
    objective = make(SIMCSE, tiny_folder, model)
    objective.held_out = lambda: {"loss": 0.0}  # type: ignore[attr-defined]
    with pytest.raises(TrainingError, match="step 0: loss is nan"):
        run_stage(
            model,
            objective,  # type: ignore[arg-type]
            SIMCSE.schedule,
            LoopSettings(folder=tmp_path, settings="same"),
            told=lambda _: None,
            stop=lambda: False,
        )
    kept = [json.loads(line) for line in (tmp_path / "bad-batch-step-000000.jsonl").read_text().splitlines()]
    assert kept == make(SIMCSE, tiny_folder, trainable(tiny_folder)).describe(0)  # type: ignore[attr-defined]


def test_a_checkpoint_of_other_settings_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    run(MNTP, tiny_folder, tmp_path, stop=lambda step: step == 2)
    progress = tmp_path / "step-000002" / "progress.json"
    progress.write_text(progress.read_text().replace('"same"', '"other"'))
    with pytest.raises(TrainingError, match="made with another recipe"):
        run(MNTP, tiny_folder, tmp_path)


def test_sentences_are_cut_and_fragments_dropped() -> None:
    text = "The river rises in the Alps and flows north. It is long, e.g. longer than most. See p. 5. Ok."
    assert sentences([text, "Short."]) == [
        "The river rises in the Alps and flows north.",
        "It is long, e.g. longer than most.",
        "Short.",
    ]
