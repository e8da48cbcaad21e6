"""What the writers of every kind of result share: how a file is annotated, finished, named or given up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, Protocol, TypeVar

from gexpr.writers.hdf5 import Attribute


class ResultWriter(Protocol):
    """A result that is being written; nothing has the output's name before ``commit``.

    A kind of result adds ``write``, which takes rows in order.
    """

    def annotate(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes that are known only at the end; a format without attributes leaves them out."""
        ...

    def finish(self) -> None:
        """Complete the file and bring it to the disk, still without its name."""
        ...

    def commit(self) -> None:
        """Finish the file and give it its name."""
        ...

    def discard(self) -> None:
        """Remove an unfinished file; safe to call at any time."""
        ...


File = TypeVar("File", bound=ResultWriter)


class FileWriter(Generic[File]):
    """A :class:`ResultWriter` over one file of a format.

    A writer that holds rows back writes them in its own ``finish``.

    Args:
        file: the format's file: text, HDF5 or Parquet.
    """

    def __init__(self, file: File) -> None:
        self._file = file

    def annotate(self, attributes: Mapping[str, Attribute]) -> None:
        """Add attributes of the whole file, where its format has such."""
        self._file.annotate(attributes)

    def finish(self) -> None:
        """Complete the file and bring it to the disk, still without its name."""
        self._file.finish()

    def commit(self) -> None:
        """Finish the file and give it its name."""
        self.finish()
        self._file.commit()

    def discard(self) -> None:
        """Remove an unfinished file; safe to call at any time."""
        self._file.discard()
