"""FSDP on two real processes: what two with whole weights train, looked at, saved, killed and resumed; and what is refused."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from traceback import extract_tb
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors.torch import load_file
from torch.distributed.checkpoint.api import CheckpointException

from ssl_isic.backbones import BackboneConfig
from ssl_isic.checkpoint import list_checkpoints, load_checkpoint
from ssl_isic.config import load_yaml
from ssl_isic.errors import InputError
from ssl_isic.methods.method import RunShape
from ssl_isic.methods.simclr import SimCLRConfig
from ssl_isic.pretraining import PretrainConfig
from ssl_isic.run_folder import open_run, read_metrics
from ssl_isic.sharding import check_launched, check_layers, check_whole, sharding_plugin

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]
SCRIPT = Path(__file__).with_name("sharded_pretrain.py")
PRETRAIN = Path(__file__).parents[2] / "ssl_isic" / "pretrain.py"
LAUNCHER = ["-m", "accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "0"]
CONFIGS = Path(__file__).parents[2] / "configs" / "accelerate"
SHARDED = [*LAUNCHER, "--config_file", str(CONFIGS / "fsdp.yaml"), "--mixed_precision", "no"]
WHOLE = [*LAUNCHER, "--config_file", str(CONFIGS / "one-node.yaml"), "--mixed_precision", "no"]
ALONE: list[str] = []
STEPS = 8

HEAD = ["method.hidden_size=32", "views.size=32", "views.local_size=16"]
DINO = [
    *("method.name=dino", "method.local_crops=2", "method.prototypes=32", "method.bottleneck_size=16", *HEAD),
    *("method.ema=0.5", "method.freeze_last_layer_epochs=0.07", "backbone.model=test_vit", "backbone.drop_path=0.1"),
    "loop.accumulate=2",
]
SIMCLR = [
    "method.name=simclr",
    "method.projection_size=16",
    *HEAD,
    "backbone.model=resnet10t",
    "backbone.freeze_stages=1",
]
BASIC_BLOCKS = ["--fsdp_transformer_layer_cls_to_wrap", "BasicBlock"]
CASES = {
    "dino": ([], [*DINO, "optim.name=sgd", "optim.lr=0.1"]),
    "simclr": (BASIC_BLOCKS, [*SIMCLR, "optim.name=lars", "optim.lr=0.05", "loop.clip_norm=3.0"]),
}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]) -> list[str]:
    """640 images, of which 64 are held out: 72 steps an epoch, 8 in all, with two looks and two checkpoints."""
    jpegs = list(lesion_jpegs.values())
    many = {f"ISIC_{k:07d}": jpegs[k % len(jpegs)] for k in range(640)}
    images = write_hdf5(tmp_path_factory.mktemp("images") / "many.hdf5", many)
    loop = [f"loop.epochs={STEPS / 72}", "loop.batch_size=8", "loop.log_every=1", "loop.save_every=4"]
    looks = ["monitor.every_epochs=0.05", "monitor.collapse=ignore"]
    return [f"data.sources.a={images}", "data.workers=0", *loop, *looks]


def pretrain(launcher: list[str], words: list[str], script: Path = SCRIPT, **environment: str) -> tuple[int, str]:
    """The exit code and all that was printed."""
    done = subprocess.run(
        [sys.executable, *launcher, str(script), *words],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout


def trained(launcher: list[str], words: list[str]) -> str:
    code, printed = pretrain(launcher, words)
    assert code == 0, printed
    return printed


def backbone(run_dir: Path) -> dict[str, torch.Tensor]:
    return load_file(run_dir / "backbone" / "model.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_shared_weights_train_what_whole_ones_train(case: str, words: list[str], tmp_path: Path) -> None:
    """Teacher, prototypes that stand still, weight norm, clipping, accumulation, frozen stages, batch norm, LARS, looks."""
    options, method = CASES[case]
    for name, launcher in {"shared": [*SHARDED, *options], "whole": WHOLE}.items():
        printed = trained(launcher, [f"run_dir={tmp_path / name}", *words, *method])
        kind = "FSDP" if name == "shared" else "MULTI_CPU"
        assert [f"rank {rank} of 2: {kind} on gloo" in printed for rank in range(2)] == [True, True], printed
    newest = list_checkpoints(tmp_path / "shared" / "checkpoints")[-1]
    pieces = [piece.stat().st_size for piece in (newest / "pytorch_model_fsdp_0").glob("*.distcp")]
    assert len(pieces) == 2
    assert min(pieces) > 0.4 * sum(pieces), "each rank has about half of the weights"
    shared, whole = (backbone(tmp_path / name) for name in ("shared", "whole"))
    assert shared.keys() == whole.keys()
    for name, value in whole.items():
        torch.testing.assert_close(shared[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("shared", "whole")]
    assert [row["step"] for row in rows[0]] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    for shared_row, whole_row in zip(*rows, strict=True):
        measured = whole_row.keys() - {"images_per_s", "wait_share"}
        assert {k: shared_row[k] for k in measured} == pytest.approx(
            {k: whole_row[k] for k in measured}, rel=1e-3, abs=1e-4
        )


@pytest.mark.slow
def test_a_killed_fsdp_run_goes_on_to_the_same_bits(words: list[str], tmp_path: Path) -> None:
    """The checkpoint is of step 4, when DINO's prototypes have not moved and AdamW would know no moments of theirs."""
    run = [*words, *DINO, "optim.name=adamw", "optim.lr=0.01"]
    whole, parts = ([f"run_dir={tmp_path / name}", *run] for name in ("whole", "parts"))
    assert "rank 1 of 2" in trained(SHARDED, whole)
    code, printed = pretrain(SHARDED, parts, DIE_AT="5")
    assert code != 0, printed
    assert [saved.name for saved in list_checkpoints(tmp_path / "parts" / "checkpoints")] == ["step-000000004"]
    other = PretrainConfig.model_validate({**load_yaml(tmp_path / "parts" / "config.yaml"), "seed": 3})
    with pytest.raises(InputError, match="holds a run with seed=0, this one has seed=3"):
        open_run(tmp_path / "parts", other, {})
    trained(SHARDED, parts)
    assert_the_same_bits(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_a_run_with_batch_norm_under_ddp_goes_on_to_the_same_bits(words: list[str], tmp_path: Path) -> None:
    run = [*words, *SIMCLR, "loop.accumulate=2", "optim.name=adamw", "optim.lr=0.01"]
    trained(WHOLE, [f"run_dir={tmp_path / 'whole'}", *run])
    trained(WHOLE, [f"run_dir={as_at_step_4(tmp_path / 'whole')}", *run])
    negatives = assert_the_same_bits(tmp_path / "whole", tmp_path / "whole-at-4")["negatives"]
    assert negatives == 6, "the views of 4 images, 2 of each rank, less an image's own"


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(words: list[str], tmp_path: Path) -> None:
    run = [*words, *DINO, "optim.name=adamw", "optim.lr=0.001"]
    launchers = {"one": ALONE, "two": WHOLE}
    for name, launcher in launchers.items():
        trained(launcher, [f"run_dir={tmp_path / name}", *run])
    for before, after in (("one", "two"), ("two", "one")):
        trained(launchers[after], [f"run_dir={as_at_step_4(tmp_path / before)}", *run])
        undisturbed, resumed = backbone(tmp_path / before), backbone(tmp_path / f"{before}-at-4")
        assert undisturbed.keys() == resumed.keys()
        for key, value in undisturbed.items():
            torch.testing.assert_close(
                resumed[key], value, rtol=1e-3, atol=1e-4, msg=lambda text, n=key: f"{n}: {text}"
            )


def as_at_step_4(run_dir: Path) -> Path:
    """A copy of a run as it was when it had saved the first of its two checkpoints."""
    copy = run_dir.with_name(f"{run_dir.name}-at-4")
    shutil.copytree(run_dir, copy)
    shutil.rmtree(copy / "backbone")
    shutil.rmtree(copy / "checkpoints" / "step-000000008")
    assert [saved.name for saved in list_checkpoints(copy / "checkpoints")] == ["step-000000004"]
    return copy


def assert_the_same_bits(undisturbed: Path, resumed: Path) -> dict[str, Any]:
    """Compare weights and last loss; returns the last row."""
    expected, got = backbone(undisturbed), backbone(resumed)
    assert expected.keys() == got.keys()
    assert [name for name, value in expected.items() if not torch.equal(value, got[name])] == []
    last = [read_metrics(run / "metrics.jsonl")[-2] for run in (undisturbed, resumed)]
    assert last[0]["loss"] == last[1]["loss"]
    return last[1]


@pytest.mark.slow
def test_a_compiled_network_in_chunks_trains_on_two_processes(words: list[str], tmp_path: Path) -> None:
    """Batch norm keeps its statistics in the second pass, which is then compiled anew, outside of DDP."""
    wide = ["method.hidden_size=512", "backbone.model=resnet18", "method.chunk=4"]  # more than one bucket of gradients
    run = [*words, *SIMCLR[:-2], *wide, "loop.compile=true", "loop.sync_batch_norm=false", "monitor.images=0"]
    code, printed = pretrain(WHOLE, [f"run_dir={tmp_path / 'run'}", *run, "loop.epochs=0.04"], COMPILE_WITH="aot_eager")
    assert code == 0, printed
    losses = [row["loss"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert len(losses) == 3
    assert all(np.isfinite(losses))


@pytest.mark.parametrize(
    ("written", "said"), [("model.safetensors", "without FSDP"), ("pytorch_model_fsdp_0", "with FSDP")]
)
def test_a_checkpoint_of_the_other_kind_is_named(written: str, said: str, tmp_path: Path) -> None:
    (tmp_path / written).touch()
    accelerator = launched_on_gpus("no") if said == "without FSDP" else Accelerator(cpu=True)
    with pytest.raises(InputError, match=f"cannot resume from {tmp_path}: it was written {said}; launch as before"):
        load_checkpoint(accelerator, tmp_path)


def test_a_share_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Torch gathers what went wrong on each rank into one exception, with its own traceback as text."""
    (tmp_path / "pytorch_model_fsdp_0").touch()
    (tmp_path / "progress.json").write_text("{}")
    accelerator = launched_on_gpus("no")
    accelerator.register_save_state_pre_hook = accelerator.register_load_state_pre_hook = Mock()
    failed = CheckpointException("load", {1: (ValueError("size mismatch"), extract_tb(None))})
    accelerator.load_state = Mock(side_effect=failed)
    with pytest.raises(InputError, match=f"cannot resume from {tmp_path}: size mismatch; remove that folder"):
        load_checkpoint(accelerator, tmp_path)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"FSDP_VERSION": "1"}, "set fsdp_version: 2"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "set fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP or NO_WRAP"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "use backbone.grad_checkpointing"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "set fsdp_cpu_ram_efficient_loading: false"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "set fsdp_offload_params: false"),
    ],
)
def test_a_launch_that_cannot_be_followed_is_refused(
    asked: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", **asked}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=said):
        sharding_plugin()


@pytest.mark.parametrize(
    ("precision", "settings", "said"),
    [
        ("fp16", {}, "set loop.mixed_precision=bf16 or no"),
        ("no", {"channels_last": True}, "set loop.channels_last=false"),
        ("bf16", {"compiled": True}, "set loop.compile=false"),
    ],
)
def test_settings_that_do_not_go_with_fsdp_are_refused(precision: str, settings: dict[str, bool], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_launched(launched_on_gpus(precision), **{"channels_last": False, "compiled": False, **settings})


def test_layers_that_are_not_there_are_refused() -> None:
    run = RunShape(image_size=32, steps_per_epoch=1, total_steps=1)
    task = SimCLRConfig(hidden_size=32, projection_size=16).build(BackboneConfig(model="test_resnet"), run)
    check_layers(task, launched_on_gpus("no", "BasicBlock"))
    with pytest.raises(InputError, match="fsdp_transformer_layer_cls_to_wrap=Block is no layer of a ResNet"):
        check_layers(task, launched_on_gpus("no", "Block"))


def test_fine_tuning_is_refused() -> None:
    with pytest.raises(InputError, match=r"launch fine-tuning with configs/accelerate/one-node\.yaml"):
        check_whole(launched_on_gpus("no"), "fine-tuning")


def launched_on_gpus(precision: str, *layers: str) -> Any:
    """What is asked of an Accelerator that has taken up FSDP."""
    plugin = SimpleNamespace(transformer_cls_names_to_wrap=list(layers))
    return SimpleNamespace(
        distributed_type=DistributedType.FSDP, mixed_precision=precision, state=SimpleNamespace(fsdp_plugin=plugin)
    )


def test_fsdp_without_gpus_is_refused(lesions: Path, tmp_path: Path) -> None:
    """Accelerate would train whole weights and say nothing."""
    words = [f"run_dir={tmp_path / 'run'}", f"data.sources.a={lesions}", "loop.batch_size=8"]
    code, printed = pretrain([], words, PRETRAIN, ACCELERATE_USE_FSDP="true", FSDP_VERSION="2")
    assert code == 2, printed
    assert "Accelerate has it for processes on GPUs only" in printed
    assert not (tmp_path / "run").exists()
