"""``gexpr report``: a file of scores as one page of HTML that needs nothing else."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

import gexpr
from gexpr.errors import ConfigError, require
from gexpr.genome.genes import Gene
from gexpr.report.markdown import render_card
from gexpr.report.markup import Column, Content, Html, data, element, join, page, picture, table
from gexpr.report.scores import draw_scores
from gexpr.report.style import rendered
from gexpr.report.tracks import draw_variant, strongest_columns, variant_title
from gexpr.results import Track
from gexpr.scoring.profiles import AlleleProfiles, RankedProfiles
from gexpr.variants.alleles import STATUS_MEANINGS
from gexpr.variants.genotypes import PHASED_STATUS_MEANINGS
from gexpr.writers.score_report import Member, ScoreReport
from gexpr.writers.score_summary import Ranked, ScoreSummary

SUFFIXES = (".html", ".htm")
MOST_TRACKS = 200
"""Tracks of the table of tracks, at most."""
MOST_CURVES = 8
_KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
_DPI = 180
_PIXELS = 96

STATUS_ADVICE: dict[str, str] = {
    "ok": "Nothing to do.",
    "missing_alt": "Nothing to do: the record has no allele that could be scored.",
    "star_allele": "Nothing to do: the deletion has a record of its own, and its score there.",
    "symbolic_alt": "--symbolic scores <DEL>, <DUP> and <INV> whose length INFO tells (SVLEN, END), and "
    "<INS> whose sequence it tells. Or write the allele as a sequence.",
    "breakend": "Breakends join distant places and are not scored; a short event can be written as a "
    "sequence.",
    "non_acgt_alt": "Replace the letter by the base that was found, or leave the allele out.",
    "ref_equals_alt": "Correct the record: it changes nothing.",
    "contig_not_in_fasta": "Check that VCF and FASTA are of the same assembly; --contig-aliases tells "
    "names that are spelt otherwise.",
    "pos_zero": "Correct POS: the first base of a contig is 1.",
    "past_contig_end": "Check that VCF and FASTA are of the same assembly.",
    "ref_mismatch": "Check that VCF and FASTA are of the same assembly, that POS counts from 1, and that REF "
    "and ALT are not swapped; 'bcftools norm --check-ref w -f FASTA' lists such records.",
    "non_acgt_ref": "Nothing to do where the genome is unknown (N); else give a FASTA that knows the bases.",
    "too_long": "--max-allele-length takes longer alleles, up to about half of what the model predicts.",
    "not_carried": "Nothing to do: most haplotypes do not carry most alleles.",
    "missing_genotype": "Nothing to do unless the genotype can be had; the sample's other rows are scored.",
    "unphased": "Phase the genotypes, with a phasing program or by the parents.",
    "unphased_neighbor": "Phase the genotypes around it, in one phase set.",
    "haplotype_conflict": "Check the calls: one haplotype cannot carry both alleles.",
}
"""What the user can do about each status."""

_ORDER = {"abs": "absolute {}", "up": "gain of {}", "down": "loss of {}"}


def check_page(path: str) -> None:
    """Find out before any work whether a report can be written.

    Args:
        path: where; ``-`` is standard output.

    Raises:
        ConfigError: a suffix that is not that of HTML.
        MissingDependencyError: matplotlib is not installed.
    """
    if path != "-" and not path.lower().endswith(SUFFIXES):
        raise ConfigError(
            f"a report is a page of HTML: its name ends in {' or '.join(SUFFIXES)}, not so {path}"
        )
    require("matplotlib", "plot")


def render_report(
    report: ScoreReport,
    pictured: RankedProfiles,
    *,
    title: str | None = None,
    genes: Sequence[Gene] | None = None,
    flank: int | None = None,
    max_tracks: int = 3,
    command: str = "",
) -> bytes:
    """A report as HTML: equal arguments give equal bytes.

    Args:
        report: what to tell.
        pictured: predictions of some rows of its ranking.
        title: None is the file's name.
        genes: drawn below the predictions; None draws none.
        flank: bp around a variant that are drawn; None is all that there are.
        max_tracks: tracks in the picture of a variant, at most.
        command: how the report was called.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    heading = title or report.name
    figures = _variants(report, pictured, genes, flank, max_tracks)
    drawn = {row.rank for row in pictured.rows}
    sections: list[tuple[str, str, Content]] = [
        ("summary", "Summary", _summary(report)),
        ("statuses", "Statuses", _statuses(report)),
        ("distributions", "Distribution of scores", _distributions(report)),
        ("top", "Strongest variants", _top(report, drawn)),
        ("variants", "Predictions of the strongest", figures),
        ("heat-map", "Strongest variants in all tracks", _heat_map(report)),
        ("tracks", "Tracks", _tracks(report)),
        ("checkpoint", "Checkpoint", _members(report.members)),
        ("provenance", "Provenance", _provenance(report)),
        ("commands", "Commands", _commands(report, command)),
    ]
    links = [element("li", element("a", name, href=f"#{key}")) for key, name, _ in sections]
    header = element(
        "header",
        element("h1", heading),
        element("p", _lead(report), class_="lead"),
        element("nav", element("ul", links), aria_label="Sections"),
    )
    body = [
        element(
            "section",
            element("h2", name, id=f"{key}-heading"),
            content,
            id=key,
            aria_labelledby=f"{key}-heading",
        )
        for key, name, content in sections
    ]
    return page(
        f"{heading} – gexpr",
        element("a", "Skip to the content", href="#summary", class_="skip"),
        header,
        element("main", *(join(Html("\n"), section) for section in body)),
        element(
            "footer",
            f"Made by gexpr {gexpr.__version__}. This file is complete: it loads nothing from elsewhere.",
        ),
        data("report-data", _numbers(report)),
        about={"generator": f"gexpr {gexpr.__version__}"},
    )


