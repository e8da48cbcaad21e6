"""Shell blocks of the documentation: what they call, and stand-ins for the files that they name."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import torch
from click.testing import CliRunner

from gexpr.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(
    r"^(?:<!-- skip: (?P<skip>[^\n]+) -->\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_STARTS = ("gexpr ", "bcftools ", "sbatch ", "eval ")
_SYNOPSIS = re.compile(r"\[options\]|NAME\|FOLDER|…")
#: What files call themselves, in words that are no command.
_FORMATS = (
    "gexpr variant scores",
    "gexpr predictions",
    "gexpr gene scores",
    "gexpr mutagenesis",
    "gexpr attributions",
)
_ELLIPSES = ("...", "…")
_OPERATORS = set("();<>|&")


class Block(NamedTuple):
    """A fenced block of shell commands.

    Attributes:
        text: what it says.
        skip: why it is not run; empty where it is.
        synopsis: it shows what may be written, and is no command.
    """

    text: str
    skip: str
    synopsis: bool


class Call(NamedTuple):
    """Words behind ``gexpr``; ``partial`` where an ellipsis stands for others."""

    words: tuple[str, ...]
    partial: bool


def _joined(text: str) -> str:
    """Lines that a backslash divides, in one."""
    return re.sub(r"\\\n\s*", " ", text)


def shell_blocks(page: str) -> list[Block]:
    """The shell blocks of a page: those marked as bash, and unmarked ones that begin with a command."""
    found = []
    for match in _FENCE.finditer(page):
        kind, text = match["kind"], match["text"]
        if kind in ("bash", "sh") or (not kind and text.startswith(_STARTS)):
            found.append(Block(text, match["skip"] or "", bool(_SYNOPSIS.search(text))))
    return found


def help_examples(page: str) -> str:
    """The command lines of the texts of ``--help`` in docs/commands.md."""
    blocks = re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in _joined(block).splitlines()]
    starts = re.compile(r"\s+(gexpr|bcftools|watch|ls|for|eval)\b.*\bgexpr |\s+gexpr ")
    return "\n".join(line for line in lines if starts.match(line))


def inline_calls(page: str) -> list[Call]:
    """Calls in the running text of a page, which name options and leave out the rest."""
    prose = _FENCE.sub("", page)
    spans = re.findall(r"`([^`]*)`", prose)
    return [
        Call(call.words, True)
        for span in spans
        if "gexpr " in span and span not in _FORMATS and not _SYNOPSIS.search(span)
        for call in calls(" ".join(span.split()))
    ]


def calls(text: str) -> Iterator[Call]:
    """Every call of ``gexpr`` in shell commands; variables and substitutions become 0."""
    for line in _joined(text).splitlines():
        yield from _line_calls(line)


def _words(line: str) -> list[str]:
    """Words and operators of a line, without its comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


def only_calls(text: str) -> bool:
    """Whether commands are nothing but calls of gexpr, which need no shell."""
    lines = map(_words, _joined(text).splitlines())
    return "$" not in text and all(
        words[0] == "gexpr" and "..." not in words and not any(set(word) <= _OPERATORS for word in words)
        for words in lines
        if words
    )


def _line_calls(line: str) -> Iterator[Call]:
    for inner in re.findall(r"\$\(([^()]*)\)", line):
        yield from _line_calls(inner)
    line = re.sub(r"\$\{?\w+\}?", "0", re.sub(r"\$\([^()]*\)", "0", line))
    command: list[str] = []
    for word in [*_words(line), ";"]:
        if not set(word) <= _OPERATORS:
            command.append(word)
        elif set(word) & set("<>"):
            command.append(">")
        else:
            yield from _call(command)
            command = []


def _call(command: list[str]) -> Iterator[Call]:
    # Not what a redirection names, and not the name of an image (docker build -t gexpr).
    words = [word for at, word in enumerate(command) if word != ">" and (at == 0 or command[at - 1] != ">")]
    for at, word in enumerate(words):
        if (word == "gexpr" or word.endswith("/gexpr")) and (at == 0 or words[at - 1] != "-t"):
            rest = words[at + 1 :]
            shown = tuple(each for each in rest if each not in _ELLIPSES)
            if shown:
                yield Call(shown, len(shown) < len(rest))
            return


