"""What has to agree when a version is released."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import gexpr
from gexpr.cli.main import COMMANDS

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


def test_the_workflow_uses_what_there_is(project: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml")
    tomllib = pytest.importorskip("tomllib")
    path = ROOT / ".github" / "workflows" / "tests.yml"
    if not path.exists():
        pytest.skip("the workflow is not in an sdist")
    job = yaml.safe_load(path.read_text())["jobs"]["tests"]
    # YAML 1.2 has versions as texts only in quotes.
    assert all(isinstance(version, str) for version in job["strategy"]["matrix"]["python"])
    assert (
        f">={min(job['strategy']['matrix']['python'], key=lambda v: int(v[2:]))}"
        == project["requires-python"]
    )
    steps = [step for step in job["steps"] if "run" in step]
    assert [step["name"] for step in steps][-1] == "wheel and sdist"
    commands = "\n".join(step["run"] for step in steps)
    extras = {name for text in re.findall(r"\.\[([\w,]+)\]", commands) for name in text.split(",")}
    assert extras
    assert extras <= set(project["optional-dependencies"])
    for script in re.findall(r"(?:^|\s)(\.ci/\w+)", commands):
        assert (ROOT / script).stat().st_mode & 0o100, script
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    known = {marker.partition(":")[0] for marker in settings["markers"]}
    assert set(re.findall(r"not (\w+)", commands)) <= known


def test_the_changelog_names_every_command() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {gexpr.__version__}")[2].partition("\n## ")[0]
    missing = [name for name in COMMANDS if not re.search(rf"`gexpr {name}[` ]", section)]
    assert missing == []


def test_the_packages_of_containers_and_conda_are_extras(project: dict[str, Any]) -> None:
    yaml = pytest.importorskip("yaml")
    recipe = yaml.safe_load(RECIPE.read_text())
    (entry,) = recipe["build"]["python"]["entry_points"]
    assert entry == f"gexpr = {project['scripts']['gexpr']}"
    about = recipe["about"]
    assert (about["license"], about["summary"]) == (project["license"], project["description"])
    assert about["license_file"] == project["license-files"]
    for name in ("Dockerfile", "gexpr.def"):
        text = (ROOT / "examples" / "containers" / name).read_text()
        extras = re.findall(r"\.\[([\w,]+)\]", text)
        assert extras, name
        assert {each for part in extras for each in part.split(",")} <= set(project["optional-dependencies"])
