"""What ``gexpr report`` tells of a file of scores: the file, its run, the model that made it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gexpr import checkpoints, logs
from gexpr.errors import CheckpointError, GexprError, InputError, shown_name
from gexpr.genome.contigs import ContigMap
from gexpr.genome.examples import WORD, resolve_fasta
from gexpr.genome.fasta import Fasta
from gexpr.genome.genes import Gene
from gexpr.genome.places import Places
from gexpr.results import Region
from gexpr.runs.again import (
    command_again,
    is_example_fasta,
    member_digests,
    member_names,
    option_values,
)
from gexpr.runs.common import ModelOptions, describe_predictor, open_predictor
from gexpr.runs.directory import RunDirectory, read_logs
from gexpr.runs.pictures import genes_of, predict_alleles, stored_profiles
from gexpr.runs.score_rows import blocks_in, named_statistic, strongest_rows
from gexpr.scoring.definitions import parse_shifts
from gexpr.scoring.profiles import RankedProfiles
from gexpr.scoring.tracks import Selection, Selector, places_named, select_tracks
from gexpr.variants.vcf import VcfRecord
from gexpr.writers.score_file import ScoreFile
from gexpr.writers.score_report import Member, RunRecord, ScoreReport, overview
from gexpr.writers.score_summary import NoScoresError, Ranked, ScoreSummary, summarize

MOST_HEATED = 40
"""Rows of the heat map, at most."""
_MOST_CARD = 200_000
_MOST_TRACKS = 1_000_000
_READ_BYTES = 1 << 20


def report_scores(
    path: str,
    *,
    count: int = 100,
    statistic: str | None = None,
    tracks: str | None = None,
    regions: Sequence[Region] = (),
    by: str = "abs",
    run_dir: str | None = None,
    checkpoint: str | tuple[str, ...] | None = None,
) -> ScoreReport:
    """Read a file of scores for a report; the file is read in pieces, whatever its size.

    Args:
        path: HDF5 of ``gexpr score-variants`` or ``gexpr export``.
        count: rows of the ranking, which is that of ``gexpr top --overall``.
        statistic: what the ranking is by; None is the file's first.
        tracks: a selection; None is all.
        regions: only rows whose REF overlaps one of these.
        by: what is strong, see :data:`gexpr.runs.score_rows.ORDERS`.
        run_dir: the directory of the run that made the file; None looks for ``PATH.run``.
        checkpoint: the model, or members of an ensemble, that made the scores; None looks for it.

    Raises:
        GexprError: a bad file or value; a run or checkpoint that was named and is another one's.
    """
    ranked = strongest_rows(
        path, count=count, statistic=statistic, tracks=tracks, regions=regions, by=by, overall=True
    )
    with ScoreFile(path) as file:
        name = named_statistic(file, statistic)
        columns = select_tracks(file.tracks, tracks)
        places = Places(regions) if regions else None
        found = overview(file, name, columns, blocks_in(file, places))
        run = find_run(file, run_dir)
        summaries: list[ScoreSummary] = []
        for each in (name, *(other for other in file.statistics if other != name)):
            rows = [place.variant.row for place in ranked[:MOST_HEATED]] if each == name else []
            if found.scored:
                try:
                    summaries.append(summarize(file, each, columns, lambda: blocks_in(file, places), rows))
                except NoScoresError as error:
                    # As quantiles are where the background knows no track.
                    logs.warning(f"no distribution of {each}: {error}")
        # In the order of the file, so that a chunk is unpacked once.
        by_row = {row.rank: _others(file, row) for row in sorted(ranked, key=lambda row: row.variant.row)}
        others = tuple(by_row[row.rank] for row in ranked)
        profile = file.attributes.get("profile") if file.has_profiles else None
        again, notes = command_again(
            file.attributes,
            os.path.basename(path),
            file.dtype,
            int(profile) if isinstance(profile, int) else None,
        )
        narrowed = [f"rows on {each.chrom}:{each.start + 1:,}–{each.end:,}" for each in regions[:20]]
        if len(regions) > 20:
            narrowed.append(f"and {len(regions) - 20:,} more regions")
        if len(columns) < len(file.tracks):
            narrowed.append(f"{len(columns):,} of {len(file.tracks):,} tracks ({tracks})")
        return ScoreReport(
            name=os.path.basename(path),
            size=os.path.getsize(path),
            sha256=_file_digest(path),
            attributes=file.attributes,
            statistics=tuple((each, file.definition(each) or "") for each in file.statistics),
            narrowed=tuple(narrowed),
            overview=found,
            summaries=tuple(summaries),
            by=by,
            rows=tuple(ranked),
            others=others,
            run=run,
            again=tuple(again),
            notes=tuple(notes),
            members=find_members(file, run, checkpoint),
        )


def _others(file: ScoreFile, row: Ranked) -> tuple[tuple[str, np.floating], ...]:
    place, at = row.track.index, row.variant.row
    return tuple(
        (name, file.scores(name, at, at + 1, [place])[0, 0])
        for name in file.statistics
        if name != row.statistic
    )


def _file_digest(path: str) -> str:
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(_READ_BYTES):
            sha.update(data)
    return sha.hexdigest()


def find_run(file: ScoreFile, run_dir: str | None) -> RunRecord | None:
    """What the logs of a run say that was kept (``--keep-run``) and made this file, or None.

    Args:
        file: open.
        run_dir: the directory; None looks for ``PATH.run``.

    Raises:
        GexprError: a directory that was named holds no run, or that of another file.
    """
    directory = RunDirectory(run_dir or f"{file.path}.run")
    if run_dir is None and not directory.exists():
        return None
    try:
        manifest = directory.manifest()
    except GexprError:
        if run_dir is None:
            return None
        raise
    shared = [name for name in manifest.fingerprint if name in file.attributes and name != "contig_aliases"]
    differing = [name for name in shared if manifest.fingerprint[name] != file.attributes[name]]
    if differing or "vcf_sha256" not in shared:
        if run_dir is None:
            return None
        raise InputError(
            f"the run is not the one that made {shown_name(file.path)}: "
            + (f"{', '.join(differing[:4])} differ" if differing else "it scored no VCF"),
            path=run_dir,
        )
    lines = read_logs(directory)
    blocks = [line for line in lines if line["event"] == "block" and _numbers(line, "rows", "seconds")]
    commands = [
        ("gexpr", *map(str, line["command"][1:]))
        for line in lines
        if line["event"] == "start" and isinstance(line.get("command"), list) and line["command"]
    ]
    if not lines:
        return None
    records = manifest.content.get("records")
    return RunRecord(
        commands=tuple(dict.fromkeys(commands)),
        started=float(lines[0]["time"]),
        ended=float(lines[-1]["time"]),
        seconds=float(sum(line["seconds"] for line in blocks)),
        rows=int(sum(line["rows"] for line in blocks)),
        processes=len({(line.get("host"), line.get("pid")) for line in blocks}),
        records=records if isinstance(records, int) else None,
    )


def _numbers(line: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(line.get(name), int | float) for name in names)


def find_members(
    file: ScoreFile, run: RunRecord | None, checkpoint: str | tuple[str, ...] | None = None
) -> tuple[Member, ...]:
    """The checkpoints that made a file, where they still are, with their cards.

    They are looked for among the built-in ones, where the run's command found them, in the working
    directory and beside the file; what has other weights is not taken.

    Args:
        file: open.
        run: knows the run's commands.
        checkpoint: where they are, in the order of the members; None looks for them.

    Raises:
        CheckpointError: one that was named is missing, damaged or has other weights.
    """
    names, digests = member_names(file.attributes), member_digests(file.attributes)
    if checkpoint is not None:
        given = (checkpoint,) if isinstance(checkpoint, str) else checkpoint
        if len(given) != len(names):
            raise CheckpointError(
                f"{len(given)} checkpoint(s) given, but {len(names)} made {shown_name(file.path)}: "
                f"{', '.join(map(shown_name, names[:5]))}"
            )
        return tuple(
            _member(name, sha256, [folder], strict=True)
            for name, sha256, folder in zip(names, digests, given, strict=True)
        )
    called = [] if run is None else [option_values(each, "-c", "--checkpoint") for each in run.commands]
    texts = [part for each in called for part in _split_names(each)]
    beside = os.path.dirname(file.path)
    return tuple(
        _member(name, sha256, list(dict.fromkeys([name, *texts, os.path.join(beside, name)])), strict=False)
        for name, sha256 in zip(names, digests, strict=True)
    )


def _split_names(texts: Sequence[str]) -> tuple[str, ...]:
    try:
        return checkpoints.split_names(texts)
    except GexprError:
        return ()


def _member(name: str, sha256: str, places: Sequence[str], *, strict: bool) -> Member:
    """A checkpoint at the first of some places where one with these weights is."""
    other = False
    for place in places:
        try:
            info = checkpoints.describe(place)
        except GexprError:
            if strict:
                raise
            continue
        if info.weights_sha256 == sha256:
            return _with_card(name, sha256, info.path, place)
        other = True
        if strict:
            raise CheckpointError(
                f"{place}: this is not the checkpoint that made the scores ({shown_name(name)}): the SHA-256 "
                f"of its weights is {info.weights_sha256}, not {sha256}"
            )
    why = "has other weights" if other else "was not found"
    return Member(name, sha256, None, None, f"the checkpoint {name} {why}; --checkpoint says where it is")


def _with_card(name: str, sha256: str, folder: Path, place: str) -> Member:
    path = folder / "README.md"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            card = file.read(_MOST_CARD + 1)
    except OSError:
        return Member(name, sha256, place, None, "the checkpoint has no card (README.md)")
    if len(card) > _MOST_CARD:
        return Member(name, sha256, place, card[:_MOST_CARD], f"cut after {_MOST_CARD:,} characters")
    return Member(name, sha256, place, card, "")


def picture_alleles(
    path: str,
    report: ScoreReport,
    count: int,
    *,
    fasta: str | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> RankedProfiles:
    """Predictions of both alleles of the strongest rows, over all that the model predicts.

    Predictions that the file holds (``--profiles``) are taken; else they are computed with the settings of
    the run, by the checkpoint and the genome that made the scores, where these are found.

    Args:
        path: the file of scores.
        report: of this file.
        count: different alleles, at most.
        fasta: the genome; None looks for it.
        device, threads: what computes.

    Raises:
        GexprError: a genome that was named cannot be read or is another one, or a bad device.
    """
    rows: dict[tuple[str, int, str, str], Ranked] = {}
    for row in report.rows:
        variant = row.variant
        rows.setdefault((variant.chrom, variant.pos, variant.ref, variant.alt), row)
        if len(rows) == count:
            break
    chosen = tuple(rows.values())[:count]
    if not chosen:
        return RankedProfiles((), (), missing=("no row has a score",) if count else ())
    with ScoreFile(path) as file:
        if file.has_profiles:
            columns = list(range(len(file.tracks)))
            profiles = tuple(stored_profiles(file, row.variant.row, columns) for row in chosen)
            return RankedProfiles(chosen, profiles, stored=True)
    found = _find_genome(path, report, fasta)
    absent = [each.reason for each in report.members if each.folder is None]
    if isinstance(found, str):
        absent.append(found)
    if absent or isinstance(found, str):
        return RankedProfiles((), (), missing=tuple(absent))
    return _predict(report, found, chosen, device, threads)


def _find_genome(path: str, report: ScoreReport, given: str | None) -> Fasta | str:
    """The genome that made the scores, or why there is none."""
    name, digest = (str(report.attributes.get(each, "")) for each in ("fasta", "fasta_digest"))
    if given is not None:
        genome = Fasta(resolve_fasta(given))
        if genome.digest() != digest:
            raise InputError(
                f"this is not the genome that made the scores ({shown_name(name)}): the digest of its "
                f"sequences is {genome.digest()}, not {digest}",
                path=given,
            )
        return genome
    places = [resolve_fasta(WORD)] if is_example_fasta(name, digest) else []
    commands = () if report.run is None else report.run.commands
    places += [value for each in commands for value in option_values(each, "-f", "--fasta")]
    places += [name, os.path.join(os.path.dirname(path), name)]
    other = False
    for place in dict.fromkeys(filter(None, places)):
        if not os.path.isfile(place):
            continue
        try:
            genome = Fasta(place)
            if genome.digest() == digest:
                return genome
            other = True
        except GexprError as error:
            logs.warning(f"no pictures with this genome: {error}")
    why = "has other sequences" if other else "was not found"
    return f"the genome {name or 'of the run'} {why}; --fasta says where it is"


def _predict(
    report: ScoreReport, genome: Fasta, rows: Sequence[Ranked], device: str, threads: int | None
) -> RankedProfiles:
    values = report.attributes
    folders = tuple(each.folder for each in report.members if each.folder is not None)
    options = ModelOptions(
        checkpoint=folders if len(folders) > 1 else folders[0],
        tracks=_tracks(report),
        reverse_complement=bool(values.get("reverse_complement", True)),
        shifts=parse_shifts(str(values.get("shifts", "0"))),
        device=device,
        precision=str(values.get("precision", "fp32")),
        threads=threads,
        unsquash=bool(values.get("unsquash", True)),
        merge_strands=bool(values.get("merge_strands", False)),
    )
    predictor = open_predictor(options)
    if describe_predictor(options, predictor).get("settings_sha256") != values.get("settings_sha256"):
        reason = "the checkpoint's settings or tracks were changed after the scores were made"
        return RankedProfiles((), (), missing=(reason,))
    aliases = dict(
        (pair.partition("=")[0], pair.partition("=")[2])
        for pair in str(values.get("contig_aliases", "")).split(",")
        if "=" in pair
    )
    contigs = ContigMap(genome.names, aliases)
    drawn, profiles, missing = [], [], []
    for row in rows:
        variant = row.variant
        record = VcfRecord(0, variant.chrom, variant.pos, variant.id, variant.ref, (variant.alt,))
        try:
            profiles += predict_alleles(predictor, genome, contigs, [record])
            drawn.append(row)
        except InputError as error:
            missing.append(f"rank {row.rank} has no picture: {error}")
    return RankedProfiles(tuple(drawn), tuple(profiles), missing=tuple(missing))


def _tracks(report: ScoreReport) -> str | Selection | None:
    """The tracks of the model that the columns were made of."""
    text = str(report.attributes.get("tracks", ""))
    if places_named(text, _MOST_TRACKS) is not None:
        return text
    if report.attributes.get("merge_strands") or report.attributes.get("aggregate", "none") != "none":
        return None
    ids = [each.track.id for each in report.overview.tracks]
    return Selection("the tracks of the file", tuple(Selector(each) for each in ids))


def genes_near(path: str | None, pictured: RankedProfiles) -> list[Gene] | None:
    """The genes of a file on the contigs that are drawn, under these contigs' names; None without a file.

    Raises:
        InputError: a fault of the file.
    """
    if path is None:
        return None
    contigs = [each.variant.chrom for each in pictured.profiles]
    return genes_of(path, contigs) if contigs else []
