"""Names of devices, on machines without and with several CUDA devices."""

from __future__ import annotations

import pytest
import torch

from gexpr.errors import ConfigError, GexprError
from gexpr.scoring.devices import device_kind, resolve_device, resolve_devices


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with four CUDA devices, and no launcher."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    for name in ("LOCAL_RANK", "SLURM_LOCALID"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def names(text: str, **environ: str) -> list[str]:
    return [str(device) for device in resolve_devices(text, environ)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cpu", ["cpu"]),
        (" CPU ", ["cpu"]),
        ("auto", ["cuda:0"]),
        ("cuda", ["cuda:0"]),
        ("cuda:3", ["cuda:3"]),
        ("cuda:0,2", ["cuda:0", "cuda:2"]),
        ("cuda:2,0", ["cuda:2", "cuda:0"]),
        ("CUDA:ALL", ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
    ],
)
def test_names_where_there_are_four_devices(text: str, expected: list[str], cuda: pytest.MonkeyPatch) -> None:
    assert names(text) == expected


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"LOCAL_RANK": "2"}, "cuda:2"),
        ({"SLURM_LOCALID": "3"}, "cuda:3"),
        ({"LOCAL_RANK": "1", "SLURM_LOCALID": "3"}, "cuda:1"),
        ({"LOCAL_RANK": "5"}, "cuda:1"),  # more processes than devices share them
        ({"LOCAL_RANK": ""}, "cuda:0"),
        ({"LOCAL_RANK": "", "SLURM_LOCALID": "1"}, "cuda:1"),
        ({"LOCAL_RANK": "x"}, "cuda:0"),
        ({"LOCAL_RANK": "-1"}, "cuda:0"),
    ],
)
def test_a_launcher_gives_each_process_its_device(
    environ: dict[str, str], expected: str, cuda: pytest.MonkeyPatch
) -> None:
    assert names("auto", **environ) == names("cuda", **environ) == [expected]
    assert names("cuda:0", **environ) == ["cuda:0"] and len(names("cuda:all", **environ)) == 4
    assert names("cpu", **environ) == ["cpu"]


def test_the_environment_of_the_process_is_the_default(cuda: pytest.MonkeyPatch) -> None:
    cuda.setenv("LOCAL_RANK", "2")
    assert str(resolve_device("auto")) == "cuda:2"


def test_one_visible_device_serves_every_rank(cuda: pytest.MonkeyPatch) -> None:
    """Slurm with --gpus-per-task shows each process its own device as number 0."""
    cuda.setattr(torch.cuda, "device_count", lambda: 1)
    assert names("auto", SLURM_LOCALID="3") == ["cuda:0"] == names("cuda:all")


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("cuda:4", GexprError, "device 'cuda:4': the CUDA devices are 0 to 3"),
        ("cuda:0,9", GexprError, "the CUDA devices are 0 to 3"),
        ("cuda:1,1", ConfigError, "device 'cuda:1,1' names a device twice"),
        ("cuda:0,1,00", ConfigError, "names a device twice"),
        ("gpu", ConfigError, "unknown device 'gpu': use auto, cpu, cuda, cuda:N, cuda:N,M or cuda:all"),
        ("cuda:", ConfigError, "unknown device 'cuda:'"),
        ("cuda:-1", ConfigError, "unknown device"),
        ("cuda:0,", ConfigError, "unknown device"),
        ("cuda:all,0", ConfigError, "unknown device"),
        ("auto:0", ConfigError, "unknown device"),
        ("cpu:1", ConfigError, "unknown device"),
        ("", ConfigError, "unknown device ''"),
    ],
)
def test_names_that_are_refused(
    text: str, kind: type[Exception], message: str, cuda: pytest.MonkeyPatch
) -> None:
    with pytest.raises(kind) as caught:
        names(text)
    assert message in str(caught.value) and type(caught.value) is kind


def test_several_devices_where_one_is_wanted(cuda: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="device 'cuda:all' is 4 devices; name one, such as cuda:0"):
        resolve_device("cuda:all")


@pytest.mark.parametrize("text", ["cuda", "cuda:0", "cuda:all", "cuda:0,2"])
def test_a_machine_without_cuda(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        GexprError, match=f"device '{text}': PyTorch .* finds no CUDA device; use --device cpu"
    ):
        names(text)
    assert names("auto", LOCAL_RANK="3") == ["cpu"]
    with pytest.raises(ConfigError, match="unknown device"):
        names("mps")


def test_the_kind_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
    assert device_kind(torch.device("cpu")) == "cpu"
    assert device_kind(torch.device("cuda", 1)) == "cuda (Card 1)"
