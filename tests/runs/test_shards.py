"""``--shard``: what users write, and what Slurm and torchrun set (as measured with Slurm 22.05)."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from gexpr.errors import ConfigError
from gexpr.runs.shards import Shard, parse_shard

BATCH = {"SLURM_JOB_ID": "6", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_TASKS_PER_NODE": "1"}
TWO_TASKS = {"SLURM_NTASKS": "2", "SLURM_NPROCS": "2"}


def array(task: int, tasks: Iterable[int], step: int = 1) -> dict[str, str]:
    """What the batch script of an array task gets."""
    ids = list(tasks)
    numbers = {"ID": task, "MIN": min(ids), "MAX": max(ids), "STEP": step, "COUNT": len(ids)}
    return {
        **BATCH,
        "SLURM_ARRAY_JOB_ID": "5",
        **{f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in numbers.items()},
    }


def step(rank: int, ranks: int) -> dict[str, str]:
    """What srun adds."""
    return {
        **BATCH,
        "SLURM_PROCID": str(rank),
        "SLURM_NTASKS": str(ranks),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(ranks),
    }


def torchrun(rank: int, ranks: int, groups: int = 1) -> dict[str, str]:
    """What torchrun adds; ``groups`` is the number of torchrun processes."""
    return {"RANK": str(rank), "WORLD_SIZE": str(ranks), "GROUP_WORLD_SIZE": str(groups)}


@pytest.mark.parametrize(
    ("text", "shard"), [("0/1", (0, 1)), ("0/4", (0, 4)), ("3/4", (3, 4)), ("07/10", (7, 10))]
)
def test_explicit_shards_ignore_the_environment(text: str, shard: tuple[int, int]) -> None:
    assert parse_shard(text, array(2, [0, 2, 5])) == Shard(*shard)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4/4", r"4/4: shards are counted from 0, so the last of 4 is 3/4"),
        ("0/0", "at least 1 shard"),
        *((text, "neither auto nor of the form i/n") for text in ("", "3", "-1/4", "1/-4", "1 / 4", "1/4/2")),
        *((text, "neither auto nor of the form i/n") for text in ("a/b", "AUTO", "1.0/4", "1/4\n", "٣/٤")),
        ("9" * 5000 + "/3", "neither auto nor of the form i/n"),
    ],
    ids=lambda value: ascii(value[:12]),
)
def test_bad_shards_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_shard(text, {})


def test_shards_own_every_block_once() -> None:
    owners = [[shard.index for shard in map(Shard, range(3), [3] * 3) if shard.owns(k)] for k in range(7)]
    assert owners == [[0], [1], [2], [0], [1], [2], [0]]
    assert all(Shard(0, 1).owns(block) for block in range(5))
    assert f"{Shard(3, 4)}" == "3/4"


@pytest.mark.parametrize(
    ("environ", "shard"),
    [
        pytest.param(array(0, range(4)), (0, 4), id="first-array-task"),
        pytest.param(array(3, range(4)), (3, 4), id="last-array-task"),
        pytest.param(array(2, range(1, 5)), (1, 4), id="array-from-1"),
        pytest.param(array(20, range(10, 31, 10), 10), (1, 3), id="array-with-step"),
        pytest.param(array(30, range(10, 31, 10), 10), (2, 3), id="array-with-step-last"),
        pytest.param(array(3, [3]), (0, 1), id="array-of-one-task"),
        pytest.param({**array(1, range(4)), **TWO_TASKS}, (1, 4), id="array-batch-script-of-two-tasks"),
        pytest.param(step(1, 2), (1, 2), id="srun"),
        pytest.param(step(0, 1), (0, 1), id="srun-of-one-task"),
        pytest.param(
            {**step(0, 1), **TWO_TASKS, "SLURM_STEP_ID": "4294967290"}, (0, 1), id="interactive-step"
        ),
        pytest.param({**array(0, range(2)), **step(1, 2)}, (1, 4), id="array-0-srun-1"),
        pytest.param({**array(1, range(2)), **step(0, 2)}, (2, 4), id="array-1-srun-0"),
        pytest.param(torchrun(2, 3), (2, 3), id="torchrun"),
        pytest.param({**array(1, range(2)), **torchrun(1, 3)}, (4, 6), id="array-and-torchrun"),
        pytest.param({**step(0, 1), **torchrun(1, 4)}, (1, 4), id="torchrun-in-one-srun-task"),
        pytest.param({**step(0, 2), **torchrun(3, 4, 2)}, (3, 4), id="torchrun-over-two-srun-tasks"),
        pytest.param({**step(1, 2), "RANK": "1", "WORLD_SIZE": "2"}, (1, 2), id="rank-set-from-srun"),
        pytest.param({**BATCH, **TWO_TASKS, **torchrun(1, 2)}, (1, 2), id="torchrun-in-batch-script"),
    ],
)
def test_auto(environ: dict[str, str], shard: tuple[int, int]) -> None:
    assert parse_shard("auto", environ) == Shard(*shard)


def test_array_tasks_with_ranks_are_every_shard_once() -> None:
    shards = [
        parse_shard("auto", {**array(task, range(10, 40, 10), 10), **step(rank, 4)})
        for task in (10, 20, 30)
        for rank in range(4)
    ]
    assert shards == [Shard(index, 12) for index in range(12)]


@pytest.mark.parametrize(
    ("environ", "messages"),
    [
        pytest.param(array(2, [0, 2, 5]), ["gaps: 3 tasks between 0 and 5", "--array=0-2"], id="gap"),
        pytest.param(array(3, [1, 3, 5]), ["gaps: 3 tasks between 1 and 5"], id="evenly-spaced-list"),
        pytest.param({**array(11, [10, 20], 10)}, ["gaps"], id="task-between-steps"),
        pytest.param(
            array(7, range(4)), ["SLURM_ARRAY_TASK_ID=7", "SLURM_ARRAY_TASK_MAX=3"], id="task-past-the-end"
        ),
        pytest.param(
            {**array(1, range(4)), "SLURM_ARRAY_TASK_STEP": "0"}, ["SLURM_ARRAY_TASK_STEP='0'"], id="step-0"
        ),
        pytest.param(
            {**array(1, range(4)), "SLURM_ARRAY_TASK_ID": "x"}, ["SLURM_ARRAY_TASK_ID='x'"], id="task-x"
        ),
        pytest.param(
            {"SLURM_ARRAY_TASK_ID": "1"},
            ["SLURM_ARRAY_TASK_ID=1", "SLURM_ARRAY_TASK_MIN is not"],
            id="task-alone",
        ),
        pytest.param(
            {**step(1, 2), "SLURM_PROCID": "2"},
            ["SLURM_PROCID=2", "SLURM_STEP_NUM_TASKS=2"],
            id="rank-past-the-end",
        ),
        pytest.param({**step(1, 2), "SLURM_PROCID": ""}, ["SLURM_PROCID=''"], id="empty-rank"),
        pytest.param({"RANK": "-1", "WORLD_SIZE": "2"}, ["RANK='-1'"], id="negative-rank"),
        pytest.param({"RANK": "0", "WORLD_SIZE": "0"}, ["WORLD_SIZE='0'"], id="no-ranks"),
        pytest.param({"RANK": "0"}, ["RANK=0 is set, but WORLD_SIZE is not"], id="rank-alone"),
        pytest.param({"WORLD_SIZE": "2"}, ["WORLD_SIZE=2 is set, but RANK is not"], id="world-alone"),
        pytest.param(
            {**step(1, 2), **torchrun(1, 4)},
            ["SLURM_STEP_NUM_TASKS=2", "GROUP_WORLD_SIZE=1"],
            id="two-torchruns",
        ),
        pytest.param(
            {**step(1, 2), "RANK": "0", "WORLD_SIZE": "1"},
            ["STEP_NUM_TASKS=2 and WORLD_SIZE=1"],
            id="stale-rank",
        ),
        pytest.param(
            {},
            ["SLURM_ARRAY_TASK_ID", "SLURM_STEP_NUM_TASKS", "RANK and WORLD_SIZE", "--shard i/n"],
            id="nothing",
        ),
        pytest.param(
            {**BATCH, **TWO_TASKS}, ["start it with srun", "SLURM_NTASKS=2"], id="batch-script-of-two-tasks"
        ),
    ],
)
def test_auto_refuses(environ: dict[str, str], messages: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_shard("auto", environ)
    assert all(message in str(caught.value) for message in messages), str(caught.value)
