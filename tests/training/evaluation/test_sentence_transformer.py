"""Sentence-transformers models as baselines: by their own prompts and similarity, wherever their files lie."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from mteb.mocks.mock_tasks import MockRetrievalTask, MockSTSTask
from mteb.types import PromptType
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling as StPooling
from sentence_transformers.sentence_transformer.modules import Transformer
from torch.utils.data import DataLoader

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.protocol import Vectors
from searchctl.training.errors import EvaluationError
from searchctl.training.evaluation.measurement import EvalTask, TaskInstructions
from searchctl.training.evaluation.model_specs import parse_model
from searchctl.training.evaluation.mteb_encoder import OpenedModel
from searchctl.training.evaluation.sentence_transformer import SentenceTransformerModel

TEXTS = ["The capital of France is Paris.", "A short one.", "Bread rises because yeast turns sugar into gas."]
BASE = EncoderConfig(model="hashing", device="cpu")
STS = EvalTask(
    name="sts",
    task_type="STS",
    data="-",
    instructions=TaskInstructions(query="not for a baseline", document="not for a baseline"),
    make=lambda: pytest.fail("a model needs no data"),
)


@pytest.fixture(scope="module")
def st_model(make_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny sentence-transformers folder whose vectors are not of length 1, with prompts, cut at 12 tokens."""
    folder = tmp_path_factory.mktemp("st") / "tiny-st"
    transformer = Transformer(str(make_folder()), max_seq_length=12)
    prompts = {"query": "query: ", "document": "text: ", "STS": "same: "}
    SentenceTransformer(
        modules=[transformer, StPooling(32, "mean")],
        prompts=prompts,
        device="cpu",
    ).save(str(folder))
    return folder


def parse(spec: str, cache: Path | None = None) -> SentenceTransformerModel:
    model = parse_model(spec, base=BASE, cache=cache)
    assert isinstance(model, SentenceTransformerModel)
    return model


def encode(opened: OpenedModel, texts: list[str], prompt_type: PromptType | None = None) -> Vectors:
    task = (MockSTSTask if prompt_type is None else MockRetrievalTask).metadata
    inputs = DataLoader(Dataset.from_dict({"text": texts}))
    return opened.model.encode(inputs, task_metadata=task, hf_split="test", hf_subset="d", prompt_type=prompt_type)


def measure(model: SentenceTransformerModel, texts: list[str], workspace: Path) -> tuple[Vectors, int]:
    """Return the vectors on a symmetric task and the tokens they took."""
    with model.open(STS, workspace) as opened:
        return encode(opened, texts), opened.meter.tokens


def test_vectors_and_prompts_are_the_models_own(
    st_model: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for prompt_type, prompt in [(None, "same: "), (PromptType.query, "query: "), (PromptType.document, "text: ")]:
        with subtests.test(prompt_type=prompt_type, prompt=prompt):
            tmp_path = tmp_path_factory.mktemp("row")
            plain = SentenceTransformer(str(st_model), device="cpu")
            expected = plain.encode([prompt + text for text in TEXTS], prompt="")
            assert not np.allclose(1, np.linalg.norm(expected, axis=1), atol=0.01)
            model = parse(str(st_model), tmp_path)
            with model.open(STS, tmp_path / "work") as opened:
                vectors = encode(opened, TEXTS, prompt_type)
                similarity = np.asarray(opened.model.similarity(vectors, vectors))
                tokens = [len(plain.tokenizer(prompt + text)["input_ids"]) for text in TEXTS]
                meter = opened.meter
                assert (3, sum(min(12, count) for count in tokens)) == (meter.texts, meter.tokens)
                assert sum(count > 12 for count in tokens) == meter.truncated > 0
                assert meter.encode_s > 0
            assert np.allclose(expected, vectors, atol=1e-5)
            unit = expected / np.linalg.norm(expected, axis=1, keepdims=True)
            assert np.allclose(unit @ unit.T, similarity, atol=1e-5)


def test_a_text_of_just_the_limit_is_not_cut(st_model: Path, tmp_path: Path) -> None:
    tokenizer = SentenceTransformer(str(st_model), device="cpu").tokenizer
    texts = ["x" * count for count in range(1, 60)]
    lengths = [len(tokenizer("same: " + text)["input_ids"]) for text in texts]
    just = texts[lengths.index(12)]
    with parse(str(st_model), tmp_path).open(STS, tmp_path / "work") as opened:
        encode(opened, [just])
        assert (12, 0) == (opened.meter.tokens, opened.meter.truncated)
        encode(opened, [just + "y"])
        assert (24, 1) == (opened.meter.tokens, opened.meter.truncated)


def test_a_baseline_s_killed_task_goes_on_too(st_model: Path, tmp_path: Path) -> None:
    model = parse(str(st_model), tmp_path)
    first, tokens = measure(model, TEXTS, tmp_path / "work")
    model.close()
    again, tokens_again = measure(model, TEXTS, tmp_path / "work")
    assert np.array_equal(first, again)
    assert tokens > 0 == tokens_again


def test_who_a_baseline_is_depends_on_its_files_and_not_on_their_place(st_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(st_model, copy)
    (copy / "README.md").write_text("another card")
    who, other = parse(str(st_model), tmp_path).identify(), parse(str(copy), tmp_path).identify()
    assert ("tiny-st", "elsewhere", "sentence-transformers") == (who.label, other.label, who.kind)
    assert who.fingerprint == other.fingerprint
    assert (12, 32) == (who.details["max_tokens"], who.details["batch_size"])
    (copy / "1_Pooling" / "config.json").write_text('{"word_embedding_dimension": 32, "pooling_mode_cls_token": true}')
    assert who.fingerprint != parse(str(copy), tmp_path).identify().fingerprint


def test_an_installed_package_goes_by_its_own_or_its_modules_name(
    st_model: Path, tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for spec in ["tiny-st-wheel", "tiny_st_wheel", "tiny_st_package"]:
        with subtests.test(spec=spec), pytest.MonkeyPatch.context() as monkeypatch:
            tmp_path = tmp_path_factory.mktemp("row")
            package = tmp_path / "tiny_st_package"
            package.mkdir()
            (package / "__init__.py").write_text("raise RuntimeError('a model is found without running its package')")
            (package / "model").mkdir()
            for file in st_model.iterdir():
                (package / "model" / file.name).symlink_to(file)
            info = tmp_path / "tiny_st_wheel-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-st-wheel\nVersion: 1.0\n")
            (info / "RECORD").write_text("tiny_st_package/__init__.py,,\ntiny_st_package/model/modules.json,,\n")
            monkeypatch.syspath_prepend(tmp_path)
            model = parse(spec)
            assert (package / "model", spec, spec) == (model.folder, model.label, model.identify().name)


def test_a_package_without_a_model_is_unknown() -> None:
    with pytest.raises(EvaluationError, match="no model is called 'pytest'"):
        parse("pytest")


def test_a_baseline_that_does_not_load_is_an_error_that_names_the_folder(st_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "modules.json").write_text((st_model / "modules.json").read_text())
    model = parse(str(broken), tmp_path)
    with (
        pytest.raises(EvaluationError, match=r"broken: .*Expected a folder as sentence-transformers"),
        model.open(STS, tmp_path / "work"),
    ):
        pass
