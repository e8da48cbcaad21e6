"""The Markdown of model cards as HTML: what such cards use, and nothing that would lead out of the page."""

from __future__ import annotations

import re
from collections.abc import Iterable

from gexpr.report.markup import Html, element, join, text

_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_HEADING = re.compile(r" {0,3}(#{1,6})\s+(.*?)\s*#*$")
_ITEM = re.compile(r"( *)([-*+]|\d{1,9}[.)])\s+(.*)")
_RULE = re.compile(r" {0,3}([-*_])( *\1){2,} *$")
_DIVIDER = re.compile(r" {0,3}\|?[ :]*-+[ :]*(\|[ :]*-+[ :]*)*\|? *$")
_INLINE = re.compile(
    r"(?P<tick>`+)(?P<code>.+?)(?P=tick)(?!`)"
    r"|!?\[(?P<label>[^\[\]]*)\]\((?P<target>[^()\s]*)(?:\s+\"[^\"]*\")?\)"
    r"|\*\*(?P<strong>[^*]+)\*\*|(?<![\w*])\*(?P<em>[^*\s][^*]*)\*(?![\w*])"
    r"|<(?P<link>https?://[^<>\s]+)>"
)


def render_card(card: str, level: int = 3) -> Html:
    """A model card as HTML.

    Headings, paragraphs, lists, tables, code, emphasis and rules are rendered. HTML in it is shown as it is
    written, links by their text and address, images by their text. A block of YAML at the start is shown
    as code.

    Args:
        card: Markdown.
        level: of the card's first-level headings.
    """
    lines = card.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    parts: list[Html] = []
    place = 0
    if lines and lines[0].strip() == "---" and "---" in (line.strip() for line in lines[1:]):
        place = next(i for i, line in enumerate(lines[1:], start=1) if line.strip() == "---") + 1
        parts.append(_code(lines[1 : place - 1]))
    while place < len(lines):
        made, place = _block(lines, place, level)
        parts.append(made)
    return join(*(join(part, Html("\n")) for part in parts if part))


def _block(lines: list[str], place: int, level: int) -> tuple[Html, int]:
    """One block, and the line behind it."""
    line = lines[place]
    if not line.strip():
        return Html(""), place + 1
    if fence := _FENCE.match(line):
        end = place + 1
        while end < len(lines) and not lines[end].strip().startswith(fence[1]):
            end += 1
        return _code(lines[place + 1 : end]), end + 1
    if heading := _HEADING.match(line):
        return element(f"h{min(6, len(heading[1]) + level - 1)}", inline(heading[2])), place + 1
    if _RULE.match(line):
        return element("hr"), place + 1
    if "|" in line and place + 1 < len(lines) and _DIVIDER.match(lines[place + 1]):
        return _table(lines, place)
    if item := _ITEM.match(line):
        return _list(lines, place, item[2][0].isdigit())
    end = place + 1
    while end < len(lines) and not _begins(lines, end):
        end += 1
    return element("p", inline(" ".join(each.strip() for each in lines[place:end]))), end


def _begins(lines: list[str], place: int) -> bool:
    """Whether a line ends the paragraph above it."""
    line = lines[place]
    return (
        not line.strip()
        or any(each.match(line) is not None for each in (_FENCE, _HEADING, _ITEM, _RULE))
        or ("|" in line and place + 1 < len(lines) and _DIVIDER.match(lines[place + 1]) is not None)
    )


def _code(lines: Iterable[str]) -> Html:
    return element("pre", element("code", "\n".join(lines)), tabindex=0)


def _list(lines: list[str], place: int, numbered: bool) -> tuple[Html, int]:
    items: list[list[str]] = []
    while place < len(lines):
        line = lines[place]
        if item := _ITEM.match(line):
            items.append([item[3]])
        elif line.strip() and not _begins(lines, place):
            items[-1].append(line.strip())
        else:
            break
        place += 1
    return element(
        "ol" if numbered else "ul", [element("li", inline(" ".join(each))) for each in items]
    ), place


def _cells(line: str) -> list[str]:
    return [cell.replace("\\|", "|").strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def _table(lines: list[str], place: int) -> tuple[Html, int]:
    head = _cells(lines[place])
    end = place + 2
    rows = []
    while end < len(lines) and "|" in lines[end]:
        cells = _cells(lines[end])
        rows.append([*cells, *[""] * (len(head) - len(cells))][: len(head)])
        end += 1
    made = element(
        "table",
        element("thead", element("tr", [element("th", inline(cell), scope="col") for cell in head])),
        element("tbody", [element("tr", [element("td", inline(cell)) for cell in row]) for row in rows]),
    )
    return element(
        "div", made, class_="scroll", tabindex=0, role="region", aria_label="table of the card"
    ), end


def inline(line: str) -> Html:
    """Code, emphasis, links and images within a line; everything else is text."""
    parts: list[Html] = []
    place = 0
    for match in _INLINE.finditer(line):
        parts.append(text(line[place : match.start()]))
        place = match.end()
        if match["code"] is not None:
            parts.append(element("code", match["code"].strip()))
        elif match["strong"] is not None:
            parts.append(element("strong", inline(match["strong"])))
        elif match["em"] is not None:
            parts.append(element("em", inline(match["em"])))
        elif match["link"] is not None:
            parts.append(text(match["link"]))
        elif match[0].startswith("!"):
            parts.append(element("em", match["label"]))
        else:
            address = match["target"]
            same = address in ("", match["label"]) or address.startswith("#")
            parts.append(text(match["label"] if same else f"{match['label']} ({address})"))
    return join(*parts, text(line[place:]))
