"""Annotated VCF: the lines of the scored file, unchanged but for entries that are added to INFO."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from gexpr import logs
from gexpr.errors import InputError
from gexpr.genome.compressed import to_text
from gexpr.results import Variant
from gexpr.writers.hdf5 import Attribute
from gexpr.writers.output import AtomicOutput, as_dtype, refuse_existing, utf8, write_all
from gexpr.writers.scores import Columns, Scores, ScoreSchema, VcfLines, column_texts
from gexpr.writers.tabix import TabixIndex
from gexpr.writers.text import COMPRESSED, TextFile, numbers

PREFIX = "GEXPR_"
STATUS_KEY = PREFIX + "STATUS"
MANY_KEYS = 200
"""INFO keys from which on a warning says that other formats are smaller."""
INDEX_SUFFIXES = (".tbi", ".csi")

_PROVENANCE = ("gexpr_version", "checkpoint", "checkpoint_sha256", "fasta", "fasta_digest", "statistics")
_END = re.compile(rb"(?:^|;)END=(\d{1,18})(?:;|$)")
_LENGTH = re.compile(rb"(?:^|;)SVLEN=([-\d,.]+)(?:;|$)")


class InfoKey(NamedTuple):
    """One INFO key: a column of a statistic's table."""

    key: str
    statistic: str
    track: int


def info_keys(schema: ScoreSchema) -> list[InfoKey]:
    """The INFO keys of a file's scores: all tracks of the first statistic first.

    ``GEXPR_<track>``, or ``GEXPR_<statistic>_<track>`` where there are several statistics; what VCF does
    not allow in a key becomes ``_``. A key that is taken already gets ``_2``, ``_3`` and so on.
    """
    taken = {STATUS_KEY}
    keys = []
    for statistic in schema.statistics:
        for number, track in enumerate(schema.tracks):
            name = track.id if len(schema.statistics) == 1 else f"{statistic}_{track.id}"
            key = _free(PREFIX + re.sub(r"[^0-9A-Za-z_.]", "_", name), taken)
            keys.append(InfoKey(key, statistic, number))
    return keys


def _free(wanted: str, taken: set[str]) -> str:
    """A key, or the key with the first number that makes it a new one; it is taken then."""
    key, copy = wanted, 1
    while key in taken:
        copy += 1
        key = f"{wanted}_{copy}"
    taken.add(key)
    return key


def index_names(output: str) -> list[str]:
    """Files that may come with an annotated VCF: its index, under one of two names; none for plain text."""
    return [output + suffix for suffix in INDEX_SUFFIXES] if output.lower().endswith(COMPRESSED) else []


