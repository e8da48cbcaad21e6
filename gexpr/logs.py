"""Messages and progress bars on stderr: the only place that decides how they look.

Progress is shown when stderr is a terminal and hidden otherwise, so that logs of batch jobs
stay readable. Results never go through here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_quiet = False

# What a file says, such as a variant's ID, must not move the cursor of a terminal.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


def _print(message: str) -> None:
    print(message.translate(_ESCAPES), file=sys.stderr, flush=True)


def set_quiet(quiet: bool) -> None:
    """Suppress everything but warnings and errors (the ``--quiet`` option)."""
    global _quiet
    _quiet = quiet


def info(message: str) -> None:
    """Print one line to stderr unless ``--quiet`` was given."""
    if not _quiet:
        _print(message)


def warning(message: str) -> None:
    """Print one line that starts with ``warning:`` to stderr."""
    _print(f"warning: {message}")


def error(message: str) -> None:
    """Print one line that starts with ``error:`` to stderr."""
    _print(f"error: {message}")


class Progress:
    """A progress bar on a terminal, silent elsewhere; ``advance`` is cheap enough for every batch."""

    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self.done = 0
        self.started = time.monotonic()
        self._bar = None
        if sys.stderr.isatty() and not _quiet:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(f"{unit}  {{task.fields[note]}}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(description, total=total, note="")
            self._bar.start()

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count ``count`` more units as done; ``note`` replaces the short text behind the bar."""
        self.done += count
        if self._bar is not None:
            self._bar.update(self._task, advance=count)
            if note is not None:
                self._bar.update(self._task, note=note)

    @property
    def rate(self) -> float:
        """Units done a second since the start."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


@contextmanager
def progress(description: str, total: int | None, unit: str) -> Iterator[Progress]:
    """Context manager around :class:`Progress`."""
    bar = Progress(description, total, unit)
    try:
        yield bar
    finally:
        bar.close()
