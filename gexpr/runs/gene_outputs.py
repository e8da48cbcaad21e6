"""Outputs of scores on genes: several formats in one pass over the parts of a run, and the strongest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from gexpr.errors import ConfigError
from gexpr.runs.directory import Manifest
from gexpr.runs.score_outputs import OutputsSink, ScoreOutputs, score_schema, variants_of
from gexpr.writers.gene_scores import (
    SUFFIXES,
    GeneBlock,
    GeneScoreWriter,
    open_gene_writer,
    pack_genes,
    unpack_genes,
)
from gexpr.writers.output import AtomicOutput, output_format, output_names
from gexpr.writers.parquet import need_pyarrow
from gexpr.writers.parts import Part

GENES = "genes"
"""What a part calls the genes that its rows name, and a manifest that there are any."""


def gene_outputs(output: str | Sequence[str] | None, format: str | None, long: bool) -> ScoreOutputs:
    """The formats of outputs of scores on genes.

    Args:
        output: a path, several, or None.
        format: the format of a single output; None goes by the suffixes.
        long: refused: tables of genes have one line a number anyway.

    Raises:
        ConfigError: a format cannot be told, or is not one of scores on genes.
        MissingDependencyError: Parquet without pyarrow.
    """
    paths = output_names(output)
    if format is not None and len(paths) > 1:
        raise ConfigError(
            f"--format {format} is for one output, and there are {len(paths)}; suffixes tell their formats"
        )
    if long:
        raise ConfigError("with --genes a table has one line a number anyway; leave out --long")
    formats = tuple(output_format(path, format, SUFFIXES) for path in paths)
    if "parquet" in formats:
        need_pyarrow()
    return ScoreOutputs(paths, formats, False)


def gene_part(
    columns: dict[str, list[Any]], block: GeneBlock, dtype: str
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays of a part, and what JSON holds of it."""
    arrays, genes = pack_genes(block, dtype)
    return arrays, {"columns": columns, GENES: genes}


class GeneSink(OutputsSink[GeneScoreWriter]):
    """Makes the outputs of scores on genes from parts, and finds the strongest.

    Args:
        claimed: the claimed outputs.
        manifest: the run's plan.
        outputs: the same outputs' formats.
        top: how many of the strongest scores to find.
    """

    def __init__(
        self, claimed: Sequence[AtomicOutput], manifest: Manifest, outputs: ScoreOutputs, *, top: int = 5
    ) -> None:
        schema = score_schema(manifest)
        self._statistics = schema.statistics
        self.rows = 0
        """Pairs of a variant and a gene so far."""

        def open(output: AtomicOutput, format: str) -> GeneScoreWriter:
            return open_gene_writer(output, format, schema)

        super().__init__(claimed, manifest, outputs, top, open)

    def add(self, part: Part) -> None:
        """Write the rows of the next part."""
        self._sizes.add(part)
        variants = variants_of(part)
        block = unpack_genes(part.arrays, part.about[GENES], self._statistics)
        for writer in self._writers:
            writer.write(variants, block)
        self.rows += len(block.variant)
        names = [block.genes[number].name or block.genes[number].gene_id for number in block.gene]
        self._ranking.add([variants[row] for row in block.variant], block.scores, names)
