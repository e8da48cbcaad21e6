"""Genotypes of chosen samples: which alleles each of a sample's two haplotypes carries, and what is unknown.

Genotypes are read with cyvcf2, and only from files that the strict reader has accepted: both read the file
side by side, record by record.
"""

from __future__ import annotations

import difflib
import itertools
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gexpr.errors import ConfigError, InputError, shown_name
from gexpr.variants.alleles import AlleleReader
from gexpr.variants.vcf import VcfRecord, VcfSource

PHASED_STATUS_MEANINGS: dict[str, str] = {
    "not_carried": "this haplotype of the sample does not carry the allele, or a haploid call has no such "
    "haplotype",
    "missing_genotype": "the sample's genotype is missing",
    "unphased": "the sample is heterozygous and its genotype is not phased",
    "unphased_neighbor": "another heterozygous genotype in the window is not phased, or of another phase set",
    "haplotype_conflict": "alleles that the haplotype carries in the window overlap, or one reaches over the "
    "window's start",
}
"""Statuses of rows of phased scores, beside those of alleles, in the order in which they are tested."""

NOT_CARRIED, CARRIED, MISSING, UNKNOWN = range(4)
"""What is known of an allele on a haplotype; ``UNKNOWN``: it lies on one of the two."""

_NO_SET = -1
"""Phase set of a call that is not heterozygous: it is phased with all others."""
_DEFAULT_SET = -2
"""Phase set of phased calls that name none."""
_NO_CALL, _NO_ALLELE = -1, -2
_MISSING_INTEGER = -(2**31)
_MOST_KNOWN = 4096
"""Different calls of records that are remembered."""
_HARMLESS = ("ref_equals_alt", "star_allele", "contig_not_in_fasta")
"""Alleles that change nothing: a ``*`` stands where a deletion, a record of its own, took the base."""


class Edit(NamedTuple):
    """A change of bases: ``ref`` at ``start`` (0-based) becomes ``alt``; either may be empty."""

    start: int
    ref: str
    alt: str

    @property
    def end(self) -> int:
        """Behind the last base of ``ref``."""
        return self.start + len(self.ref)


class Background(NamedTuple):
    """A haplotype around an allele: whether it is known (``status`` is ``ok``), and its other alleles.

    ``others`` are sorted, do not overlap and lie in the window.
    """

    status: str
    others: tuple[Edit, ...] = ()


def choose_samples(source: VcfSource, wanted: Sequence[str]) -> tuple[str, ...]:
    """The samples to score, in the order given; without names, the only one of the file.

    Raises:
        InputError: the file has no genotypes.
        ConfigError: an unknown name (the message lists near ones), one given twice, or none where the file
            has several samples.
    """
    if not source.samples:
        raise InputError("it has no samples, and phased scores need genotypes", path=source.path)
    some = ", ".join(map(shown_name, source.samples[:5])) + (", ..." if len(source.samples) > 5 else "")
    if not wanted:
        if len(source.samples) > 1:
            raise ConfigError(
                f"{source.path} has {len(source.samples):,} samples ({some}): choose with --samples"
            )
        return tuple(source.samples)
    for name in wanted:
        if name not in source.samples:
            close = difflib.get_close_matches(name, source.samples, n=3)
            folded = [each for each in source.samples if each.lower() == name.lower()]
            near = folded or close
            hint = f"; did you mean {' or '.join(map(shown_name, near))}?" if near else f"; it has {some}"
            raise ConfigError(f"{source.path} has no sample {shown_name(name)}{hint}")
        if list(wanted).count(name) > 1:
            raise ConfigError(f"the sample {shown_name(name)} is given twice")
    return tuple(wanted)


def reference_end(edits: Sequence[Edit], start: int, length: int) -> int:
    """Where on the reference a sequence ends that begins at ``start``, has the edits and ``length`` bases.

    Args:
        edits: sorted, without overlaps, none before ``start``.
        start: of the sequence, on the reference.
        length: bases of the sequence.
    """
    starts, ends, sizes = (
        np.array([(each.start, each.end, len(each.alt)) for each in edits], dtype=np.int64).reshape(-1, 3).T
    )
    return _sequence_end(starts, ends, sizes, start, length)


def overlap(edits: Sequence[Edit]) -> bool:
    """Whether two of sorted edits cannot both be made: they replace a base, or insert at a place, twice."""
    return any(
        second.start < first.end or (second.start == first.start and not first.ref and not second.ref)
        for first, second in itertools.pairwise(edits)
    )


