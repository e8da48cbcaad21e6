"""What the jobs share: devices of workers, files that are read, sizes of blocks, batch sizes of parts."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gexpr.errors import ConfigError
from gexpr.results import Track
from gexpr.runs import common
from gexpr.runs.common import (
    BatchSizes,
    ModelOptions,
    assign_devices,
    block_rows,
    input_files,
    pack_tracks,
    unpack_tracks,
)
from gexpr.runs.control import RunOptions
from gexpr.runs.predict import PredictOptions, PredictTask
from gexpr.runs.score_variants import ScoreOptions, ScoreTask
from gexpr.writers.parts import Part

# --- devices -------------------------------------------------------------------------------


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


def assigned(name: str, run: RunOptions) -> tuple[str, tuple[str, ...]]:
    model, run = assign_devices(ModelOptions("net", device=name), run)
    return model.device, run.devices


def test_each_worker_gets_its_device(cuda: None) -> None:
    assert assigned("cpu", RunOptions(workers=4)) == ("cpu", ("cpu",))
    assert assigned("cuda:all", RunOptions()) == ("cuda:0", ("cuda:0", "cuda:1", "cuda:2"))
    assert assigned("cuda:2,0", RunOptions()) == ("cuda:2", ("cuda:2", "cuda:0"))
    assert assigned("cuda:1", RunOptions(cluster="local", workers=3)) == ("cuda:1", ("cuda:1",))


@pytest.mark.parametrize("name", ["auto", "cuda:1", "cuda:all"])
def test_workers_are_for_the_cpu(name: str, cuda: None) -> None:
    with pytest.raises(ConfigError, match="--workers is for the CPU"):
        assigned(name, RunOptions(workers=2))


def test_a_cluster_has_one_device_a_worker(cuda: None) -> None:
    with pytest.raises(ConfigError, match="a Dask cluster has its own workers"):
        assigned("cuda:all", RunOptions(scheduler="tcp://a:1"))


# --- files ---------------------------------------------------------------------------------


def test_every_file_that_is_read_is_known(inputs) -> None:
    found = input_files("-", inputs.fasta, inputs.checkpoint, "names.tsv")
    assert found[0] == "-" and {inputs.fasta, inputs.fasta + ".fai", "names.tsv"} <= set(found)
    in_checkpoint = {os.path.basename(path) for path in found[1:] if path.startswith(inputs.checkpoint)}
    assert in_checkpoint == set(os.listdir(inputs.checkpoint))
    assert input_files("v.vcf", "g.fa", "yeast-tss", None)[0] == "v.vcf"


# --- sizes of blocks -----------------------------------------------------------------------


def predictor(context: int = 512, passes: int = 2, batch: int = 8, device: str = "cpu") -> SimpleNamespace:
    return SimpleNamespace(
        context_length=context, passes=[None] * passes, batch_size=batch, device=torch.device(device)
    )


@given(
    rows=st.integers(0, 10**8),
    windows=st.floats(1, 1000),
    context=st.sampled_from([128, 16384, 196_608]),
    batch=st.integers(1, 128),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_a_block_is_neither_empty_nor_too_much_work(
    rows: int, windows: float, context: int, batch: int, device: str
) -> None:
    size = block_rows(predictor(context, 2, batch, device), rows, windows)
    assert 1 <= size <= 4096
    assert size == 1 or size * windows * 2 * context <= common.BASES_A_BLOCK[device]


def test_sizes_of_blocks() -> None:
    assert block_rows(predictor(), 10**6, 2) == 2**22 // (2 * 2 * 512)
    assert block_rows(predictor(device="cuda"), 10**6, 2) == 4096
    assert block_rows(predictor(), 6400, 2) == 100  # 64 blocks
    assert block_rows(predictor(), 50, 2) == 32  # four batches
    assert block_rows(predictor(196_608, 6), 10**6, 2) == 1
    # One more pass or window means fewer rows; the device's index means nothing.
    assert block_rows(predictor(passes=4), 10**6, 2) == block_rows(predictor(), 10**6, 4) == 1024
    assert block_rows(predictor(device="cuda:3"), 10**6, 50) == block_rows(
        predictor(device="cuda"), 10**6, 50
    )


# --- parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], {}),
        ([8, 8], {}),
        ([None], {}),
        ([4], {"auto_batch_sizes": "4"}),
        ([8, 2, 4, 2], {"auto_batch_sizes": "2,4,8"}),
    ],
)
def test_batch_sizes_that_were_not_planned_are_told(
    sizes: list[int | None], expected: dict[str, str]
) -> None:
    collected = BatchSizes(8)
    for size in sizes:
        collected.add(Part({}, {} if size is None else {"batch_size": size}))
    assert collected.attributes() == expected


def test_tracks_survive_json() -> None:
    tracks = [Track(0, "a", "A, µ", "CAGE", "K562", "+", 1, 0.5, "squashed:x"), Track(1, "b", "B")]
    assert list(unpack_tracks(pack_tracks(tracks))) == tracks


# --- tasks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ScoreTask, PredictTask])
def test_a_task_is_pickled_without_what_it_has_open(kind: type, inputs, monkeypatch) -> None:
    options = ScoreOptions if kind is ScoreTask else PredictOptions
    path = inputs.vcf if kind is ScoreTask else inputs.bed
    task = kind(path, path, inputs.fasta, options(model=ModelOptions(inputs.checkpoint, device="cpu")))
    before = task.fingerprint()
    assert task._opened is not None and task.forwards == 0
    copy = pickle.loads(pickle.dumps(task))
    assert copy._opened is None and copy.forwards == 0 and copy.options == task.options
    assert copy.fingerprint() == before
    task.close()
    assert task._opened is None and task.fingerprint() == before


def test_a_task_on_another_device() -> None:
    task = ScoreTask("v.vcf", "-", "g.fa", ScoreOptions(model=ModelOptions("net", device="cpu"), top=3))
    there = task.on_device("cuda:1", 4)
    assert isinstance(there, ScoreTask) and (there.path, there.label, there.fasta) == ("v.vcf", "-", "g.fa")
    assert there.device == "cuda:1" and there.options.model.threads == 4 and there.options.top == 3
    given_threads = ScoreTask("v.vcf", "-", "g.fa", ScoreOptions(model=ModelOptions("net", threads=2)))
    assert given_threads.on_device("cpu", 4).options.model.threads == 2
    assert task.device == "cpu" and task.name == "standard input"


def test_a_task_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").mkdir()
    options = ScoreOptions(model=ModelOptions("net"), contig_aliases="names.tsv")
    there = ScoreTask("v.vcf", "in/v.vcf", "g.fa", options).absolute()
    assert (there.path, there.label, there.fasta) == (f"{tmp_path}/v.vcf", "in/v.vcf", f"{tmp_path}/g.fa")
    assert there.options.model.checkpoint == f"{tmp_path}/net" and there.name == "v.vcf"
    assert there.options.contig_aliases == f"{tmp_path}/names.tsv"
    # A built-in model is found by its name anywhere.
    built_in = PredictTask(
        "r.bed", "r.bed", "g.fa", PredictOptions(model=ModelOptions("yeast-tss"))
    ).absolute()
    assert built_in.options.model.checkpoint == "yeast-tss" and built_in.options.contig_aliases is None
