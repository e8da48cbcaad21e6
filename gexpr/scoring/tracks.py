"""Which tracks to use: from what the user wrote to indices."""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from gexpr.errors import ConfigError, GexprError, InputError, shown
from gexpr.genome.compressed import read_lines
from gexpr.results import Track

FIELDS = {"assay": "assay", "cell": "cell_type", "cell_type": "cell_type", "celltype": "cell_type"}
"""What stands before a colon in a selector -> the column of the track table that it is about."""


class Selector(NamedTuple):
    """One part of a selection, with the file and line that it was read from."""

    text: str
    path: str | None = None
    line: int | None = None

    def error(self, message: str) -> GexprError:
        """What is wrong with it, as an error that says where it stands."""
        if self.path is None:
            return ConfigError(message)
        return InputError(message, path=self.path, line=self.line)


class Selection(NamedTuple):
    """What the user wrote, with its files read: picklable, and independent of files that go away."""

    text: str
    selectors: tuple[Selector, ...]


def read_selection(text: str | Selection | None) -> Selection | None:
    """A comma-separated selection with every ``@FILE`` in it replaced by the file's lines.

    ``\\,`` is a comma within a part. A file holds one part a line, in which commas mean themselves; lines
    that are blank or start with ``#`` are skipped, and so is what follows a ``#`` between blanks.

    Returns:
        None for None and for blank text; a selection that was read before as it is.

    Raises:
        InputError: a file cannot be read, holds no part, or names another file.
    """
    if text is None or isinstance(text, Selection):
        return text
    if not text.strip():
        return None
    selectors: list[Selector] = []
    for part in re.split(r"(?<!\\),", text):
        part = part.replace("\\,", ",").strip()
        sign, path = ("^", part[2:]) if part.startswith("^@") else ("", part[1:])
        if part.startswith(("@", "^@")):
            selectors += [each._replace(text=sign + each.text) for each in _read_file(path, bool(sign))]
        elif part:
            selectors.append(Selector(part))
    return Selection(text.strip(), tuple(selectors))


def _read_file(path: str, excluded: bool) -> list[Selector]:
    selectors = []
    for number, line in read_lines(path, "list of tracks"):
        text = re.split(r"(?:^|\s)#(?:\s|$)", line, maxsplit=1)[0].strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith(("@", "^@")):
            raise InputError("a list of tracks cannot name another one", path=path, line=number)
        if excluded and text.startswith("^"):
            raise InputError(
                f"{shown(text)} in a list that is left out (^@) as a whole", path=path, line=number
            )
        selectors.append(Selector(text, path, number))
    if not selectors:
        raise InputError("names no track", path=path)
    return selectors


def select_tracks(
    tracks: Sequence[Track], selection: str | Selection | None, default: Sequence[int] | None = None
) -> list[int]:
    """Places of the tracks that a selection names, in the order given, each once.

    Every part of the comma-separated list is one of

    - a track's id, or a label in any case;
    - an index such as ``3``, or an inclusive range ``0-3``;
    - ``assay:NAME`` or ``cell:NAME``: the tracks with that assay or cell type; nothing behind the colon
      means those without one;
    - a pattern with ``*``, ``?`` or ``[...]``, also behind ``assay:`` and ``cell:``;
    - ``re:EXPR``: a regular expression that is found somewhere in an id or label;
    - ``@FILE``: the parts that the file lists, see :func:`read_selection`;
    - ``^`` and any of these: tracks to leave out, wherever in the list it stands.

    Case matters in ids only. An id wins over the other readings, then an index, then a label.

    Args:
        tracks: the table; places are positions in it.
        selection: None selects all of ``default``.
        default: what a selection starts from that only leaves out; None is all tracks.

    Raises:
        ConfigError: a part names nothing (near matches are listed) or nothing is left.
        InputError: the same of a part in a file, or the file cannot be read.
    """
    selection = read_selection(selection)
    every = list(range(len(tracks))) if default is None else list(default)
    if selection is None:
        return every
    # A label may itself hold commas, so the whole text is tried first.
    whole = _named(tracks, selection.text)
    if whole:
        return whole
    chosen: dict[int, None] = {}
    excluded: set[int] = set()
    includes = False
    for selector in selection.selectors:
        text = selector.text
        leave_out = text.startswith("^") and not _named(tracks, text)
        found = _matches(tracks, text[1:].strip() if leave_out else text, selector)
        if leave_out:
            excluded.update(found)
        else:
            includes = True
            chosen.update(dict.fromkeys(found))
    kept = [place for place in (chosen if includes else every) if place not in excluded]
    if not kept or not selection.selectors:
        reason = "leaves out every track it names" if excluded else "names no track"
        raise ConfigError(f"--tracks {shown(selection.text)} {reason}")
    return kept


