"""The built distributions hold exactly the tree: every module and data file of the rooms, and nothing else."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
ROOMS = ("app", "encoder", "index", "training")
# Notes for those who work on the code stay in the repository; a model card goes where its adapters go.
NOT_DATA = {".py", ".pyc", ".so", ".md"}


def test_explicit_package_list_names_every_folder_with_modules() -> None:
    expected = {"searchctl"} | {
        "searchctl." + ".".join(path.parent.relative_to(TREE).parts)
        for room in ROOMS
        for path in (TREE / room).rglob("*.py")
    }

    with (TREE / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)["tool"]["setuptools"]
    packages = settings["packages"]

    assert expected == set(packages)
    assert len(packages) == len(set(packages))
    for package in packages:
        assert (TREE.joinpath(*package.split(".")[1:]) / "__init__.py").is_file(), f"{package} has no __init__.py"


@pytest.mark.slow
def test_wheel_holds_the_tree(wheel: Path) -> None:
    assert expected_content() == installed_files(wheel)


@pytest.mark.slow
def test_wheel_puts_only_searchctl_at_the_top(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {"searchctl", wheel.name.split("-py3")[0] + ".dist-info"} == tops


@pytest.mark.slow
def test_wheel_metadata_carries_licence_readme_and_command(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    info = wheel.name.split("-py3")[0] + ".dist-info"
    metadata = archive.read(f"{info}/METADATA").decode()

    assert "searchctl = searchctl.app.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert (TREE / "README.md").read_text(encoding="utf-8").splitlines()[0] in metadata
    assert (TREE / "LICENSE").read_bytes() == archive.read(f"{info}/licenses/LICENSE")


@pytest.mark.slow
def test_a_forgotten_subpackage_is_missing_from_the_wheel_and_seen(checkout: Path, tmp_path: Path) -> None:
    """The comparison above can fail: a folder left out of the list in pyproject.toml is noticed."""
    (checkout / "index" / "forgotten").mkdir()
    (checkout / "index" / "forgotten" / "__init__.py").write_text('"""Forgotten."""\n')

    built = installed_files(build_wheel(checkout, tmp_path / "out"))

    assert {"searchctl/index/forgotten/__init__.py"} == expected_content(checkout) - built


@pytest.mark.slow
def test_sdist_builds_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    code = "import sys, setuptools.build_meta as b; print(b.build_sdist(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=checkout, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shutil.unpack_archive(tmp_path / done.stdout.splitlines()[-1], tmp_path / "unpacked")
    (root,) = (tmp_path / "unpacked").iterdir()

    assert installed_files(wheel) == installed_files(build_wheel(root, tmp_path / "again"))
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "constraints.txt", "docs/quickstart.md"):
        assert (root / name).is_file(), f"{name} is not in the sdist"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(copy_tree(tmp_path_factory.mktemp("wheel")), tmp_path_factory.mktemp("out"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_tree(tmp_path)


def copy_tree(folder: Path) -> Path:
    """Return a copy of the tree without build leftovers, in a folder whose name is no Python identifier."""
    need_setuptools()
    target = folder / "a checkout-2 of it"
    target.mkdir()
    left_out = shutil.ignore_patterns("__pycache__", "*.pyc", "*.egg-info", ".*")
    for name in (*ROOMS, "docs", "tests", "benchmarks"):
        if (TREE / name).is_dir():
            shutil.copytree(TREE / name, target / name, ignore=left_out)
    for path in TREE.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy2(path, target)
    return target


def need_setuptools() -> None:
    if importlib.util.find_spec("setuptools") is None:
        reason = "setuptools is not installed here: pip install 'setuptools>=77'"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def build_wheel(tree: Path, out: Path) -> Path:
    """Return the wheel built from `tree` by the declared backend, without network or build isolation."""
    out.mkdir(exist_ok=True)
    code = "import sys, setuptools.build_meta as b; b.build_wheel(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


def installed_files(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def expected_content(tree: Path = TREE) -> set[str]:
    """Return what a wheel of `tree` must hold: modules and data of the rooms, and the root's own three files."""
    found = {"searchctl/__init__.py", "searchctl/__main__.py", "searchctl/py.typed"}
    for room in ROOMS:
        for path in (tree / room).rglob("*"):
            inside = path.relative_to(tree)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in inside.parts)
            card = path.match("encoder/adapters/*/README.md")
            if path.is_file() and not hidden and (card or path.suffix == ".py" or path.suffix not in NOT_DATA):
                found.add(f"searchctl/{inside.as_posix()}")
    return found
