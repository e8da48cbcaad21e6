"""What a run would do: ``--dry-run`` reads all of the input and predicts nothing."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gexpr.runs import rates
from gexpr.runs.common import align, assign_devices, count, input_files
from gexpr.runs.control import RunOptions, claim, is_stream, planned, run_directory
from gexpr.runs.directory import Manifest
from gexpr.runs.gene_outputs import gene_outputs
from gexpr.runs.predict import PredictOptions, PredictTask, output_folders, prepare_prediction
from gexpr.runs.score_outputs import check_annotatable, score_outputs
from gexpr.runs.score_variants import ScoreOptions, ScoreTask, refuse_annotation, refuse_stream, score_task
from gexpr.runs.status import duration
from gexpr.scoring.cost import estimated_seconds
from gexpr.scoring.predictor import Predictor
from gexpr.variants.vcf import VcfSource
from gexpr.writers.output import check_outputs, output_names

_TEXT_NUMBER = 12
"""Characters of a number in TSV, with its tab."""
_BIGWIG_BIN, _BEDGRAPH_BIN = 8, 16
"""Bytes of a bin in bigWig with its zoom levels, and in bgzipped bedGraph."""
_TEXT_KEY = 20
"""Characters of an INFO key."""
_COMPRESSION = 10
"""How often a VCF's bytes are those of its compressed file."""


class Estimate(NamedTuple):
    """What a run would take.

    ``windows`` are distinct sequences; ``forwards`` forward passes of one batch, padding and all strands
    and shifts counted; ``seconds`` of one process; ``basis`` says where that comes from.
    """

    blocks: int
    finished: int
    windows: int
    forwards: int
    seconds: float
    basis: str
    run_bytes: int
    output_bytes: int


def dry_run_scores(
    vcf: str, fasta: str, output: str | Sequence[str] | None, options: ScoreOptions, run: RunOptions
) -> list[str]:
    """Lines that say what ``score_variants`` with these arguments would do.

    Raises:
        GexprError: what would stop the run before its first block.
    """
    open_outputs = score_outputs if options.genes is None else gene_outputs
    outputs = open_outputs(output, options.format, options.long)
    outputs.check_profile(options.profile)
    refuse_annotation(options, outputs)
    model, run = assign_devices(options.model, run)
    refuse_stream(options, run)
    options = dataclasses.replace(options, model=model)
    inputs = input_files(vcf, fasta, model.checkpoint, options.contig_aliases)
    inputs += [options.genes, options.background]
    check_run_outputs(outputs.paths, run, inputs, outputs.companions)

    def make_task(spooled: str | None) -> ScoreTask:
        if outputs.annotate:
            check_annotatable(spooled or vcf, vcf)
        return score_task(spooled or vcf, vcf, fasta, options)

    with planned(make_task, output, run, vcf) as plan:
        task, manifest, finished = plan
        assert isinstance(task, ScoreTask)
        opened = task.open()
        size = opened.predictor.batch_size
        windows = batches = text = 0
        for block in map(manifest.block, range(manifest.blocks)):
            variants = opened.rows.read(block)
            number = opened.scorer.sequence_count(variants)
            windows += number
            batches += math.ceil(number / size)
            text += sum(len(v.chrom) + len(v.id) + len(v.ref) + len(v.alt) + 20 for v in variants)
        columns = len(opened.scorer.tracks) * len(manifest.content["statistics"])
        numbers = manifest.rows * columns
        number_bytes = np.dtype(options.dtype).itemsize
        binary = text + numbers * number_bytes
        sizes = {
            "hdf5": binary,
            "tsv": text * (columns if options.long else 1) + numbers * _TEXT_NUMBER,
            "vcf": _size(opened.source) + numbers * (_TEXT_NUMBER + _TEXT_KEY),
            "parquet": text + numbers * (number_bytes + 1),
        }
        written = sum(sizes[format] for format in outputs.formats) if outputs.paths else binary
        estimate = estimate_run(opened.predictor, manifest, len(finished), windows, batches, binary, written)
    content = manifest.content
    lines = [f"{count(manifest.rows, 'allele')} of {count(content['records'], 'record')}"]
    lines += align([(f"  {status}", f"{number:,}") for status, number in content["by_status"].items()])
    return lines + estimate_lines(estimate, manifest, run, output)


