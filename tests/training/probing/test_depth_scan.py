"""The scan of layers on tiny decoders: every row against an encoder that is really cut there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import spearmanr

from searchctl.encoder.config import EncoderConfig, Precision, Runtime
from searchctl.encoder.errors import NonFiniteError
from searchctl.encoder.hashing import hashing_encoder
from searchctl.encoder.models.projection import save_projection
from searchctl.encoder.open import open_encoder
from searchctl.encoder.protocol import Role
from searchctl.encoder.transformer import TransformerEncoder
from searchctl.training.errors import TrainingError
from searchctl.training.objectives.dev_pairs import DevPairs
from searchctl.training.objectives.projection_fit import RIDGES
from searchctl.training.objectives.teacher_target import FITTED
from searchctl.training.probing.depth_scan import (
    DepthRow,
    DepthScan,
    fewest_layers,
    fit_texts,
    mean_score,
    pooled_by_layer,
    require_scorable,
    scan_depth,
)

MakeFolder = Callable[..., Path]
WORDS = ("wool", "iron", "bread", "river", "paper", "garden")
FIRST = tuple(f"The {a} of {b} is " + "very " * i + "old." for i, (a, b) in enumerate(pairwise(WORDS)))
SECOND = tuple(f"Some {a}, not much {b}." for a, b in zip(WORDS[1:], WORDS[2:] + WORDS[:1], strict=True))
PAIRS = DevPairs(name="near", first=FIRST, second=SECOND, gold=(3.0, 1.0, 4.0, 1.5, 5.0))
KINDS = {
    "llama": {},
    "gpt2": {"n_layer": 3, "n_head": 4, "n_embd": 32, "n_positions": 256},
    "gemma2": {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    # States are projected to another width after the layers, and before them.
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 16, "do_layer_norm_before": True},
}


def opened(folder: Path) -> TransformerEncoder:
    config = EncoderConfig(model=str(folder), precision=Precision.FP32, runtime=Runtime.TORCH, device="cpu")
    encoder = open_encoder(config)
    assert isinstance(encoder, TransformerEncoder)
    return encoder


def scanned(encoder: TransformerEncoder, *dev: DevPairs, **more: Any) -> DepthScan:
    return scan_depth(encoder, dev or (PAIRS,), **more)


def cut(folder: Path, to: Path, **sidecar: object) -> Path:
    """Return a copy of a model's folder with another searchctl.json."""
    shutil.copytree(folder, to)
    (to / "searchctl.json").write_text(json.dumps(sidecar))
    return to


def uneven(folder: Path) -> Path:
    """Give every norm of a model weights of its own: those of a new model are all 1, as if there were none."""
    path = folder / "model.safetensors"
    torch.manual_seed(4)
    weights = load_file(path)
    save_file(
        {
            name: value + torch.rand_like(value) if value.ndim == 1 and name.endswith("weight") else value
            for name, value in weights.items()
        },
        path,
        metadata={"format": "pt"},
    )
    return folder