def _lead(report: ScoreReport) -> str:
    found = report.overview
    text = f"{_count(found.rows, 'row')}, {found.scored:,} scored, {_count(len(found.tracks), 'track')}"
    return f"{text}. Shown are only {'; '.join(report.narrowed)}." if report.narrowed else f"{text}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _share(number: int, of: int) -> str:
    return f"{100 * number / of:.1f} %" if of else "–"


# Summary ------------------------------------------------------------------------------------------


def _summary(report: ScoreReport) -> Html:
    found, values = report.overview, report.attributes
    kinds = ", ".join(_count(number, kind) for kind, number in found.kinds.items() if kind != "other")
    other = found.kinds.get("other")
    kinds += f"{', ' if kinds else ''}{other:,} other" if other else ""
    records = None if report.run is None or report.narrowed else report.run.records
    facts: list[tuple[str, str, str]] = [
        ("Alleles" if not values.get("phased") else "Rows (alleles on haplotypes)", f"{found.rows:,}", kinds),
        ("Scored", f"{found.scored:,}", _share(found.scored, found.rows)),
        (
            "Contigs",
            f"{found.contigs:,}",
            "" if records is None else f"{_count(records, 'record')} in the VCF",
        ),
        ("Tracks", f"{len(found.tracks):,}", ""),
        (
            "Statistics",
            ", ".join(name for name, _ in report.statistics),
            f"mask: {values.get('mask', 'unknown')}",
        ),
        ("Variants from", str(values.get("vcf", "unknown")), ""),
        ("Genome", str(values.get("fasta", "unknown")), ""),
        (
            "Checkpoint" if len(report.members) == 1 else f"Ensemble of {len(report.members)} checkpoints",
            ", ".join(member.name for member in report.members[:4])
            + (", …" if len(report.members) > 4 else ""),
            str(values.get("architecture", "")),
        ),
        (
            "Window",
            f"{_number(values, 'context_length')} bp",
            f"{_number(values, 'target_length')} bins of "
            f"{_number(values, 'model_bin_size')} bp are predicted",
        ),
    ]
    if run := report.run:
        processes = "1 process" if run.processes == 1 else f"{run.processes:,} processes"
        rate = f", {run.rows / run.seconds:,.2f} rows a second" if run.seconds > 0 else ""
        facts.append(("Started", _time(run.started), f"ended {_time(run.ended)}"))
        facts.append(("Computing time", _duration(run.seconds), f"{processes}{rate}"))
    made = [
        element("div", element("dt", name), element("dd", value, element("small", more) if more else None))
        for name, value, more in facts
    ]
    absent = None
    if report.run is None:
        absent = element(
            "p",
            "When and how fast the scores were computed is not recorded in them; 'gexpr score-variants "
            "--keep-run' keeps the run directory, which knows.",
            class_="note",
        )
    return join(element("dl", made, class_="facts"), absent)


