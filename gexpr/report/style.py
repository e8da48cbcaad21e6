"""What all pictures share: size, colors, axes in base pairs, and files whose bytes tell no date."""

from __future__ import annotations

import functools
import io
import re
import textwrap
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from gexpr import logs
from gexpr.errors import ConfigError, require
from gexpr.results import Track
from gexpr.writers.output import AtomicOutput

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_NO_GLYPH = re.compile(r"Glyph (\d+) ")

SUFFIXES = (".png", ".svg", ".pdf")
WIDTH = 7.2
"""Inches: two columns of most journals."""
DPI = 200

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#888888"
"""The palette of Okabe and Ito, which readers with any color vision tell apart, and a grey."""
CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, GREY)
BASES = {"A": GREEN, "C": BLUE, "G": ORANGE, "T": VERMILION}

SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "figure.titlesize": 9,
    "figure.titleweight": "bold",
    "lines.linewidth": 1.0,
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.hspace": 0.02,
}


def styled(draw: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A function that draws, with these settings whatever the user's own are.

    The function raises MissingDependencyError where matplotlib is not installed.
    """

    @functools.wraps(draw)
    def wrapped(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        matplotlib = require("matplotlib", "plot")
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(SETTINGS)
            return draw(*args, **kwargs)

    return wrapped


def new_figure(width: float, height: float) -> Any:
    """An empty figure of some inches, whose parts are laid out without overlap."""
    require("matplotlib", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def heading(figure: Any, text: str) -> None:
    """A bold title at the left, on as many lines as the width asks for."""
    lines = textwrap.wrap(text, max(20, int(11 * figure.get_figwidth())))
    figure.suptitle("\n".join(lines), x=0.01, ha="left")


def position_axis(axes: Any, chrom: str, start: int, end: int) -> None:
    """Make the x axis one of positions: limits, round ticks, and a label with the contig and the unit.

    A base at the 1-based position p lies between p - 0.5 and p + 0.5; see :func:`edge`.

    Args:
        axes: matplotlib axes.
        chrom: name of the contig.
        start, end: the bases that are shown, 0-based and half-open.
    """
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_xlim(edge(start), edge(end))
    inches = axes.figure.bbox.width / axes.figure.dpi
    axes.xaxis.set_major_locator(
        MaxNLocator(nbins=max(2, int(0.85 * inches)), steps=[1, 2, 5, 10], integer=True)
    )
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel(f"position on {chrom} (bp)")


def edge(position: float) -> float:
    """The place on a position axis of a 0-based boundary: the left edge of the base ``position + 1``."""
    return position + 0.5


def effect_colors() -> Any:
    """A color map from losses over white to gains, told apart with any color vision."""
    require("matplotlib", "plot")
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("gexpr effects", [VERMILION, "white", BLUE])


def unit(track: Track, bin_size: int) -> str:
    """What a track's predictions are measured in, for an axis label."""
    if track.transform in ("log2", "ln"):
        return f"{track.transform} signal"
    if track.transform == "linear" or track.transform.startswith("affine"):
        return "value"
    return f"signal per {bin_size} bp"


_UNITS = {
    **dict.fromkeys(("logFC", "logSAD", "logD2"), "log2"),
    **dict.fromkeys(("SAD", "SAX", "D1", "D2", "ACTIVE_SUM"), "signal"),
    "sqrtSAD": "√signal",
    "JS": "bits",
}


def with_unit(statistic: str) -> str:
    """A statistic's name for an axis label, with its unit where it has one: ``logFC (log2)``."""
    return f"{statistic} ({_UNITS[statistic]})" if statistic in _UNITS else statistic


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters, the middle left out."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def check_suffix(path: str) -> str:
    """The suffix of a picture's path.

    Raises:
        ConfigError: it is none of :data:`SUFFIXES`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"pictures are {', '.join(SUFFIXES)}, not {suffix!r}: {path}")
    return suffix


def check_outputs(paths: Sequence[str]) -> None:
    """Find out before any work whether pictures can be written.

    Raises:
        ConfigError: a path with another suffix.
        MissingDependencyError: matplotlib is not installed.
    """
    for path in paths:
        check_suffix(path)
    require("matplotlib", "plot")


def rendered(figures: Sequence[Any], suffix: str, dpi: int = DPI, *, outlines: bool = False) -> bytes:
    """The bytes of a picture: equal figures give equal bytes, without a date.

    Args:
        figures: one; of a PDF also several, a page each.
        suffix: one of :data:`SUFFIXES`.
        dpi: dots per inch, of PNG and of what is drawn as dots in the others.
        outlines: draw the letters of an SVG, so that it looks the same without the font.
    """
    matplotlib = require("matplotlib", "plot")
    from matplotlib.backends.backend_pdf import PdfPages

    settings = {"svg.hashsalt": "gexpr", "svg.fonttype": "path" if outlines else "none", "pdf.fonttype": 42}
    buffer = io.BytesIO()
    with matplotlib.rc_context(settings), _missing_letters():
        if suffix == ".pdf":
            with PdfPages(buffer, metadata={"CreationDate": None}) as pages:
                for figure in figures:
                    pages.savefig(figure, dpi=dpi)
        else:
            (figure,) = figures
            metadata = {"Date": None} if suffix == ".svg" else {"Software": None}
            figure.savefig(buffer, format=suffix[1:], dpi=dpi, metadata=metadata)
    return buffer.getvalue()


@contextmanager
def _missing_letters() -> Iterator[None]:
    """One message in place of a warning for each letter that the font lacks."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    letters = []
    for each in caught:
        found = _NO_GLYPH.match(str(each.message))
        if found is None:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        else:
            letters.append(chr(int(found[1])))
    if letters:
        shown = " ".join(dict.fromkeys(letters))
        logs.warning(f"the font of pictures lacks {shown}: boxes are drawn instead")


def save(figures: Iterable[Any], path: str, *, dpi: int = DPI, force: bool = False) -> list[str]:
    """Write pictures in the format of the path's suffix: a page each of one PDF, or a numbered file each.

    Args:
        figures: one or more; drawn one after the other where they come from a generator, and written at once.
        path: ``.png``, ``.svg`` or ``.pdf``; several PNG or SVG are ``NAME-1.png``, ``NAME-2.png``, ….
        dpi: dots per inch.
        force: replace existing files.

    Returns:
        The paths written.

    Raises:
        ConfigError: another suffix.
        GexprError: a file exists, or cannot be written.
    """
    suffix = check_suffix(path)
    drawn = list(figures)
    if suffix == ".pdf" or len(drawn) == 1:
        parts = {path: drawn}
    else:
        stem = path[: -len(suffix)]
        parts = {f"{stem}-{number}{path[-len(suffix) :]}": [each] for number, each in enumerate(drawn, 1)}
    for name, pages in parts.items():
        with AtomicOutput(name, force=force) as output:
            output.file.write(rendered(pages, suffix, dpi))
            output.commit()
    return list(parts)
