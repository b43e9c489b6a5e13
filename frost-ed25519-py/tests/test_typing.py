"""The stubs are true, and everything is documented."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import frost_ed25519
import pytest

PACKAGE = Path(frost_ed25519.__file__).parent
MODULES = [
    frost_ed25519.__name__,
    *(found.name for found in pkgutil.walk_packages(frost_ed25519.__path__, "frost_ed25519.")),
]


def run(*arguments: str, cwd: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=os.environ | {"MYPY_FORCE_COLOR": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr


def test_stubs_are_true(tmp_path: Path) -> None:
    run("mypy.stubtest", "frost_ed25519", cwd=tmp_path)


def test_strict(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    run("mypy", "--strict", "--cache-dir", cache, "-p", "frost_ed25519", cwd=tmp_path)


def test_py_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
    assert (PACKAGE / "_native.pyi").is_file()


def test_version() -> None:
    assert frost_ed25519.__version__ == importlib.metadata.version("frost-ed25519-py")
    assert frost_ed25519.CIPHERSUITE == "FROST-ED25519-SHA512-v1"


@pytest.mark.parametrize("name", MODULES)
def test_documentation(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    names = getattr(module, "__all__", [])
    assert names or name.endswith("exceptions")
    for public in names:
        thing = getattr(module, public)
        if inspect.isclass(thing) or callable(thing):
            assert thing.__doc__, f"{name}.{public}"
        if not inspect.isclass(thing):
            continue
        for member, value in vars(thing).items():
            if not member.startswith("_"):
                assert inspect.getdoc(value), f"{name}.{public}.{member}"


@pytest.mark.parametrize("name", [name for name in MODULES if "_native" not in name])
def test_all_is_complete_and_sorted(name: str) -> None:
    module = importlib.import_module(name)
    if name.endswith("exceptions"):
        return
    assert module.__all__ == sorted(module.__all__)
    for public in module.__all__:
        assert hasattr(module, public)
