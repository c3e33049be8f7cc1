"""An encoder in mteb's hands: every text in its place, on its side, with its instruction, and counted."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from mteb.mocks.mock_tasks import MockSTSTask
from mteb.types import PromptType
from torch.utils.data import DataLoader

from searchctl.encoder.hashing import HashingEncoder
from searchctl.encoder.protocol import ProgressCallback, Role, Vectors
from searchctl.training.errors import EvaluationError
from searchctl.training.evaluation.measurement import Identity, Meter, Pulse, TaskInstructions
from searchctl.training.evaluation.mteb_encoder import MeteredEncoder, MtebEncoder, falling, model_meta
from searchctl.training.evaluation.vector_cache import CachedEncoder

TASK = MockSTSTask.metadata
WHO = Identity(label="my model/1", kind="encoder", name="hashing", fingerprint="ab" * 32, details={"parameters": 7})
TEXTS = ["one", "two words", "three more words", "and four more words"]


class Recorder(HashingEncoder):
    def __init__(self, max_tokens: int = 512) -> None:
        super().__init__(dim=16, max_tokens=max_tokens)
        self.calls: list[tuple[list[str], Role, str | None]] = []

    def encode(
        self,
        texts: Sequence[str],
        *,
        role: Role,
        instruction: str | None = None,
        progress: ProgressCallback | None = None,
    ) -> Vectors:
        self.calls.append((list(texts), role, instruction))
        return super().encode(texts, role=role, instruction=instruction, progress=progress)


def loader(texts: Sequence[object], **settings: object) -> DataLoader:
    return DataLoader(Dataset.from_dict({"text": list(texts)}), batch_size=2, **settings)


def adapted(encoder: HashingEncoder, meter: Meter | None = None) -> MtebEncoder:
    meter = meter or Meter()
    instructions = TaskInstructions(query="find", document="this")
    return MtebEncoder(MeteredEncoder(encoder, meter), identity=WHO, instructions=instructions, meter=meter)


def encode(model: MtebEncoder, inputs: DataLoader, prompt_type: PromptType | None = None) -> Vectors:
    return model.encode(
        inputs, task_metadata=TASK, hf_split="test", hf_subset="default", prompt_type=prompt_type, batch_size=32
    )


def test_each_side_has_its_role_and_instruction(subtests: pytest.Subtests) -> None:
    for prompt_type, role, instruction in [
        (None, Role.QUERY, "find"),
        (PromptType.query, Role.QUERY, "find"),
        (PromptType.document, Role.DOCUMENT, "this"),
    ]:
        with subtests.test(prompt_type=prompt_type, role=role, instruction=instruction):
            encoder = Recorder()
            encode(adapted(encoder), loader(TEXTS), prompt_type)
            assert [(TEXTS, role, instruction)] == encoder.calls


def test_vectors_are_the_encoders_in_the_order_of_the_loader() -> None:
    expected = HashingEncoder(dim=16).encode(TEXTS, role=Role.QUERY)
    model = adapted(Recorder())
    assert np.array_equal(expected, encode(model, loader(TEXTS)))
    assert np.array_equal(expected[[2, 0, 3]], encode(model, loader(TEXTS, sampler=[2, 0, 3])))
    plain = DataLoader([{"text": text} for text in TEXTS], batch_size=3)
    assert np.array_equal(expected, encode(model, plain))
    chosen = DataLoader(Dataset.from_dict({"text": TEXTS}).select([3, 1]), batch_size=1)
    assert np.array_equal(expected[[3, 1]], encode(model, chosen))


def test_empty_texts_are_zeros_and_counted_and_the_encoder_never_sees_them() -> None:
    encoder, meter = Recorder(), Meter()
    vectors = encode(adapted(encoder, meter), loader(["one", "", " \n\u3000", "two"]))
    expected = HashingEncoder(dim=16).encode(["one", "two"], role=Role.QUERY)
    assert np.array_equal(expected, vectors[[0, 3]])
    assert np.array_equal(np.zeros((2, 16), dtype=np.float32), vectors[[1, 2]])
    assert np.float32 == vectors.dtype
    assert [["one", "two"]] == [texts for texts, _, _ in encoder.calls]
    assert (4, 2, 2) == (meter.texts, meter.empty, meter.tokens)


def test_only_empty_texts_and_no_texts_at_all() -> None:
    assert np.array_equal(np.zeros((2, 16), dtype=np.float32), encode(adapted(Recorder()), loader(["", " "])))
    assert (0, 16) == encode(adapted(Recorder()), loader([])).shape


def test_the_meter_counts_texts_tokens_and_cut_texts_over_calls() -> None:
    meter = Meter()
    model = adapted(Recorder(max_tokens=3), meter)
    encode(model, loader(TEXTS))
    encode(model, loader(["five more words than before"]))
    # Words 1 + 2 + 3 + 3 of 4, then 3 of 5.
    assert (5, 12, 2, 0) == (meter.texts, meter.tokens, meter.truncated, meter.empty)


def test_cut_texts_are_counted_as_texts_are_behind_a_cache_too(tmp_path: Path) -> None:
    """Equal ones each, and those that an interrupted run left."""
    texts = ["one two three four"] * 10 + ["short"]
    for left in range(2):
        meter = Meter()
        cache = CachedEncoder(MeteredEncoder(Recorder(max_tokens=3), meter), tmp_path / "v", kind="fp32 3")
        model = MtebEncoder(cache, identity=WHO, instructions=TaskInstructions(), meter=meter)
        encode(model, loader(texts))
        assert (11, 10, 0 if left else 4) == (meter.texts, meter.truncated, meter.tokens)
        encode(model, loader(["five more words than before", ""]))
        assert (13, 11) == (meter.texts, meter.truncated)
        cache.close()


def test_seconds_are_those_inside_of_the_encoder() -> None:
    class Slow(Recorder):
        def encode(self, texts: Sequence[str], **rest: object) -> Vectors:
            time.sleep(0.05)
            return super().encode(texts, **rest)

    meter = Meter()
    began = time.perf_counter()
    encode(adapted(Slow(), meter), loader(TEXTS))
    assert 0.05 <= meter.encode_s <= time.perf_counter() - began


def test_a_call_that_fails_counts_for_what_it_did() -> None:
    class Broken(Recorder):
        def encode(self, texts: Sequence[str], **rest: object) -> Vectors:
            super().encode(texts, **rest)
            raise KeyboardInterrupt

    meter = Meter()
    with pytest.raises(KeyboardInterrupt):
        encode(adapted(Broken(), meter), loader(TEXTS))
    assert 10 == meter.tokens
    assert meter.encode_s > 0


def test_the_pulse_tells_how_far_the_call_is() -> None:
    pulses: list[Pulse] = []
    meter = Meter(pulse=pulses.append)
    encode(adapted(Recorder(), meter), loader(["word"] * 600))
    assert [(512 / 600, 600, 512), (1.0, 600, 600)] == [(p.share, p.tokens_total, p.tokens_done) for p in pulses]
    assert 0 < pulses[0].elapsed_s <= pulses[1].elapsed_s


def test_what_is_no_text_is_an_error_naming_task_and_row(subtests: pytest.Subtests) -> None:
    for bad in [None, ["a", "list"]]:
        with subtests.test(bad=bad):
            rows = [["a"], bad] if isinstance(bad, list) else ["a", bad]
            row = 0 if isinstance(bad, list) else 1
            with pytest.raises(EvaluationError, match=rf"task MockSTS.*: text {row} is a (NoneType|list)"):
                encode(adapted(Recorder()), loader(rows))


def test_data_without_text_are_an_error_naming_the_columns() -> None:
    with pytest.raises(EvaluationError, match=r"\['picture'\], expected text"):
        encode(adapted(Recorder()), DataLoader(Dataset.from_dict({"picture": [1]})))


def test_similarity_is_the_dot_product() -> None:
    model = adapted(Recorder())
    a, b = np.array([[0.6, 0.8], [1.0, 0.0]], np.float32), np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert np.allclose([[0.6, 0.8], [1.0, 0.0]], np.asarray(model.similarity(a, b)))
    assert np.allclose([0.6, 0.0], np.asarray(model.similarity_pairwise(a, b)))


def test_the_metadata_name_the_model_and_promise_text_alone() -> None:
    meta = adapted(Recorder()).mteb_model_meta
    assert ("searchctl/my-model-1", "ab" * 20, 16, 512, 7) == (
        meta.name,
        meta.revision,
        meta.embed_dim,
        meta.max_tokens,
        meta.n_parameters,
    )
    assert ["text"] == meta.modalities
    assert ["sparse"] == model_meta(WHO, kind="sparse").model_type


def test_falling_scores_keep_the_order_and_what_already_falls() -> None:
    found = falling([("a", 2.0), ("b", 1.0), ("c", 1.0), ("d", 1.0), ("e", 0.5)])
    assert list("abcde") == sorted(found, key=lambda id_: -found[id_])
    assert (2.0, 1.0, 0.5) == (found["a"], found["b"], found["e"])
    assert found == {id_: pytest.approx(score, rel=1e-6) for id_, score in zip("abcde", (2, 1, 1, 1, 0.5), strict=True)}
    assert all(np.float32(score) == score for score in found.values())
    assert {} == falling([])
