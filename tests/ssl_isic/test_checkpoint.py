"""A checkpoint is whole or it is not there."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from ssl_isic.checkpoint import Progress, full_disk_named, list_checkpoints, load_checkpoint, save_checkpoint
from ssl_isic.errors import InputError, command

MEBIBYTE = 1 << 20


def trained(width: int = 3, steps: int = 1) -> tuple[Accelerator, nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    accelerator = Accelerator(cpu=True)
    model = nn.Linear(width, 2)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr=0.1))
    for _ in range(steps):
        model(torch.randn(4, width)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return accelerator, model, optimizer


def test_what_was_saved_comes_back_with_the_optimizers_state(tmp_path: Path) -> None:
    accelerator, model, optimizer = trained(steps=3)
    save_checkpoint(accelerator, tmp_path, Progress(3, ["ISIC_1"]), keep=2)
    saved, moments = model.state_dict(), optimizer.state_dict()["state"]
    other_accelerator, other, other_optimizer = trained(steps=1)
    assert load_checkpoint(other_accelerator, tmp_path / "step-000000003") == Progress(3, ["ISIC_1"])
    assert all(torch.equal(other.state_dict()[name], value) for name, value in saved.items())
    there = other_optimizer.state_dict()["state"]
    assert there.keys() == moments.keys()
    assert all(
        torch.equal(there[k][name], moments[k][name]) for k in moments for name in ("step", "exp_avg", "exp_avg_sq")
    )


def test_only_the_newest_are_kept_in_the_order_of_steps(tmp_path: Path) -> None:
    accelerator, _, _ = trained()
    for step in (9, 10, 100, 1000):
        save_checkpoint(accelerator, tmp_path, Progress(step), keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000100", "step-000001000"]
    assert len(os.listdir(tmp_path)) == 2


@pytest.mark.parametrize("failure", [RuntimeError("boom"), OSError(errno.EIO, "I/O error")])
def test_a_failure_while_saving_leaves_the_old_checkpoint_and_nothing_partial(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accelerator, _, _ = trained()
    save_checkpoint(accelerator, tmp_path, Progress(1), keep=1)

    def write_half(folder: str, **_: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise failure

    monkeypatch.setattr(accelerator, "save_state", write_half)
    with pytest.raises(type(failure), match=r"boom|I/O"):
        save_checkpoint(accelerator, tmp_path, Progress(2), keep=1)
    assert os.listdir(tmp_path) == ["step-000000001"]
    assert load_checkpoint(trained()[0], tmp_path / "step-000000001") == Progress(1)


def test_what_a_kill_left_half_written_is_not_a_checkpoint(tmp_path: Path) -> None:
    accelerator, _, _ = trained()
    save_checkpoint(accelerator, tmp_path, Progress(1), keep=1)
    (tmp_path / ".step-000000002.partial").mkdir()
    (tmp_path / ".step-000000002.partial" / "model.safetensors").write_bytes(b"half")
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000001"]
    save_checkpoint(accelerator, tmp_path, Progress(2), keep=1)
    assert os.listdir(tmp_path) == ["step-000000002"]


@pytest.mark.parametrize("damage", ["another model", "no progress", "cut", "empty"])
def test_a_checkpoint_that_does_not_fit_is_one_line(damage: str, tmp_path: Path) -> None:
    accelerator, _, _ = trained(width=5 if damage == "another model" else 3)
    save_checkpoint(accelerator, tmp_path, Progress(1), keep=1)
    path = tmp_path / "step-000000001"
    if damage == "no progress":
        (path / "progress.json").unlink()
    if damage == "cut":
        (path / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes()[:40])
    if damage == "empty":  # as a machine that went down may leave what was not yet on its disk
        (path / "optimizer.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot resume from .*step-000000001: .+; remove") as caught:
        load_checkpoint(trained()[0], path)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_from_other_failures(tmp_path: Path) -> None:
    def fail(error: Exception) -> None:
        (tmp_path / "partial").mkdir()
        with full_disk_named(tmp_path / "partial"):
            raise error

    with pytest.raises(OSError, match="No space left") as caught:
        fail(RuntimeError("PytorchStreamWriter failed: No space left on device"))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(tmp_path))
    with pytest.raises(RuntimeError, match="something else"):
        fail(RuntimeError("something else"))
    assert not (tmp_path / "partial").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here (needs root): {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_keeps_the_last_checkpoint(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    accelerator, model, _ = trained()
    save_checkpoint(accelerator, small_disk / "checkpoints", Progress(1), keep=2)
    model.register_buffer("large", torch.zeros(MEBIBYTE))  # 4 MiB

    @command
    def main(_: object) -> None:
        save_checkpoint(accelerator, small_disk / "checkpoints", Progress(2), keep=2)

    assert main([]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "the disk is full" in err
    assert str(small_disk) in err
    assert os.listdir(small_disk / "checkpoints") == ["step-000000001"]
    assert load_checkpoint(trained()[0], small_disk / "checkpoints" / "step-000000001") == Progress(1)
