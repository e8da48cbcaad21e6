"""A report in a browser: headings that sort, a search, nothing on the console, nothing loaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hostile_scores import ATTACK, QUOTES, write_hostile_scores

from gexpr.cli.main import main

pytest.importorskip("matplotlib")
pytestmark = pytest.mark.browser

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


def browser_path() -> str | None:
    """Chromium: ``GEXPR_TEST_BROWSER``, or as it is called on most systems."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("GEXPR_TEST_BROWSER") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    scores = write_hostile_scores(folder / "s.h5")
    out = folder / "report.html"
    result = CliRunner().invoke(main, ["report", str(scores), "-o", str(out), "--pictures", "0"])
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    path = browser_path()
    if path is None:
        pytest.skip("no Chromium here (GEXPR_TEST_BROWSER names one)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


class Opened:
    """A page, with everything that it said and asked for."""

    def __init__(self, browser: Any, path: Path, **settings: Any) -> None:
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on(
            "dialog", lambda dialog: (self.said.append(f"dialog: {dialog.message}"), dialog.dismiss())
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def column(self, place: int) -> list[str]:
        """The texts of a column of the table of variants, of the rows that are shown, in their order."""
        rows = self.page.locator("#top-table tbody tr:visible")
        return [rows.nth(row).locator("td").nth(place).inner_text() for row in range(rows.count())]

    def heading(self, place: int) -> Any:
        return self.page.locator("#top-table thead th").nth(place)

    def sort(self, place: int) -> list[str]:
        self.heading(place).locator("button").click()
        return self.column(place)


@pytest.fixture
def opened(chromium: Any, page_path: Path) -> Iterator[Opened]:
    found = Opened(chromium, page_path)
    yield found
    found.context.close()
    assert found.said == []
    assert [url for url in found.requests if not url.startswith("data:")] == [page_path.as_uri()]


RANK, SCORE, ID, CHROM, POS, REF, ALT, TRACK, LABEL, OTHER, SAMPLE = range(11)


def test_headings_sort(opened: Opened) -> None:
    assert opened.column(RANK) == ["1", "2", "3", "4"]
    assert opened.heading(RANK).get_attribute("aria-sort") == "ascending"
    # Numbers as numbers, the largest first at the first click; -2 comes before -0.5 upwards.
    assert opened.sort(SCORE) == ["10.5", "3.0", "-0.5", "-2.0"]
    assert opened.heading(SCORE).get_attribute("aria-sort") == "descending"
    assert opened.heading(RANK).get_attribute("aria-sort") is None
    assert opened.sort(SCORE) == ["-2.0", "-0.5", "3.0", "10.5"]
    assert opened.heading(SCORE).get_attribute("aria-sort") == "ascending"
    assert opened.sort(POS) == ["7", "9", "90", "1234"]
    # Contigs by their numbers; a missing id last, whichever way.
    assert opened.sort(CHROM)[1:] == ["chr1", "chr2", "chr10"]
    assert opened.sort(ID)[-1] == "."
    assert opened.sort(ID)[-1] == "."
    assert opened.sort(RANK) == ["1", "2", "3", "4"]


def test_search_filters_any_column_or_one(opened: Opened) -> None:
    field = opened.page.locator("#top input[type=search]")
    count = opened.page.locator("#top output")
    assert count.inner_text() == "4 rows"
    field.fill("CHR2")
    assert opened.column(CHROM) == ["chr2"]
    assert count.inner_text() == "1 of 4 rows"
    field.fill("<img alert(1)")
    assert ATTACK in opened.column(ID)
    # Two words may be in different columns; a sorted table stays filtered.
    field.fill("chr1 onmouseover")
    assert opened.column(ID) == [QUOTES]
    field.fill("1")
    everywhere = opened.column(RANK)
    opened.page.locator("#top select").select_option(label="pos")
    assert opened.column(POS) == ["1234"]
    assert len(everywhere) == 4
    assert opened.sort(POS) == ["1234"]
    field.fill("nothing has this")
    assert opened.column(RANK) == []
    assert count.inner_text() == "0 of 4 rows"
    field.fill("")
    assert opened.column(POS) == ["7", "9", "90", "1234"]


def test_headings_sort_by_keyboard(opened: Opened) -> None:
    opened.heading(RANK).locator("button").focus()
    opened.page.keyboard.press("Tab")
    opened.page.keyboard.press("Enter")
    assert opened.column(SCORE) == ["10.5", "3.0", "-0.5", "-2.0"]


def test_shown_rows_are_saved(opened: Opened, tmp_path: Path) -> None:
    opened.page.locator("#top input[type=search]").fill("chr10")
    with opened.page.expect_download() as download:
        opened.page.locator("#top .controls button").click()
    assert download.value.suggested_filename == "top-table.tsv"
    download.value.save_as(tmp_path / "t.tsv")
    head, *rows = (tmp_path / "t.tsv").read_text(encoding="utf-8").splitlines()
    assert head.split("\t")[:5] == ["rank", "logFC", "id", "chrom", "pos"]
    assert [row.split("\t")[:5] for row in rows] == [["1", "10.5", QUOTES, "chr10", "90"]]


def test_colors_follow_the_system(chromium: Any, page_path: Path) -> None:
    shades = {}
    for scheme in ("light", "dark"):
        found = Opened(chromium, page_path, color_scheme=scheme)
        colors = found.page.evaluate(
            "() => [document.body, document.querySelector('td')].map((each) => getComputedStyle(each))"
            ".map((style, place) => place ? style.color : style.backgroundColor)"
        )
        shades[scheme] = [sum(map(int, color[4:-1].split(","))) for color in colors]
        found.context.close()
        assert found.said == []
    (light_page, light_text), (dark_page, dark_text) = shades["light"], shades["dark"]
    assert light_page > 600 > 200 > light_text
    assert dark_page < 200 < 600 < dark_text


def test_without_javascript_the_table_is_complete(chromium: Any, page_path: Path) -> None:
    found = Opened(chromium, page_path, java_script_enabled=False)
    assert found.page.locator("#top-table tbody tr:visible").count() == 4
    assert not found.page.locator("#top .controls").is_visible()
    found.context.close()
