"""``gexpr convert``: weights of other programs as a checkpoint."""

from __future__ import annotations

from typing import Any

import click

from gexpr import logs
from gexpr.cli import options as shared
from gexpr.conversion.kinds import CHOICES, KINDS


@click.command("convert")
@click.argument("kind", metavar="FROM", type=click.Choice(sorted(KINDS)))
@click.argument("source", type=click.Path())
@click.option(
    "-o", "--output", required=True, type=click.Path(), metavar="CHECKPOINT", help="The folder to write."
)
@click.option(
    "--targets",
    multiple=True,
    metavar="[HEAD=]FILE",
    help="Basenji's table of a head's tracks (targets_human.txt); without HEAD, the first head's.",
)
@click.option(
    "--params",
    type=click.Path(),
    metavar="FILE",
    help="The parameter file of a Keras model, params.json (baskerville, basenji2).",
)
@click.option(
    "--squash",
    type=click.Choice(CHOICES["squash"]),
    help="How the tracks were squashed (columns sum_stat, clip_soft): as baskerville's present code does, or "
    "by the power 3/4 of Borzoi's publication. Undone before scores are computed.  [default: shifted]",
)
@click.option(
    "--gelu",
    type=click.Choice(CHOICES["gelu"]),
    help="The approximation of GELU that a Keras model was trained with.  [default: sigmoid for basenji2, "
    "tanh for baskerville]",
)
@click.option(
    "--context-length", type=click.IntRange(min=1), metavar="BP", help="Bases in.  [default: 1,536 bins]"
)
@click.option(
    "--target-length",
    type=click.IntRange(min=1),
    metavar="BINS",
    help="Bins out, in the middle.  [default: the source's, or 896; all, with --context-length]",
)
@click.option(
    "--gamma-normalization",
    type=click.Choice(["positions", "features"]),
    help="What the gamma features of positions are divided by: their maximum over positions, as for "
    "DeepMind's weights, or over features, as enformer-pytorch does by default and models trained with "
    "it need.  [default: positions]",
)
@click.option(
    "--attention",
    type=click.Choice(["dense", "bigbird"]),
    default="dense",
    show_default=True,
    help="bigbird: make a sparse_enformer that starts from these weights; train its attention before use.",
)
@click.option("--block-size", type=click.IntRange(min=1), metavar="BINS", help="With bigbird.  [default: 64]")
@click.option("--random-blocks", type=click.IntRange(min=0), metavar="N", help="With bigbird.  [default: 3]")
@click.option("--global-tokens", type=click.IntRange(min=0), metavar="N", help="With bigbird.  [default: 0]")
@click.option(
    "--global-blocks/--no-global-blocks",
    default=None,
    help="With bigbird: let the first and last block attend to everything.  [default: yes]",
)
@click.option(
    "--license",
    metavar="TEXT",
    help="What the model card says of the license of the weights.  [default: what the source's pages say]",
)
@shared.quiet
def command(
    kind: str,
    source: str,
    output: str,
    targets: tuple[str, ...],
    params: str | None,
    squash: str | None,
    gelu: str | None,
    context_length: int | None,
    target_length: int | None,
    gamma_normalization: str | None,
    attention: str,
    block_size: int | None,
    random_blocks: int | None,
    global_tokens: int | None,
    global_blocks: bool | None,
    license: str | None,
    quiet: bool,
) -> None:
    """Make a checkpoint of the weights of another program.

    FROM says whose: enformer-pytorch or borzoi-pytorch (a state dict as .safetensors, .bin or .pt, or a
    folder of the Hugging Face hub), enformer-sonnet (DeepMind's TensorFlow checkpoint; name its .index
    file), baskerville (Borzoi) or basenji2 (both a Keras model as .h5, with --params), or gexpr (a
    checkpoint of an enformer whose attention is to become sparse). SOURCE is where they are. Neither
    TensorFlow nor the other program is needed, and nothing of the source is executed. Every tensor of the
    source must have its place.

    \b
    Examples:
      gexpr convert enformer-pytorch enformer-official-rough/ --targets targets_human.txt -o enformer
      gexpr convert enformer-sonnet enformer-fine-tuned-human-1.index --targets targets_human.txt -o enformer
      gexpr convert baskerville model0_best.h5 --params params.json --targets targets.txt -o borzoi
      gexpr convert gexpr dense --attention bigbird --block-size 32 -o sparse
      gexpr convert basenji2 model_human.h5 --params params_human.json --targets targets_human.txt -o basenji2
    """
    pattern: dict[str, Any] = {
        name: value
        for name, value in (
            ("block_size", block_size),
            ("random_blocks", random_blocks),
            ("global_tokens", global_tokens),
            ("global_blocks", global_blocks),
        )
        if value is not None
    }
    options: dict[str, Any] = dict(
        context_length=context_length,
        target_length=target_length,
        gamma_normalization=gamma_normalization,
        sparse=pattern if attention == "bigbird" else None,
        params=params,
        squash=squash,
        gelu=gelu,
    )
    for name, value in options.items():
        if value is not None and name not in KINDS[kind].options:
            option = "attention bigbird" if name == "sparse" else name.replace("_", "-")
            takers = ", ".join(sorted(each for each in KINDS if name in KINDS[each].options))
            raise click.UsageError(f"--{option} is not for {kind}, but for {takers}")
    if pattern and attention == "dense":
        option = next(iter(pattern)).replace("_", "-")
        raise click.UsageError(f"--{option} needs --attention bigbird")

    logs.set_quiet(quiet)
    from gexpr.conversion.convert import convert

    logs.detail(f"reading {source}")
    tables = dict(_by_head(each) for each in targets)
    done = convert(kind, source, output, targets=tables, license=license, **options)
    logs.info(f"{done.tensors:,} tensors, {done.parameters:,} parameters written to {done.folder}")
    for reason in sorted(set(done.dropped.values())):
        count = sum(each == reason for each in done.dropped.values())
        logs.info(f"{count:,} tensors left out: {reason}")


def _by_head(text: str) -> tuple[str | None, str]:
    head, equals, path = text.partition("=")
    return (head, path) if equals and "/" not in head else (None, text)