class ScoresVcfWriter:
    """VCF with scores in INFO; see docs/output-files.md.

    Blocks of rows may begin and end within a record. A bgzipped file gets an index where its records are
    sorted.

    Args:
        output: the claimed output.
        schema: what is written.
        source: the VCF that was scored.

    Raises:
        InputError: it is a BCF.
    """

    def __init__(self, output: AtomicOutput, schema: ScoreSchema, source: VcfLines) -> None:
        self._schema = schema
        self._source = source
        self._file = TextFile(output)
        self._index = None if output.is_stream or self._file.bgzf is None else TabixIndex()
        self._index_output: AtomicOutput | None = None
        self._keys = info_keys(schema)
        taken = {STATUS_KEY, *(each.key for each in self._keys)}
        self._columns = {name: _free(PREFIX + name.upper(), taken) for name in schema.columns}
        keys = [*self._columns.values(), *(each.key for each in self._keys)]
        self._names = [f"{key}=" for key in keys]
        self._replaced = {utf8(key) for key in (STATUS_KEY, *keys)}
        self._lines = source.lines()
        self._record: _Record | None = None
        if len(self._keys) > MANY_KEYS:
            logs.warning(
                f"{output.path} has {len(self._keys):,} INFO entries a record; --tracks selects tracks, and "
                "HDF5 and Parquet hold as many in less space"
            )
        self._write_header()

    def _write_header(self) -> None:
        ours = re.compile(rb"##INFO=<ID=([^,>]+)[,>]")
        provenance = utf8(f"##gexpr=<ID={_plain(self._attribute('checkpoint') or 'scores')},")
        for line in self._lines:
            if line.startswith(b"##"):
                found = ours.match(line)
                if not (found and found[1] in self._replaced) and not line.startswith(provenance):
                    self._file.write(line)
                continue
            end = b"\r\n" if line.endswith((b"\r\n", b"\r")) else b"\n"
            self._file.write(b"".join(each + end for each in self._header(provenance)) + line)
            return

    def _attribute(self, name: str) -> str:
        return str(self._schema.attributes.get(name, ""))

    def _header(self, provenance: bytes) -> Iterator[bytes]:
        values = [
            f"{name}={_quoted(self._attribute(name))}"
            for name in _PROVENANCE
            if name in self._schema.attributes
        ]
        yield provenance + utf8(",".join(values) + ">")
        status = "What became of the allele: ok, or why gexpr did not score it"
        yield utf8(f"##INFO=<ID={STATUS_KEY},Number=A,Type=String,Description={_quoted(status)}>")
        for name, key in self._columns.items():
            kind = {"text": "String", "int": "Integer", "float": "Float"}[self._schema.columns[name]]
            text = self._schema.definitions.get(name, name)
            yield utf8(f"##INFO=<ID={key},Number=A,Type={kind},Description={_quoted(text)}>")
        for key, statistic, number in self._keys:
            track = self._schema.tracks[number]
            formula = self._schema.definitions.get(statistic)
            text = f"{track.label or track.id}: {statistic}{f' = {formula}' if formula else ''}"
            yield utf8(f"##INFO=<ID={key},Number=A,Type=Float,Description={_quoted(text)}>")

    def write(self, variants: Sequence[Variant], scores: Scores, columns: Columns | None = None) -> None:
        """Add one block of rows.

        Raises:
            InputError: a row is not the next allele of the VCF.
        """
        extra = column_texts(self._schema, columns, len(variants))
        tables = [as_dtype(scores[name], self._schema.dtype) for name in self._schema.statistics]
        for row, variant in enumerate(variants):
            record = self._record or self._next_record()
            if record is None:
                self._mismatch(variant, "the end of the file")
            if not record.fits(variant):
                ref, alt = map(to_text, record.fields[3:5])
                self._mismatch(variant, f"{record.chrom}:{record.pos} {ref} {alt}")
            texts = [_escaped(values[row]) for values in extra.values()]
            texts += [text for table in tables for text in numbers(table[row])]
            texts = [text if text != "nan" else "." for text in texts]
            record.alleles.append((variant.status, texts))
            self._record = record
            if len(record.alleles) == len(record.alts):
                self._write_record(record)
                self._record = None

    def _mismatch(self, variant: Variant, found: str) -> NoReturn:
        raise InputError(
            f"the VCF is not the one that was scored: {variant.chrom}:{variant.pos} {variant.ref} "
            f"{variant.alt} was scored where it has {found}",
            path=self._source.path,
        )

    def _next_record(self) -> _Record | None:
        """The next record; lines that hold none are written."""
        for line in self._lines:
            if line.strip(b"\r\n"):
                return _Record(line)
            self._file.write(line)
        return None

    def _write_record(self, record: _Record) -> None:
        before = 0 if self._file.bgzf is None else self._file.bgzf.tell()
        self._file.write(self._annotated(record))
        if self._index is not None and self._file.bgzf is not None:
            start, end = record.span()
            self._index.add(record.fields[0], start, end, before, self._file.bgzf.tell())

    def _annotated(self, record: _Record) -> bytes:
        if record.alts == [b"."]:
            return record.line
        info = record.fields[7]
        if PREFIX.encode() in info:
            old = info.split(b";")
            info = b";".join(each for each in old if each.partition(b"=")[0] not in self._replaced)
        statuses = ",".join(status for status, _ in record.alleles)
        columns = zip(*(texts for _, texts in record.alleles), strict=True)
        entries = [f"{STATUS_KEY}={statuses}"]
        entries += [name + ",".join(texts) for name, texts in zip(self._names, columns, strict=True)]
        added = utf8(";".join(entries))
        if info not in (b"", b"."):
            added = info + (b"" if info.endswith(b";") else b";") + added
        return b"\t".join((*record.fields[:7], added, *record.fields[8:])) + record.end

    def annotate(self, attributes: Mapping[str, Attribute]) -> None:
        """What is known only at the end is left out: the header is written by then."""

    def finish(self) -> None:
        """Complete the file and its index and bring them to the disk.

        Raises:
            InputError: the VCF has more alleles than were scored, or was changed.
        """
        output = self._file.output
        if output.file.closed:
            return
        record = self._record or self._next_record()
        if record is not None:
            raise InputError(
                f"the VCF is not the one that was scored: it has {record.chrom}:{record.pos} after the last "
                "allele that was",
                path=self._source.path,
            )
        self._source.check_unchanged()
        self._file.finish()
        if self._index is None or self._file.bgzf is None:
            return
        for name in index_names(output.path):
            refuse_existing(name, output.force)
        if self._index.fault is not None:
            logs.warning(f"{output.path} gets no index: {self._index.fault}; `bcftools sort` sorts a VCF")
            return
        self._index_output = AtomicOutput(output.path + self._index.suffix, force=output.force)
        try:
            write_all(self._index_output.file, self._index.to_bytes(self._file.bgzf.virtual_offset))
        except OSError as error:
            raise self._index_output.failure(error) from error
        self._index_output.finish()

    def commit(self) -> None:
        """Finish the file and give it its name, then the index; an index of an older file goes first."""
        self.finish()
        output = self._file.output
        if self._index is not None:
            for name in index_names(output.path):
                try:
                    Path(name).unlink(missing_ok=True)
                except OSError as error:
                    raise output.failure(error) from error
        output.commit()
        if self._index_output is not None:
            self._index_output.commit()

    def discard(self) -> None:
        """Remove what is unfinished."""
        if self._index_output is not None:
            self._index_output.discard()
        self._file.discard()