def dry_run_predictions(
    bed: str | None,
    fasta: str,
    output: str | Sequence[str] | None,
    options: PredictOptions,
    run: RunOptions,
) -> list[str]:
    """Lines that say what ``predict`` with these arguments would do.

    Raises:
        GexprError: what would stop the run before its first block.
    """
    prepared = prepare_prediction(bed, fasta, output, options, run)
    run, formats, paths = prepared.run, prepared.outputs.formats, prepared.outputs.paths
    with output_folders(options.folders.values(), len(paths)):
        check_run_outputs(paths, run, prepared.inputs)
    with planned(prepared.make_task, paths, run, prepared.inputs[0]) as plan:
        task, manifest, finished = plan
        assert isinstance(task, PredictTask)
        opened = task.open()
        prepared.outputs.check_regions(manifest.content["regions"])
        size = opened.predictor.batch_size
        windows = batches = 0
        for block in map(manifest.block, range(manifest.blocks)):
            number = task.windows(block)
            windows += number
            batches += math.ceil(number / size)
        tracks = len(opened.predictor.tracks)
        bins, rows = manifest.content["bins"], manifest.content["regions"]
        binary = bins * tracks * np.dtype(options.dtype).itemsize
        sizes = {
            "hdf5": binary,
            "npz": binary,
            "tsv": rows * (40 + tracks * _TEXT_NUMBER),
            "bigwig": bins * _BIGWIG_BIN,
            "bedgraph": bins * _BEDGRAPH_BIN,
        }
        written = sum(sizes[format] for format in formats) if formats else binary
        estimate = estimate_run(opened.predictor, manifest, len(finished), windows, batches, binary, written)
    regions = f"{count(manifest.content['regions'], 'region')} with {count(manifest.content['bins'], 'bin')}"
    return [regions, *estimate_lines(estimate, manifest, run, prepared.outputs.shown or None)]


def check_run_outputs(
    outputs: Sequence[str], run: RunOptions, inputs: list[str | None], companions: Sequence[str] = ()
) -> None:
    """Refuse outputs that are inputs, exist already or cannot be written."""
    check_outputs((*outputs, *companions), inputs)
    files = [output for output in outputs if not is_stream(output)]
    if files:
        claim(outputs, run_directory(outputs, run), force=run.force, companions=companions)


def _size(source: VcfSource) -> int:
    """Bytes of a VCF, decompressed as is usual."""
    size = os.path.getsize(source.stored)
    return size if source.format == "text" else size * _COMPRESSION


def estimate_run(
    predictor: Predictor,
    manifest: Manifest,
    finished: int,
    windows: int,
    batches: int,
    run_bytes: int,
    output_bytes: int,
) -> Estimate:
    """What a run would take.

    Args:
        predictor: the model.
        manifest: the plan.
        finished: blocks that are there already.
        windows: distinct sequences.
        batches: batches of them.
        run_bytes, output_bytes: disk for the run directory and the outputs.
    """
    forwards = batches * len(predictor.passes)
    seconds = rates.remembered(manifest.fingerprint)
    basis = "as fast as the last run with this model on this kind of machine"
    if seconds is None:
        each = [estimated_seconds(model, predictor.device) for model in predictor.models]
        seconds = sum(each) / len(each) * predictor.batch_size
        basis = (
            "a rough guess from the model's operations and this device's speed; a first run will tell better"
        )
    return Estimate(
        manifest.blocks, finished, windows, forwards, forwards * seconds, basis, run_bytes, output_bytes
    )


def estimate_lines(
    estimate: Estimate, manifest: Manifest, run: RunOptions, output: str | Sequence[str] | None
) -> list[str]:
    """An estimate in words."""
    done = f", {estimate.finished:,} of them finished" if estimate.finished else ""
    share = 1 - estimate.finished / max(estimate.blocks, 1)
    left = estimate.seconds * share
    forwards = count(estimate.forwards, "forward pass", "forward passes")
    lines = [
        f"{count(estimate.blocks, 'block')} of {manifest.block_rows:,} rows{done}",
        f"{count(estimate.windows, 'window')}, {forwards} of {manifest.fingerprint['batch_size']} windows",
        f"about {duration(left)} for one process on {manifest.fingerprint['device']} ({estimate.basis})",
    ]
    shards = run.shard.count if run.shard is not None else run.processes
    if shards > 1:
        lines.append(
            f"about {duration(left / shards)} for each of {shards} that have a machine or device each"
        )
    files = [name for name in output_names(output) if name != "-"]
    name = ", ".join(files) or "the output"
    lines.append(
        f"disk: about {_bytes(estimate.run_bytes)} for the run directory, "
        f"at most {_bytes(estimate.output_bytes)} for {name}"
    )
    return lines


def _bytes(number: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number = round(number / 1000)
    return f"{number:,.0f} TB"
