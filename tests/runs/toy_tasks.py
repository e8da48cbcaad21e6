"""A task without model: rows are numbers, and every computed block is written to a journal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gexpr.errors import InputError
from gexpr.runs.blocks import Advance, BlockTask
from gexpr.runs.directory import Block, Manifest
from gexpr.writers.output import AtomicOutput, write_all
from gexpr.writers.parts import Part

if TYPE_CHECKING:
    from gexpr.runs.control import Outcome


class TwoArguments(Exception):
    """An error that pickle can write and not read."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class ToyTask(BlockTask):
    """Row i is the number i * i; block by block, in any process.

    Args:
        journal: a file that gets a line ``start pid device threads`` for every block computed.
        rows: how many.
        faults: first row of a block -> what happens there: ``fail``, ``bug``, ``odd``, ``exit``,
            ``kill``, ``slow``, ``hang``, ``changed`` (the input, when the blocks before it were checked) or
            the name of a signal.
        fingerprint: what determines the numbers, besides the rows.
    """

    command = "toy"

    def __init__(
        self,
        journal: Path,
        rows: int = 10,
        faults: Mapping[int, str] | None = None,
        fingerprint: Mapping[str, Any] | None = None,
        block_rows: int = 3,
    ) -> None:
        self.journal = journal
        self.rows = rows
        self.faults = dict(faults or {})
        self.values = dict(fingerprint or {"power": 2})
        self.block_rows = block_rows
        self.on = ("toy", None)
        self.changed = False
        self.unchecked = 0
        self.closed = 0

    @property
    def device(self) -> str:
        return "toy"

    @property
    def forwards(self) -> int:
        return 0

    def plan(self) -> tuple[int, dict[str, Any]]:
        if "plan" in self.faults.values():
            raise InputError("nothing to plan", path="toy.txt")
        return self.rows, {"unit": "squares"}

    def default_block_rows(self, rows: int) -> int:
        return self.block_rows

    def close(self) -> None:
        self.closed += 1

    def fingerprint(self) -> dict[str, Any]:
        return {**self.values, "rows": self.rows}

    def compute(self, block: Block, advance: Advance | None = None) -> Part:
        fault = self.faults.get(block.start)
        if fault == "fail":
            raise InputError("no such number", path="toy.txt", line=block.start)
        if fault == "bug":
            raise ZeroDivisionError("a bug")
        if fault == "odd":
            raise TwoArguments("this", "that")
        if fault == "exit":
            os._exit(7)
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault in ("slow", "hang"):
            time.sleep(0.3 if fault == "slow" else 600)
        if fault is not None and fault.startswith("SIG"):
            os.kill(os.getpid(), getattr(signal, fault))
        if fault == "changed":
            while self.unchecked:
                time.sleep(0.001)
            self.changed = True
        self.unchecked += 1
        with open(self.journal, "a") as file:
            file.write(f"{block.start} {os.getpid()} {self.on[0]} {self.on[1]}\n")
        if advance is not None:
            advance(block.end - block.start)
        return Part({"squares": np.arange(block.start, block.end) ** 2}, {})

    def check_inputs(self) -> None:
        self.unchecked = 0
        if self.changed:
            raise InputError("the file was changed while it was in use; start again", path="toy.txt")

    def on_device(self, device: str, threads: int | None) -> ToyTask:
        other = ToyTask(self.journal, self.rows, self.faults, self.values, self.block_rows)
        other.on = (device, threads)
        return other

    def absolute(self) -> ToyTask:
        return self

    def computed(self) -> list[int]:
        """First rows of the blocks computed so far, in order."""
        return [int(line.split()[0]) for line in self.lines()]

    def lines(self) -> list[str]:
        """The journal."""
        return self.journal.read_text().splitlines() if self.journal.exists() else []


class ToySink:
    """Numbers as lines of text, the same in every output."""

    def __init__(self, outputs: Sequence[AtomicOutput], manifest: Manifest) -> None:
        self.outputs = outputs
        self.added = 0

    def add(self, part: Part) -> None:
        self.added += 1
        text = "".join(f"{value}\n" for value in part.arrays["squares"])
        for output in self.outputs:
            write_all(output.file, text.encode())
            if output.is_stream:
                output.file.flush()

    def finish(self) -> None:
        for output in self.outputs:
            output.finish()

    def commit(self) -> None:
        for output in self.outputs:
            output.commit()

    def discard(self) -> None:
        for output in self.outputs:
            output.discard()


def squares(rows: int) -> str:
    """What the output of a toy run must be."""
    return "".join(f"{row * row}\n" for row in range(rows))


def run(task: ToyTask, output: Path | str | Sequence[Path | str] | None, **options: Any) -> Outcome:
    """A run of the toy task, as a command would start it."""
    # Imported here: workers that unpickle a task must not wait for torch.
    from gexpr.runs.control import RunOptions, run_task

    several = isinstance(output, Sequence) and not isinstance(output, str)
    given = [str(each) for each in output] if several else None if output is None else str(output)
    return run_task(lambda _: task, ToySink, given, RunOptions(**options), inputs=["toy.txt"], unit="squares")
