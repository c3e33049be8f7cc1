"""README.md of an exported model: where it comes from, how to use it, and how it was made."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..config import ExportFormat, Precision
from ..prompts import PromptFormat
from ..protocol import EncoderInfo
from .sentence_folder import SentencePlan

# Names of the hub for the licences of the registry; any other one is "other" with its name.
HUB_LICENCES = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "Gemma Terms of Use": "gemma",
    "Llama 2 Community License": "llama2",
    "Meta Llama 3 Community License": "llama3",
}
FRONT_MATTER = re.compile(r"\A---\n(.*?)^---$", flags=re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an encoder comes from, in words that hold on any machine: no paths."""

    base: str
    """Name of the base model."""
    source: str | None
    """Where its weights were fetched: a package or a hub name; None for a folder."""
    hub_base: str | None
    """The base's name on the hub, where it is from there."""
    revision: str
    licence: str | None
    """Of the base; None: not known."""
    adapters: tuple[str, ...]
    """In the order in which they were merged."""
    data: tuple[tuple[str, str | None], ...] = ()
    """What it was trained on, each with its licence, None where none was said."""


def stated_licence(folder: Path) -> str | None:
    """Return the licence in the head of a model folder's README.md, None without one."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    head = FRONT_MATTER.match(text)
    found = (
        dict(re.findall(r"^(license|license_name):[ \t]*([^\s#].*?)[ \t]*$", head.group(1), flags=re.M)) if head else {}
    )
    said = found.get("license_name") or found.get("license")
    return None if said is None else said.strip("\"'")


def model_card(
    origin: Origin,
    *,
    form: ExportFormat,
    info: EncoderInfo,
    prompt: PromptFormat,
    plan: SentencePlan | None,
    instructed: bool,
    precision: Precision,
    limits: tuple[str, ...],
    cosine: float | None,
    name: str,
    command: str,
    versions: Mapping[str, str],
) -> str:
    """Return the card as Markdown with the hub's metadata at its head."""
    parts = [
        _head(origin, form),
        f"# {name}\n",
        _intro(origin, info),
        "## Use\n",
        _use(name, prompt, plan, instructed=instructed),
        *(["## Mind\n", *(f"- {limit}" for limit in limits), ""] if limits else []),
        "## Facts\n",
        _facts(origin, info, prompt, precision),
        "## How it was made\n",
        _made(command, versions, cosine, form),
    ]
    return "\n".join(parts)


def _head(origin: Origin, form: ExportFormat) -> str:
    library = "sentence-transformers" if form is ExportFormat.SENTENCE_TRANSFORMERS else "transformers"
    lines = [f"library_name: {library}", "pipeline_tag: feature-extraction"]
    if origin.licence is not None:
        known = HUB_LICENCES.get(origin.licence, origin.licence if origin.licence in HUB_LICENCES.values() else None)
        lines += [f"license: {known}"] if known else ["license: other", f"license_name: {json.dumps(origin.licence)}"]
    if origin.hub_base is not None:
        lines.append(f"base_model: {origin.hub_base}")
    lines += ["tags:", "- llm2vec", "- feature-extraction", "- sentence-similarity", "- searchctl"]
    return "\n".join(["---", *lines, "---", ""])


def _intro(origin: Origin, info: EncoderInfo) -> str:
    trained = f" with the adapters {', '.join(origin.adapters)} merged into its weights" if origin.adapters else ""
    return (
        f"A text encoder made from the decoder {origin.base}{trained}. Its attention is bidirectional "
        f"(`is_causal: false` in config.json, LLM2Vec, arXiv 2404.05961), for which transformers 5.2 or later is "
        f"needed. It gives vectors of {info.dim} components and needs no code of its own.\n"
    )


def _use(name: str, prompt: PromptFormat, plan: SentencePlan | None, *, instructed: bool) -> str:
    if plan is None:
        return (
            f"```sh\nsearchctl embed --model {name} texts.txt -o vectors.npy\n```\n\n"
            "searchctl reads pooling, template and length from `searchctl.json`. The bare model, without pooling:\n\n"
            f'```python\nfrom transformers import AutoModel\nmodel = AutoModel.from_pretrained("{name}")\n```\n'
        )
    code = (
        f'from sentence_transformers import SentenceTransformer\nmodel = SentenceTransformer("{name}")\n'
        'documents = model.encode_document(["Bread rises because yeast makes gas."])\n'
        'queries = model.encode_query(["What makes bread rise?"])\n'
        "print(model.similarity(queries, documents))"
    )
    own = ""
    if instructed:
        lead = json.dumps(plan.begin + prompt.prefix + prompt.instruction, ensure_ascii=False)
        own = (
            f"\nFor a query with an instruction of your own give `prompt={lead}` with the instruction in place of "
            "`{instruction}`.\n"
        )
    return f"```python\n{code}\n```\n{own}"


def _facts(origin: Origin, info: EncoderInfo, prompt: PromptFormat, precision: Precision) -> str:
    licence = origin.licence or "not known: find out what the base model's licence allows before you share this"
    rows = [
        ("base", origin.base),
        ("weights of the base from", origin.source or ""),
        ("revision of the base", origin.revision),
        ("licence of the base", licence),
        ("adapters", ", ".join(origin.adapters) or "none"),
        ("training data", ", ".join(f"{data} ({said or 'licence not said'})" for data, said in origin.data)),
        ("pooling", info.pooling),
        ("components", str(info.dim)),
        ("longest text", f"{info.max_tokens:,} tokens, longer ones are cut"),
        ("weights", str(precision)),
        *(
            (f"prompt {key}", f"`{json.dumps(text, ensure_ascii=False)}`")
            for key, text in prompt.to_dict().items()
            if text
        ),
        ("fingerprint of the original", info.fingerprint),
    ]
    lines = [f"| {key} | {value.replace('|', chr(92) + '|')} |" for key, value in rows if value]
    return "\n".join(["| | |", "| --- | --- |", *lines, ""])


def _made(command: str, versions: Mapping[str, str], cosine: float | None, form: ExportFormat) -> str:
    listed = ", ".join(f"{package} {version}" for package, version in versions.items())
    looked = "sentence-transformers" if form is ExportFormat.SENTENCE_TRANSFORMERS else "searchctl"
    checked = (
        "The vectors were not checked: sentence-transformers was not installed."
        if cosine is None
        else f"{looked} opened the folder: the least cosine to the original's vectors was {cosine:.6f}."
    )
    return f"```sh\n{command}\n```\n\nWith {listed}. {checked}\n"