def _number(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return f"{value:,}" if isinstance(value, int) else "unknown"


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:,.1f} s"
    minutes = seconds / 60
    return f"{minutes:,.1f} min" if minutes < 90 else f"{minutes / 60:,.1f} h"


# Statuses -----------------------------------------------------------------------------------------


def _statuses(report: ScoreReport) -> Html:
    meanings = STATUS_MEANINGS | PHASED_STATUS_MEANINGS
    order = {name: place for place, name in enumerate(meanings)}
    counts = report.overview.statuses
    if not counts:
        return element("p", "There are no rows.")
    names = sorted(counts, key=lambda name: (name != "ok", -counts[name], order.get(name, len(order)), name))
    total = report.overview.rows
    rows = [
        (
            element("code", name),
            (f"{counts[name]:,}", counts[name]),
            (
                join(_share(counts[name], total), _bar(counts[name] / total, name == "ok")),
                counts[name] / total,
            ),
            "the allele was scored"
            if name == "ok"
            else meanings.get(name, "unknown to this version of gexpr"),
            STATUS_ADVICE.get(name, "See the documentation of the version that wrote it."),
        )
        for name in names
    ]
    columns = (
        Column("status"),
        Column("rows", True, True),
        Column("share", True, True),
        Column("what it means"),
        Column("what to do"),
    )
    caption = "Every allele has a row; rows that are not ok have no scores."
    return table(columns, rows, caption=caption, identifier="status-table")


def _bar(share: float, ok: bool) -> Html:
    # What is there at all is visible.
    width = max(0.8, 100 * share)
    bar = element("rect", x=0, y=0, width=f"{width:.2f}", height=10)
    return element(
        "svg",
        bar,
        viewBox="0 0 100 10",
        preserveAspectRatio="none",
        class_="bar ok" if ok else "bar",
        aria_hidden="true",
    )


# Pictures -----------------------------------------------------------------------------------------


def _drawn(figure: Any, alt: str, *caption: Content, suffix: str = ".svg") -> Html:
    width, height = (round(_PIXELS * inches) for inches in figure.get_size_inches())
    image = rendered([figure], suffix, _DPI, outlines=True)
    shown = picture(image, alt, kind=_KINDS[suffix], width=width, height=height)
    return element("figure", shown, element("figcaption", *caption) if caption else None)


def _distributions(report: ScoreReport) -> Html:
    if not report.summaries:
        return element("p", "No row has a score.", class_="missing")
    formulas = dict(report.statistics)
    parts: list[Html] = []
    for summary in report.summaries:
        shown, how = _grouped(summary)
        figure = draw_scores(shown, title="", panels=("distribution",))
        formula = formulas.get(summary.statistic, "")
        parts.append(element("h3", summary.statistic))
        parts.append(
            _drawn(
                figure,
                f"Histogram of {summary.statistic} of {summary.scored:,} variants, {how}; "
                "the table of tracks has its numbers.",
                f"{summary.statistic} = {formula}. " if formula else None,
                f"How many variants have which score, {how}, on a logarithmic scale.",
            )
        )
    first = report.summaries[0]
    parts.append(element("h3", "Along the genome"))
    parts.append(
        _drawn(
            draw_scores(first, title="", panels=("positions",)),
            f"{first.statistic} of the strongest track along the contigs.",
            f"Each variant by its {first.statistic} in the track where that is largest; blue is a gain, "
            "orange-red a loss. Of each stretch of the genome the largest gain and loss are drawn.",
        )
    )
    return join(*parts)


