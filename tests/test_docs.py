"""What the pages say in code: it runs, or at least compiles; and the site's links."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from toy_models import BaseCounts, write_fasta

import gexpr
from gexpr import checkpoints
from gexpr.cli import defaults
from gexpr.cli.main import COMMANDS, main
from gexpr.models import registry

ROOT = Path(__file__).resolve().parent.parent
#: Pages whose Python blocks run one after another; those of others name files that are not here.
EXECUTED = ("README.md", "docs/python.md", "docs/statistics.md")
PAGES = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").glob("*.md"))]


def page_text(page: str) -> str:
    """The text of a page."""
    path = ROOT / page
    if not path.exists():
        pytest.skip(f"{page} is not here")
    return path.read_text(encoding="utf-8")


def blocks(page: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```$", page_text(page), re.DOTALL | re.MULTILINE)


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


def test_the_navigation_of_the_site_names_every_page() -> None:
    yaml = pytest.importorskip("yaml")
    path = ROOT / "mkdocs.yml"
    if not path.exists():
        pytest.skip("the documentation is not here")
    listed = set()
    entries = [*yaml.safe_load(path.read_text(encoding="utf-8"))["nav"]]
    while entries:
        for entry in entries.pop().values():
            if isinstance(entry, str):
                listed.add(entry)
            else:
                entries += entry
    # Two pages are made of files elsewhere, by docs/hooks.py.
    made = {"readme.md", "yeast-tss.md"}
    assert listed == {page.removeprefix("docs/") for page in PAGES} | made


@pytest.mark.parametrize("page", PAGES)
def test_tests_that_the_pages_name_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for path, name in re.findall(r"\b((?:tests|examples)/[\w/-]+(?:\.\w+)?)(?:::(\w+))?", text):
        assert (ROOT / path).exists(), path
        if name:
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{name}"


@pytest.mark.parametrize("page", PAGES)
def test_configurations_in_the_pages_are_accepted(page: str) -> None:
    yaml = pytest.importorskip("yaml")
    pytest.importorskip("lightning")
    from gexpr.training import from_dict
    from gexpr.training.config import TrainConfig

    sections = {field.name for field in dataclasses.fields(TrainConfig)}
    rest = {"data": {"path": "data.h5"}, "model": {"architecture": "enformer"}, "schedule": {"steps": 1}}
    for text in re.findall(r"^```yaml\n(.*?)^```$", page_text(page), re.DOTALL | re.MULTILINE):
        content = yaml.safe_load(text)
        if set(content) <= sections:
            model = from_dict({**rest, **content}).model
            if model.architecture == "stack":  # of the page on extending
                continue
            known = {
                field.name
                for field in dataclasses.fields(registry._model_class(model.architecture).config_class)
            }
            assert set(model.settings) <= known, text


def test_the_defaults_on_the_page_on_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```$", page_text("docs/settings.md"), re.DOTALL | re.MULTILINE)
    (tmp_path / "config.toml").write_text(text)
    monkeypatch.setenv("GEXPR_CONFIG", str(tmp_path / "config.toml"))
    command = main.get_command(click.Context(main), "score-variants")
    assert command is not None
    found = defaults.find_defaults("score-variants", command, COMMANDS, {})
    assert {name: default.value for name, default in found.items()} == {
        "checkpoint": ["yeast-tss"],
        "device": "cpu",
        "threads": 2,
        "stats": "logFC,SAD",
        "mask": "center:500",
        "reverse_complement": False,
    }


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
    assert hooks.on_page_content("a :class:<code>~x.Y</code>") == "a <code>x.Y</code>"
    assert hooks.page_links("```\n[a](../LICENSE)\n```", "docs") == "```\n[a](../LICENSE)\n```"
