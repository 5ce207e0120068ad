"""Two real processes equal one: the same global batch and seed give the same gradients and weights."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).with_name("two_process_gradients.py")
CASES = (
    "simclr",
    "simclr of patients",
    "dino",
    "dino accumulated",
    "vicreg",
    "lejepa",
    "mae",
    "dinov2",
    "dinov2 accumulated",
    "dinov2 with koleo",
    "classifier",
)


def results_of(world_size: int, images: Path, folder: Path) -> dict[str, Any]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if world_size > 1 else []
    words = [sys.executable, *launcher, str(SCRIPT), str(images), str(folder)]
    # each process adds in the same order whatever the machine, and two leave each other a core
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = torch.load(folder / "results.pt")
    return results


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, lesions: Path) -> list[dict[str, Any]]:
    """The results of one process and of two."""
    return [results_of(size, lesions, tmp_path_factory.mktemp(f"world{size}")) for size in (1, 2)]


@pytest.mark.slow
def test_there_really_were_two_processes(both: list[dict[str, Any]]) -> None:
    assert [results["world_size"] for results in both] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("what", ["gradients", "weights"])
def test_two_processes_equal_one(case: str, what: str, both: list[dict[str, Any]]) -> None:
    one, two = (results[case][what] for results in both)
    assert one.keys() == two.keys()
    assert max(value.abs().max() for value in one.values()) > 1e-3
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=5e-6, msg=lambda text, n=name: f"{n}: {text}")