def _order(edit: Edit) -> tuple[int, int, str, str]:
    # An insertion comes before what replaces the base behind it.
    return edit.start, len(edit.ref), edit.ref, edit.alt


class _Contig(NamedTuple):
    """Alleles of a contig that any chosen sample may carry, by start; ``places`` are theirs in the table.

    ``ends`` and ``sizes``: behind the last base of ``ref``, and bases of ``alt``.
    """

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    sizes: NDArray[np.int64]
    places: NDArray[np.int64]
    longest: int


class _Table(NamedTuple):
    """Alleles that are not reference in all samples, in their order.

    Attributes:
        rows: (alleles,) each one's place among all alleles of the file.
        edits: what each changes; nothing where that cannot be shown.
        states: (alleles, samples, 2) what is known of it.
        sets: (alleles, samples) phase sets of heterozygous calls.
        contigs: alleles by place.
        left_out: statuses of alleles that a haplotype may carry, and that no sequence can show.
    """

    rows: NDArray[np.int64]
    edits: list[Edit]
    states: NDArray[np.int8]
    sets: NDArray[np.int64]
    contigs: dict[str, _Contig]
    left_out: Counter[str]


class Genotypes:
    """The genotypes of some samples at all alleles of a file: read when first needed, and kept in memory.

    Args:
        source: the opened file. The strict reader must have accepted all of it before the first question.
        reader: splits and judges the alleles.
        samples: names of samples of the file.

    Attributes:
        samples: as given.

    Raises:
        InputError: from any method: genotypes cannot be read, or one has more than two alleles.
    """

    def __init__(self, source: VcfSource, reader: AlleleReader, samples: Sequence[str]) -> None:
        self.samples = tuple(samples)
        self._source = source
        self._reader = reader
        self._set_names: dict[str, int] = {}

    @property
    def left_out(self) -> Counter[str]:
        """Statuses of alleles that a haplotype carries or may carry, and that no sequence can show."""
        return self._table.left_out

    @cached_property
    def _table(self) -> _Table:
        source, reader, samples = self._source, self._reader, self.samples
        left_out: Counter[str] = Counter()
        edits: list[Edit] = []
        # Genomes have millions of alleles: an array for each would take many times the space.
        rows, states, sets = array("q"), bytearray(), bytearray()
        by_contig: dict[str, list[int]] = {}
        known: dict[tuple[bytes, int, int], list[_Allele]] = {}
        row = 0
        for record, calls in self._records(source):
            first, row = row, row + len(record.alts)
            key = b"", 0, len(record.alts)
            if calls is not None:
                key = calls.numbers.tobytes(), calls.numbers.shape[1], len(record.alts)
            found = known.get(key)
            if found is None or (calls is not None and calls.sets is not None):
                found = self._alleles(calls, record, source)
                if calls is None or calls.sets is None:
                    # The calls of a few samples are the same again and again.
                    if len(known) >= _MOST_KNOWN:
                        known.clear()
                    known[key] = found
            variants = None
            for number, state, phase_sets, shown in found:
                edit = Edit(-1, "", "")
                if shown:
                    variants = variants or reader.split(record, first)
                    variant = variants[number]
                    if variant.ok:
                        edit = Edit(variant.start, variant.norm_ref, variant.norm_alt)
                        by_contig.setdefault(variant.contig, []).append(len(rows))
                    elif variant.status not in _HARMLESS:
                        left_out[variant.status] += 1
                rows.append(first + number)
                states += state
                sets += phase_sets
                edits.append(edit)
        return _Table(
            np.array(rows, dtype=np.int64),
            edits,
            np.frombuffer(states, dtype=np.int8).reshape(-1, len(samples), 2),
            np.frombuffer(sets, dtype=np.int64).reshape(-1, len(samples)),
            {name: _contig(edits, places) for name, places in by_contig.items()},
            left_out,
        )

    def _records(self, source: VcfSource) -> Iterator[tuple[VcfRecord, Any]]:
        """Every record with cyvcf2's view of it; None where it has no genotypes."""
        import cyvcf2

        def fault(line: int, error: object) -> InputError:
            # cyvcf2 names its own functions; what htslib says of the file goes to stderr.
            return InputError(f"its genotypes cannot be read ({error})", path=source.path, line=line)

        try:
            reader = cyvcf2.VCF(source.stored, samples=list(self.samples))
        except Exception as error:
            raise fault(len(source.header), error) from None
        lines = [re.match(r"##contig=<.*?\bID=([^,>]+)", line) for line in source.header]
        known = {line.group(1) for line in lines if line}
        order = [reader.samples.index(name) for name in self.samples]
        try:
            for record in source.records():
                if record.chrom not in known:
                    # htslib warns of contigs that the header lacks.
                    known.add(record.chrom)
                    if source.format != "bcf" and record.chrom.isalnum():
                        reader.add_to_header(f"##contig=<ID={record.chrom}>")
                try:
                    view = next(reader, None)
                except Exception as error:
                    raise fault(record.line, error) from None
                if view is None or view.POS != record.pos:
                    raise fault(record.line, "htslib reads another record here")
                yield record, _view(view, order)
        finally:
            reader.close()
        source.check_unchanged()

    def _alleles(self, view: _View | None, record: VcfRecord, source: VcfSource) -> list[_Allele]:
        """What a record's calls say of its alleles, but for those that all samples lack."""
        size, found = len(self.samples), []
        calls = None if view is None else self._calls(view, record, source)
        for number in range(len(record.alts)):
            states = np.full((size, 2), MISSING, dtype=np.int8) if calls is None else calls.states(number + 1)
            if states.any():
                sets = np.full(size, _NO_SET) if calls is None else calls.sets
                shown = bool(((states == CARRIED) | (states == UNKNOWN)).any())
                found.append(_Allele(number, states.tobytes(), sets.astype(np.int64).tobytes(), shown))
        return found

    def _calls(self, view: _View, record: VcfRecord, source: VcfSource) -> _Calls:
        alleles, phased = view.numbers[:, :-1].astype(np.int64), view.numbers[:, -1] == 1
        extra = alleles[:, 2:]
        if (extra != _NO_ALLELE).any():
            sample = int((extra != _NO_ALLELE).any(axis=1).argmax())
            number = int((alleles[sample] != _NO_ALLELE).sum())
            raise InputError(
                f"sample {shown_name(self.samples[sample])} has {number} alleles at "
                f"{shown_name(record.chrom)}:{record.pos}; haplotypes are those of haploid and diploid calls",
                path=source.path,
                line=record.line,
            )
        if (alleles > len(record.alts)).any():
            raise InputError(
                f"a genotype names allele {int(alleles.max())} at {shown_name(record.chrom)}:{record.pos}, "
                f"which has {len(record.alts)}",
                path=source.path,
                line=record.line,
            )
        first = alleles[:, 0]
        second = alleles[:, 1] if alleles.shape[1] > 1 else np.full(len(first), _NO_ALLELE)
        haploid = second == _NO_ALLELE
        # A lone "." may stand for any number of alleles.
        second = np.where(haploid & (first == _NO_CALL), _NO_CALL, second)
        het = (first != second) & ~haploid
        sets = np.where(het & phased, self._phase_sets(view.sets, len(first)), _NO_SET)
        return _Calls(first, second, het & ~phased, sets)

    def _phase_sets(self, values: Any, samples: int) -> NDArray[np.int64]:
        if values is None:
            return np.full(samples, _DEFAULT_SET)
        numbers = []
        for value in values:
            if isinstance(value, str):
                # Texts are numbered beyond all integers.
                name = value.strip("\0")
                value = self._set_names.setdefault(name, 2**32 + len(self._set_names))
                numbers.append(_DEFAULT_SET if name in ("", ".") else value)
            else:
                numbers.append(_DEFAULT_SET if value in (_MISSING_INTEGER, _MISSING_INTEGER + 1) else value)
        return np.array(numbers, dtype=np.int64)

    def state(self, row: int, sample: int, haplotype: int) -> int:
        """What is known of the allele of a row of alleles on a haplotype (0 or 1) of a sample."""
        rows = self._table.rows
        place = int(np.searchsorted(rows, row))
        if place == len(rows) or rows[place] != row:
            return NOT_CARRIED
        return int(self._table.states[place, sample, haplotype])

    def background(
        self, contig: str, edit: Edit, row: int, sample: int, haplotype: int, start: int, length: int
    ) -> Background:
        """The haplotype around an allele.

        Args:
            contig: the allele's, by the FASTA's name.
            edit: the allele, normalized.
            row: the allele's place among all alleles of the file.
            sample: place in ``samples``.
            haplotype: 0 or 1.
            start: where the window begins, on the reference.
            length: bases of the window's sequence.
        """
        state = self.state(row, sample, haplotype)
        if state != CARRIED:
            names = {NOT_CARRIED: "not_carried", MISSING: "missing_genotype", UNKNOWN: "unphased"}
            return Background(names[state])
        table = self._table
        found = table.contigs[contig]
        own = int(np.searchsorted(table.rows, row))
        low = int(np.searchsorted(found.starts, start - found.longest))
        end = start + length
        while True:
            high = int(np.searchsorted(found.starts, end))
            near = np.arange(low, high)[(found.ends[low:high] > start) | (found.starts[low:high] >= start)]
            carried = near[table.states[found.places[near], sample, haplotype] == CARRIED]
            starts, ends, sizes = found.starts[carried], found.ends[carried], found.sizes[carried]
            needed = _sequence_end(starts, ends, sizes, start, length)
            if needed <= end:
                break
            # Deletions draw bases into the window, and alleles with them.
            end = needed
        places = found.places[near]
        states = table.states[places, sample]
        known = (states == CARRIED).any(axis=1)
        sets = {*np.unique(table.sets[places[known], sample]).tolist(), int(table.sets[own, sample])}
        if (states == UNKNOWN).any() or len(sets - {_NO_SET}) > 1:
            return Background("unphased_neighbor")
        edits = [table.edits[place] for place in found.places[carried].tolist()]
        if (starts[1:] < ends[:-1]).any() or ((starts[1:] == starts[:-1]) & (ends[1:] == starts[:-1])).any():
            # It may be one allele in two records.
            edits = list(dict.fromkeys(edits))
            if overlap(edits):
                return Background("haplotype_conflict")
        if edits[0].start < start:
            cut = _cut(edits[0], start)
            if cut is None:
                return Background("haplotype_conflict")
            edits[0] = cut
        return Background("ok", tuple(each for each in edits if each != edit))


