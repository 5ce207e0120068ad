"""The loop: exact resume whatever ends a run, one row a logged step, and the checks that stop it."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partialmethod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import set_seed
from safetensors.torch import load_file
from torch import Tensor, nn

import ssl_isic.loop
import ssl_isic.pretraining
from ssl_isic.backbones import BackboneConfig
from ssl_isic.checkpoint import list_checkpoints
from ssl_isic.config import load_yaml, validate
from ssl_isic.errors import InputError, InterruptedRun
from ssl_isic.loop import LoopConfig, build_accelerator, fit, sync_batch_norm
from ssl_isic.methods.dino import DINO
from ssl_isic.methods.dinov2 import DINOv2
from ssl_isic.methods.lejepa import LeJEPA
from ssl_isic.methods.mae import MAE
from ssl_isic.methods.method import RunShape
from ssl_isic.methods.simclr import SimCLR, SimCLRConfig
from ssl_isic.methods.vicreg import VICReg
from ssl_isic.optim import OptimConfig
from ssl_isic.pretraining import PretrainConfig, pretrain
from ssl_isic.run_folder import read_metrics
from ssl_isic.run_lock import RunLock
from ssl_isic.stepper import seed_step

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]
PRETRAIN = ssl_isic.pretraining.__file__.replace("pretraining.py", "pretrain.py")
PATIENCE_S = 120

SIMCLR: dict[str, Any] = {
    "backbone": {"model": "test_resnet", "drop_path": 0.3},
    "method": {"name": "simclr", "hidden_size": 32, "projection_size": 16},
}
DINO_VIT: dict[str, Any] = {
    "backbone": {"model": "test_vit", "drop_path": 0.3},
    "method": {
        "name": "dino",
        "local_crops": 2,
        "prototypes": 32,
        "hidden_size": 32,
        "bottleneck_size": 16,
        "freeze_last_layer_epochs": 0.5,
    },
}
VIT = {"model": "test_vit", "drop_path": 0.3}
DINOV2_VIT: dict[str, Any] = {"backbone": VIT, "method": {**DINO_VIT["method"], "name": "dinov2"}}
LEJEPA_VIT: dict[str, Any] = {
    "backbone": VIT,
    "method": {"name": "lejepa", "local_crops": 2, "hidden_size": 32, "slices": 16},
}
MAE_VIT: dict[str, Any] = {
    "backbone": VIT,
    "method": {"name": "mae", "mask_ratio": 0.5, "decoder_depth": 1, "decoder_width": 32},
}
VICREG: dict[str, Any] = {**SIMCLR, "method": {"name": "vicreg", "hidden_size": 32, "projection_size": 16}}


def config_of(run_dir: Path, images: Path, method: dict[str, Any], **loop: Any) -> PretrainConfig:
    """Batches of 8 in 2 micro-batches: 6 steps an epoch of 48 images, 12 in all."""
    tree = {
        "run_dir": run_dir,
        "seed": 11,
        "data": {"sources": {"train": images}, "workers": loop.pop("workers", 2)},
        "views": {"size": 32, "local_size": 16},
        "optim": {"name": "adamw", "lr": 1e-2, "lr_batch_size": None, "warmup_epochs": 0.5},
        "loop": {"epochs": 2, "batch_size": 8, "accumulate": 2, "log_every": 2, "save_every": 5, **loop},
        **method,
    }
    return validate(PretrainConfig, tree, source="test")


def final_weights(run_dir: Path) -> dict[str, Tensor]:
    """The whole task's weights and buffers at the end: heads, teacher and center too, and the exported backbone."""
    checkpoint = load_file(list_checkpoints(run_dir / "checkpoints")[-1] / "model.safetensors")
    return {
        **checkpoint,
        **{f"exported.{k}": v for k, v in load_file(run_dir / "backbone" / "model.safetensors").items()},
    }


