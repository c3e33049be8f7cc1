"""How much memory a run on n vectors will need, how much there is, and an error before the start when it is less."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import NotEnoughMemoryError

MIB = 2**20
_KIB = 2**10
_UNLIMITED = 2**60
"""Above any real memory: cgroup v1 writes a number near 2**63 for "no limit"."""


def available_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes that a process can still take without swapping, None where the system does not say.

    On Linux the smaller of MemAvailable and what the process's cgroups (a container's limit) leave; elsewhere all
    memory of the machine. `root` is where /proc and /sys are.
    """
    found = [_meminfo(root), *_cgroup_room(root)]
    known = [number for number in found if number is not None]
    return min(known) if known else _physical()


def check_memory(what: str, needed: int, *, instead: str, available: int | None = None) -> None:
    """Raise NotEnoughMemoryError when `needed` bytes are more than there are; nothing happens where that is unknown.

    `what` begins the message ("k-means on 100,000 vectors"), `instead` ends it: what the person can do. `available`
    in bytes; None asks the system.
    """
    room = available_memory() if available is None else available
    if room is not None and needed > room:
        raise NotEnoughMemoryError(
            f"{what} needs about {in_words(needed)} of memory, but only {in_words(room)} are available: {instead}",
            needed=needed,
            available=room,
        )


def in_words(size: int) -> str:
    """Return a number of bytes as a person reads it: "310 MiB", "2.9 GiB"."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{max(1, round(size / MIB))} MiB"


def _meminfo(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * _KIB
    return None


def _cgroup_room(root: Path) -> list[int]:
    """Return what each limit on this process's cgroup, or on one above it, leaves: v2 and v1, one may hold both."""
    rooms = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit, used = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit, used = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # Inside a container the path may be the host's, which is not there: then its own cgroup is at the base.
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):
            room = _room_of(place, limit, used)
            if room is not None:
                rooms.append(room)
            if place == base:
                break
    return rooms


def _room_of(place: Path, limit_name: str, used_name: str) -> int | None:
    limit, used = _number(place / limit_name), _number(place / used_name)
    if limit is None or used is None or limit >= _UNLIMITED:
        return None
    # Files that were read lately count as used, but give way.
    fields = dict(line.split(" ", 1) for line in _lines(place / "memory.stat"))
    cached = int(fields.get("total_inactive_file", fields.get("inactive_file", "0")))
    return max(0, limit - used + cached)


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
