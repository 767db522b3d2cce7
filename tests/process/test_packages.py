"""What is built: from a bare checkout, the same each time, with all an operator needs inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from panicmail import __version__
from tests import manual

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two builds, of two copies, under two umasks."""
    folders = []
    for number, mask in enumerate((0o022, 0o077)):
        folder = tmp_path_factory.mktemp(f"build{number}")
        before = os.umask(mask)
        try:
            bare = shutil.ignore_patterns(".git", ".*venv*", "dist", "__pycache__", ".*_cache", ".hypothesis")
            shutil.copytree(ROOT, folder / "checkout", ignore=bare, copy_function=shutil.copyfile)
            command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder / "dist")]
            subprocess.run(command, cwd=folder / "checkout", check=True, capture_output=True, timeout=100)
        finally:
            os.umask(before)
        folders.append(folder / "dist")
    return (folders[0], folders[1])


def test_two_builds_are_equal_octet_by_octet(built: tuple[Path, Path]) -> None:
    one, other = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in built)
    assert sorted(one) == [f"panicmail-{__version__}-py3-none-any.whl", f"panicmail-{__version__}.tar.gz"]
    assert one == other


def test_the_wheel_has_all_an_operator_needs_and_refuses_an_old_python(built: tuple[Path, Path]) -> None:
    (wheel,) = built[0].glob("*.whl")
    with zipfile.ZipFile(wheel) as inside:
        names = {name.partition(".data/data/")[2] or name.partition(".dist-info/")[2] or name: name
                 for name in inside.namelist()}  # fmt: skip
        metadata = inside.read(names["METADATA"]).decode()
        page = inside.read(names["share/man/man1/panicmail.1"]).decode()
    wanted = {
        "panicmail/py.typed",
        "licenses/LICENSE",
        "share/man/man1/panicmail.1",
        "share/panicmail/requirements.txt",
    }
    wanted |= {f"share/panicmail/{file.relative_to(ROOT / 'deploy')}" for file in (ROOT / "deploy").rglob("*")
               if file.is_file()}  # fmt: skip
    assert wanted - names.keys() == set()
    assert not [name for name in names if name.startswith("tests")]
    assert "Requires-Python: >=3.11\n" in metadata
    assert page == manual.page()


def test_the_source_archive_can_be_tested_and_built_again(built: tuple[Path, Path]) -> None:
    (archive,) = built[0].glob("*.tar.gz")
    with tarfile.open(archive) as inside:
        names = {name.partition("/")[2] for name in inside.getnames()}
    assert {
        "Makefile",
        "pyproject.toml",
        "requirements/build.txt",
        "requirements/run.txt",
        "tests/process/test_packages.py",
    } < names


def test_the_man_page_says_what_the_commands_say() -> None:
    assert manual.PAGE.read_text("utf-8") == manual.page(), "make man"


def test_what_builds_is_pinned_by_hash_and_is_the_same_that_tests() -> None:
    builds, tests = ((ROOT / "requirements" / f"{name}.txt").read_text().split("\n") for name in ("build", "test"))
    pins = [line for line in builds if "==" in line]
    assert pins
    assert [line for line in pins if line not in tests] == []
