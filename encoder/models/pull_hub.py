"""Models of the Hugging Face hub, fetched into the hub's own cache and linked into ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelFilesError, PullError
from .cache import PullCallback, PullProgress, disk_error, models_folder, placing, pulled
from .folder import MODULES, check_adapter_folder, check_model_folder, has_weights, is_adapter
from .sidecar import Sidecar, write_sidecar

if TYPE_CHECKING:
    from .registry import ModelEntry


FILES = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "searchctl.json",
    MODULES,
)
ADAPTER_FILES = ("adapter_config.json",)
TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "*.jinja")
# Older models have their weights as pickled tensors only; transformers reads those without running code.
PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
# Second copies of the weights in other layouts ("*" matches "/" too).
IGNORED = ("*/*", "consolidated*")


def pull_hub(
    hub_name: str,
    *,
    entry: ModelEntry | None = None,
    progress: PullCallback | None = None,
    cache: Path | None = None,
    endpoint: str | None = None,
) -> Path:
    """Return the folder of the hub model `owner/name`, fetching it when missing.

    The files lie once on the disk: in the hub's own cache, which other programs share, and linked from our folder;
    with `cache` given, below it. Raises PullError when offline, for an unknown name or a licence not accepted, and
    ModelFilesError when the repository holds no usable model.
    """
    found = pulled(entry.name if entry else hub_name, cache=cache)
    if found is not None:
        return found
    hub_cache = None if cache is None else cache / "hub"
    wanted = (*FILES, *TOKENIZER_FILES, *ADAPTER_FILES)
    snapshot = _snapshot(hub_name, wanted, hub_cache, progress, endpoint)
    if not has_weights(snapshot) and not is_adapter(snapshot):
        snapshot = _snapshot(hub_name, (*wanted, *PICKLED), hub_cache, progress, endpoint)
    stem = entry.name if entry else hub_name.replace("/", "--")
    target = models_folder(cache) / f"{stem}-{snapshot.name}"
    with placing(target, progress) as staging:
        if staging is not None:
            _fill(staging / "model", snapshot, entry, hub_name)
    return target


def _fill(model: Path, snapshot: Path, entry: ModelEntry | None, hub_name: str) -> None:
    model.mkdir()
    for path in snapshot.iterdir():
        if path.is_file() and not path.match("pytorch_model*") and path.name != MODULES:
            _link(path.resolve(), model / path.name)
    if is_adapter(model) and not has_weights(model):
        check_adapter_folder(model)
        return
    if not has_weights(model) and not any(snapshot.glob("pytorch_model*")):
        raise ModelFilesError(f"{hub_name}: no weights in the repository, expected *.safetensors or pytorch_model*.bin")
    if not has_weights(model) or not (model / "tokenizer.json").is_file():
        _complete(model, snapshot, hub_name)
    if entry is None and (snapshot / MODULES).is_file() and not (model / "searchctl.json").is_file():
        raise ModelFilesError(
            f"{hub_name} is a sentence-transformers model ({MODULES}) without searchctl.json: its pooling and prompts "
            f"would be ignored, and the vectors be others. To "
            'use its weights in another way: download it, write searchctl.json into the folder, as in {"pooling": '
            '"last"}, and give the folder with --model. The next command measures it as it is',
            next_command=("eval", "run", "--baseline", hub_name),
        )
    if entry is not None or not (model / "searchctl.json").is_file():
        (model / "searchctl.json").unlink(missing_ok=True)
        write_sidecar(model, entry.sidecar if entry else Sidecar())
    try:
        check_model_folder(model)
    except ModelFilesError as error:
        what = str(error).replace(str(model), hub_name)
        raise ModelFilesError(f"{hub_name} is no decoder language model that searchctl can use: {what}") from error


def _link(source: Path, target: Path) -> None:
    """Make `target` the file `source` without a second copy: a hard link, across disks a symbolic one."""
    try:
        os.link(source, target)
    except OSError:
        try:
            target.symlink_to(source)
        except OSError:
            # Windows without the right to make symbolic links, across disks.
            shutil.copyfile(source, target)


def _complete(model: Path, snapshot: Path, hub_name: str) -> None:
    """Write what an older repository lacks, safetensors or a fast tokenizer, in a process of its own."""
    command = [sys.executable, "-P", "-m", "searchctl.encoder.models.pull_hub", str(snapshot), str(model)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()] or [f"code {done.returncode}"]
        raise ModelFilesError(
            f"{hub_name}: has no safetensors or tokenizer.json, and its older files cannot be converted ({lines[-1]})"
        )


def write_missing(snapshot: Path, model: Path) -> None:
    """Write what `model` lacks of safetensors and a fast tokenizer from the older files in `snapshot`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not has_weights(model):
        loaded = AutoModelForCausalLM.from_pretrained(str(snapshot), dtype="auto", trust_remote_code=False)
        # Links to the hub's cache must be replaced, never written through.
        for name in ("config.json", "generation_config.json"):
            (model / name).unlink(missing_ok=True)
        loaded.save_pretrained(str(model), max_shard_size="5GB")
    if not (model / "tokenizer.json").is_file():
        for path in list(model.glob("tokenizer*")) + list(model.glob("special_tokens_map.json")):
            path.unlink()
        AutoTokenizer.from_pretrained(str(snapshot), trust_remote_code=False).save_pretrained(str(model))


