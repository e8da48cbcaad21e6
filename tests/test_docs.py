"""What the pages say in code: it runs, or at least compiles; and the site's links."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_models import BaseCounts, write_fasta

import gexpr
from gexpr import checkpoints
from gexpr.models import registry

ROOT = Path(__file__).resolve().parent.parent
#: Pages whose Python blocks run one after another; those of others name files that are not here.
EXECUTED = ("README.md", "docs/python.md")
PAGES = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: str) -> list[str]:
    """The Python blocks of a page."""
    path = ROOT / page
    if not path.exists():
        pytest.skip(f"{page} is not here")
    return re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_python_in_the_pages_compiles(page: str) -> None:
    for number, code in enumerate(blocks(page), start=1):
        compile(code, f"{page}, block {number}", "exec")


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED)
def test_python_in_the_pages_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    code = blocks(page)
    assert code
    for number, block in enumerate(code, start=1):
        exec(compile(block, f"{page}, block {number}", "exec"), names)


def test_the_model_of_the_page_on_extending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks("docs/extending.md")
    # Dataclasses look their module up by name.
    names: dict[str, Any] = {"__name__": "gexpr.models.base"}
    exec(compile(code, "docs/extending.md", "exec"), names)
    monkeypatch.setitem(registry._ARCHITECTURES, "stack", names["Stack"])
    torch.manual_seed(1)
    settings = {"context_length": 512, "target_length": 24, "heads": {"tracks": 4}, "channels": 8}
    model = registry.build("stack", settings).eval()
    checkpoints.save(tmp_path / "stack", model, BaseCounts().tracks, {}, "A model without training.")
    info = checkpoints.describe(tmp_path / "stack")
    assert (info.architecture, info.bin_size, info.settings["channels"]) == ("stack", 16, 8)
    genome = write_fasta(tmp_path / "genome.fa", {"chr1": "ACGTTGCA" * 100})
    scores = gexpr.load(tmp_path / "stack").score(genome, ["chr1:401:A:C"]).values
    assert scores.shape == (1, 1, 4)
    assert torch.isfinite(torch.tensor(scores)).all()
    assert abs(scores).max() > 0


def test_links_of_the_site() -> None:
    path = ROOT / "docs" / "hooks.py"
    if not path.exists():
        pytest.skip("the documentation is not here")
    spec = importlib.util.spec_from_file_location("docs_hooks", path)
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    text = (
        "[a](runs.md#x) [b](../README.md) ![c](cost.png) [d](../examples/slurm/README.md) [e](https://x.org)"
    )
    assert hooks.page_links(text, "docs") == (
        "[a](runs.md#x) [b](readme.md) ![c](cost.png) d (`examples/slurm/README.md`) [e](https://x.org)"
    )
    assert hooks.page_links("[t](docs/tutorial.md) [l](LICENSE)", "") == "[t](tutorial.md) l (`LICENSE`)"
    assert hooks.page_links("```\n[a](../LICENSE)\n```", "docs") == "```\n[a](../LICENSE)\n```"
