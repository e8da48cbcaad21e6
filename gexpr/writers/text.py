"""Text outputs: plain, or bgzipped where the name says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gexpr.writers.output import AtomicOutput, BgzfFile, utf8, write_all

COMPRESSED = (".gz", ".bgz")
"""Suffixes of text outputs that are bgzipped."""


class TextFile:
    """Text under an :class:`AtomicOutput`, bgzipped when the output's name ends in ``.gz`` or ``.bgz``.

    Attributes:
        output: as given.
        bgzf: the compressor, None for plain text; indexes need its positions.
    """

    def __init__(self, output: AtomicOutput) -> None:
        self.output = output
        self.bgzf = BgzfFile(output.file) if output.path.lower().endswith(COMPRESSED) else None

    def lines(self, lines: Sequence[str]) -> None:
        """Write lines, each without its line break; errors as in :meth:`write`."""
        self.write(b"".join(utf8(line) + b"\n" for line in lines))

    def write(self, data: bytes) -> None:
        """Write bytes.

        Raises:
            GexprError: the write failed.
        """
        try:
            if self.bgzf is not None:
                self.bgzf.write(data)
            else:
                write_all(self.output.file, data)
                if self.output.is_stream:
                    self.output.file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self.output.failure(error) from error

    def annotate(self, attributes: Mapping[str, str | int | float | bool]) -> None:
        """Text has no attributes."""

    def finish(self) -> None:
        """Complete the file and bring it to the disk, still without its name."""
        if self.bgzf is not None and not self.output.file.closed:
            try:
                self.bgzf.finish()
            except OSError as error:
                raise self.output.failure(error) from error
        self.output.finish()

    def commit(self) -> None:
        """Finish the file and give it its name."""
        self.finish()
        self.output.commit()

    def discard(self) -> None:
        """Remove an unfinished file; safe to call at any time."""
        if self.bgzf is not None:
            self.bgzf.discard()
        self.output.discard()


def numbers(row: NDArray[np.floating]) -> list[str]:
    """The shortest text of every number that reads back as the same float32 or float16; ``nan`` for NaN."""
    return [str(value) for value in row]
