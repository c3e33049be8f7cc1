"""`searchctl models compile`: the graph of an encoder made now, compared with torch where that is installed."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from ...encoder.compiled.open import find_compiled
from ...encoder.config import EncoderConfig, Precision, Runtime
from ...encoder.models.cache import folder_bytes
from ...encoder.models.resolve import resolve
from ...encoder.open import open_encoder
from ..options import ReportFormat, cache_folder
from ..terminal.console import Terminal
from ..terminal.progress import pull_bar
from ..terminal.wording import size

SCHEMA = 1


def run_compile(terminal: Terminal, config: EncoderConfig, *, form: ReportFormat) -> None:
    """Build the graph where the cache has none, compare it, and print where it lies and what was measured.

    Raises NotCompiledError for a model that only torch runs.
    """
    cache = cache_folder()
    with pull_bar(terminal, config.model) as pulling:
        encoder = open_encoder(replace(config, runtime=Runtime.COMPILED), cache=cache, progress=pulling)
    least = None
    if find_spec("torch") is not None:
        from ...encoder.compiled.compare import require_same

        with terminal.waiting("comparing with torch"):
            plain = replace(config, runtime=Runtime.TORCH, precision=Precision.FP32, device="cpu")
            least = require_same(encoder, open_encoder(plain, cache=cache))
    found = find_compiled(resolve(config, cache=cache), cache=cache)
    assert found is not None, "it was opened"
    folder, record = found
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "name": encoder.info.name,
        "fingerprint": encoder.info.fingerprint,
        "folder": str(folder),
        "bytes": folder_bytes(folder),
        "proof": record["proof"],
        "least_cosine": least,
    }
    if form is ReportFormat.JSON:
        terminal.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")
        return
    proof = document["proof"]
    terminal.say(f"proved: {len(proof['influences'])} layers see the future, no vector depends on its batch")
    if least is not None:
        terminal.say(f"compared with torch: 200 texts, least cosine {least:.7f}")
    terminal.say(f"{size(document['bytes'])} in")
    terminal.write(f"{folder}\n")
