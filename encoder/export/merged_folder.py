"""What stands beside the weights of a model that has its adapters merged."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from ..config import Pooling
from ..models.folder import read_json
from ..models.projection import FILE_NAME as PROJECTION
from ..models.resolve import ResolvedModel
from ..models.sidecar import Sidecar, write_sidecar
from ..protocol import EncoderInfo

# What transformers knows as files of a tokenizer, and what a licence may ask to hand on.
TOKENIZER_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.model"),
    *("vocab.json", "merges.txt", "chat_template.jinja"),
)
LICENCE_FILES = ("LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*")


def write_merged(folder: Path, resolved: ResolvedModel, info: EncoderInfo) -> None:
    """Write what stands beside the merged weights: the base's tokenizer as it is, and our settings."""
    for name in TOKENIZER_FILES:
        if (resolved.folder / name).is_file():
            shutil.copyfile(resolved.folder / name, folder / name)
    path = folder / "tokenizer_config.json"
    if path.is_file() and "auto_map" in (said := read_json(path)):
        del said["auto_map"]
        path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if resolved.projection is not None:
        shutil.copyfile(resolved.projection, folder / PROJECTION)
    write_sidecar(folder, _alone(resolved.sidecar, info))


def _alone(sidecar: Sidecar, info: EncoderInfo) -> Sidecar:
    """Return the settings of a model that has its adapters in its weights, and no layer that is not used."""
    return replace(
        sidecar,
        pooling=Pooling(info.pooling),
        max_tokens=info.max_tokens,
        adapters=(),
        layers=None,
        projection=None if sidecar.projection is None else PROJECTION,
        base=None,
    )


def copy_licences(source: Path, folder: Path) -> None:
    """Copy the files that a licence may ask to hand on."""
    for pattern in LICENCE_FILES:
        for path in sorted(source.glob(pattern)):
            if path.is_file():
                shutil.copyfile(path, folder / path.name)
