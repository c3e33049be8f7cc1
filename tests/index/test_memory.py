from __future__ import annotations

from pathlib import Path

import pytest

from searchctl.index.errors import NotEnoughMemoryError
from searchctl.index.memory import available_memory, check_memory, in_words

GIB = 2**30


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="ascii")
    return root


MEMINFO = {"proc/meminfo": f"MemTotal: 9999999 kB\nMemFree: 5 kB\nMemAvailable:   {8 * 2**20} kB\n"}
V2 = {"proc/self/cgroup": "0::/box/inner\n"}
V1 = {"proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/box\n0::/\n"}


def test_the_least_of_what_the_machine_and_its_cgroups_leave(
    tmp_path_factory: pytest.TempPathFactory, subtests: pytest.Subtests
) -> None:
    for case, files, expected in [
        ("meminfo", MEMINFO, 8 * GIB),
        (
            "v2-unlimited",
            {
                **MEMINFO,
                **V2,
                "sys/fs/cgroup/box/inner/memory.max": "max\n",
                "sys/fs/cgroup/box/inner/memory.current": "1",
            },
            8 * GIB,
        ),
        # A limit further up counts, and files read lately do not.
        (
            "v2-parent",
            {
                **MEMINFO,
                **V2,
                "sys/fs/cgroup/box/memory.max": f"{4 * GIB}\n",
                "sys/fs/cgroup/box/memory.current": f"{3 * GIB}\n",
                "sys/fs/cgroup/box/memory.stat": f"anon 5\ninactive_file {GIB}\nactive_file 7\n",
            },
            2 * GIB,
        ),
        # Inside a container the path of the host is not there.
        (
            "v2-container",
            {
                **MEMINFO,
                **V2,
                "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
                "sys/fs/cgroup/memory.current": f"{3 * GIB}\n",
            },
            0,
        ),
        (
            "v1",
            {
                **MEMINFO,
                **V1,
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": f"{3 * GIB}\n",
                "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{2 * GIB}\n",
                "sys/fs/cgroup/memory/box/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB // 2}\n",
            },
            3 * GIB // 2,
        ),
        (
            "v1-unlimited",
            {
                **MEMINFO,
                **V1,
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/box/memory.usage_in_bytes": f"{2 * GIB}\n",
            },
            8 * GIB,
        ),
    ]:
        with subtests.test(case):
            tmp_path = tmp_path_factory.mktemp("row")
            assert expected == available_memory(machine(tmp_path, files))


def test_this_machine_says_something_plausible() -> None:
    room = available_memory()
    assert room is None or 2**20 < room < 2**50


def test_too_much_is_refused_with_both_amounts_and_what_to_do() -> None:
    with pytest.raises(NotEnoughMemoryError) as caught:
        check_memory("comparing 100,000 vectors", 3 * GIB, instead="use --level document", available=GIB + 1)
    message = (
        "comparing 100,000 vectors needs about 3.0 GiB of memory, but only 1.0 GiB are available: use --level document"
    )
    assert message == str(caught.value)
    assert (3 * GIB, GIB + 1) == (caught.value.needed, caught.value.available)
    check_memory("comparing", GIB, instead="", available=GIB)


def test_sizes_in_words(subtests: pytest.Subtests) -> None:
    for size, expected in [(0, "1 MiB"), (310 * 2**20, "310 MiB"), (3 * GIB + 5, "3.0 GiB")]:
        with subtests.test(size=size, expected=expected):
            assert expected == in_words(size)
