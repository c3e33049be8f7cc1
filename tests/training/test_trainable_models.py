"""Architectures that differ from llama: packing, logits, what cannot be trained; and bf16, checkpoints, torchrun."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from searchctl.app.errors import ExitCode
from searchctl.app.train import run as train_run
from searchctl.app.train.processes import joined_processes
from searchctl.encoder.config import EncoderConfig, Pooling
from searchctl.encoder.models.resolve import resolve
from searchctl.encoder.tokenize import load_tokenizer
from searchctl.training import trainable
from searchctl.training.checkpoints import Progress, restore, save_checkpoint
from searchctl.training.errors import TrainingError
from searchctl.training.objectives import mntp_loss as mntp
from searchctl.training.objectives.embedding import embed
from searchctl.training.objectives.mntp import MntpTraining
from searchctl.training.objectives.mntp_loss import MntpLoss, require_apart
from searchctl.training.objectives.packing import attention_mask, block_mask, join
from searchctl.training.recipe import LoraSettings, MntpStage
from searchctl.training.trainable import Trainable, load_trainable

CPU = torch.device("cpu")
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 2.0}


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Trainable:
    resolved = resolve(EncoderConfig(model=str(folder)))
    made = load_trainable(resolved, (), LoraSettings(rank=4, alpha=8, dropout=0.0), device=CPU, dtype=dtype)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, value in made.parameters():
            if "lora_B" in name:
                value.normal_(std=0.05)
    return made


def test_packed_documents_are_apart_in_each_attention(
    make_folder: Callable[..., Path], subtests: pytest.Subtests
) -> None:
    for kind, changes, implementation in [("llama", {}, "sdpa"), ("llama", {}, "eager"), ("gemma2", GEMMA, "eager")]:
        with (
            subtests.test(kind=kind, changes=changes, implementation=implementation),
            pytest.MonkeyPatch.context() as monkeypatch,
        ):
            model = load(make_folder(kind, **changes))
            if kind == "llama":
                model.decoder.set_attn_implementation(implementation)
            assert model.decoder.config._attn_implementation == implementation  # gemma2 has no other
            require_apart(model, 32)
            if implementation == "eager":
                # A bool mask is added to the scores as 0 and 1 there.
                monkeypatch.setattr(mntp, "attention_mask", lambda documents, *_: block_mask(documents))
                with pytest.raises(TrainingError, match="packed with another has other states"):
                    require_apart(model, 32)


def test_mntp_refuses_a_model_whose_packing_leaks(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tiny_folder)
    monkeypatch.setattr(mntp, "attention_mask", lambda documents, *_: torch.ones_like(block_mask(documents)))
    texts = [f"Sentence number {i} tells of rivers." for i in range(60)]
    with pytest.raises(TrainingError, match="packed with another has other states"):
        MntpTraining(
            model,
            MntpStage(batch=2, length=32),
            load_tokenizer(tiny_folder),
            texts=texts[:50],
            held_out=texts[50:],
            seed=1,
        )


def test_rows_longer_than_the_window_are_refused(make_folder: Callable[..., Path]) -> None:
    model = load(make_folder("gemma2", sliding_window=16, **GEMMA))
    with pytest.raises(TrainingError, match=r"mntp\.length of at most 16"):
        require_apart(model, 64)
    require_apart(load(make_folder("gemma2", sliding_window=64, **GEMMA)), 64)


def test_other_attention_takes_no_mask() -> None:
    with pytest.raises(TrainingError, match="attention is flash_attention_2: MNTP packs documents with a mask"):
        attention_mask(torch.ones(1, 4), "flash_attention_2", torch.float32)


def test_the_head_gives_the_models_own_logits(make_folder: Callable[..., Path], subtests: pytest.Subtests) -> None:
    for kind, changes in [
        ("granite", {"logits_scaling": 8.0}),
        ("cohere", {"logit_scale": 0.25}),
        ("gemma2", GEMMA),
        ("llama", {}),
    ]:
        with subtests.test(kind=kind, changes=changes):
            folder = make_folder(kind, **changes)
            head = load(folder).head
            whole = AutoModelForCausalLM.from_pretrained(folder).eval()
            ids = torch.tensor([[5, 9, 30, 7, 11]])
            with torch.no_grad():
                states = whole.model(input_ids=ids).last_hidden_state
                torch.testing.assert_close(head(states), whole(input_ids=ids).logits, atol=1e-6, rtol=1e-5)


def test_logits_made_in_an_unknown_way_are_refused(
    make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder("granite", logits_scaling=8.0)
    monkeypatch.setattr(trainable.VocabularyHead, "forward", lambda self, states: self.linear(states).float())
    with pytest.raises(TrainingError, match="GraniteForCausalLM makes its logits in a way"):
        load(folder)


def test_gpt2_without_linear_layers_is_refused(make_folder: Callable[..., Path]) -> None:
    folder = make_folder("gpt2", n_embd=32, n_layer=3, n_head=4, n_positions=256)
    with pytest.raises(TrainingError, match="GPT2Model has no linear layers"):
        load(folder)


def test_opts_adapters_are_named_as_the_encoder_names_its_layers(make_folder: Callable[..., Path]) -> None:
    folder = make_folder("opt", ffn_dim=64, word_embed_proj_dim=32)
    assert type(load(folder).decoder.base_model.model).__name__ == "OPTModel"  # not OPTDecoder, which is inside


def test_a_model_that_is_opened_as_another_is_refused(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other:
        _model_mapping: dict[type, type] = {}  # noqa: RUF012

    monkeypatch.setattr(trainable, "AutoModel", Other)
    with pytest.raises(TrainingError, match="holds a LlamaModel, but as an encoder this model is opened as nothing"):
        load(tiny_folder)


def test_a_tensor_that_is_not_there_is_an_error_and_nothing_is_printed(
    make_folder: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_folder()
    capfd.readouterr()
    load(folder)
    assert capfd.readouterr().err == ""
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Exception, match=r"1 tensors are not in the weights.*layers\.1\.mlp\.up_proj"):
        load(folder)


def test_bf16_without_peft_s_casts_has_the_same_gradients(tiny_folder: Path) -> None:
    from searchctl.encoder.protocol import Role
    from searchctl.encoder.tokenize import TextTokenizer

    sidecar = resolve(EncoderConfig(model=str(tiny_folder))).sidecar
    tokens = TextTokenizer(tokenizer=load_tokenizer(tiny_folder), prompt=sidecar.prompt, max_tokens=32)
    rows = tokens(["wool is warm", "iron is hard and cold", "rivers"], role=Role.DOCUMENT, instruction=None)
    found, switches = [], []
    for dtype, casts in ((torch.float32, True), (torch.bfloat16, True), (torch.bfloat16, False)):
        model = load(tiny_folder, dtype)
        layers = [module for module in model.decoder.modules() if isinstance(module, trainable.BaseTunerLayer)]
        switches.append({getattr(layer, "cast_input_dtype_enabled", True) for layer in layers})
        for layer in layers:
            layer.cast_input_dtype_enabled = casts  # type: ignore[assignment]
        with model.autocast():
            loss = embed(model, rows, Pooling.MEAN).pow(2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        found.append(
            torch.cat([value.grad.float().flatten() for _, value in model.parameters() if value.grad is not None])
        )
    assert switches == [{True}, {False}, {False}]
    exact, cast, left = found
    noise = (cast - exact).norm() / exact.norm()
    assert (left - exact).norm() / exact.norm() <= 1.5 * noise + 1e-3
    assert noise < 0.1


def test_nothing_to_hide_is_a_loss_of_zero_and_no_gradient(tiny_folder: Path) -> None:
    model = load(tiny_folder)
    loss = MntpLoss(model, MntpStage(), mask_id=5, special_ids=[9])
    rows = loss.hide(join([[[7, 9, 9]], [[9, 9]]]), seed=1)  # first tokens and special ones only
    assert not rows.chosen.any()
    value, right = loss(rows, step=0)
    assert (float(value), right) == (0.0, 0)
    texts = [f"Sentence number {i} tells of rivers." for i in range(60)]
    objective = MntpTraining(
        model, MntpStage(batch=2, length=32), load_tokenizer(tiny_folder), texts=texts[:50], held_out=texts[50:], seed=1
    )
    objective._loss._special = torch.arange(512)
    result = objective.step(0)
    assert (result.loss, result.metrics) == (0.0, {"accuracy": 0.0})


def test_a_damaged_checkpoint_is_named(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for name in ["adapter_model.safetensors", "optimizer.pt", "progress.json"]:
        for content in [b"", b"no file of this kind", b"{}"]:
            with subtests.test(name=name, content=content):
                tmp_path = tmp_path_factory.mktemp("row")
                model = load(tiny_folder)
                optimizer = torch.optim.AdamW([value for _, value in model.parameters()])
                progress = Progress(step=2, tokens=1, seconds=1.0, settings="same")
                path = save_checkpoint(tmp_path, model, optimizer, progress, keep_all=False)
                assert restore(tmp_path, model, optimizer, "same") == progress
                (path / name).write_bytes(content)
                with pytest.raises(TrainingError, match="step-000002 cannot be read"):
                    restore(tmp_path, model, optimizer, "same")


def test_each_process_takes_its_gpu_before_the_group_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name, value in {"LOCAL_RANK": "1", "RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: calls.append(("device", device)))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend: calls.append(("group", backend)))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: calls.append(("end",)))
    with joined_processes():
        pass
    assert calls == [("device", 1), ("group", "cpu:gloo,cuda:nccl"), ("end",)]


def test_a_second_ctrl_c_is_no_end_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import nullcontext

    from searchctl.training.chain import run as chain

    class View:
        asked = True
        told = None

    class Twice:
        def shield(self) -> object:
            return nullcontext()

    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(chain, "train", broken)
    assert train_run._train(None, None, View(), Twice()) is None  # type: ignore[arg-type]
    View.asked = False
    with pytest.raises(KeyboardInterrupt):
        train_run._train(None, None, View(), Twice())  # type: ignore[arg-type]


def test_a_run_killed_before_its_first_line_can_be_resumed(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for begun in ["train.jsonl", "checkpoints/mntp"]:
        with subtests.test(begun=begun):
            tmp_path = tmp_path_factory.mktemp("row")
            from types import SimpleNamespace

            from searchctl.app.errors import AppError

            (tmp_path / begun).mkdir(parents=True)
            wish: Any = SimpleNamespace(model=None, output=tmp_path, resume=True)
            assert train_run._output(wish) == tmp_path
            wish.resume = False
            with pytest.raises(AppError, match="add --resume"):
                train_run._output(wish)


def test_how_a_command_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from searchctl.training.chain.run import StageOutcome, TrainOutcome
    from searchctl.training.loop import Outcome
    from searchctl.training.recipe import Stage

    said: list[str] = []

    class Words:
        say, write = said.append, said.append

    done = Outcome(progress=Progress(step=4, tokens=1, seconds=1.0, settings="s"), finished=True)
    mntp_done = StageOutcome(stage=Stage.MNTP, outcome=done, folder=tmp_path)

    def code(outcome: TrainOutcome | None) -> ExitCode:
        return train_run._ended(Words(), outcome, tmp_path)  # type: ignore[arg-type]

    assert code(TrainOutcome(stages=(mntp_done,), complete=True)) is ExitCode.OK
    assert code(TrainOutcome(stages=(mntp_done,), complete=False)) is ExitCode.INCOMPLETE
    assert "saved after mntp; go on with" in said[-1]
    assert code(None) is ExitCode.INTERRUPTED
    assert "--resume" in said[-1]


def test_training_in_bf16_keeps_the_rotary_frequencies_as_the_encoder_does(tiny_folder: Path) -> None:
    exact, rounded = load(tiny_folder), load(tiny_folder, torch.bfloat16)
    frequencies = [dict(model.decoder.named_buffers()) for model in (exact, rounded)]
    names = [name for name in frequencies[0] if name.endswith("inv_freq")]
    assert names
    assert all(torch.equal(frequencies[0][name], frequencies[1][name]) for name in names)
    assert torch.bfloat16 in {value.dtype for value in rounded.decoder.parameters()}