def _sequence_end(
    starts: NDArray[np.int64], ends: NDArray[np.int64], sizes: NDArray[np.int64], start: int, length: int
) -> int:
    """As :func:`reference_end`, of sorted alleles of which the first may begin before ``start``."""
    changes = sizes - (ends - starts)
    if not changes.any():
        return start + length
    first = np.maximum(starts, start)
    at = first - start + np.cumsum(changes) - changes
    inside = np.flatnonzero(at < length)
    if not len(inside):
        return start + length
    last = int(inside[-1])
    return int(ends[last]) + max(0, length - int(at[last] + sizes[last] - first[last] + starts[last]))


class _Allele(NamedTuple):
    """An allele of a record as the table holds it; ``shown``: a haplotype may carry it."""

    number: int
    states: bytes
    sets: bytes
    shown: bool


class _View(NamedTuple):
    """Calls of a record, (samples, ploidy + 1): alleles and whether phased; and phase sets, if any."""

    numbers: NDArray[np.integer]
    sets: Any


def _view(view: Any, order: Sequence[int]) -> _View | None:
    try:
        calls = np.asarray(view.genotype.array())[order]
    except Exception:
        if "GT" in (view.FORMAT or ()):
            raise
        return None
    sets = None
    if (calls[:, -1] == 1).any() and "PS" in view.FORMAT:
        values = view.format("PS")
        if values is not None:
            sets = [
                values[place] if isinstance(values[place], str) else int(values[place][0]) for place in order
            ]
    return _View(calls, sets)