def assert_same_bits(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [name for name, value in first.items() if not torch.equal(value, second[name])]
    assert different == []


def send_sigterm_after(step: int, task_type: type[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """This process gets SIGTERM while optimizer step `step` is under way."""
    original, sent = task_type.forward, []

    def forward(self: Any, batch: dict[str, Any], now: int) -> dict[str, Tensor]:
        if now == step and not sent:
            sent.append(now)
            os.kill(os.getpid(), signal.SIGTERM)
        outputs: dict[str, Tensor] = original(self, batch, now)
        return outputs

    monkeypatch.setattr(task_type, "forward", forward)


@pytest.mark.parametrize(
    ("device", "launched", "asked", "said"),
    [
        ("cuda", "no", None, True),
        ("cuda", "bf16", None, False),
        ("cuda", "no", "no", False),
        ("cpu", "no", None, False),
    ],
)
def test_a_gpu_in_float32_that_no_one_asked_for_is_said(
    device: str, launched: str, asked: Any, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    launcher = SimpleNamespace(device=torch.device(device), mixed_precision=launched, print=print)
    monkeypatch.setattr(ssl_isic.loop, "Accelerator", lambda **settings: launcher)
    build_accelerator(LoopConfig(mixed_precision=asked), tmp_path)
    assert ("loop.mixed_precision=bf16" in capsys.readouterr().out) == said


@pytest.mark.parametrize(("launched", "said"), [("fp16", True), ("bf16", False), ("no", False)])
def test_a_precision_that_stands_over_the_launchers_is_said(
    launched: str, said: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    launcher = SimpleNamespace(device=torch.device("cpu"), mixed_precision="bf16", print=print)
    monkeypatch.setattr(ssl_isic.loop, "Accelerator", lambda **settings: launcher)
    build_accelerator(LoopConfig(mixed_precision="bf16"), tmp_path)
    assert ("loop.mixed_precision=bf16 stands, and not the launcher's fp16" in capsys.readouterr().out) == said


@pytest.mark.parametrize(
    ("method", "task_type"),
    [(SIMCLR, SimCLR), (DINO_VIT, DINO), (DINOV2_VIT, DINOv2), (LEJEPA_VIT, LeJEPA), (MAE_VIT, MAE), (VICREG, VICReg)],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(
    method: dict[str, Any], task_type: type[Any], tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped inside the first epoch and again inside the second, with accumulation, workers and stochastic depth."""
    pretrain(config_of(tmp_path / "whole", lesions, method))
    for stop in (3, 7):
        with monkeypatch.context() as patch:
            send_sigterm_after(stop, task_type, patch)
            with pytest.raises(InterruptedRun, match=rf"after step {stop + 1} of 12.*run the same command again"):
                pretrain(config_of(tmp_path / "parts", lesions, method))
    torch.manual_seed(999)  # nothing of the process's own state may matter
    pretrain(config_of(tmp_path / "parts", lesions, method, workers=1))
    assert_same_bits(final_weights(tmp_path / "parts"), final_weights(tmp_path / "whole"))
    whole, parts = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert [row["step"] for row in whole] == [2, 4, 6, 8, 10, 12]
    assert [row["step"] for row in parts] == [2, 4, 6, 8, 10, 12]
    assert {row["step"]: row["lr"] for row in parts} == {row["step"]: row["lr"] for row in whole}
    assert whole[-1]["loss"] == parts[-1]["loss"]


def test_a_stop_in_the_last_look_is_one_and_the_next_command_finishes(
    tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(_: nn.Module) -> Iterator[tuple[str, float]]:
        os.kill(os.getpid(), signal.SIGTERM)
        yield "seen", 1.0

    looking = {"evaluate": look, "evaluate_every": 0, "evaluate_first": False}
    config = config_of(tmp_path / "run", lesions, SIMCLR, epochs=1, workers=0)
    with monkeypatch.context() as patch:
        patch.setattr(ssl_isic.pretraining, "fit", lambda *known, **named: fit(*known, **{**named, **looking}))
        with pytest.raises(InterruptedRun, match=r"after the last of 6 steps; saved in .*run the same command again"):
            pretrain(config)
    assert not (tmp_path / "run" / "backbone").exists()
    pretrain(config)
    pretrain(config_of(tmp_path / "whole", lesions, SIMCLR, epochs=1, workers=0))
    assert_same_bits(final_weights(tmp_path / "run"), final_weights(tmp_path / "whole"))


def test_a_stop_does_not_wait_for_a_look_which_is_taken_when_the_run_goes_on(
    tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look may take longer than the launcher waits before it kills."""
    looked = list[str]()

    def look(network: nn.Module) -> Iterator[tuple[str, float]]:
        looked.append("looked")
        yield "seen", float(sum(value.abs().sum() for value in network.parameters()))

    looking = {"evaluate": look, "evaluate_every": 2}
    monkeypatch.setattr(ssl_isic.pretraining, "fit", lambda *known, **named: fit(*known, **{**named, **looking}))
    pretrain(config_of(tmp_path / "whole", lesions, SIMCLR, epochs=1, workers=0))
    assert len(looked) == 4, "before the first step, and at 2, 4 and 6"
    with monkeypatch.context() as patch:
        send_sigterm_after(3, SimCLR, patch)
        with pytest.raises(InterruptedRun, match="after step 4 of 6"):
            pretrain(config_of(tmp_path / "parts", lesions, SIMCLR, epochs=1, workers=0))
    assert len(looked) == 4 + 2
    for _ in range(2):
        pretrain(config_of(tmp_path / "parts", lesions, SIMCLR, epochs=1, workers=0))
    whole, parts = (
        [(row["step"], row["seen"]) for row in read_metrics(tmp_path / name / "metrics.jsonl") if "seen" in row]
        for name in ("whole", "parts")
    )
    assert parts == whole
    assert len(looked) == 4 + 4, "once at each step"


def test_a_finished_run_stays_as_it_is(tmp_path: Path, lesions: Path) -> None:
    config = config_of(tmp_path, lesions, SIMCLR, epochs=0.5, workers=0)
    pretrain(config)
    first, metrics = final_weights(tmp_path), (tmp_path / "metrics.jsonl").read_text()
    pretrain(config)
    assert_same_bits(final_weights(tmp_path), first)
    assert (tmp_path / "metrics.jsonl").read_text() == metrics


def test_micro_batches_give_the_step_of_one_big_batch(tmp_path: Path, lesions: Path) -> None:
    """DINO's loss is a mean over images, so on a network without batch norm accumulation changes only rounding."""
    method = {**DINO_VIT, "backbone": {"model": "test_vit"}}
    for name, accumulate in (("one", 1), ("four", 4)):
        pretrain(config_of(tmp_path / name, lesions, method, accumulate=accumulate, epochs=0.5, workers=0))
    one, four = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("one", "four"))
    for first, second in zip(one, four, strict=True):
        for key in ("loss", "grad_norm", "teacher_entropy"):
            assert second[key] == pytest.approx(first[key], rel=1e-4)
    center_one, center_four = (final_weights(tmp_path / n)["centering.center"] for n in ("one", "four"))
    torch.testing.assert_close(center_four, center_one, rtol=1e-3, atol=1e-5)


def test_accumulation_adds_no_negatives(tmp_path: Path, lesions: Path) -> None:
    for name, accumulate, negatives in (("one", 1, 2 * 8 - 2), ("two", 2, 2 * 4 - 2)):
        pretrain(config_of(tmp_path / name, lesions, SIMCLR, accumulate=accumulate, epochs=0.5, workers=0))
        rows = read_metrics(tmp_path / name / "metrics.jsonl")
        assert [row["negatives"] for row in rows] == [negatives] * len(rows)


def test_gradients_are_clipped_to_the_norm_of_all_that_move(tmp_path: Path, lesions: Path) -> None:
    """The first step of SGD is as long as the rate times the norm; prototypes that stand still have no part in it."""
    config = config_of(tmp_path, lesions, DINO_VIT, clip_norm=0.01, epochs=1 / 6, workers=0)
    optim = {"name": "sgd", "lr": 0.1, "lr_batch_size": None, "warmup_epochs": 0, "weight_decay": 0}
    method = config.method.model_copy(update={"freeze_last_layer_epochs": 1.0})
    pretrain(config.model_copy(update={"optim": OptimConfig.model_validate(optim), "method": method}))
    start, end = initial_weights(DINO_VIT), final_weights(tmp_path)
    moved = {key: end[key] - value for key, value in start.items() if key.startswith("student")}
    assert not any(change.any() for key, change in moved.items() if "last_layer" in key)
    length = torch.stack([change.double().norm() for change in moved.values()]).norm()
    assert length.item() == pytest.approx(0.1 * 0.01, rel=1e-3)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run(
    what: str, tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At step 5 of 12, with a checkpoint every second step: step 4's stays, with finite weights, and none is added."""
    original = SimCLR.forward

    def forward(self: SimCLR, batch: Any, step: int) -> dict[str, Tensor]:
        outputs = original(self, batch, step)
        if step == 5:
            zero = 0 * outputs["loss"]
            outputs["loss"] = outputs["loss"] + (zero / 0 if what == "loss" else zero.abs().sqrt())
        return outputs

    monkeypatch.setattr(SimCLR, "forward", forward)
    with pytest.raises(InputError, match=r"not finite at step 5;.*optim\.lr"):
        pretrain(config_of(tmp_path, lesions, SIMCLR, save_every=2, log_every=20, workers=0))
    saved = list_checkpoints(tmp_path / "checkpoints")
    assert [path.name for path in saved] == ["step-000000002", "step-000000004"]
    assert all(value.isfinite().all() for value in load_file(saved[-1] / "model.safetensors").values())


def test_a_network_that_is_not_finite_is_not_looked_at(
    tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, looked = SimCLR.forward, list[bool]()

    def forward(self: SimCLR, batch: Any, step: int) -> dict[str, Tensor]:
        outputs = original(self, batch, step)
        return {**outputs, "loss": outputs["loss"] * (torch.nan if step == 1 else 1)}

    def look(network: nn.Module) -> Iterator[tuple[str, float]]:
        looked.append(all(bool(value.isfinite().all()) for value in network.parameters()))
        yield "seen", 1.0

    monkeypatch.setattr(SimCLR, "forward", forward)
    looking = {"evaluate": look, "evaluate_every": 1}
    monkeypatch.setattr(ssl_isic.pretraining, "fit", lambda *known, **named: fit(*known, **{**named, **looking}))
    with pytest.raises(InputError, match="not finite at step 1;"):
        pretrain(config_of(tmp_path, lesions, SIMCLR, log_every=20, workers=0))
    assert looked == [True, True], "before the first step and after it"


@pytest.mark.parametrize("log_every", [1, 50])
def test_a_run_that_the_guard_stopped_goes_no_further_when_it_is_repeated(
    log_every: int, tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks each 20 steps, however often rows are written."""
    original = SimCLR.forward

    def forward(self: SimCLR, batch: Any, step: int) -> dict[str, Tensor]:
        outputs = original(self, batch, step)
        return {**outputs, "feature_std": torch.zeros(()) if step >= 40 else torch.ones(())}

    monkeypatch.setattr(SimCLR, "forward", forward)
    config = config_of(tmp_path / "run", lesions, SIMCLR, workers=0, epochs=20, log_every=log_every, save_every=10)
    for _ in range(2):
        with pytest.raises(InputError, match=r"^collapse at step 80: .* since step 60; start in another run_dir"):
            pretrain(config)
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == "step-000000070"
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "collapse" in row]
    assert [row["step"] for row in rows] == [80]
    assert rows[0]["collapse"].startswith("collapse at step 80: feature_std is 0.0000")
    assert (tmp_path / "run" / "curves.png").stat().st_size > 10_000, "drawn when it is wanted most"


def test_a_run_that_the_guard_warns_of_goes_on(
    tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = SimCLR.forward

    def forward(self: SimCLR, batch: Any, step: int) -> dict[str, Tensor]:
        return {**original(self, batch, step), "feature_std": torch.zeros(())}

    monkeypatch.setattr(SimCLR, "forward", forward)
    config = config_of(tmp_path / "run", lesions, SIMCLR, workers=0, epochs=20, log_every=50)
    pretrain(config.model_copy(update={"monitor": config.monitor.model_copy(update={"collapse": "warn"})}))
    assert capsys.readouterr().out.count("warning: collapse at step 60: feature_std is 0.0000") == 1
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["step"] for row in rows if "collapse" in row] == [60]
    assert rows[-1]["step"] == 120


def damage(images: dict[str, bytes], row: int) -> dict[str, bytes]:
    return {name: data[: len(data) // 2] if k == row else data for k, (name, data) in enumerate(images.items())}


def test_more_than_1_percent_bad_images_stop_the_run(
    tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]
) -> None:
    images = write_hdf5(tmp_path / "bad.hdf5", damage(lesion_jpegs, 20))
    with pytest.raises(InputError, match=r"1 of 48 images do not decode, more than 1 %.*bad_images\.csv"):
        pretrain(config_of(tmp_path / "run", images, SIMCLR, workers=0))
    assert (tmp_path / "run" / "bad_images.csv").read_text() == "isic_id\nISIC_0000020\n"


def test_one_bad_image_of_200_is_counted_and_named(
    tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]
) -> None:
    many = {f"ISIC_{k:07d}": list(lesion_jpegs.values())[k % 48] for k in range(200)}
    images = write_hdf5(tmp_path / "bad.hdf5", damage(many, 123))
    pretrain(config_of(tmp_path / "run", images, SIMCLR, epochs=1, batch_size=20, log_every=5))
    assert (tmp_path / "run" / "bad_images.csv").read_text() == "isic_id\nISIC_0000123\n"
    assert read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]["bad_images"] == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_full_of_bad_images_is_one_line(
    workers: int, tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]
) -> None:
    images = write_hdf5(tmp_path / "bad.hdf5", {name: data[:300] for name, data in lesion_jpegs.items()})
    with pytest.raises(InputError, match=r"^none of 8 images, .* decodes, the last ISIC_\d+ \(.*damaged\?$"):
        pretrain(config_of(tmp_path / "run", images, SIMCLR, workers=workers))


def test_randomness_of_a_step_is_a_function_of_seed_step_micro_batch_and_rank() -> None:
    drawn = {}
    for key in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]:
        seed_step(*key)
        drawn[key] = tuple(torch.rand(4).tolist())
        seed_step(*key)
        assert drawn[key] == tuple(torch.rand(4).tolist())
    assert len(set(drawn.values())) == len(drawn)


def start(config: PretrainConfig, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """`python ssl_isic/pretrain.py` with `config`, as the leader of a process group of its own."""
    file = config.run_dir.with_suffix(".yaml")
    file.write_text(json.dumps(config.model_dump(mode="json")))
    words = [sys.executable, *launcher, PRETRAIN, "--config", str(file)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def last_logged_step(run_dir: Path) -> int:
    path = run_dir / "metrics.jsonl"
    rows = read_metrics(path) if path.exists() else []
    return int(rows[-1]["step"]) if rows else 0


@pytest.mark.slow
def test_sigterm_to_the_whole_group_saves_and_says_how_to_go_on(tmp_path: Path, lesions: Path) -> None:
    """torchrun and SLURM signal the loader's workers too, and these must not fall first."""
    config = config_of(tmp_path / "run", lesions, SIMCLR, epochs=500, save_every=0, log_every=1)
    process = start(config)
    wait_for(process, lambda: last_logged_step(config.run_dir) >= 3)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    word = [line for line in err.replace("\r", "\n").splitlines() if "ssl-isic:" in line]
    assert len(word) == 1
    assert "run the same command again" in word[0]
    assert "Traceback" not in err
    saved = [path.name for path in list_checkpoints(config.run_dir / "checkpoints")]
    assert saved == [f"step-{last_logged_step(config.run_dir):09d}"]


@pytest.mark.slow
def test_a_run_whose_launcher_ends_saves_and_until_then_no_other_trains_in_its_folder(
    tmp_path: Path, lesions: Path
) -> None:
    """`accelerate launch` of one process dies of a SIGTERM and leaves the process that it started."""
    config = config_of(tmp_path / "run", lesions, SIMCLR, epochs=500, save_every=0, log_every=1)
    launcher = start(config, ("-m", "accelerate.commands.launch", "--cpu", "--num_processes=1"))
    wait_for(launcher, lambda: last_logged_step(config.run_dir) >= 3)
    with pytest.raises(InputError, match=rf"^process \d+ is training in {config.run_dir}; wait for it or stop it"):
        pretrain(config.model_copy(update={"seed": 5}))
    assert load_yaml(config.run_dir / "config.yaml")["seed"] == 11, "what is refused has written nothing"
    launcher.terminate()
    _, err = launcher.communicate(timeout=PATIENCE_S)
    assert "run the same command again" in err
    saved = [path.name for path in list_checkpoints(config.run_dir / "checkpoints")]
    assert saved == [f"step-{last_logged_step(config.run_dir):09d}"]
    with RunLock(config.run_dir):
        pass


def test_fp16_on_a_cpu_is_refused_since_it_would_be_float32(tmp_path: Path) -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with pytest.raises(InputError, match=r"loop\.mixed_precision=fp16 needs a GPU"):
            build_accelerator(LoopConfig(mixed_precision="fp16"), tmp_path)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_ranks_that_do_not_see_the_same_files_are_told(
    tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where each machine has a run_dir of its own: one would go on, and the others would begin."""
    pretrain(config_of(tmp_path, lesions, SIMCLR, epochs=1, workers=0))
    folder = tmp_path / "checkpoints"
    seen = list[dict[str, str]]()

    def gathered(here: list[dict[str, str]]) -> list[dict[str, str]]:
        seen.extend(here)
        return [*here, {name: "no checkpoint" if name == str(folder) else value for name, value in here[0].items()}]

    monkeypatch.setattr(ssl_isic.loop, "gather_object", gathered)
    with pytest.raises(InputError, match=f"{folder}: process 0 sees step-000000006, process 1 sees no checkpoint; all"):
        pretrain(config_of(tmp_path, lesions, SIMCLR, epochs=1, workers=0))
    assert [[*names] for names in seen] == [["data.sources.train"], [str(folder)]]
    assert seen[0]["data.sources.train"].startswith("48 ids, sha256 ")


@pytest.mark.slow
def test_a_crash_of_ours_ends_the_process_and_its_workers(tmp_path: Path, lesions: Path) -> None:
    """A traceback holds on to the loader until the interpreter ends, and its workers must end at its word."""
    config = config_of(tmp_path / "run", lesions, SIMCLR)
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(config.model_dump(mode="json")))
    script = (
        "import sys; from ssl_isic import pretrain; from ssl_isic.methods.simclr import SimCLR\n"
        "SimCLR.forward = lambda self, batch, step: 1 / 0\n"
        "pretrain.main(['--config', sys.argv[1]])"
    )
    words = [sys.executable, "-c", script, str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, lesions: Path) -> None:
    """`python ssl_isic/pretrain.py` is killed with SIGKILL at a random step, and run again."""
    step = random.SystemRandom().randint(1, 20)
    print(f"SIGKILL at or after step {step}")
    settings = {"epochs": 4, "save_every": 3, "log_every": 1}
    pretrain(config_of(tmp_path / "whole", lesions, SIMCLR, **settings))
    config = config_of(tmp_path / "killed", lesions, SIMCLR, **settings)
    process = start(config)
    wait_for(process, lambda: last_logged_step(config.run_dir) >= step)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL
    again = start(config)
    _, err = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, err
    assert_same_bits(final_weights(tmp_path / "killed"), final_weights(tmp_path / "whole"))
    rows = read_metrics(tmp_path / "killed" / "metrics.jsonl")
    np.testing.assert_array_equal([row["step"] for row in rows], np.arange(1, 25))


@pytest.mark.parametrize("model", ["resnet10t", "tf_efficientnet_lite0"])
def test_batch_norm_over_ranks_computes_what_it_did(model: str) -> None:
    """In timm's EfficientNets the activation is part of the norm layer."""
    task = SimCLRConfig(hidden_size=32, projection_size=16).build(BackboneConfig(model=model), RunShape(32, 1, 1))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    task.train()(
        {"views": [torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)] * 2, "row": torch.arange(4)}, 0
    )  # running statistics that are not those of a new network
    before = task.eval().exported()(images)
    norms = sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in task.modules())
    sync_batch_norm(task)
    assert torch.equal(task.exported()(images), before)
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in task.modules()) == norms > 10


def test_a_look_takes_the_network_as_it_is_and_compiles_nothing() -> None:
    task = SimCLRConfig(hidden_size=32, projection_size=16).build(
        BackboneConfig(model="test_resnet"), RunShape(32, 1, 1)
    )
    compiled = list[int]()

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(inputs))
        return graph.forward

    accelerator = Accelerator(cpu=True)
    task.exported().compile(backend=backend, dynamic=False)
    buffers = {name: value.clone() for name, value in task.named_buffers()}

    def sizes(network: nn.Module) -> Iterator[tuple[str, float]]:
        for images in (4, 3):
            yield f"of_{images}", float(network(torch.ones(images, 3, 32, 32)).norm())

    network = ssl_isic.loop.WholeNetwork(task, accelerator)
    looked_at = ssl_isic.loop._evaluated(sizes, task, network, compiled=True)
    assert not compiled
    assert task.training
    assert all(torch.equal(value, buffers[name]) for name, value in task.named_buffers()), "batch norm's statistics"
    with torch.no_grad():
        assert dict(sizes(task.eval().exported())) == pytest.approx(looked_at)
    assert len(compiled) == 2


def test_a_compiled_run_trains_what_another_does(
    tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = list[int]()

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(len(inputs))
        return graph.forward

    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=backend))
    for name, compiles in (("plain", False), ("compiled", True)):
        assert not compiled
        pretrain(config_of(tmp_path / name, lesions, SIMCLR, workers=0, epochs=0.5, compile=compiles))
    assert compiled
    plain, other = final_weights(tmp_path / "plain"), final_weights(tmp_path / "compiled")
    assert plain.keys() == other.keys()
    for name, value in plain.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-3, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("method", [SIMCLR, DINO_VIT])
def test_heads_first_the_network_stands_still_and_then_learns(
    method: dict[str, Any], tmp_path: Path, lesions: Path
) -> None:
    """6 steps an epoch; the heads alone for one epoch of two. DINO's teacher stands still with its student."""
    runs = {}
    for name, epochs, held in (("still", 1, 1.0), ("longer", 2, 1.0), ("free", 1, 0.0)):
        config = config_of(tmp_path / name, lesions, method, epochs=epochs, workers=0)
        optim = config.optim.model_copy(update={"heads_first_epochs": held})
        pretrain(config.model_copy(update={"optim": optim}))
        runs[name] = final_weights(tmp_path / name)
    names = [key for key, value in runs["still"].items() if value.is_floating_point() and "running" not in key]
    networks = [key for key in names if key.startswith(("backbone.", "student.", "teacher.", "exported."))]
    heads = [key for key in names if key.startswith(("head.", "student_head."))]
    start = initial_weights(method)
    assert networks
    assert heads
    assert all(torch.equal(runs["still"][key], start[key]) for key in networks if key in start)
    assert any(not torch.equal(runs["still"][key], start[key]) for key in heads)
    assert any(not torch.equal(runs["longer"][key], start[key]) for key in networks if key in start)
    assert any(not torch.equal(runs["free"][key], start[key]) for key in networks if key in start)


def initial_weights(method: dict[str, Any]) -> dict[str, Tensor]:
    """The weights that a run of seed 11 starts with."""
    config = config_of(Path("unused"), Path("unused"), method)
    set_seed(config.seed)
    return config.method.build(config.backbone, RunShape(config.views.size, 6, 12)).state_dict()
