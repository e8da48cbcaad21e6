"""What has to agree when a version is released."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import gexpr

ROOT = Path(__file__).resolve().parent.parent
RECIPE = ROOT / "examples" / "packaging" / "conda" / "recipe.yaml"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The project table of pyproject.toml."""
    tomllib = pytest.importorskip("tomllib")
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("pyproject.toml is not here")
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def test_the_conda_recipe_asks_for_what_the_wheel_asks_for(project: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load(RECIPE.read_text())
    assert recipe["context"]["version"] == gexpr.__version__
    wanted = {re.sub(r";.*", "", text).replace(" ", "") for text in project["dependencies"]}
    wanted = {text.replace("torch>=", "pytorch>=") for text in wanted} | {
        f"python{project['requires-python']}"
    }
    assert {text.replace(" ", "") for text in recipe["requirements"]["run"]} == wanted


def test_every_extra_is_told(project: dict[str, Any]) -> None:
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = " ".join(re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", rows)) == set(project["optional-dependencies"])
    everything = set(project["optional-dependencies"]) - {"all", "engines", "docs", "test", "dev"}
    (all_of_them,) = project["optional-dependencies"]["all"]
    assert set(re.findall(r"\[(.*)\]", all_of_them)[0].split(",")) == everything


def test_workflow_is_yaml() -> None:
    yaml = pytest.importorskip("yaml")
    path = ROOT / ".github" / "workflows" / "tests.yml"
    if not path.exists():
        pytest.skip("the workflow is not in an sdist")
    steps = yaml.safe_load(path.read_text())["jobs"]["tests"]["steps"]
    assert [step["name"] for step in steps if "run" in step][-1] == "wheel and sdist"
