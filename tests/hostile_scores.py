"""A file of scores in which every text that a user can choose is markup, and a parser of pages."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from gexpr.results import Track, Variant
from gexpr.writers.output import AtomicOutput
from gexpr.writers.scores import ScoreSchema, open_writer

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
QUOTES = "\"' onmouseover='alert(3)' x=\"&amp;&lt;b&gt;"
CONTROLS = "a\x07b\x1b[31mc\u202ed"


def write_hostile_scores(path: Path) -> Path:
    """Six alleles, two tracks, two statistics, an extra column; one allele is not scored."""
    tracks = (Track(0, ATTACK, f"label {QUOTES}", "DNASE"), Track(1, "b", CONTROLS, "CAGE"))
    alleles = [
        ("chr1", 7, ATTACK, "A", "C", "ok"),
        ("chr10", 90, QUOTES, "T", "A", "ok"),
        ("chr2", 1234, ".", "AT", "A", "ok"),
        (f"chr{ATTACK}", 9, "in<b>bold</b>", "A", "AT", "ok"),
        ("chr2", 40, "no score", "A", "<DEL>", "symbolic_alt"),
        ("chr2", 41, "own status", "AC", "GT", f"odd{ATTACK}"),
    ]
    rows = [Variant(row, 0, *fields) for row, fields in enumerate(alleles)]
    scores = np.float32([[0.1, -2], [10.5, 1], [-0.5, np.nan], [3, 0], [np.nan] * 2, [np.nan] * 2])
    attributes = {
        "statistics": "logFC,SAD",
        "checkpoint": f"net{ATTACK}",
        "checkpoint_sha256": "0" * 64,
        "vcf": ATTACK,
        "fasta": QUOTES,
        "tracks": "0-1",
    }
    schema = ScoreSchema(
        tracks, ("logFC", "SAD"), attributes, definitions={"logFC": ATTACK}, columns={"sample": "text"}
    )
    with AtomicOutput(str(path)) as output:
        writer = open_writer(output, "hdf5", schema)
        samples = {"sample": [f"s{row}{ATTACK}" for row in range(len(rows))]}
        writer.write(rows, {"logFC": scores, "SAD": -2 * scores}, samples)
        writer.commit()
    return path


class Page(HTMLParser):
    """What a page is made of.

    Attributes:
        elements: tag and attributes of every start tag.
        tables: id -> rows of cell texts, the heading first.
        scripts: attributes and content of each script.
        texts: all text outside scripts and styles.
        commands: the text of every ``pre``.
    """

    _VOID = ("meta", "link", "img", "input", "br", "hr", "col")

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.texts = ""
        self.commands: list[str] = []
        self._open: list[str] = []
        self._table: list[list[str]] = []
        self.feed(content)
        self.close()
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in (*self._VOID, "rect"):
            return
        self._open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault(dict(attrs).get("id") or "", [])
        elif tag == "tr":
            self._table.append([])
        elif tag in ("td", "th"):
            self._table[-1].append("")
        elif tag == "pre":
            self.commands.append("")
        elif tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, (tag, self._open)
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if "script" in self._open:
            self.scripts[-1] = self.scripts[-1][0], self.scripts[-1][1] + data
        elif "style" not in self._open:
            self.texts += data
            if "pre" in self._open:
                self.commands[-1] += data
            if "td" in self._open or "th" in self._open:
                self._table[-1][-1] += data

    def attributes(self, name: str) -> list[str]:
        """The values of an attribute, of all elements."""
        return [values[name] or "" for _, values in self.elements if name in values]
