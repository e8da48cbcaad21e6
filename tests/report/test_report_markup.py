"""Markup of pages: nothing that is written into them can become markup; cards of models as HTML."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
from hostile_scores import ATTACK, CONTROLS, QUOTES, Page

from gexpr.report.markdown import inline, render_card
from gexpr.report.markup import Column, Html, data, element, join, page, table, text


def test_texts_are_escaped_and_markup_is_not() -> None:
    assert element("p", "a < b & c", Html("<b>d</b>"), ["e", None]) == "<p>a &lt; b &amp; c<b>d</b>e</p>"
    assert element("a", "x", href='"><i>', class_="k", hidden=True, title=None, data_x=0) == (
        '<a href="&quot;&gt;&lt;i&gt;" class="k" hidden data-x="0">x</a>'
    )
    assert element("img", src="data:,", alt="") == '<img src="data:," alt="">'
    assert join("<", Html("<"), None) == "&lt;<"


def test_what_html_does_not_allow_is_replaced() -> None:
    assert text(CONTROLS) == "a\ufffdb\ufffd[31mc\ufffdd"
    assert text("tab\tline\nend\r\nlone \ud800") == "tab\tline\nend\nlone \ufffd"


@pytest.mark.parametrize("value", [ATTACK, "<!--<script>", "]]>", "\u2028\u2029", QUOTES])
def test_data_cannot_end_its_element(value: str) -> None:
    made = data("numbers", {"name": value, value: [1, None]})
    found = Page(made)
    ((attributes, content),) = found.scripts
    assert attributes == {"type": "application/json", "id": "numbers"}
    assert "<" not in content and ">" not in content
    assert json.loads(content) == {"name": value, value: [1, None]}


def test_data_refuses_what_json_has_not() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        data("x", float("nan"))


def test_a_table_tells_the_script_what_is_a_number_and_what_is_missing() -> None:
    made = table(
        [Column("name"), Column("size", number=True, descending=True)],
        [["a", ("1,000", 1000)], [ATTACK, ("", float("nan"))]],
        caption="c <",
        identifier="t",
        searchable=True,
        sorted_by=0,
    )
    found = Page(made)
    assert found.tables["t"] == [["name", "size"], ["a", "1,000"], [ATTACK, ""]]
    assert found.attributes("data-value") == ["1000.0", ""]
    headings = [values for tag, values in found.elements if tag == "th"]
    assert [each.get("data-type") for each in headings] == [None, "number"]
    assert [each.get("data-first") for each in headings] == [None, "descending"]
    assert [each.get("aria-sort") for each in headings] == ["ascending", None]
    kinds = [values.get("class") for tag, values in found.elements if tag == "td"]
    assert kinds == [None, "number", "long", "number"]
    assert [values["value"] for tag, values in found.elements if tag == "option"] == ["", "0", "1"]


def test_a_page_lets_only_its_own_style_and_script_run() -> None:
    made = page(ATTACK, element("p", ATTACK)).decode()
    assert made.startswith("<!DOCTYPE html>\n") and made.endswith("</html>\n")
    found = Page(made)
    tags = [tag for tag, _ in found.elements]
    (policy,) = (v["content"] for t, v in found.elements if v.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    (style,) = re.findall(r"<style>(.*?)</style>", made, re.DOTALL)
    ((_, script),) = found.scripts
    digests = [
        f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
        for content in (style, script)
    ]
    assert [rules["style-src"], rules["script-src"]] == digests
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert tags.count("script") == 1 and "img" not in tags
    # The policy holds for what comes after it.
    assert tags.index("meta") < tags.index("link") < tags.index("style")


def test_a_card_as_html() -> None:
    card = """---
license: mit
---
# Net

Two lines
of *text* with **strong** words and `code < x`.

- one
  more
- two

| a | b \\| c |
|---|---|
| 1 | `2` |

## Part
1. first

```python
x = "<b>"
```
***
"""
    made = render_card(card)
    assert made.replace("\n", "").startswith('<pre tabindex="0"><code>license: mit</code></pre><h3>Net</h3>')
    assert (
        "<p>Two lines of <em>text</em> with <strong>strong</strong> words and <code>code &lt; x</code>.</p>"
        in made
    )
    assert "<ul><li>one more</li><li>two</li></ul>" in made
    assert "<h4>Part</h4>" in made and "<ol><li>first</li></ol>" in made and "<hr>" in made
    assert "x = &quot;&lt;b&gt;&quot;" in made
    assert Page(made).tables[""] == [["a", "b | c"], ["1", "2"]]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("[a](https://x.org/b)", "a (https://x.org/b)"),
        ("[b](#part) [https://x.org](https://x.org)", "b https://x.org"),
        ("![a picture](https://x.org/p.png)", "<em>a picture</em>"),
        ("[x](javascript:alert)", "x (javascript:alert)"),
        ("<https://x.org>", "https://x.org"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("2 * 3 * 4, a_b_c, **", "2 * 3 * 4, a_b_c, **"),
        ("**<b>`c`**", "<strong>&lt;b&gt;<code>c</code></strong>"),
    ],
    ids=["link", "own", "image", "script", "address", "html", "stars", "nested"],
)
def test_nothing_in_a_card_leads_out_of_the_page(line: str, shown: str) -> None:
    assert inline(line) == shown


def test_a_hostile_card_is_text() -> None:
    card = f"# {ATTACK}\n\n{ATTACK}\n\n- {QUOTES}\n\n|{ATTACK}|\n|---|\n|{ATTACK}|\n\n```\n{ATTACK}\n"
    found = Page(render_card(card))
    assert not found.scripts
    assert {tag for tag, _ in found.elements} <= set(
        "h3 p ul li div table thead tbody tr th td pre code".split()
    )
    assert found.texts.count(ATTACK) == 5


@pytest.mark.parametrize(
    "card", ["", "\n\n", "---\n", "```", "| a |", "|---|", "-", "1.", "# ", "- a\n\n\n  b", "a\n|b|\n|-|"]
)
def test_odd_cards_end(card: str) -> None:
    Page(render_card(card))