def test_each_row_is_an_encoder_cut_there(
    make_folder: MakeFolder, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for pooling in ["mean", "weighted_mean", "last"]:
        for kind, changes in KINDS.items():
            with subtests.test(pooling=pooling, kind=kind):
                tmp_path = tmp_path_factory.mktemp("row")
                folder = uneven(make_folder(kind, bos=True, **changes))
                encoder = opened(cut(folder, tmp_path / "whole", pooling=pooling))
                encoder.batch_tokens = 60  # several batches, and padding in them
                texts = [*FIRST, *SECOND]
                before = encoder.encode(texts, role=Role.DOCUMENT)
                rows = encoder.texts(texts, role=Role.DOCUMENT, instruction=None)
                pooled = pooled_by_layer(encoder, rows).numpy()
                scan = scanned(encoder)
                assert [0, 1, 2, 3] == [row.layers for row in scan.rows]
                found = []
                for layers in (1, 2, 3):
                    shallow = opened(cut(folder, tmp_path / str(layers), pooling=pooling, layers=layers))
                    vectors = shallow.encode(texts, role=Role.DOCUMENT)
                    units = pooled[layers] / np.linalg.norm(pooled[layers], axis=1, keepdims=True)
                    np.testing.assert_allclose(units, vectors, atol=2e-6)
                    near = (vectors[:5].astype(np.float64) * vectors[5:]).sum(axis=1)
                    assert spearmanr(near, PAIRS.gold).statistic == pytest.approx(scan.rows[layers].plain["near"])
                    found.append(vectors)
                assert np.abs(found[0] - found[1]).max() > 1e-3  # else the comparison says nothing
                assert np.array_equal(before, encoder.encode(texts, role=Role.DOCUMENT))
                assert not [
                    module for module in encoder.model.modules() if module._forward_hooks or module._forward_pre_hooks
                ]


def test_the_first_row_is_the_embeddings_after_the_final_norm(make_folder: MakeFolder) -> None:
    folder = uneven(make_folder("llama", bos=True))
    encoder = opened(folder)
    rows = encoder.texts(FIRST, role=Role.DOCUMENT, instruction=None)
    found = pooled_by_layer(encoder, rows)[0].numpy()
    weights = {name: value.double().numpy() for name, value in load_file(folder / "model.safetensors").items()}
    for row, pooled in zip(rows, found, strict=True):
        states = weights["model.embed_tokens.weight"][row.ids[row.start : row.end]]
        root = np.sqrt((states**2).mean(axis=1, keepdims=True) + encoder.model.config.rms_norm_eps)
        np.testing.assert_allclose(pooled, (states / root * weights["model.norm.weight"]).mean(axis=0), atol=1e-6)


def test_a_projection_plays_no_part(tiny_folder: Path, tmp_path: Path) -> None:
    folder = cut(tiny_folder, tmp_path / "projected", projection="projection.safetensors")
    save_projection(folder / "projection.safetensors", torch.nn.Linear(32, 4))
    encoder = opened(folder)
    assert 4 == encoder.info.dim
    assert scanned(opened(tiny_folder)) == scanned(encoder)


def ridge(states: np.ndarray, targets: np.ndarray, share: float) -> np.ndarray:
    """The penalised fit as least squares with rows added, the bias among the inputs."""
    inputs = np.hstack([states, np.ones((len(states), 1))])
    penalty = share * (inputs**2).sum(axis=0).mean()
    width = inputs.shape[1]
    above = np.vstack([inputs, np.sqrt(penalty) * np.eye(width)])
    return np.linalg.lstsq(above, np.vstack([targets, np.zeros((width, targets.shape[1]))]), rcond=None)[0]


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))


def test_mapped_scores_by_least_squares(tiny_folder: Path) -> None:
    encoder = opened(tiny_folder)
    teacher = hashing_encoder(EncoderConfig(model="hashing", dim=24))
    texts = [f"Number {i} tells of {WORDS[i % 6]} and {WORDS[i * i % 5]}." for i in range(60)]
    told: list[tuple[str, float]] = []
    scan = scanned(encoder, teacher=teacher, texts=texts, progress=lambda part, share: told.append((part, share)))
    rows = encoder.texts([*FIRST, *SECOND, *texts], role=Role.DOCUMENT, instruction=None)
    pooled = pooled_by_layer(encoder, rows).numpy().astype(np.float64)
    targets = teacher.encode(texts, role=Role.DOCUMENT).astype(np.float64)
    held = np.arange(60) % 5 == 0
    for row, states in zip(scan.rows, pooled, strict=True):
        asked, fitted = states[:10], states[10:]
        quality = [
            cosines(
                np.hstack([fitted[held], np.ones((12, 1))]) @ ridge(fitted[~held], targets[~held], share),
                targets[held],
            ).mean()
            for share in RIDGES
        ]
        vectors = np.hstack([asked, np.ones((10, 1))]) @ ridge(fitted, targets, RIDGES[int(np.argmax(quality))])
        expected = spearmanr(cosines(vectors[:5], vectors[5:]), PAIRS.gold).statistic
        assert row.mapped is not None
        assert expected == pytest.approx(row.mapped["near"])
        assert row.deciding == row.mapped["near"]
    assert [row.plain for row in scanned(encoder).rows] == [row.plain for row in scan.rows]
    assert [("states", 1.0), ("teacher", 1.0), ("maps", 1.0)] == [pair for pair in told if pair[1] == 1.0]


