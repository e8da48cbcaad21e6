"""A Slurm cluster of one node, with its own ports, keys and folders, for tests."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "sinfo", "scancel")

#: cred_expire, 5 at least, is also how long a job that was requeued has to wait. The node claims more
#: cores and memory than there may be, so that all tasks of a small array run at once.
CONFIG = """\
ClusterName=private
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=cred_expire=5,socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
KillWait=2
MinJobAge=3600
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} CoresPerSocket={cpus} RealMemory=16000
PartitionName=test Nodes=localhost Default=YES MaxTime=INFINITE
"""


def lacking() -> str | None:
    """Why no Slurm can be started here, or None."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian packages slurm-wlm and munge)"
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    return None


class PrivateSlurm:
    """The daemons of a cluster; a context manager that starts them and stops them in any case.

    Args:
        cpus: cores that the node claims to have.
    """

    def __init__(self, cpus: int = 16) -> None:
        # Not in pytest's folder: the path of a Unix socket has room for about 100 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.cpus = cpus
        self.environ = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))
        }
        self.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> PrivateSlurm:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            # Stopping slurmd would leave the jobs running.
            self.call("scancel", "--me", check=False)
            self.until(lambda: not self.call("squeue", "-h", check=False).strip(), "the end of all jobs", 20)
        finally:
            self._stop()

    def _start(self) -> None:
        folder = self.folder
        folder.chmod(0o755)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            ports = {"controller_port": one.getsockname()[1], "node_port": two.getsockname()[1]}
        (folder / "slurm.conf").write_text(CONFIG.format(folder=folder, cpus=self.cpus, **ports))
        (folder / "cgroup.conf").touch()
        files = {
            "socket": "socket",
            "key-file": "key",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        self._daemon(
            "munged", "--foreground", *(f"--{name}={folder}/munge.{end}" for name, end in files.items())
        )
        self.until((folder / "munge.socket").exists, "munged")
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", "localhost")
        self.until(
            lambda: self.call("sinfo", "-h", "-o", "%t", check=False).strip() == "idle", "an idle node"
        )

    def _daemon(self, *command: str) -> None:
        with open(self.folder / f"{command[0]}.out", "wb") as log:
            daemon = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environ, cwd=self.folder
            )
        self._daemons.append(daemon)

    def _stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, *command: str, check: bool = True, **environ: str) -> str:
        """Run one of Slurm's commands and return its standard output.

        Raises:
            AssertionError: ``check`` and it failed.
        """
        done = subprocess.run(
            command,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def job(self, job: str) -> dict[str, str]:
        """What the controller knows about a job: ``JobState``, ``Restarts``, ``ExitCode`` and so on."""
        line = self.call("scontrol", "--oneliner", "show", "job", job)
        return dict(field.split("=", 1) for field in line.split() if "=" in field)

    def until(self, ready: Callable[[], T], what: str, timeout: float = 120) -> T:
        """Ask again and again until the answer is true, and return it.

        Raises:
            AssertionError: it was not in time; with the ends of the daemons' logs.
        """
        deadline = time.monotonic() + timeout
        while not (answer := ready()):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what} after {timeout:.0f} s\n{self._logs()}")
            time.sleep(0.05)
        return answer

    def _logs(self) -> str:
        text = self.call("squeue", "--states=all", "--array", check=False)
        for path in sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")]):
            text += (
                f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:]) + "\n"
            )
        return text
