"""Which tracks of a model to predict: from what the user wrote to indices."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Sequence

from gexpr.errors import ConfigError
from gexpr.results import Track


def select_tracks(tracks: Sequence[Track], text: str | None) -> list[int]:
    """Indices of the tracks that a comma-separated selection names, in the order given, each once.

    Every part is one of: a track's id; an index such as ``3`` or an inclusive range ``0-3``; a
    pattern with ``*``, ``?`` or ``[...]``, matched against ids and labels without regard to case; a
    label. An id wins over the other readings. None or an empty text selects all.

    Raises:
        ConfigError: a part names nothing; near matches are listed.
    """
    if text is None or not text.strip():
        return list(range(len(tracks)))
    chosen: dict[int, None] = {}
    # A label may itself hold commas, so the whole text is tried first.
    whole = _matches(tracks, text.strip())
    parts = [text] if whole else text.split(",")
    for part in filter(None, (part.strip() for part in parts)):
        found = _matches(tracks, part)
        if not found:
            raise ConfigError(_not_found(tracks, part))
        chosen.update(dict.fromkeys(found))
    if not chosen:
        raise ConfigError(f"--tracks {text!r} names no track")
    return list(chosen)


def _matches(tracks: Sequence[Track], part: str) -> list[int]:
    by_id = [i for i, track in enumerate(tracks) if track.id == part]
    if by_id:
        return by_id
    span = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
    if span is not None:
        low = int(span.group(1))
        high = low if span.group(2) is None else int(span.group(2))
        if low <= high < len(tracks):
            return list(range(low, high + 1))
    lowered = part.lower()
    by_name = [i for i, track in enumerate(tracks) if lowered in (track.id.lower(), track.label.lower())]
    if by_name:
        return by_name
    if any(character in part for character in "*?["):
        return [
            i
            for i, track in enumerate(tracks)
            if fnmatch.fnmatchcase(track.id.lower(), lowered)
            or fnmatch.fnmatchcase(track.label.lower(), lowered)
        ]
    return []


def _not_found(tracks: Sequence[Track], part: str) -> str:
    message = f"no track matches {part!r}"
    if re.fullmatch(r"\d+(-\d+)?", part):
        return f"{message}: the indices are 0 to {len(tracks) - 1}"
    names = {name.lower(): name for track in tracks for name in (track.label, track.id)}
    lowered = part.strip("*?").lower()
    near = [names[name] for name in difflib.get_close_matches(lowered, names, n=3, cutoff=0.4)]
    near += [name for low, name in names.items() if lowered and lowered in low and name not in near][:3]
    if near:
        return f"{message}; close to it: {', '.join(near[:5])}"
    few = ", ".join(track.id for track in tracks[:5])
    return f"{message}; the model has {len(tracks)} tracks: {few}{', ...' if len(tracks) > 5 else ''}"