def _grouped(summary: ScoreSummary) -> tuple[ScoreSummary, str]:
    """Of many tracks their groups by assay, where these are known; and in words what a curve is."""
    assays = list(dict.fromkeys(track.assay for track in summary.tracks))
    if len(summary.tracks) <= MOST_CURVES:
        return summary, "by track"
    if len(assays) < 2 or not all(assays):
        return summary, f"in the {MOST_CURVES} tracks with the largest scores"
    counts, tracks = [], []
    for place, assay in enumerate(assays):
        own = [column for column, track in enumerate(summary.tracks) if track.assay == assay]
        counts.append(summary.counts[own].sum(axis=0))
        tracks.append(Track(place, assay, f"{assay} ({_count(len(own), 'track')})", assay))
    grouped = summary._replace(tracks=tuple(tracks), counts=np.stack(counts))
    return grouped, "by assay, each track of an assay counted"


def _heat_map(report: ScoreReport) -> Html:
    if not report.summaries or not report.summaries[0].strongest:
        return element("p", "No row has a score.", class_="missing")
    first = report.summaries[0]
    figure = draw_scores(first, title="", panels=("heatmap",))
    number = len(first.strongest)
    return _drawn(
        figure,
        f"{first.statistic} of the {number} strongest variants in {_count(len(first.tracks), 'track')}.",
        f"{first.statistic} of the {number} strongest variants, from above, in every track; blue is a "
        "gain, orange-red a loss.",
    )


def _variants(
    report: ScoreReport,
    pictured: RankedProfiles,
    genes: Sequence[Gene] | None,
    flank: int | None,
    max_tracks: int,
) -> Html:
    parts: list[Html] = []
    for row, profiles in zip(pictured.rows, pictured.profiles, strict=True):
        near = profiles.within(flank)
        columns = _columns(near, row.track, max_tracks)
        figure = draw_variant(near, genes, columns=columns)
        parts.append(element("h3", f"{row.rank}. {variant_title(row.variant)}", id=f"variant-{row.rank}"))
        more = ""
        if len(columns) < len(near.tracks):
            more = f" Of {len(near.tracks):,} tracks those are drawn that change most."
        parts.append(
            _drawn(
                figure,
                f"Predictions of both alleles of {variant_title(row.variant)} in "
                f"{_count(len(columns), 'track')}, with their difference below each.",
                f"{row.statistic} {row.score!s} in {row.track.label or row.track.id}. Grey is the reference, "
                f"the line the alternate, the dotted line the variant.{more}",
                # Of a thousand bins and more, an SVG is many times as large.
                suffix=".png",
            )
        )
    if parts and report.attributes.get("phased"):
        note = "The pictures show each allele on the reference, not on the haplotype that carries it."
        parts.insert(0, element("p", note, class_="note"))
    if parts and pictured.stored:
        parts.insert(0, element("p", "These predictions are stored in the file of scores.", class_="note"))
    if pictured.missing:
        lines = element(
            "ul", [element("li", f"{reason[:1].upper()}{reason[1:]}.") for reason in pictured.missing]
        )
        what = "Some pictures are missing:" if parts else "There are no pictures of single variants here:"
        parts.append(element("div", element("p", what), lines, class_="missing"))
    return (
        join(*parts) if parts else element("p", "No pictures of single variants were asked for (--pictures).")
    )