def check_call(call: Call) -> None:
    """Let click parse a call as the command line would.

    Raises:
        click.UsageError: an unknown command or option, or a value that does not fit.
    """
    words = list(call.words)
    if words[0].startswith("-") or words[0] == "COMMAND":
        _names(main, words)
        return
    context = click.Context(main, info_name="gexpr")
    name, command, words = main.resolve_command(context, words)
    assert command is not None
    if isinstance(command, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(command, info_name=name, parent=context)
        name, command, words = command.resolve_command(context, words)
        assert command is not None
    if call.partial:
        _names(command, words)
    else:
        with command.make_context(name, words, parent=context):
            pass


def _names(command: click.Command, words: list[str]) -> None:
    """Raise click.NoSuchOption for an option that the command does not have."""
    known = {"-h", "--help"}
    for param in command.params:
        known |= {*param.opts, *param.secondary_opts}
    for word in words:
        option = word.partition("=")[0].rstrip(".,;")
        if re.match(r"--?[a-zA-Z]", option) and option not in known:
            raise click.NoSuchOption(option)


def check_synopsis(text: str) -> None:
    """Raise click.UsageError where a synopsis names a command or an option that is not there."""
    for line in _joined(text).splitlines():
        name = line.split()[1]
        command = main.get_command(click.Context(main), name) if name in COMMANDS else None
        if command is None:
            raise click.UsageError(f"no command {name!r}")
        inner = list(command.commands.values()) if isinstance(command, click.Group) else [command]
        for option in re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", line):
            for each in inner:
                _names(each, [option])


def write_stand_ins(folder: Path) -> None:
    """Small files under the names that the pages use, in ``folder``, and stand-ins for the packaged ones.

    ``folder/builtin/yeast-tss`` is a fast model with the tracks of ``yeast-tss``; ``folder/examples`` is the
    packaged example with few of its variants.
    """
    from gexpr import checkpoints
    from gexpr.genome import examples
    from gexpr.models import registry

    real = checkpoints.load("yeast-tss")
    settings = {
        "context_length": 4096,
        "target_length": 224,
        "heads": {"tracks": 4},
        "channels": 8,
        "num_downsamples": 4,
        "divisible_by": 2,
        "depth": 1,
        "attention_heads": 2,
        "key_size": 4,
        "positions": "rotary",
        "block_size": 16,
        "random_blocks": 1,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = registry.build("sparse_enformer", settings).eval()
    checkpoints.save(folder / "builtin" / "yeast-tss", model, real.tracks, {}, "# A stand-in")
    human = [
        track._replace(assay=assay, cell_type="K562", label=f"{assay}:K562")
        for track, assay in zip(real.tracks, ("DNASE", "CHIP", "CAGE", "DNASE"), strict=True)
    ]
    for name in ("NET", "enformer"):
        checkpoints.save(folder / name, model, human, {}, "# A stand-in")
    for name in ("fold0", "fold1", "fold2"):
        shutil.copytree(folder / "builtin" / "yeast-tss", folder / name)

    packaged = folder / "examples"
    shutil.copytree(examples.FOLDER, packaged)
    with gzip.open(packaged / "chrI_promoters.vcf.gz", "rt") as file:
        lines = file.readlines()
    kept = [
        line
        for at, line in enumerate(lines)
        if line[0] == "#" or at % (12 if "ELEMENT=" in line else 60) == 0 or "SSA1:c.-161A>C" in line
    ]
    with gzip.open(packaged / "chrI_promoters.vcf.gz", "wt") as file:
        file.writelines(kept)

    sequence = gzip.open(packaged / "chrI.fa.gz", "rt").read()
    body = sequence.partition("\n")[2]
    genome = folder / "genome.fa"
    genome.write_text(sequence)
    model_folder = folder / "builtin" / "yeast-tss"
    words = ["-c", str(model_folder), "-f", str(genome), "--random", "20", "-q"]
    made = CliRunner().invoke(main, ["background", *words, "-o", str(model_folder / "background.h5")])
    assert made.exit_code == 0, made.stderr
    (folder / "sacCer3.fa.gz").write_bytes(
        gzip.compress((sequence + ">chrII\n" + body[:12200] + ">chr8\n" + body).encode())
    )
    shutil.copy(folder / "sacCer3.fa.gz", folder / "hg38.fa")
    for name in ("variants.vcf.gz", "all.vcf.gz", "common.vcf.gz"):
        shutil.copy(packaged / "chrI_promoters.vcf.gz", folder / name)
    records = [line for line in kept if line.startswith("chrI\t") and "KIND=snv" in line][:3]
    phased = ["##fileformat=VCFv4.3\n", '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n']
    phased.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tS1\tS2\n")
    phased += [line.rstrip("\n") + "\tGT\t0|1\t1|1\n" for line in records]
    (folder / "phased.vcf.gz").write_bytes(gzip.compress("".join(phased).encode()))
    (folder / "regions.bed").write_text("chrI\t141400\t141720\tSSA1\t0\t-\n")
    genes = "chrI\t139502\t141431\tSSA1\t0\t-\nchrI\t142173\t143160\tEFB1\t0\t+\n"
    (folder / "genes.bed").write_text(genes)
    (folder / "genes.bed.gz").write_bytes(gzip.compress(genes.encode()))
    counts = "".join(f"chrI\t{at}\t{at + 1}\t.\t3\t{'+-'[at % 2]}\n" for at in range(139_000, 145_000, 37))
    (folder / "counts_1.bed.gz").write_bytes(gzip.compress(counts.encode()))
    bases = "".join(body.split())
    constructs = {f"p{n}": bases[20_000 + 5_000 * n :][:4096] for n in range(4)}
    fasta = "".join(f">{name}\n{text}\n" for name, text in constructs.items())
    for name in ("constructs.fa", "promoters.fa"):
        (folder / name).write_text(fasta)
    rows = [f"{text},{text[:2000]}A{text[2001:]}" for text in constructs.values()]
    (folder / "mutants.csv").write_text("wild_type,mutant\n" + "\n".join(rows) + "\n")
    (folder / "pairs.tsv").write_text("ref\talt\np0\tp1\np2\tp3\n")
