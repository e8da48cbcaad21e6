"""HTML that cannot be broken by what is written into it: every text is escaped, markup has its own type.

Pages stand alone. A Content-Security-Policy forbids them to load anything, and lets only the style and the
script run that the page came with, by their SHA-256.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

_ASSETS = Path(__file__).resolve().parent / "assets"
_LONG = 60
"""Characters that a cell of a searchable table shows at once, about."""
_VOID = frozenset(("br", "col", "hr", "img", "input", "link", "meta", "rect"))
# What HTML does not allow in a document, and what turns the direction of the text around it.
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


class Html(str):
    """Markup: a text that needs no escaping any more."""

    __slots__ = ()


Content = str | Iterable["Content"] | None


def text(value: str) -> Html:
    """Any text as markup; characters that HTML does not allow become U+FFFD."""
    return Html(escape(_FORBIDDEN.sub("\ufffd", value.replace("\r\n", "\n").replace("\r", "\n"))))


def join(*content: Content) -> Html:
    """Texts, which are escaped, and markup, one after the other; None is nothing."""
    parts: list[str] = []
    for each in content:
        if each is None:
            continue
        if isinstance(each, str):
            parts.append(each if isinstance(each, Html) else text(each))
        else:
            parts.append(join(*each))
    return Html("".join(parts))


def element(name: str, /, *content: Content, **attributes: str | int | bool | None) -> Html:
    """An element.

    Args:
        name: its tag.
        content: texts and markup.
        attributes: ``class_`` is ``class``, ``data_type`` is ``data-type``; False and None are left out, True
            has no value.
    """
    opened = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            opened.append(key)
        elif value is not None and value is not False:
            opened.append(f'{key}="{text(str(value))}"')
    start = f"<{' '.join(opened)}>"
    return Html(start if name in _VOID else f"{start}{join(*content)}</{name}>")


class Column(NamedTuple):
    """A column of a table: its heading, whether it is sorted as numbers, and which way first."""

    heading: str
    number: bool = False
    descending: bool = False


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[Content | tuple[Content, float]]],
    *,
    caption: str,
    identifier: str = "",
    searchable: bool = False,
    sorted_by: int | None = None,
) -> Html:
    """A table of plain HTML that the page's script makes sortable, and searchable where asked.

    Args:
        columns: of each row.
        rows: a content for each column, or with it the number to sort by, where the content is spelt
            otherwise; NaN and an empty text are missing, and sort last.
        caption: read out by screen readers, and shown above.
        identifier: its id.
        searchable: with a field to search in; long texts are cut on the screen until pointed at.
        sorted_by: the column by which the rows come.
    """
    head = [
        element(
            "th",
            column.heading,
            scope="col",
            data_type="number" if column.number else None,
            data_first="descending" if column.descending else None,
            aria_sort="ascending" if place == sorted_by else None,
        )
        for place, column in enumerate(columns)
    ]
    body = []
    for row in rows:
        cells = []
        for column, value in zip(columns, row, strict=True):
            shown, number = value if isinstance(value, tuple) else (value, None)
            key = None if number is None else ("" if number != number else repr(float(number)))
            long = searchable and isinstance(shown, str) and len(shown) > _LONG
            kind = "number" if column.number else "long" if long else None
            cells.append(element("td", shown, class_=kind, data_value=key))
        body.append(join(element("tr", cells), Html("\n")))
    made = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", head)),
        element("tbody", Html("\n"), body),
        id=identifier or None,
        data_sortable=True,
        data_searchable=searchable,
    )
    box = element("div", made, class_="scroll", tabindex=0, role="region", aria_label=caption)
    return join(_controls(columns), box) if searchable else box


def _controls(columns: Sequence[Column]) -> Html:
    choices = [element("option", "any column", value="")]
    choices += [element("option", each.heading, value=place) for place, each in enumerate(columns)]
    return element(
        "div",
        element("label", "Search ", element("input", type="search", autocomplete="off", spellcheck="false")),
        element("label", "in ", element("select", choices)),
        element("button", "Save as TSV", type="button"),
        element("output", "", aria_live="polite"),
        class_="controls",
        hidden=True,
    )


def picture(image: bytes, alt: str, *, kind: str = "image/svg+xml", width: int, height: int) -> Html:
    """An image inside the page.

    Args:
        image: the file's bytes.
        alt: what it shows, in words.
        kind: its media type.
        width, height: CSS pixels.
    """
    source = f"data:{kind};base64,{base64.b64encode(image).decode()}"
    return element("img", src=source, alt=alt, width=width, height=height)


def data(identifier: str, value: Any) -> Html:
    """A value as JSON in the page, for programs; nothing in it can end the element.

    Args:
        identifier: the element's id.
        value: what JSON can hold; no NaN.
    """
    packed = json.dumps(value, ensure_ascii=True, allow_nan=False, sort_keys=True, indent=1)
    for character in "<>&":
        packed = packed.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{text(identifier)}">{packed}</script>')


def page(title: str, *body: Content, about: Mapping[str, str] | None = None) -> bytes:
    """A whole document with its style and script, as UTF-8.

    Args:
        title: of the window.
        body: everything in it.
        about: names and contents of further ``meta`` elements.
    """
    style, script = ((_ASSETS / name).read_text(encoding="utf-8").strip() for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    # The policy comes before everything that it is about.
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        *(element("meta", name=name, content=content) for name, content in (about or {}).items()),
        # Without this, browsers ask the server for an icon.
        element("link", rel="icon", href="data:,"),
        element("title", title),
        Html(f"<style>{style}</style>"),
    ]
    content = join(*body, Html(f"\n<script>{script}</script>"))
    lines = [Html("<!DOCTYPE html>"), Html('<html lang="en">'), Html("<head>"), *head, Html("</head>")]
    lines += [element("body", Html("\n"), content, Html("\n")), Html("</html>"), Html("")]
    return "\n".join(lines).encode("utf-8")


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode("utf-8")).digest()).decode()
