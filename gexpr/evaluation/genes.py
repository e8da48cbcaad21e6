"""Genes and the sums of a signal over the windows around their start codons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError, InputError
from gexpr.genome.bed import read_bed
from gexpr.genome.contigs import ContigMap


class PromoterWindow(NamedTuple):
    """Bases upstream and downstream of the first base of the start codon, on the gene's strand.

    A + gene that starts at s has the window ``[s - up, s + down)``, a - gene that ends at e (half-open)
    has ``[e - down, e + up)``.
    """

    up: int = 300
    down: int = 50

    @property
    def width(self) -> int:
        """Bases of the window."""
        return self.up + self.down

    @classmethod
    def parse(cls, text: str) -> PromoterWindow:
        """Read ``UP,DOWN``; either may be negative, their sum may not.

        Raises:
            ConfigError: not two whole numbers, or an empty window.
        """
        try:
            up, down = (int(part) for part in text.split(","))
        except ValueError:
            raise ConfigError(f"promoter window {text!r} is not UP,DOWN, such as 300,50") from None
        if up + down < 1:
            raise ConfigError(f"promoter window {text!r} is empty: UP + DOWN must be at least 1")
        return cls(up, down)


class Genes(NamedTuple):
    """Genes on the contigs of a genome.

    Attributes:
        names: (n,) names.
        contigs: (n,) contig of each, as the genome spells it.
        starts, ends: int64 (n,), 0-based half-open.
        minus: bool (n,), True on the - strand.
    """

    names: NDArray[np.str_]
    contigs: NDArray[np.str_]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    minus: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.names)

    def select(self, which: NDArray) -> Genes:
        """The genes at indices, or where a mask is True."""
        return Genes(*(column[which] for column in self))

    def windows(self, window: PromoterWindow) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Starts and ends (n,) of the windows; they may reach past the contig."""
        starts = np.where(self.minus, self.ends - window.down, self.starts - window.up)
        return starts, starts + window.width


def read_genes(path: str | os.PathLike[str], contigs: Sequence[str]) -> tuple[Genes, dict[str, int]]:
    """Genes of a BED6 file that lie on ``contigs``.

    Returns:
        The genes in file order, and the number of genes on each contig name that is unknown.

    Raises:
        InputError: a line without strand, no gene at all, or none on these contigs.
    """
    known = ContigMap(contigs)
    rows, unknown = [], dict[str, int]()
    for region in read_bed(path):
        if region.strand == ".":
            raise InputError(
                "a gene needs a strand, + or -, in column 6 to know its start", path=path, line=region.line
            )
        contig = known.resolve(region.chrom)
        if contig is None:
            unknown[region.chrom] = unknown.get(region.chrom, 0) + 1
        else:
            rows.append((region.name, contig, region.start, region.end, region.strand == "-"))
    if not rows:
        named = ", ".join(list(unknown)[:5])
        raise InputError(
            f"no gene lies on a contig of the dataset ({', '.join(list(contigs)[:5])}, ...)"
            + (f"; the file names {named}" if unknown else "; the file is empty"),
            path=path,
        )
    names, on, starts, ends, minus = zip(*rows, strict=True)
    genes = Genes(
        names=np.array(names),
        contigs=np.array(on),
        starts=np.array(starts, dtype=np.int64),
        ends=np.array(ends, dtype=np.int64),
        minus=np.array(minus),
    )
    return genes, unknown


def window_sums(
    values: NDArray[np.floating],
    bin_size: int,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Sums of binned values over intervals; a bin counts by the share of it that the interval covers.

    Args:
        values: (bins, tracks); bin b covers bases ``b * bin_size`` to ``(b + 1) * bin_size``.
        starts, ends: (n,) bases, may reach past either end, where the values are 0.

    Returns:
        (n, tracks).
    """
    cumulative = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, dtype=np.float64, out=cumulative[1:])

    def below(position: NDArray[np.int64]) -> NDArray[np.float64]:
        whole, rest = np.divmod(np.clip(position, 0, len(values) * bin_size), bin_size)
        share = (rest / bin_size)[:, None]
        after = cumulative[np.minimum(whole + 1, len(values))]
        return cumulative[whole] + share * (after - cumulative[whole])

    return below(np.asarray(ends)) - below(np.asarray(starts))
