"""Tiny random decoders with a real byte-level BPE tokenizer, written to folders as users have them."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

# Tiny models on one thread: on a busy machine two threads of a pool wait for each other many times longer than they
# work. Set before torch is imported, and inherited by the commands that tests start.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# Models are compiled into the user's cache, which tests leave alone; those of the real default model find it here.
os.environ.setdefault("SEARCHCTL_TEST_CACHE", os.environ.get("XDG_CACHE_HOME", ""))
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="searchctl-test-cache-")

import pytest

# torch and transformers take seconds to import and half a gigabyte: only the tests that make a model import them.
if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PretrainedConfig

SENTENCES = [
    "The capital of France is Paris, a city on the Seine.",
    "Rust has no garbage collector; ownership decides when memory is freed.",
    "def add(a, b):\n    return a + b",
    "A short one.",
    "Bread rises because yeast turns sugar into carbon dioxide and alcohol, which the dough holds.",
    "München liegt an der Isar; 東京 is the capital of Japan.",
]

SMALL = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def pytest_unconfigure() -> None:
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


def make_tokenizer(*, bos: bool = False) -> "Tokenizer":
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def tiny_config(kind: str = "llama", **changes: object) -> "PretrainedConfig":
    from transformers import CONFIG_MAPPING

    return CONFIG_MAPPING[kind](**{**SMALL, **changes})


@pytest.fixture
def reachable(tmp_path: Path) -> Path:
    """The folder of the test, which another user may enter: pytest closes its own folders to all but its user."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(0o755)
        if folder.name.startswith("pytest-of-"):
            break
    return tmp_path


@pytest.fixture(scope="session")
def make_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a tiny random causal LM with its tokenizer and return the folder."""

    def make(kind: str = "llama", *, bos: bool = False, seed: int = 0, **changes: object) -> Path:
        import torch
        from transformers import AutoModelForCausalLM

        folder = tmp_path_factory.mktemp(kind)
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(kind, **changes))
        model.save_pretrained(folder)
        make_tokenizer(bos=bos).save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "pad_token": "<pad>"})
        )
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_folder(make_folder: Callable[..., Path]) -> Path:
    return make_folder()


@pytest.fixture(scope="session")
def bring_adapter() -> Callable[..., None]:
    """Put a LoRA that changes the states into a model's folder, which brings it from then on."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    def bring(folder: Path, place: str) -> None:
        torch.manual_seed(1)
        peft = get_peft_model(
            AutoModel.from_pretrained(folder, dtype=torch.float32), LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
        )
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.5)
        peft.save_pretrained(folder / place)
        (folder / "searchctl.json").write_text(json.dumps({"adapters": [place]}))

    return bring