def _columns(profiles: AlleleProfiles, track: Track, most: int) -> list[int]:
    """The tracks to draw: that of the ranking, where it is among them, and those that change most."""
    own = [place for place, each in enumerate(profiles.tracks) if each.id == track.id][:1]
    others = [place for place in strongest_columns(profiles, most) if place not in own]
    change = np.nansum(np.abs(profiles.alternate.astype(float) - profiles.reference), axis=0)
    others.sort(key=lambda place: -float(change[place]))
    return sorted([*own, *others[: most - len(own)]])


# Tables -------------------------------------------------------------------------------------------


def _top(report: ScoreReport, drawn: set[int]) -> Html:
    if not report.rows:
        return element("p", "No row has a score.", class_="missing")
    statistic = report.rows[0].statistic
    others = [name for name, _ in report.others[0]]
    extra = [name for name, _ in report.rows[0].extra]
    columns = [
        Column("rank", True),
        Column(statistic, True, True),
        Column("id"),
        Column("chrom"),
        Column("pos", True),
        Column("ref"),
        Column("alt"),
        Column("track_id"),
        Column("track_label"),
        *(Column(name, True, True) for name in others),
        *(Column(name, not isinstance(value, str)) for name, value in report.rows[0].extra),
    ]
    rows = [_top_row(row, values, drawn) for row, values in zip(report.rows, report.others, strict=True)]
    order = _ORDER[report.by].format(statistic)
    caption = (
        f"The {_count(len(rows), 'row')} with the largest {order}, each by its strongest track, as "
        "'gexpr top --overall' lists them. The headings sort."
    )
    made = table(columns, rows, caption=caption, identifier="top-table", searchable=True, sorted_by=0)
    more = f" The columns {', '.join(extra)} come with the scores." if extra else ""
    linked = " A linked rank leads to the variant's picture." if drawn else ""
    note = f"Missing values sort last.{linked}{more}"
    return join(made, element("p", note, class_="note"))


def _top_row(
    row: Ranked, others: Sequence[tuple[str, np.floating]], drawn: set[int]
) -> list[Content | tuple[Content, float]]:
    allele = row.variant
    rank: Content = (
        element("a", str(row.rank), href=f"#variant-{row.rank}") if row.rank in drawn else str(row.rank)
    )
    return [
        (rank, row.rank),
        (str(row.score), float(row.score)),
        allele.id,
        allele.chrom,
        (str(allele.pos), allele.pos),
        allele.ref,
        allele.alt,
        row.track.id,
        row.track.label,
        *((str(value), float(value)) for _, value in others),
        *row.extra_texts,
    ]


def _tracks(report: ScoreReport) -> Html:
    found = report.overview.tracks
    statistic = report.summaries[0].statistic if report.summaries else report.statistics[0][0]
    strength = [max(-each.lowest, each.highest) if each.scored else -math.inf for each in found]
    order = sorted(range(len(found)), key=lambda place: (-strength[place], place))[:MOST_TRACKS]
    chosen = [found[place] for place in (sorted(order) if len(found) <= MOST_TRACKS else order)]
    with_assay = any(each.track.assay for each in chosen)
    with_cell = any(each.track.cell_type for each in chosen)
    columns = [Column("track_id"), Column("track_label")]
    columns += [Column("assay")] if with_assay else []
    columns += [Column("cell_type")] if with_cell else []
    columns += [
        Column(name, True, True) for name in ("scored", "root mean square", "largest loss", "largest gain")
    ]
    columns[-2] = columns[-2]._replace(descending=False)
    rows = []
    for each in chosen:
        cells: list[Content | tuple[Content, float]] = [each.track.id, each.track.label]
        cells += [each.track.assay] if with_assay else []
        cells += [each.track.cell_type] if with_cell else []
        cells.append((f"{each.scored:,}", each.scored))
        for value in (each.rms, min(each.lowest, 0.0), max(each.highest, 0.0)):
            cells.append((f"{value:.4g}" if each.scored else "", value if each.scored else math.nan))
        rows.append(cells)
    which = f"{len(found):,} tracks"
    if len(chosen) < len(found):
        which = f"The {len(chosen)} of {len(found):,} tracks with the largest scores"
    caption = f"{which}: the spread of {statistic} over the rows that are scored."
    made = table(columns, rows, caption=caption, identifier="track-table", searchable=len(chosen) > 12)
    return made


