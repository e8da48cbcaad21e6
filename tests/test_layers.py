"""Imports only go down and every dependency has one owner, as docs/architecture.md says."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import gexpr

PACKAGE = Path(gexpr.__file__).parent

#: From the top down; packages on one row never import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("api",),
    ("report", "runs"),
    ("training", "interpretation"),
    ("scoring", "evaluation", "conversion"),
    ("checkpoints", "datasets", "writers"),
    ("variants", "models"),
    ("genome",),
    ("errors", "logs", "results", "wire"),
)

#: Which packages may import a dependency. What is not listed may not be imported at all.
OWNERS: dict[str, frozenset[str]] = {
    "click": frozenset({"cli"}),
    "rich": frozenset({"cli", "logs"}),
    # tomllib is tomli in the standard library, from Python 3.11 on.
    "tomli": frozenset({"cli"}),
    "tomllib": frozenset({"cli"}),
    "cyvcf2": frozenset({"variants"}),
    "pysam": frozenset({"genome", "variants", "writers"}),
    "pyfaidx": frozenset({"genome"}),
    "h5py": frozenset({"writers", "datasets", "checkpoints", "conversion"}),
    "safetensors": frozenset({"checkpoints", "conversion"}),
    "google_crc32c": frozenset({"wire"}),
    "pyBigWig": frozenset({"datasets", "writers"}),
    "yaml": frozenset({"datasets", "training"}),
    "lightning": frozenset({"training"}),
    "tensorboard": frozenset({"training"}),
    "matplotlib": frozenset({"report"}),
    "pyarrow": frozenset({"writers", "datasets"}),
    "torch": frozenset(
        {"api", "models", "checkpoints", "scoring", "evaluation", "conversion", "training"}
        | {"interpretation", "runs"}
    ),
    "pandas": frozenset({"api"}),
    "xarray": frozenset({"api"}),
    "distributed": frozenset({"runs"}),
    "dask_jobqueue": frozenset({"runs"}),
    "numpy": frozenset(name for row in LAYERS[:-1] for name in row),
}
#: Dependencies of an extra: never imported when a module of ours is imported.
OPTIONAL = frozenset(
    {"lightning", "matplotlib", "pyBigWig", "yaml", "tensorboard", "distributed", "dask_jobqueue", "pyarrow"}
    | {"pandas", "xarray"}
)


class Import(NamedTuple):
    """One import: of what, where, and whether it runs when the module is imported."""

    module: str
    path: str
    line: int
    at_import: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def imports(path: Path) -> Iterator[Import]:
    """Every import in a file, also in functions, under TYPE_CHECKING and by ``require("name", ...)``."""
    relative = path.relative_to(PACKAGE.parent)
    tree = ast.parse(path.read_text(encoding="utf-8"))

    def walk(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            )
            names: list[str] = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{relative}:{child.lineno}: relative import"
                names = [f"{child.module}.{alias.name}" for alias in child.names]
            elif isinstance(child, ast.Call) and child.args and isinstance(child.args[0], ast.Constant):
                name = ast.unparse(child.func).rpartition(".")[2]
                if name in ("require", "import_module") and isinstance(child.args[0].value, str):
                    names = [child.args[0].value]
            for name in names:
                yield Import(name, str(relative), getattr(child, "lineno", 0), at_import)
            yield from walk(child, at_import and not lazy)

    yield from walk(tree, True)


def package_of(module: str) -> str | None:
    """``gexpr.models.layers`` -> ``models``; None for ``gexpr`` itself and its version."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and any(parts[1] in row for row in LAYERS) else None


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def level(package: str) -> int:
    return next(number for number, row in enumerate(LAYERS) if package in row)


def layer_fault(own: str, other: str) -> str | None:
    """Why package ``own`` may not import package ``other``, or None when it may."""
    if own == other or level(other) > level(own):
        return None
    return "on the same row" if level(own) == level(other) else "further up"


def test_every_package_has_a_layer() -> None:
    known = {name for row in LAYERS for name in row}
    found = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in sources()}
    assert found - {"__init__", "__main__"} <= known


@pytest.mark.parametrize(
    ("own", "other", "fault"),
    [
        ("cli", "errors", None),
        ("models", "genome", None),
        ("models", "models", None),
        ("models", "variants", "on the same row"),
        ("genome", "models", "further up"),
        ("errors", "logs", "on the same row"),
    ],
)
def test_the_rule_itself(own: str, other: str, fault: str | None) -> None:
    assert layer_fault(own, other) == fault


def test_imports_only_go_down() -> None:
    faults = []
    count = 0
    for path in sources():
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        for found in imports(path):
            if found.module.split(".")[0] != "gexpr":
                continue
            count += 1
            other = package_of(found.module)
            fault = None if other is None else layer_fault(own, other)
            if fault:
                faults.append(f"{found}, which is {fault}")
    assert count > 20
    assert not faults, "\n".join(faults)


def test_every_dependency_has_its_owner() -> None:
    faults = []
    seen = set()
    for path in sources():
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for found in imports(path):
            top = found.module.split(".")[0]
            if top == "gexpr" or top in sys.stdlib_module_names:
                continue
            seen.add(top)
            if own not in OWNERS.get(top, frozenset()):
                owners = ", ".join(sorted(OWNERS.get(top, {"nobody"})))
                faults.append(f"{found}, which belongs to {owners}")
    assert {"click", "torch", "numpy", "safetensors"} <= seen
    assert not faults, "\n".join(faults)


def test_optional_dependencies_are_imported_lazily() -> None:
    faults = [
        str(found)
        for path in sources()
        for found in imports(path)
        if found.at_import and found.module.split(".")[0] in OPTIONAL
    ]
    assert not faults, "\n".join(faults)


def test_no_module_shadows_the_standard_library_or_a_dependency() -> None:
    names = {path.stem for path in sources()} | {path.parent.name for path in sources()}
    # Inside the package nothing is found by these names: imports are absolute.
    tolerated = {"__init__", "__main__", "gexpr", "inspect", "statistics"}
    assert not (names - tolerated) & (set(sys.stdlib_module_names) | set(OWNERS))
