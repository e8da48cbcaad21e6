"""Indexes of bgzipped VCF, made while the file is written: TBI, or CSI for contigs of more than 512 Mb.

Formats: https://samtools.github.io/hts-specs/tabix.pdf and CSIv1.pdf. In plain Python, because no C
library sees a user's file (:mod:`gexpr.variants.vcf`), and a full disk must end in an error.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import NamedTuple

from gexpr.writers.output import BgzfFile

TBI_LENGTH = 1 << 29
"""Bases of the longest contig that a TBI can index."""
CSI_LENGTH = 1 << 32
"""Bases of the longest contig that is indexed at all."""
_SHIFT = 14
_VCF = struct.pack("<6i", 2, 1, 2, 0, ord("#"), 0)
"""The preset: VCF; columns of contig, start and end; comment character; lines to skip."""


class _Contig(NamedTuple):
    """``chunks``: height and number of a bin -> begin and end of runs of its records; ``linear``: the first
    begin in each 16 kb; ``span``: begin and end of all records, and how many they are.
    """

    chunks: dict[tuple[int, int], list[list[int]]]
    linear: list[int]
    span: list[int]


class TabixIndex:
    """Collects the places of a VCF's records.

    Attributes:
        fault: why the file cannot be indexed, None as long as it can.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self._contigs: dict[bytes, _Contig] = {}
        self._chrom: bytes | None = None
        self._last = -1
        self._longest = 0

    def add(self, chrom: bytes, start: int, end: int, begin: int, after: int) -> None:
        """Take the next record of the file.

        Args:
            chrom: as spelt in the file.
            start: 0-based; -1 for POS 0.
            end: behind the last base of REF or of the INFO that tells the end.
            begin: where its line begins, in bytes of text.
            after: where the line behind it begins.
        """
        if self.fault is not None:
            return
        if chrom != self._chrom:
            if chrom in self._contigs:
                self.fault = f"its records are not sorted: {_text(chrom)} comes twice"
                return
            self._chrom, self._last = chrom, -1
            self._contigs[chrom] = _Contig({}, [], [begin, after, 0])
        if start < self._last:
            place = f"{_text(chrom)}:{start + 1}"
            self.fault = f"its records are not sorted: {place} comes after {self._last + 1}"
            return
        self._last = start
        start = max(start, 0)
        if start >= CSI_LENGTH:
            self.fault = f"{_text(chrom)}:{start + 1} is further along a contig than an index can tell"
            return
        end = min(max(end, start + 1), CSI_LENGTH)
        self._longest = max(self._longest, end)
        contig = self._contigs[chrom]
        runs = contig.chunks.setdefault(_smallest_bin(start, end), [])
        if runs and runs[-1][1] == begin:
            runs[-1][1] = after
        else:
            runs.append([begin, after])
        first, last = start >> _SHIFT, (end - 1) >> _SHIFT
        linear = contig.linear
        if last >= len(linear):
            # Windows without a record have the offset before: no record that reaches them begins earlier.
            linear.extend([linear[-1] if linear else 0] * (first - len(linear)))
            linear.extend([begin] * (last + 1 - len(linear)))
        contig.span[1] = after
        contig.span[2] += 1

    @property
    def suffix(self) -> str:
        """``.tbi``, or ``.csi`` where a contig is too long for that."""
        return ".tbi" if self._longest <= TBI_LENGTH else ".csi"

    def to_bytes(self, virtual_offset: Callable[[int], int]) -> bytes:
        """The index as a file, bgzipped.

        Args:
            virtual_offset: of a position in the text, in the compressed file.
        """
        names = b"".join(name + b"\0" for name in self._contigs)
        preset = _VCF + struct.pack("<i", len(names)) + names
        depth = _DEPTH[self.suffix]
        if self.suffix == ".tbi":
            pieces = [b"TBI\1", struct.pack("<i", len(self._contigs)), preset]
        else:
            head = struct.pack("<3i", _SHIFT, depth, len(preset))
            pieces = [b"CSI\1", head, preset, struct.pack("<i", len(self._contigs))]
        for contig in self._contigs.values():
            pieces += self._contig(contig, depth, virtual_offset)
        pieces.append(struct.pack("<Q", 0))  # records without a place
        image = io.BytesIO()
        file = BgzfFile(image)
        file.write(b"".join(pieces))
        file.finish()
        return image.getvalue()

    def _contig(self, contig: _Contig, depth: int, virtual_offset: Callable[[int], int]) -> list[bytes]:
        is_tbi = self.suffix == ".tbi"
        begin, after = map(virtual_offset, contig.span[:2])
        linear = [virtual_offset(each) for each in contig.linear]
        bins = [
            (
                _first_bin(depth - height) + number,
                number << 3 * height,
                [[virtual_offset(low), virtual_offset(high)] for low, high in runs],
            )
            for (height, number), runs in contig.chunks.items()
        ]
        # A bin behind the last one tells the number of records.
        bins.append((_first_bin(depth + 1) + 1, 0, [[begin, after], [contig.span[2], 0]]))
        pieces = [struct.pack("<i", len(bins))]
        for bin_number, window, runs in sorted(bins):
            pieces.append(struct.pack("<I", bin_number))
            if not is_tbi:
                pieces.append(struct.pack("<Q", linear[window] if window < len(linear) else 0))
            pieces.append(struct.pack("<i", len(runs)))
            pieces += [struct.pack("<QQ", *run) for run in runs]
        if is_tbi:
            pieces.append(struct.pack(f"<i{len(linear)}Q", len(linear), *linear))
        return pieces


_DEPTH = {".tbi": 5, ".csi": 6}
"""Levels of bins below the one of a whole contig; each level's bins are an eighth as long."""


def _first_bin(level: int) -> int:
    """The number of a level's first bin."""
    return ((1 << 3 * level) - 1) // 7


def _smallest_bin(start: int, end: int) -> tuple[int, int]:
    """The smallest bin that holds an interval: its height above those of 16 kb, its number among its like."""
    height, first, last = 0, start >> _SHIFT, (end - 1) >> _SHIFT
    while first != last:
        height, first, last = height + 1, first >> 3, last >> 3
    return height, first


def _text(chrom: bytes) -> str:
    return chrom.decode("utf-8", "backslashreplace")
