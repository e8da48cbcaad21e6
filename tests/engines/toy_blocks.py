"""Tasks for Dask workers, which import this module and little else."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

from gexpr.errors import InputError


class Done(NamedTuple):
    """What the toy task hands back."""

    block: int
    pid: int


class Toy:
    """Writes ``<block>.part`` and counts its runs in ``<block>.runs``; can be slow, wait or fail."""

    def __init__(
        self, folder: Path, seconds: float = 0.0, wait_for: Path | None = None, bad: int | None = None
    ) -> None:
        self.folder = folder
        self.seconds = seconds
        self.wait_for = wait_for
        self.bad = bad

    def __call__(self, block: int) -> Done:
        part = self.folder / f"{block}.part"
        if part.exists():
            return Done(block, os.getpid())
        with open(self.folder / f"{block}.runs", "a") as file:
            file.write(f"{os.getpid()}\n")
        if block == self.bad:
            raise InputError("record has no ALT", path="in.vcf", line=7)
        while self.wait_for is not None and not self.wait_for.exists():
            time.sleep(0.02)
        time.sleep(self.seconds)
        part.write_text(str(os.getpid()))
        return Done(block, os.getpid())


class Flaky(Toy):
    """Raises an OSError the first two times."""

    def __call__(self, block: int) -> Done:
        with open(self.folder / "tries", "a") as file:
            file.write("x")
        if len((self.folder / "tries").read_text()) < 3:
            raise OSError(5, "Input/output error")
        return super().__call__(block)


class Deadly(Toy):
    """Ends its worker."""

    def __call__(self, block: int) -> Done:
        with open(self.folder / f"{block}.runs", "a") as file:
            file.write(f"{os.getpid()}\n")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")
