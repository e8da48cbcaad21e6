"""What runs of ``gexpr ism`` and ``gexpr attribute`` would do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from gexpr.runs.attribute import AttributeOptions, AttributeTask, attribute_task, attribution_outputs
from gexpr.runs.common import assign_devices, count, input_files
from gexpr.runs.control import RunOptions, planned
from gexpr.runs.dry_run import check_run_outputs, estimate_lines, estimate_run
from gexpr.runs.ism import IsmOptions, IsmTask, ism_outputs, ism_task
from gexpr.runs.predict import output_folders
from gexpr.runs.region_rows import check_source


def dry_run_ism(
    bed: str | None, fasta: str, output: str | Sequence[str] | None, options: IsmOptions, run: RunOptions
) -> list[str]:
    """Lines that say what ``ism`` with these arguments would do.

    Raises:
        GexprError: what would stop the run before its first block.
    """
    label = check_source(bed, options)
    outputs = ism_outputs(output, options.format)
    model, run = assign_devices(options.model, run)
    options = dataclasses.replace(options, model=model)
    inputs = [bed, *input_files(fasta, fasta, model.checkpoint, options.contig_aliases)[1:]]
    check_run_outputs(outputs.paths, run, inputs, outputs.companions)
    with planned(ism_task(bed, label, fasta, options), output, run, bed or fasta) as plan:
        task, manifest, finished = plan
        assert isinstance(task, IsmTask)
        opened = task.open()
        windows = batches = 0
        for block in map(manifest.block, range(manifest.blocks)):
            for number, first, last in task.pieces(block):
                sequences = task.scorer.region_sequences(opened.placed[number], first, last)
                windows += sequences
                batches += math.ceil(sequences / opened.predictor.batch_size)
        columns = len(task.scorer.tracks) * len(options.statistics)
        size = manifest.rows * options.changes.slots * columns * np.dtype(options.dtype).itemsize
        written = max(1, len(outputs.paths)) * size
        estimate = estimate_run(*(opened.predictor, manifest, len(finished), windows, batches, size, written))
    regions = count(manifest.content["regions"], "region")
    line = f"{count(manifest.rows, 'position')} in {regions}"
    return [line, *estimate_lines(estimate, manifest, run, output)]


def dry_run_attributions(
    bed: str | None,
    fasta: str,
    output: str | Sequence[str] | None,
    options: AttributeOptions,
    run: RunOptions,
) -> list[str]:
    """Lines that say what ``attribute`` with these arguments would do.

    A gradient counts as three predictions.

    Raises:
        GexprError: what would stop the run before its first block.
    """
    label = check_source(bed, options)
    outputs = attribution_outputs(output, options)
    model, run = assign_devices(options.model, outputs.run_options(run))
    options = dataclasses.replace(options, model=model)
    inputs = [bed, *input_files(fasta, fasta, model.checkpoint, options.contig_aliases)[1:]]
    with output_folders(options.folders.values(), len(outputs.paths)):
        check_run_outputs(outputs.paths, run, inputs)
    with planned(attribute_task(bed, label, fasta, options), outputs.paths, run, bed or fasta) as plan:
        task, manifest, finished = plan
        assert isinstance(task, AttributeTask)
        opened = task.open()
        windows = manifest.rows * task.windows()
        batches = manifest.rows * math.ceil(task.windows() / opened.predictor.batch_size)
        columns = len(opened.attributor.tracks)
        size = manifest.content["positions"] * 5 * columns * np.dtype(options.dtype).itemsize
        written = max(1, len(outputs.paths)) * size
        estimate = estimate_run(*(opened.predictor, manifest, len(finished), windows, batches, size, written))
    positions = count(manifest.content["positions"], "position")
    line = f"{positions} in {count(manifest.rows, 'region')}"
    return [line, *estimate_lines(estimate, manifest, run, outputs.shown or None)]
