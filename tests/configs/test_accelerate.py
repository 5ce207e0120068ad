"""The launch configurations: Accelerate reads each, and the one for several machines starts ranks that meet."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

from ssl_isic.sharding import sharding_plugin

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "accelerate"
PRETRAIN = CONFIGS.parents[1] / "ssl_isic" / "pretrain.py"


@pytest.mark.parametrize(
    ("name", "kind", "machines", "processes"),
    [
        ("cpu", "NO", 1, 1),
        ("one-gpu", "NO", 1, 1),
        ("one-node", "MULTI_GPU", 1, 8),
        ("several-nodes", "MULTI_GPU", 2, 16),
        ("fsdp", "FSDP", 1, 8),
    ],
)
def test_accelerate_reads_each(name: str, kind: str, machines: int, processes: int) -> None:
    config = load_config_from_file(str(CONFIGS / f"{name}.yaml"))
    assert config.distributed_type == kind
    assert (config.num_machines, config.num_processes) == (machines, processes)
    assert config.use_cpu is (name == "cpu")


def test_the_one_for_fsdp_asks_for_what_pretraining_can_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate's own reading of the file is what the processes find in their environment."""
    words = ["--config_file", str(CONFIGS / "fsdp.yaml"), "pretrain.py"]
    arguments = _validate_launch_command(launch_command_parser().parse_args(words))[0]
    for name, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(name, value)
    plugin = sharding_plugin()
    assert plugin is not None
    assert plugin.fsdp_version == 2
    assert plugin.transformer_cls_names_to_wrap == ["Block"]
    assert plugin.state_dict_type.name == "SHARDED_STATE_DICT"
    assert plugin.reshard_after_forward is True


def test_every_launch_configuration_is_tested() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == {"cpu", "fsdp", "one-gpu", "one-node", "several-nodes"}


@pytest.mark.slow
def test_two_machines_started_one_by_one_train_what_one_process_trains(tmp_path: Path, lesions: Path) -> None:
    """Each `machine` is its own `accelerate launch` with its own rank; they meet over loopback, on the CPU."""
    words = [f"data.sources.train={lesions}", "data.workers=0", "views.size=32", "loop.batch_size=8", "loop.epochs=0.5"]
    words += ["backbone.model=test_vit", "method.head_batch_norm=false", "method.hidden_size=16", "optim.name=sgd"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--mixed_precision", "no"]
    several = ["--config_file", str(CONFIGS / "several-nodes.yaml"), "--num_processes", "2"]
    address = ["--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    commands = [
        [*launch, *several, *address, "--machine_rank", str(rank), str(PRETRAIN), f"run_dir={tmp_path / 'two'}", *words]
        for rank in range(2)
    ]
    running = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for command in commands]
    ended = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], ended

    alone = [*launch, "--config_file", str(CONFIGS / "cpu.yaml"), str(PRETRAIN), f"run_dir={tmp_path / 'one'}", *words]
    subprocess.run(alone, env=environment, check=True, capture_output=True, timeout=300)
    sizes = [json.loads((tmp_path / run / "provenance.json").read_text())["world_size"] for run in ("one", "two")]
    assert sizes == [1, 2]
    one, two = (load_file(tmp_path / run / "backbone" / "model.safetensors") for run in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-5)
