"""Names of contigs: which sequence of the FASTA a name in another file means."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from gexpr.errors import InputError, did_you_mean, shown
from gexpr.genome.compressed import read_lines

_PREFIXES = ("chr", "Chr", "CHR")
_MITOCHONDRIA = ("chrM", "MT", "M", "chrMT", "Mito", "chrMito", "mitochondrion", "chrmt")


class ContigMap:
    """Finds the FASTA's name of a contig.

    A name is looked for in this order: the aliases given by the user; exactly; with ``chr`` added
    or removed; as another name of the mitochondrion (only when the FASTA has exactly one of them).

    Args:
        names: the contig names of the FASTA.
        aliases: other file's name -> FASTA name. Aliases to names the FASTA lacks are ignored, so
            that one alias file serves several FASTA files.

    Attributes:
        renamed: name -> FASTA name of everything resolved so far that was not an exact match.
    """

    def __init__(self, names: Iterable[str], aliases: Mapping[str, str] | None = None) -> None:
        self._names = frozenset(names)
        self._aliases = {k: v for k, v in (aliases or {}).items() if v in self._names}
        self._known: dict[str, str | None] = {}
        mitochondria = [name for name in _MITOCHONDRIA if name in self._names]
        self._mitochondrion = mitochondria[0] if len(mitochondria) == 1 else None
        self.renamed: dict[str, str] = {}

    def resolve(self, chrom: str) -> str | None:
        """The FASTA's name for ``chrom``, or None when it has no such contig."""
        try:
            return self._known[chrom]
        except KeyError:
            pass
        contig = self._find(chrom)
        self._known[chrom] = contig
        if contig is not None and contig != chrom:
            self.renamed[chrom] = contig
        return contig

    def near(self, chrom: str) -> str:
        """The end of a message about an unknown contig: a name of the FASTA that is nearly it, if any."""
        return did_you_mean(chrom, self._names)

    def _find(self, chrom: str) -> str | None:
        if chrom in self._aliases:
            return self._aliases[chrom]
        if chrom in self._names:
            return chrom
        for prefix in _PREFIXES:
            if prefix + chrom in self._names:
                return prefix + chrom
        for prefix in _PREFIXES:
            if chrom.startswith(prefix):
                bare = chrom[len(prefix) :]
                for other in ("", *_PREFIXES):
                    if other + bare in self._names:
                        return other + bare
        if chrom in _MITOCHONDRIA:
            return self._mitochondrion
        return None


def read_aliases(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read a table of contig aliases: two tab-separated columns, the other file's name and the FASTA's.

    Blank lines and lines that start with ``#`` are skipped; plain or gzip.

    Raises:
        InputError: a line without exactly two columns, or a name with two different meanings.
    """
    aliases: dict[str, str] = {}
    for number, line in read_lines(path, "table of contig aliases"):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        fields = [field.strip() for field in text.split("\t")]
        if len(fields) != 2 or not all(fields):
            raise InputError(
                "expected two tab-separated columns (name in the VCF, name in the FASTA), "
                f"found {shown(text)}",
                path=path,
                line=number,
            )
        if aliases.setdefault(fields[0], fields[1]) != fields[1]:
            meanings = f"{shown(aliases[fields[0]])} and to {shown(fields[1])}"
            raise InputError(
                f"{shown(fields[0])} is mapped to {meanings}; keep one",
                path=path,
                line=number,
            )
    return aliases
