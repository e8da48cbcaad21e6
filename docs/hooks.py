"""Hooks of the documentation's site: links from the pages to files of the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
#: Files outside of docs/ that become pages, so that links to them lead somewhere on the site too.
PAGES = {"README.md": "readme.md", "examples/yeast-tss/README.md": "yeast-tss.md"}
_ROLE = re.compile(r":(?:class|meth|func|mod|data|attr):<code>~?")
_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")


def page_links(text: str, folder: str, to: str = "") -> str:
    """Markdown of a file in a folder of the repository, with its links as the site needs them.

    Links to pages of docs/ and to :data:`PAGES` stay links; those to other files become the file's name.
    """

    def replace(match: re.Match[str]) -> str:
        label, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in path:
            return match.group(0)
        found = (ROOT / folder / path).resolve()
        name = found.relative_to(ROOT).as_posix() if found.is_relative_to(ROOT) else path
        end = f"#{anchor}" if anchor else ""
        if name in PAGES:
            return f"{label}({to}{PAGES[name]}{end})"
        if name.startswith("docs/") and found.is_file():
            return f"{label}({to}{name.removeprefix('docs/')}{end})"
        return f"{label.lstrip('!')[1:-1]} (`{name}`)"

    # Code is left alone.
    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(replace, part) for part in parts)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie elsewhere in the repository."""
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        text = page_links((ROOT / source).read_text(encoding="utf-8"), str(Path(source).parent))
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the relative links of a page of docs/, which fit the repository, into those of the site."""
    return markdown if page.file.generated_by else page_links(markdown, "docs")


def on_page_content(html: str, **_: Any) -> str:
    """Leave out the roles (``:class:``) of names in docstrings, which Markdown does not know."""
    return _ROLE.sub("<code>", html)
