"""Inputs for runs that are killed, and what such runs must give in the end."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_tools import World, make_world, run, sha256


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Inputs that every test may read and none may change."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def expected(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Suffix -> SHA-256 of the scores that an undisturbed run writes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    found = {}
    for suffix in ("h5", "tsv", "tsv.gz"):
        assert run(world.score("-o", f"out.{suffix}"), folder).code == 0
        found[suffix] = sha256(folder / f"out.{suffix}")
    return found


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "gexpr-chaos", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