class _Calls(NamedTuple):
    """Calls of a record, (samples,) each: the alleles, whether their order is unknown, and phase sets."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    unordered: NDArray[np.bool_]
    sets: NDArray[np.int64]

    def states(self, allele: int) -> NDArray[np.int8]:
        """What is known of an allele, (samples, 2)."""
        both = np.stack([self.first, self.second], axis=1)
        states = np.where(both == allele, CARRIED, np.where(both == _NO_CALL, MISSING, NOT_CARRIED))
        missing = np.where((both == _NO_CALL).any(axis=1), MISSING, NOT_CARRIED)
        either = np.where((both == allele).any(axis=1), UNKNOWN, missing)
        return np.where(self.unordered[:, None], either[:, None], states).astype(np.int8)


def _contig(edits: Sequence[Edit], places: list[int]) -> _Contig:
    places.sort(key=lambda place: _order(edits[place]))
    starts = np.array([edits[place].start for place in places], dtype=np.int64)
    ends = np.array([edits[place].end for place in places], dtype=np.int64)
    sizes = np.array([len(edits[place].alt) for place in places], dtype=np.int64)
    return _Contig(starts, ends, sizes, np.array(places, dtype=np.int64), int((ends - starts).max()))


def _cut(edit: Edit, start: int) -> Edit | None:
    """The part of an edit from ``start`` on; None where its lengths leave open what that is."""
    if edit.start >= start:
        return edit
    if len(edit.ref) != len(edit.alt):
        return None
    before = start - edit.start
    return Edit(start, edit.ref[before:], edit.alt[before:])
