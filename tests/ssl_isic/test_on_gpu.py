"""On a GPU: nothing is left on the CPU or is float64, which Apple's do not have; a run with looks, in half precision, goes on.

The first needs none: torch knows on which device a tensor would be without having it.
"""

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssl_isic.backbones import BackboneConfig
from ssl_isic.config import validate
from ssl_isic.data.views import ViewsConfig, dino_views
from ssl_isic.defaults import fill_defaults
from ssl_isic.errors import InterruptedRun
from ssl_isic.methods.method import RunShape
from ssl_isic.pretraining import PretrainConfig, pretrain
from ssl_isic.run_folder import read_metrics
from ssl_isic.stepper import Stepper
from ssl_isic.task import StepHooks, Task

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]
SIZE, IMAGES = 64, 8
NARROW = {"hidden_size": 64}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "simclr": ("test_resnet", NARROW),
    "simclr, in chunks": ("test_resnet", {**NARROW, "chunk": 3}),
    "dino": ("test_vit", {**NARROW, "local_crops": 2}),
    "vicreg": ("test_resnet", NARROW),
    "lejepa": ("test_vit", {**NARROW, "local_crops": 2}),
    "mae": ("test_vit", {}),
    "dinov2": ("test_vit", {**NARROW, "local_crops": 2}),
}


def config_of(name: str, run_dir: Path, images: Path, **loop: Any) -> PretrainConfig:
    model, settings = METHODS[name]
    tree = {
        "run_dir": run_dir,
        "data": {"sources": {"train": images}, "workers": 2},
        "views": {"size": SIZE, "local_size": SIZE // 2},
        "backbone": {"model": model},
        "method": {"name": name.partition(",")[0], **settings},
        "loop": {"batch_size": IMAGES, "log_every": 1, **loop},
    }
    return validate(PretrainConfig, tree, source="test")


class WithoutFloat64(TorchDispatchMode):
    """A device of this type has no float64."""

    def __init__(self, device_type: str) -> None:
        super().__init__()
        self.device_type = device_type

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, Tensor) and value.device.type == self.device_type:
                assert value.dtype is not torch.float64, func
        return made


def move_to_a_gpu_that_is_not_there(task: Task) -> None:
    for module in task.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                there = torch.empty_strided(parameter.shape, parameter.stride(), device="cuda")
                module._parameters[name] = nn.Parameter(there, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty_strided(
                    buffer.shape, buffer.stride(), dtype=buffer.dtype, device="cuda"
                )


@pytest.mark.parametrize("name", METHODS)
def test_nothing_that_a_method_computes_with_is_left_on_the_cpu(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # a GPU that is there is needed to pin
    config = config_of(name, tmp_path, tmp_path)
    task = config.method.build(BackboneConfig(model=config.backbone.model), RunShape(SIZE, 10, 100)).train()
    local_sides = [SIZE // 2] * METHODS[name][1].get("local_crops", 0)
    sides = [SIZE] if name == "mae" else [SIZE, SIZE, *local_sides]
    on_the_cpu = task.before_transfer({"row": torch.arange(IMAGES)}, 3)
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()), WithoutFloat64("cuda"):
        move_to_a_gpu_that_is_not_there(task)
        views = [torch.empty(IMAGES, side, side, 3, dtype=torch.uint8, device="cuda") for side in sides]
        sent = {key: torch.empty_like(value, device="cuda") for key, value in on_the_cpu.items()}
        outputs = task({"views": views, **sent}, 3)
        if isinstance(task, StepHooks):
            task.after_step(3)
    assert {(value.device.type, value.dtype) for value in outputs.values()} == {("cuda", torch.float32)}


@pytest.mark.parametrize("preset", ["lesion", "paper"])
def test_views_are_finished_there_without_float64(preset: str) -> None:
    """On torch's device without memory, which refuses a tensor from elsewhere as a GPU does."""
    views = dino_views(ViewsConfig(preset=preset, size=SIZE, local_size=SIZE // 2, on_device=True), 2)
    begun = [views.begun(np.full((80, 80, 3), 90, np.uint8), (0, row)) for row in range(IMAGES)]
    drawn = torch.tensor([numbers for _, numbers in begun], dtype=torch.float64)
    pixels = [torch.empty(IMAGES, *view.shape, dtype=torch.uint8, device="meta") for view in begun[0][0]]
    with WithoutFloat64("meta"):
        finished = views.finished(pixels, drawn)
    assert [(view.device.type, view.shape) for view in finished] == [("meta", view.shape) for view in pixels]


def and_then_asked_to_stop(step: Callable[..., None]) -> Callable[..., None]:
    def stepped(*arguments: Any) -> None:
        step(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    return stepped


def losses_of(run_dir: Path) -> list[float]:
    rows = [row for row in read_metrics(run_dir / "metrics.jsonl") if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 11))
    return [row["loss"] for row in rows]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", METHODS)
def test_a_run_on_a_gpu_looks_stops_and_goes_on(
    name: str,
    precision: str,
    tmp_path: Path,
    write_hdf5: WriteHdf5,
    lesion_jpegs: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not to the last bit: some of a GPU's sums have no order of their own."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # one device and precision a process is all that Accelerate knows
    assert Accelerator(mixed_precision=precision).device.type == "cuda"
    jpegs = list(lesion_jpegs.values())
    images = write_hdf5(tmp_path / "many.hdf5", {f"ISIC_{k:07d}": jpegs[k % len(jpegs)] for k in range(720)})

    def config(run: str) -> PretrainConfig:
        return fill_defaults(config_of(name, tmp_path / run, images, mixed_precision=precision, epochs=10 / 81)).config

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", and_then_asked_to_stop(Stepper.step))
        with pytest.raises(InterruptedRun, match="after step 1 of 10"):
            pretrain(config("stopped"))
    pretrain(config("stopped"))
    pretrain(config("whole"))
    assert losses_of(tmp_path / "stopped") == pytest.approx(losses_of(tmp_path / "whole"), rel=0.05)
    assert any("held_out_uniformity" in row for row in read_metrics(tmp_path / "stopped" / "metrics.jsonl"))
    AcceleratorState._reset_state(reset_partial_state=True)