class _Record:
    """A line of the VCF, and what is known of its alleles.

    Attributes:
        line: with its end.
        fields: columns: the eight fixed ones, and the rest as one.
        end: the line's end.
        alleles: status and texts of the scores of each ALT so far.
    """

    def __init__(self, line: bytes) -> None:
        body = line.rstrip(b"\r\n")
        self.line = line
        self.end = line[len(body) :]
        self.fields = body.split(b"\t", 8)
        self.alts = self.fields[4].split(b",")
        self.alleles: list[tuple[str, list[str]]] = []

    @property
    def chrom(self) -> str:
        """CHROM as text."""
        return to_text(self.fields[0])

    @property
    def pos(self) -> int:
        """POS, 1-based."""
        return int(self.fields[1])

    def fits(self, variant: Variant) -> bool:
        """Whether the record's next allele is this one; files of scores hold POS as uint32."""
        alt = self.alts[len(self.alleles)]
        return (
            to_text(alt) == variant.alt
            and to_text(self.fields[3]) == variant.ref
            and self.chrom == variant.chrom
            and min(self.pos, 0xFFFFFFFF) == min(variant.pos, 0xFFFFFFFF)
        )

    def span(self) -> tuple[int, int]:
        """Start and end, 0-based, half-open: of REF, or as far as END or SVLEN reach."""
        start, info = self.pos - 1, self.fields[7]
        end = start + len(self.fields[3])
        if found := _END.search(info):
            end = max(end, int(found[1]))
        if found := _LENGTH.search(info):
            lengths = [abs(int(text)) for text in re.findall(rb"-?\d{1,18}", found[1])]
            end = max([end, *(start + 1 + length for length in lengths)])
        return start, end


def _quoted(text: str) -> str:
    """A value of a header line in quotes; control characters become spaces."""
    flat = "".join(each if each.isprintable() else " " for each in text)
    return '"' + flat.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    """A text as INFO can hold it: what means something there is percent-encoded (VCF 4.3, section 1.2)."""
    return re.sub(r"[%,;=:\s]", lambda found: "".join(f"%{byte:02X}" for byte in utf8(found[0])), text) or "."


def _plain(text: str) -> str:
    """A value of a header line that needs no quotes."""
    return re.sub(r"[^0-9A-Za-z_.+-]", "_", text)