def _provenance(report: ScoreReport) -> Html:
    facts: list[tuple[str, str]] = [
        ("file of scores", report.name),
        ("bytes", f"{report.size:,}"),
        ("SHA-256", report.sha256),
        *((name, _shown(value)) for name, value in sorted(report.attributes.items())),
    ]
    rows = [(name, element("span", value, class_="mono")) for name, value in facts]
    made = table(
        (Column("setting"), Column("value")),
        rows,
        caption="What the file says of itself: versions, digests and settings. Equal ones give equal scores.",
        identifier="provenance-table",
    )
    return made


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value != "" else "–"


# The rest -----------------------------------------------------------------------------------------


def _members(members: Sequence[Member]) -> Html:
    parts: list[Html] = []
    for member in members:
        parts.append(element("h3", member.name))
        parts.append(
            element(
                "p", "SHA-256 of the weights: ", element("span", member.sha256, class_="mono"), class_="note"
            )
        )
        if member.card is not None:
            parts.append(element("div", render_card(member.card, 4), class_="card"))
        if member.reason:
            reason = f"{member.reason[:1].upper()}{member.reason[1:]}."
            parts.append(
                element("p", reason if member.card else f"No card: {member.reason}.", class_="missing")
            )
    return join(*parts)


def _commands(report: ScoreReport, command: str) -> Html:
    parts: list[Html] = [element("h3", "The scores")]
    if report.run is not None and report.run.commands:
        several = "commands" if len(report.run.commands) > 1 else "command"
        parts.append(element("p", f"The {several} as called, from the run directory that was kept:"))
        parts += [_shell(shlex.join(each)) for each in report.run.commands]
        parts.append(element("p", "The same from the settings that the scores hold:"))
    else:
        parts.append(
            element(
                "p",
                "Scores hold settings, not the command that was typed. This command computes them again, "
                "with the files named here:",
            )
        )
    parts.append(_shell(shlex.join(report.again)))
    if report.notes:
        parts.append(element("ul", [element("li", note) for note in report.notes]))
    if command:
        parts += [element("h3", "This report"), _shell(command)]
    return join(*parts)


def _shell(command: str) -> Html:
    return element("pre", element("code", command), tabindex=0)


def _numbers(report: ScoreReport) -> dict[str, Any]:
    """The report for programs."""
    return {
        "format": "gexpr report",
        "format_version": 1,
        "gexpr_version": gexpr.__version__,
        "scores": {"name": report.name, "bytes": report.size, "sha256": report.sha256},
        "attributes": {name: _plain(value) for name, value in report.attributes.items()},
        "rows": report.overview.rows,
        "scored": report.overview.scored,
        "statuses": dict(report.overview.statuses),
        "top": [_row_numbers(row, values) for row, values in zip(report.rows, report.others, strict=True)],
    }


def _row_numbers(row: Ranked, others: Sequence[tuple[str, np.floating]]) -> dict[str, Any]:
    allele = row.variant
    return {
        **{"rank": row.rank, "track_id": row.track.id, "track_label": row.track.label},
        **{"statistic": row.statistic, "score": _plain(row.score)},
        **{name: getattr(allele, name) for name in ("chrom", "pos", "id", "ref", "alt")},
        "others": {name: _plain(value) for name, value in others},
        "extra": {name: text for (name, _), text in zip(row.extra, row.extra_texts, strict=True)},
    }


def _plain(value: Any) -> Any:
    """What JSON can hold: numbers with the digits that the file has, and null for what is no number."""
    if isinstance(value, np.floating | float):
        number = float(str(value))
        return number if math.isfinite(number) else None
    return value
