"""The job behind ``gexpr score-sequences``: constructs without a genome to predictions and differences.

A run takes seconds to minutes and keeps nothing but its output: there are no shards, and nothing to resume.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gexpr import checkpoints, logs
from gexpr.datasets.sequence_table import SIDES, Construct
from gexpr.errors import CheckpointError, ConfigError, GexprError, InputError, shown, shown_name
from gexpr.genome.codes import UNKNOWN, encode
from gexpr.results import Track
from gexpr.runs.common import (
    BatchSizes,
    ModelOptions,
    count,
    describe_predictor,
    input_files,
    open_predictor,
)
from gexpr.runs.sequence_rows import DEFAULT_COLUMNS, Columns, Rows, read_rows
from gexpr.scoring.definitions import STATISTICS, canonical_statistic
from gexpr.scoring.predictor import Predictor
from gexpr.scoring.statistics import compute
from gexpr.scoring.transforms import check_statistics
from gexpr.writers.output import AtomicOutput, check_outputs, output_format
from gexpr.writers.sequences import SUFFIXES, SequenceSchema, open_writer

COMMAND = "score-sequences"
DEFAULT_STATISTICS = ("SAD", "logFC")
"""What is computed of pairs unless something is asked for: as much of it as all tracks allow."""

_BASES = re.compile(r"[ACGTNRYSWKMBDHV]*", re.IGNORECASE | re.ASCII)
_MOST_ROWS = 4096
_BLOCK_NUMBERS = 1 << 24
"""Predictions that a block of rows holds, at most."""


class UnscoredSequencesError(GexprError):
    """``--strict`` was given and some rows were not scored; the output is complete."""

    exit_code = 3


@dataclass(frozen=True)
class SequenceOptions:
    """Everything that decides what is scored and how.

    Args:
        model: checkpoint, tracks, strands, batch, device and precision.
        second: a FASTA file of alternates, or None.
        pairs: a table that names pairs of records, or None.
        columns: of tables.
        prefix, suffix: bases around every sequence; None for those that the checkpoint names, which are left
            out where they are there already.
        pad, crop: ``left``, ``right``, ``both`` or ``none``: where unknown bases are added to a shorter
            sequence, and where bases are cut off a longer one. ``none`` leaves such a row unscored.
        statistics: of pairs; None for those of :data:`DEFAULT_STATISTICS` that all tracks allow.
        pseudocount: the c of ``logFC``.
        format: ``hdf5``, ``tsv``, ``parquet`` or None for the output's suffix.
        force: replace an existing output.
        strict: raise :class:`UnscoredSequencesError` if a row was not scored.

    Raises:
        ConfigError: a value that is not allowed.
    """

    model: ModelOptions
    second: str | None = None
    pairs: str | None = None
    columns: Columns = DEFAULT_COLUMNS
    prefix: str | None = None
    suffix: str | None = None
    pad: str = "none"
    crop: str = "none"
    statistics: tuple[str, ...] | None = None
    pseudocount: float = 1.0
    format: str | None = None
    force: bool = False
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("pad", "crop"):
            if getattr(self, name) not in SIDES:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be one of: {', '.join(SIDES)}")
        for name in ("prefix", "suffix"):
            check_bases(name, getattr(self, name) or "")
        if self.statistics is not None:
            names = tuple(canonical_statistic(name) for name in self.statistics)
            for name in names:
                if names.count(name) > 1:
                    raise ConfigError(f"the statistic {name} is given twice")
            object.__setattr__(self, "statistics", names)


class SequenceSummary(NamedTuple):
    """What a run did: rows by status, and the unique sequences that were predicted."""

    output: str
    rows: int
    by_status: dict[str, int]
    predicted: int
    seconds: float

    @property
    def unscored(self) -> int:
        """Rows with another status than ``ok``."""
        return self.rows - self.by_status.get("ok", 0)


def check_bases(name: str, text: str) -> None:
    """Raise ConfigError unless a text is made of bases and IUPAC codes."""
    if _BASES.fullmatch(text) is None:
        raise ConfigError(f"the {name} {shown(text, 60)} is not made of bases (A, C, G, T, N, IUPAC codes)")


class Frame(NamedTuple):
    """How a sequence becomes a model's input.

    ``optional`` says that prefix and suffix are those of the checkpoint: they are left out where a sequence
    begins and ends with them, or has the model's length without them.
    """

    construct: Construct
    length: int
    optional: bool

    def fit(self, text: str | None) -> tuple[NDArray[np.uint8] | None, str, int]:
        """Codes (length,) of a sequence, or None; the status; and the bases of the whole construct."""
        if text is None:
            return None, "missing_pair", 0
        if not text:
            return None, "empty", 0
        if _BASES.fullmatch(text) is None:
            return None, "bad_letter", len(text)
        prefix, suffix = self.construct.prefix.upper(), self.construct.suffix.upper()
        whole = text.upper()
        there = (
            len(whole) >= len(prefix) + len(suffix) and whole.startswith(prefix) and whole.endswith(suffix)
        )
        if not (self.optional and (there or len(whole) == self.length)):
            whole = prefix + whole + suffix
        size = len(whole)
        if size != self.length:
            status, side = (
                ("too_short", self.construct.pad) if size < self.length else ("too_long", self.construct.crop)
            )
            if side == "none":
                return None, status, size
        start = self.construct.span(size, self.length)
        codes = encode(whole[max(start, 0) : max(start, 0) + self.length])
        if size < self.length:
            codes = np.pad(codes, (-start, self.length - size + start), constant_values=UNKNOWN)
        return codes, "ok", size


def construct_of(model: ModelOptions) -> tuple[str, str]:
    """The prefix and suffix that the checkpoint says its constructs have; empty where it says nothing.

    Raises:
        CheckpointError: what it says cannot be read.
        ConfigError: members of an ensemble say different things.
    """
    found = []
    for name in model.checkpoints:
        said = checkpoints.describe(name).training.get("construct") or {}
        ends = tuple(said.get(each) or "" for each in ("prefix", "suffix")) if isinstance(said, dict) else ()
        if len(ends) != 2 or not all(isinstance(each, str) and _BASES.fullmatch(each) for each in ends):
            raise CheckpointError(
                f"{name}: config.json: training: construct: not a prefix and suffix of bases"
            )
        found.append(ends)
    if len(set(found)) > 1:
        raise ConfigError(
            "the checkpoints were trained on constructs with different ends; give --prefix and --suffix"
        )
    return found[0][0], found[0][1]


def score_sequences(path: str, output: str, options: SequenceOptions) -> SequenceSummary:
    """Predict every sequence of a file, and for pairs what the alternate changes.

    Args:
        path: a table or a FASTA file; ``-`` is standard input.
        output: the file to write; ``-`` is TSV on standard output.
        options: everything else.

    Raises:
        GexprError: an input, option or output is at fault, or no row has a length that the model takes.
        UnscoredSequencesError: ``options.strict`` and a row was not scored; the output is complete.
    """
    format = output_format(output, options.format, SUFFIXES)
    inputs = [options.second, options.pairs, *input_files(path, path, options.model.checkpoint, None)]
    check_outputs([output], inputs)
    started = time.monotonic()
    # Before anything that takes long, and so that the first file at fault is named.
    with AtomicOutput(output, force=options.force) as claimed:
        rows = read_rows(path, options.second, options.pairs, options.columns)
        if not rows.ids:
            place = "standard input" if rows.label == "-" else rows.label
            logs.warning(f"{place} holds no sequence; the output will be empty")
        predictor = open_predictor(options.model)
        ends = ("", "") if None not in (options.prefix, options.suffix) else construct_of(options.model)
        frame = Frame(
            Construct(
                length=predictor.context_length,
                pad=options.pad,
                crop=options.crop,
                prefix=ends[0] if options.prefix is None else options.prefix,
                suffix=ends[1] if options.suffix is None else options.suffix,
            ),
            predictor.context_length,
            optional=options.prefix is None and options.suffix is None and bool(ends[0] or ends[1]),
        )
        job = _Job(predictor, rows, frame, options)
        schema = SequenceSchema(
            tuple(predictor.tracks),
            job.values,
            {**describe_predictor(options.model, predictor), **job.attributes},
            {name: STATISTICS[name].formula for name in job.statistics},
        )
        sizes = BatchSizes(predictor.batch_size)
        writer = open_writer(claimed, format, schema)
        try:
            with logs.progress("scoring", len(rows.ids), "rows") as bar:
                for low in range(0, len(rows.ids), job.block_rows):
                    ids = rows.ids[low : low + job.block_rows]
                    statuses, values = job.block(low)
                    writer.write(ids, statuses, values)
                    sizes.note(predictor.used_batch_size)
                    bar.advance(len(ids))
            writer.annotate(sizes.attributes())
            writer.commit()
        except BaseException:
            writer.discard()
            raise
    seconds = time.monotonic() - started
    summary = SequenceSummary(output, len(rows.ids), dict(job.by_status), job.predicted, seconds)
    _print_summary(summary, rows)
    if options.strict and summary.unscored:
        raise UnscoredSequencesError(
            f"{count(summary.unscored, 'row was', 'rows were')} not scored (--strict); the output is complete"
        )
    return summary


class _Job:
    """Predictions and statistics of the rows, block by block.

    Raises:
        ConfigError: a statistic that a track does not allow, or statistics of single sequences.
        InputError: no row can be scored, and lengths are a reason.
    """

    def __init__(self, predictor: Predictor, rows: Rows, frame: Frame, options: SequenceOptions) -> None:
        self._predictor, self._rows, self._frame = predictor, rows, frame
        self._pseudocount = options.pseudocount
        self.paired = rows.alternates is not None
        if not self.paired and options.statistics is not None:
            raise ConfigError("--stats compares an alternate with its reference, and there are no pairs")
        self.statistics = _statistics(predictor.tracks, options.statistics) if self.paired else ()
        self.values = ("ref", "alt", *self.statistics) if self.paired else ("prediction",)
        numbers = predictor.target_length * len(predictor.tracks)
        self.block_rows = max(1, min(_MOST_ROWS, _BLOCK_NUMBERS // numbers))
        self.by_status: Counter[str] = Counter()
        self.predicted = 0
        construct = frame.construct
        self.attributes: dict[str, Any] = {
            "command": COMMAND,
            "prefix": construct.prefix,
            "suffix": construct.suffix,
            "pad": construct.pad,
            "crop": construct.crop,
            **({"pseudocount": options.pseudocount} if "logFC" in self.statistics else {}),
        }
        self._check_lengths()

    def _check_lengths(self) -> None:
        """Name the first sequence of another length than the model's; stop when no row can be scored."""
        odd: tuple[int, str, int] | None = None
        scored = False
        for row in range(len(self._rows.ids)):
            faults = [
                (status, size) for _, status, size in map(self._frame.fit, self._texts(row)) if status != "ok"
            ]
            scored = scored or not faults
            if odd is None:
                odd = next(((row, *each) for each in faults if each[0] in ("too_short", "too_long")), None)
            if scored and odd is not None:
                break
        if odd is None:
            return
        row, status, size = odd
        option, done = ("--pad", "added") if status == "too_short" else ("--crop", "cut off")
        construct = self._frame.construct
        added = len(construct.prefix) + len(construct.suffix)
        message = (
            f"sequence {shown_name(self._rows.ids[row])} has {count(size, 'base')}"
            + (f" with the {added} of prefix and suffix" if added else "")
            + f", the model takes {self._frame.length}; say with {option} left, right or both where bases "
            f"are {done}"
        )
        line = self._rows.lines[row] or None
        error = InputError(message, path=self._rows.label, line=line)
        if not scored:
            raise error
        logs.warning(str(error))

    def _texts(self, row: int) -> list[str | None]:
        alternates = self._rows.alternates
        return [self._rows.references[row]] + ([] if alternates is None else [alternates[row]])

    def block(self, low: int) -> tuple[list[str], dict[str, NDArray[np.float32]]]:
        """Statuses and values (rows, tracks) of the rows from ``low`` on."""
        rows = range(low, min(low + self.block_rows, len(self._rows.ids)))
        unique: dict[bytes, int] = {}
        kept: list[NDArray[np.uint8]] = []
        places = np.full((len(rows), 2 if self.paired else 1), -1)
        statuses = []
        for place, row in enumerate(rows):
            status = "ok"
            for side, text in enumerate(self._texts(row)):
                codes, found, _ = self._frame.fit(text)
                if codes is not None:
                    key = codes.tobytes()
                    if key not in unique:
                        unique[key] = len(kept)
                        kept.append(codes)
                    places[place, side] = unique[key]
                elif status == "ok":
                    status = found
            statuses.append(status)
        self.by_status.update(statuses)
        tracks = len(self._predictor.tracks)
        values = {name: np.full((len(rows), tracks), np.nan, dtype=np.float32) for name in self.values}
        if kept:
            self._fill(values, np.stack(kept), places)
        return statuses, values

    def _fill(
        self, values: dict[str, NDArray[np.float32]], codes: NDArray[np.uint8], places: NDArray[np.int_]
    ) -> None:
        """Write what can be computed of a block's unique inputs (n, length) into its values."""
        self.predicted += len(codes)
        size = self._predictor.batch_size
        predictions = torch.cat(
            [self._predictor.predict(codes[low : low + size]) for low in range(0, len(codes), size)]
        )
        sums = predictions.sum(dim=1, dtype=torch.float64).float().cpu().numpy()
        for name, side in zip(self.values, places.T, strict=False):
            values[name][side >= 0] = sums[side[side >= 0]]
        if not self.paired:
            return
        both = (places >= 0).all(axis=1)
        reference, alternate = (predictions[torch.from_numpy(side)] for side in places[both].T)
        for name in self.statistics:
            values[name][both] = (
                compute(
                    name,
                    reference,
                    alternate,
                    pseudocount=self._pseudocount,
                    tracks=self._predictor.tracks,
                )
                .cpu()
                .numpy()
            )


def _statistics(tracks: Sequence[Track], wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    if wanted is not None:
        check_statistics(tracks, wanted)
        return wanted
    allowed = []
    for name in DEFAULT_STATISTICS:
        try:
            check_statistics(tracks, [name])
        except ConfigError:
            continue
        allowed.append(name)
    return tuple(allowed)


def _print_summary(summary: SequenceSummary, rows: Rows) -> None:
    what = "row" if rows.alternates is None else "pair"
    scored = summary.by_status.get("ok", 0)
    logs.info(
        f"{count(summary.rows, what)} read, {scored:,} scored from {count(summary.predicted, 'sequence')} "
        f"in {summary.seconds:,.1f} s"
    )
    unscored = {status: n for status, n in summary.by_status.items() if status != "ok"}
    if unscored:
        logs.info("not scored: " + ", ".join(f"{status} {n:,}" for status, n in unscored.items()))
    if summary.output != "-":
        logs.info(f"written to {summary.output}")