def _named(tracks: Sequence[Track], text: str) -> list[int]:
    """The tracks with this id, or else with this label or, but for case, this id."""
    by_id = [i for i, track in enumerate(tracks) if track.id == text]
    lowered = text.lower()
    return by_id or [i for i, t in enumerate(tracks) if lowered in (t.id.lower(), t.label.lower())]


def _matches(tracks: Sequence[Track], text: str, selector: Selector) -> list[int]:
    span = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text)
    if span is not None and not any(track.id == text for track in tracks):
        low = int(span.group(1))
        high = low if span.group(2) is None else int(span.group(2))
        if low <= high < len(tracks):
            return list(range(low, high + 1))
    found = _named(tracks, text)
    if found:
        return found
    kind, colon, value = text.partition(":")
    if colon and kind.lower() in FIELDS:
        return _of_field(tracks, FIELDS[kind.lower()], value.strip(), selector)
    if colon and kind.lower() == "re":
        try:
            expression = re.compile(value, re.IGNORECASE)
        except re.error as error:
            raise selector.error(f"{shown(text)} is not a regular expression: {error}") from None
        found = [i for i, t in enumerate(tracks) if expression.search(t.id) or expression.search(t.label)]
    elif _is_pattern(text):
        fits = _pattern(text)
        found = [i for i, track in enumerate(tracks) if fits(track.id.lower()) or fits(track.label.lower())]
    if not found:
        raise selector.error(_not_found(tracks, text))
    return found


def _of_field(tracks: Sequence[Track], field: str, value: str, selector: Selector) -> list[int]:
    values = [getattr(track, field) for track in tracks]
    lowered = value.lower()
    found = [i for i, each in enumerate(values) if each.lower() == lowered]
    if not found and _is_pattern(value):
        fits = _pattern(value)
        found = [i for i, each in enumerate(values) if each and fits(each.lower())]
    if found:
        return found
    what = field.replace("_", " ")
    if not value:
        raise selector.error(f"no track is without {what}")
    if not any(values):
        raise selector.error(
            f"no track matches {shown(selector.text)}: the table of tracks names no {what} (its column "
            f"{field} is empty); select by label, as in '*{value}*'"
        )
    names: dict[str, str] = {}
    for each in filter(None, values):
        names.setdefault(each.lower(), each)
    near = _near(value, names)
    hint = f"did you mean {', '.join(near)}?" if near else f"there are {_few(list(names.values()))}"
    raise selector.error(f"no track has the {what} {shown(value)}; {hint}")


def _is_pattern(text: str) -> bool:
    return any(character in text for character in "*?[")


def _pattern(text: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(text.lower())).fullmatch


def _near(wanted: str, names: dict[str, str]) -> list[str]:
    """Up to five of ``names`` (lower case -> as spelt) that are like a text, or hold it."""
    lowered = wanted.strip("*?").lower()
    near = [names[name] for name in difflib.get_close_matches(lowered, names, n=3, cutoff=0.4)]
    near += [name for low, name in names.items() if lowered and lowered in low and name not in near][:3]
    return near[:5]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _not_found(tracks: Sequence[Track], part: str) -> str:
    message = f"no track matches {shown(part)}"
    if re.fullmatch(r"\d+(-\d+)?", part):
        return f"{message}: the indices are 0 to {len(tracks) - 1}"
    names = {name.lower(): name for track in tracks for name in (track.label, track.id)}
    near = _near(part, names)
    if near:
        return f"{message}; did you mean {', '.join(near)}?"
    return f"{message}; there are {len(tracks)} tracks: {_few([track.id for track in tracks])}"


def name_places(places: Iterable[int], limit: int = 1000) -> str:
    """``0-3,7``: indices in their order; number and digest where that text exceeds ``limit``."""
    runs: list[list[int]] = []
    for place in places:
        if runs and place == runs[-1][1] + 1:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    text = ",".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)
    if len(text) <= limit:
        return text
    number = sum(high - low + 1 for low, high in runs)
    return f"{number} tracks, SHA-256 {hashlib.sha256(text.encode()).hexdigest()}"


def places_named(text: str, most: int) -> list[int] | None:
    """The indices that :func:`name_places` named; None where it gave a digest, or for more than ``most``."""
    if not re.fullmatch(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*", text):
        return None
    places: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition("-")
        if int(high or low) - int(low) >= most - len(places):
            return None
        places += range(int(low), int(high or low) + 1)
    return places
