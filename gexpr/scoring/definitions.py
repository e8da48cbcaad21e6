"""Names and definitions of the score statistics and of the other scoring choices; no torch here.

The command line lists these names in its help, so this module must import quickly. The functions
themselves are in :mod:`gexpr.scoring.statistics`.
"""

from __future__ import annotations

import difflib
import re
from typing import NamedTuple

from gexpr.errors import ConfigError
from gexpr.genome.windows import WindowRule


class Definition(NamedTuple):
    """What a statistic is called, how it is computed, and which predictions it is meant for.

    ``differences`` says that the statistic needs no counts: it is defined for any scale, also
    for tracks whose transform is ``linear``, ``log2`` or ``ln``.
    """

    name: str
    formula: str
    aliases: tuple[str, ...]
    differences: bool


_DEFINITIONS = (
    Definition(
        "logFC",
        "log2(sum(alt) + c) - log2(sum(ref) + c)",
        ("logSED", "DIFF_LOG2_SUM"),
        False,
    ),
    Definition("SAD", "sum(alt) - sum(ref)", ("SUM", "DIFF_SUM"), True),
    Definition("logSAD", "sum(log2(alt + 1)) - sum(log2(ref + 1))", ("logSUM", "DIFF_SUM_LOG2"), False),
    Definition("sqrtSAD", "sum(sqrt(alt)) - sum(sqrt(ref))", ("sqrtSUM",), False),
    Definition("SAX", "alt - ref at the bin of the largest |alt - ref|", (), True),
    Definition("D1", "sum(|alt - ref|)", ("L1_DIFF",), True),
    Definition("D2", "sqrt(sum((alt - ref)^2))", ("L2_DIFF",), True),
    Definition("logD2", "sqrt(sum((log2(alt + 1) - log2(ref + 1))^2))", (), False),
    Definition(
        "JS",
        "Jensen-Shannon divergence, base 2, of alt + 1e-6 and ref + 1e-6, each divided by its sum",
        (),
        False,
    ),
    Definition("ACTIVE_SUM", "max(sum(alt), sum(ref))", (), False),
)

STATISTICS: dict[str, Definition] = {definition.name: definition for definition in _DEFINITIONS}
"""Every statistic under its canonical name, in the order of the documentation."""

JS_PSEUDOCOUNT = 1e-6

AVERAGES = ("predictions", "scores", "checkpoint-scores")
"""Where averages over strands, shifts and checkpoints are taken: before the statistic, or after it; or of
strands and shifts before it, and of checkpoints after it."""

AGGREGATES = {"celltype": "cell_type", "assay": "assay"}
"""Over what scores can be averaged -> the column of the track table that groups the tracks."""

ENGINES = ("incremental", "plain")
"""How alternates are predicted: only what they change of the local trunk anew, or all of it."""

PRECISIONS = ("fp32", "tf32", "fp16", "bf16")

_CANONICAL = {
    name.lower(): definition.name
    for definition in _DEFINITIONS
    for name in (definition.name, *definition.aliases)
}


def canonical_statistic(name: str) -> str:
    """The canonical name of a statistic, from any case or any peer's alias.

    Raises:
        ConfigError: no statistic has this name; the message lists the known ones.
    """
    found = _CANONICAL.get(name.strip().lower())
    if found is None:
        close = difflib.get_close_matches(name.strip().lower(), _CANONICAL, n=1)
        hint = f"; did you mean {_CANONICAL[close[0]]}?" if close else ""
        raise ConfigError(f"unknown statistic {name!r}{hint} (known: {', '.join(STATISTICS)})")
    return found


def parse_statistics(text: str) -> tuple[str, ...]:
    """Canonical names from a comma-separated list, in the order given.

    Raises:
        ConfigError: an unknown name, an empty list, or the same statistic twice.
    """
    names = tuple(canonical_statistic(part) for part in text.split(",") if part.strip())
    if not names:
        raise ConfigError(f"no statistic in {text!r} (known: {', '.join(STATISTICS)})")
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"statistic {name} is given twice in {text!r}")
    return names


DERIVED = ("_quantile", "_marginal", "_joint")
"""What is added to a statistic's name to name what files of scores hold beside it."""


def parse_stored_statistics(text: str) -> tuple[str, ...]:
    """Names from a comma-separated list, also of what is derived from a statistic (``logFC_quantile``).

    Raises:
        ConfigError: an unknown name, or an empty list.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        suffix = next((each for each in DERIVED if part.endswith(each)), "")
        found.append(canonical_statistic(part.removesuffix(suffix)) + suffix)
    if not found:
        raise ConfigError(f"no statistic in {text!r} (known: {', '.join(STATISTICS)})")
    return tuple(found)


def parse_shifts(text: str) -> tuple[int, ...]:
    """Whole numbers from a comma-separated list such as ``-1,0,1``, in ascending order.

    Raises:
        ConfigError: something else than distinct whole numbers.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"[+-]?\d+", part) for part in parts):
        raise ConfigError(f"shifts must be whole numbers of base pairs such as -1,0,1, not {text!r}")
    shifts = tuple(sorted(int(part) for part in parts))
    if len(set(shifts)) != len(shifts):
        raise ConfigError(f"a shift is given twice in {text!r}")
    return shifts


class Mask(NamedTuple):
    """Which output bins are scored.

    ``distance`` None scores all of them; otherwise a bin counts when at least one of its bases
    lies within ``distance`` bp of the variant's reference bases; those of an insertion are its two
    neighbors.
    """

    distance: int | None = None

    def __str__(self) -> str:
        return "all" if self.distance is None else f"center:{self.distance}"


ALL_BINS = Mask()


def parse_mask(text: str) -> Mask:
    """``all`` or ``center:BP``.

    Raises:
        ConfigError: anything else.
    """
    if text.strip().lower() == "all":
        return ALL_BINS
    match = re.fullmatch(r"cent(?:er|re):(\d+)", text.strip().lower())
    if match is None:
        raise ConfigError(f"mask must be all or center:BP (such as center:250), not {text!r}")
    return Mask(int(match.group(1)))


def parse_profile(text: str | None) -> int | None:
    """``center:N``: the N bins around a variant; None is none.

    Raises:
        ConfigError: anything else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"cent(?:er|re):(\d{1,9})", text.strip().lower())
    if match is None or not int(match.group(1)):
        raise ConfigError(f"profiles must be center:N, N bins around each variant, not {text!r}")
    return int(match.group(1))


def parse_max_offset(text: str) -> WindowRule:
    """``0``, ``bin`` or a number of bp.

    Raises:
        ConfigError: anything else.
    """
    value = text.strip().lower()
    if value == "bin":
        return WindowRule("bin")
    if not re.fullmatch(r"\d{1,9}", value):
        raise ConfigError(f"max offset must be 0, bin or a number of base pairs, not {text!r}")
    return WindowRule(int(value))
