"""Which part of a run a process does: ``--shard i/n``, or ``auto`` from what a scheduler set."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from gexpr.errors import ConfigError


@dataclass(frozen=True)
class Shard:
    """Part ``index`` of ``count``, counted from 0: the blocks k with k mod count = index."""

    index: int
    count: int

    def owns(self, block: int) -> bool:
        """Whether block number ``block`` belongs to this part."""
        return block % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_shard(text: str, environ: Mapping[str, str] = os.environ) -> Shard:
    """The shard that ``--shard text`` means.

    ``auto`` combines a Slurm array task with the rank of an ``srun`` step or of ``torchrun``:
    index = array_index * ranks + rank, count = array_tasks * ranks.

    Args:
        text: ``i/n`` with 0 <= i < n, or ``auto``.
        environ: the environment variables that ``auto`` looks at.

    Raises:
        ConfigError: another text; a value in the environment that cannot be right, named with its
            variable; an array with gaps; nothing in the environment that tells a part.
    """
    if text != "auto":
        return _explicit(text)
    array = _array_task(environ)
    rank = _rank(environ)
    if array is None and rank is None:
        raise ConfigError(_nothing_found(environ))
    outer, inner = array or Shard(0, 1), rank or Shard(0, 1)
    return Shard(outer.index * inner.count + inner.index, outer.count * inner.count)


def _explicit(text: str) -> Shard:
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if match is None:
        raise ConfigError(f"{text!r} is neither auto nor of the form i/n, such as 0/4")
    index, count = int(match[1]), int(match[2])
    if count < 1:
        raise ConfigError(f"{text}: there must be at least 1 shard")
    if index >= count:
        raise ConfigError(f"{text}: shards are counted from 0, so the last of {count} is {count - 1}/{count}")
    return Shard(index, count)


def _whole_number(environ: Mapping[str, str], name: str, beside: str, least: int = 0) -> int:
    """The value of a variable that has to be there because ``beside`` is."""
    if name not in environ:
        raise ConfigError(f"{beside}={environ[beside]} is set, but {name} is not; give --shard i/n instead")
    value = environ[name]
    if re.fullmatch(r"[0-9]{1,9}", value) is None or int(value) < least:
        raise ConfigError(
            f"{name}={value!r} is not a whole number of at least {least}; give --shard i/n instead"
        )
    return int(value)


def _array_task(environ: Mapping[str, str]) -> Shard | None:
    """The position in a Slurm job array: (ID - MIN) / STEP."""
    name = "SLURM_ARRAY_TASK_ID"
    if name not in environ:
        return None
    task = _whole_number(environ, name, name)
    first, last = (_whole_number(environ, f"SLURM_ARRAY_TASK_{end}", name) for end in ("MIN", "MAX"))
    step, count = (_whole_number(environ, f"SLURM_ARRAY_TASK_{part}", name, 1) for part in ("STEP", "COUNT"))
    if not first <= task <= last:
        raise ConfigError(
            f"{name}={task} is not between SLURM_ARRAY_TASK_MIN={first} and "
            f"SLURM_ARRAY_TASK_MAX={last}; give --shard i/n instead"
        )
    if (task - first) % step or (last - first) % step or count != (last - first) // step + 1:
        raise ConfigError(
            f"the job array has gaps: {count} tasks between {first} and {last} in steps of "
            f"{step} (SLURM_ARRAY_TASK_COUNT, _MIN, _MAX and _STEP), so the shards cannot be numbered; "
            f"submit again without gaps, such as --array=0-{count - 1} (finished blocks are not done "
            "again), or give each task an explicit --shard i/n"
        )
    return Shard((task - first) // step, count)


def _rank(environ: Mapping[str, str]) -> Shard | None:
    """The rank that torchrun or srun gave to this process.

    Slurm sets SLURM_PROCID=0 and SLURM_NTASKS in the batch script as well, of which there is one
    process however many tasks the job has; only a step has SLURM_STEP_NUM_TASKS.
    """
    step = _pair(environ, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", beside="SLURM_STEP_NUM_TASKS")
    torchrun = _pair(environ, "RANK", "WORLD_SIZE", beside="RANK" if "RANK" in environ else "WORLD_SIZE")
    if step is None or torchrun is None:
        return torchrun or step
    # One torchrun a task of the step: its ranks already count all tasks. Otherwise several groups
    # of ranks, or a RANK left over from elsewhere, would do the same blocks.
    name = "GROUP_WORLD_SIZE" if "GROUP_WORLD_SIZE" in environ else "WORLD_SIZE"
    groups = _whole_number(environ, name, "RANK", 1)
    if step.count > 1 and groups != step.count:
        raise ConfigError(
            f"SLURM_STEP_NUM_TASKS={step.count} and {name}={groups} contradict each other: "
            f"start torchrun with --nnodes {step.count}, or without srun, or unset RANK, or give --shard i/n"
        )
    return torchrun


def _pair(environ: Mapping[str, str], index_name: str, count_name: str, beside: str) -> Shard | None:
    if beside not in environ:
        return None
    index, count = _whole_number(environ, index_name, beside), _whole_number(environ, count_name, beside, 1)
    if index >= count:
        raise ConfigError(f"{index_name}={index} is not below {count_name}={count}; give --shard i/n instead")
    return Shard(index, count)


def _nothing_found(environ: Mapping[str, str]) -> str:
    message = (
        "nothing tells which shard this is: no SLURM_ARRAY_TASK_ID (a Slurm job array), no "
        "SLURM_STEP_NUM_TASKS (srun), no RANK and WORLD_SIZE (torchrun); give --shard i/n"
    )
    if "SLURM_JOB_ID" in environ:
        message += (
            ", or start it with srun: the script of a job runs once, however many tasks the job has "
            f"(SLURM_NTASKS={environ.get('SLURM_NTASKS', '1')})"
        )
    return message