def _snapshot(
    hub_name: str,
    patterns: tuple[str, ...],
    hub_cache: Path | None,
    progress: PullCallback | None,
    endpoint: str | None,
) -> Path:
    """Return the hub's snapshot folder with these files, whose name is the commit."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            hub_name,
            allow_patterns=list(patterns),
            ignore_patterns=list(IGNORED),
            cache_dir=hub_cache,
            tqdm_class=_counter(progress),
            endpoint=endpoint,
        )
    except Exception as error:
        # Everything: the hub's HTTP library (httpx or its successor) raises errors that share no base with OSError.
        raise _hub_error(error, hub_name, hub_cache) from error
    return Path(folder)


def _hub_error(error: Exception, hub_name: str, hub_cache: Path | None) -> PullError:
    """Return what the hub library's error means and what to do."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    again = ("models", "pull", hub_name)
    if isinstance(error, GatedRepoError):
        return PullError(
            f"{hub_name} is gated: accept the licence on its page on the Hugging Face hub and run `hf auth login`",
            next_command=again,
        )
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return PullError(
            f"the Hugging Face hub has no model {hub_name}, or it is private: check the spelling (owner/name), or run "
            "`hf auth login`",
            next_command=again,
        )
    if isinstance(error, HfHubHTTPError):
        return PullError(f"{hub_name}: the Hugging Face hub answered {_line(error)}: try later", next_command=again)
    if isinstance(error, OSError) and not isinstance(error, LocalEntryNotFoundError | ConnectionError):
        return disk_error(error, (hub_cache or Path(constants.HF_HUB_CACHE)) / hub_name)
    return PullError(_offline(hub_name, error), next_command=again)


def _offline(hub_name: str, error: BaseException) -> str:
    from huggingface_hub import constants

    cause = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _line(error.__cause__ or error)
    return (
        f"{hub_name} is not in the cache, and the Hugging Face hub cannot be asked ({cause}). Go online "
        "and fetch it, give a model folder with --model PATH, or use the default model"
    )


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _counter(progress: PullCallback | None) -> Any:
    """Return a silent tqdm class that tells `progress` the bytes: the hub library's one channel for it."""
    from tqdm import tqdm  # type: ignore[import-untyped]

    class Counter(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **options: Any) -> None:
            name = options.pop("name", None) or ""
            self.counts = options.get("unit") == "B" and not name.endswith("transfer")
            self.bytes = 0
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.bytes += int(n or 0)
            if self.counts and progress is not None:
                progress(PullProgress(stage="download", done=self.bytes, total=int(self.total or 0) or None))

    return Counter


if __name__ == "__main__":
    write_missing(Path(sys.argv[1]), Path(sys.argv[2]))