def test_several_files_count_by_their_mean(tiny_folder: Path) -> None:
    other = replace(PAIRS, name="far", gold=(1.0, 2.0, 3.0, 4.0, 5.0))
    alone, beside = scanned(opened(tiny_folder), other), scanned(opened(tiny_folder), PAIRS, other)
    for one, two in zip(alone.rows, beside.rows, strict=True):
        assert one.plain["far"] == pytest.approx(two.plain["far"])
        assert two.deciding == pytest.approx((two.plain["far"] + two.plain["near"]) / 2)  # type: ignore[operator]


def test_a_depth_at_which_all_texts_are_alike_has_no_score(make_folder: MakeFolder, tmp_path: Path) -> None:
    """The embedding of BOS knows nothing of the text after it."""
    scan = scanned(opened(cut(make_folder("llama", bos=True), tmp_path / "first", pooling="first")))
    assert {"near": None} == scan.rows[0].plain
    assert scan.rows[0].deciding is None
    assert all(row.deciding is not None for row in scan.rows[1:])


def row_of(layers: int, score: float | None, mapped: float | None = None) -> DepthRow:
    return DepthRow(layers=layers, plain={"a": score}, mapped=None if mapped is None else {"a": mapped})


def test_fewest_layers_by_hand(subtests: pytest.Subtests) -> None:
    for scores, best, fewest in [
        ([0.9, 0.5, 0.6, 0.7], 3, 3),  # the embeddings do not count
        ([0.0, 0.696, 0.5, 0.7], 3, 1),
        ([0.0, 0.694, 0.7, 0.698], 2, 2),
        ([0.0, 0.7, 0.7, 0.7], 1, 1),
        ([None, None, -0.2, -0.1], 3, 3),
    ]:
        with subtests.test(scores=scores, best=best, fewest=fewest):
            assert (best, fewest) == fewest_layers([row_of(layers, score) for layers, score in enumerate(scores)])


def test_mapped_scores_decide_where_there_are_some() -> None:
    rows = [row_of(0, 0.1, 0.1), row_of(1, 0.9, 0.2), row_of(2, 0.1, 0.8)]
    assert (2, 2) == fewest_layers(rows)
    assert mean_score({"a": 0.5, "b": None}) is None


def test_no_score_at_all_is_told() -> None:
    with pytest.raises(TrainingError, match="no layer tells the development pairs apart"):
        fewest_layers([row_of(0, 0.5), row_of(1, None)])


def test_pairs_without_a_correlation_are_refused(subtests: pytest.Subtests) -> None:
    for dev, words in [
        ([replace(PAIRS, first=FIRST[:2], second=SECOND[:2], gold=(1.0, 2.0))], "near: 2 in the file, expected at le"),
        ([PAIRS, replace(PAIRS)], "two --dev files are called near"),
    ]:
        with subtests.test(dev=dev, words=words), pytest.raises(TrainingError, match=words):
            require_scorable(dev)


def test_texts_to_fit_on_are_none_of_the_pairs() -> None:
    texts = [f"text {i}" for i in range(30)]
    assert texts == fit_texts([*texts, FIRST[0], texts[3], f" {SECOND[1]}\n"], [PAIRS])
    many = [f"text {i}" for i in range(2 * FITTED + 1)]
    chosen = fit_texts(many, [PAIRS])
    assert FITTED == len(set(chosen))
    steps = np.diff([many.index(text) for text in chosen[::512]])
    assert {1024} == set(steps.tolist())
    with pytest.raises(TrainingError, match="--texts has 19 different texts that are not in the development pairs"):
        fit_texts([*texts[:19], *FIRST], [PAIRS])


def test_a_state_that_is_no_number_names_its_depth(make_folder: MakeFolder) -> None:
    encoder = opened(make_folder("llama"))
    encoder.model.layers[1].mlp.down_proj.weight[:] = torch.nan
    with pytest.raises(NonFiniteError, match="returned NaN or Inf at 2 layers"):
        scanned(encoder)


def test_more_than_a_norm_after_the_layers_is_refused(make_folder: MakeFolder) -> None:
    encoder = opened(make_folder("llama"))
    own = encoder.model.forward

    def doubled(*args: Any, **kwargs: Any) -> Any:
        out = own(*args, **kwargs)
        out.last_hidden_state = 2 * out.last_hidden_state
        return out

    encoder.model.forward = doubled
    with pytest.raises(TrainingError, match="LlamaModel does more to the states of its last layer than a final norm"):
        scanned(encoder)
