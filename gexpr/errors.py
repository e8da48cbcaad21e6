"""Exceptions and exit codes that every layer shares.

Exit codes of the command line: 0 success, 1 the input or the environment is at fault
(:class:`GexprError`), 2 wrong usage (click), 3 ``--strict`` and rows left unscored, 75
interrupted, the same command continues.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable


class GexprError(Exception):
    """A mistake in the input, the options or the environment, told in one line to the user.

    The message names the bad value, where it is, and what to do. The command line prints it
    to stderr without a traceback and exits with ``exit_code``.
    """

    exit_code = 1


class InputError(GexprError):
    """A file that cannot be accepted, with the place of the fault.

    Args:
        message: what is wrong and what to do.
        path: the file at fault; ``-`` is standard input.
        line: 1-based line number, when the fault has one.
        offset: byte offset in the file, when the fault has one.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        offset: int | None = None,
    ) -> None:
        self.message = message
        self.path = None if path is None else os.fspath(path)
        self.line = line
        self.offset = offset
        super().__init__(self._text())

    def _text(self) -> str:
        if self.path is None:
            return self.message
        place = "standard input" if self.path == "-" else self.path
        if self.line is not None:
            place += f", line {self.line}"
        if self.offset is not None:
            place += f", byte {self.offset}"
        return f"{place}: {self.message}"


class CheckpointError(GexprError):
    """A checkpoint that is damaged, incomplete or not a gexpr checkpoint."""


class ConfigError(GexprError):
    """A model or training setting with a value that is not allowed."""


class MissingDependencyError(GexprError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class Interrupted(GexprError):
    """Stopped by a signal after finished work was saved; the same command continues."""

    exit_code = 75


def shown(value: object, length: int = 80) -> str:
    """What a file says, for a message: on one line, printable, and short however much it is."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= length else f"{text[: length - 3]}..."


def shown_name(name: str) -> str:
    """A name from a file, for a message: as it is, unless that would not do."""
    return name if name.isprintable() and len(name) <= 60 else shown(name)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: ``; did you mean 'x'?``, or nothing when none is near."""
    by_case = {each.casefold(): each for each in known}
    close = difflib.get_close_matches(name.casefold(), by_case, n=1)
    return f"; did you mean {shown(by_case[close[0]])}?" if close else ""


def require(module: str, extra: str):  # type: ignore[no-untyped-def]
    """Import ``module``, or raise :class:`MissingDependencyError` that names ``gexpr[extra]``."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(
            f"this command needs the Python package {module.split('.')[0]!r} ({error}); "
            f"install it with: pip install 'gexpr[{extra}]'"
        ) from error
