"""What a score was computed with: the machine in a few words, and the versions that decide numbers."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from .. import __version__

_PACKAGES = ("mteb", "torch", "transformers", "numpy", "scikit-learn", "scipy", "sentence-transformers", "bm25s")


def describe_machine() -> str:
    """Return GPUs, processor, threads and memory in one line, e.g. "AMD EPYC 7B13, 2 threads, 8 GiB"."""
    words = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    words += [_processor(), f"{torch.get_num_threads()} threads"]
    memory = _memory_gib()
    return ", ".join(words if memory is None else [*words, f"{memory:.0f} GiB"])


def describe_versions() -> dict[str, str]:
    """Return the versions of searchctl, Python and the packages that numbers come from; absent ones are left out."""
    found = {package: package_version(package) for package in _PACKAGES}
    present = {package: number for package, number in found.items() if number is not None}
    return {"searchctl": __version__, "python": platform.python_version(), **present}


@cache
def package_version(package: str) -> str | None:
    """Return the version of an installed package, None for an absent one."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    lines = _lines(Path("/proc/cpuinfo"))
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _memory_gib() -> float | None:
    """Return the memory of the machine, None where Linux does not say it."""
    total = (line.split()[1] for line in _lines(Path("/proc/meminfo")) if line.startswith("MemTotal:"))
    kibibytes = next(total, None)
    return None if kibibytes is None else int(kibibytes) / 2**20


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
