"""Resume, proved: each training stage is killed (SIGKILL) at random steps, and ends with the weights of an undisturbed run.

    python benchmarks/killed_runs.py out=runs/killed kills=5

Synthetic lesions, a small network, workers, accumulation and dropout on. A kill comes a random time after the run has begun
to train; the same command is then started again, until it ends by itself. Exit code 1 if a single bit differs.
"""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import Field
from safetensors.torch import load_file

from ssl_isic.config import Config, read_config
from ssl_isic.data.synthetic import SyntheticFiles, write_synthetic
from ssl_isic.errors import command
from ssl_isic.folds import main as make_folds

ROOT = Path(__file__).resolve().parents[1]
LONGEST_WAIT_S = 3.0


class KilledConfig(Config):
    """Kill each stage at random steps and compare its weights with an undisturbed run's."""

    out: Path = Path("runs/killed")
    """Folder for everything; emptied first."""
    kills: int = Field(5, ge=1)
    """Kills of each stage."""
    seed: int = 0
    """Seed of the moments at which runs are killed."""


@command
def main(argv: Sequence[str]) -> None:
    """Run every stage twice, once with kills."""
    config = read_config(KilledConfig, argv, prog="benchmarks/killed_runs.py")
    shutil.rmtree(config.out, ignore_errors=True)
    files = write_synthetic(config.out / "data", train_rows=400, test_rows=200, prevalence=0.1, seed=0)
    make_folds([f"table={files.train_table}", "folds=2", f"out={config.out / 'folds.csv'}"])
    rng = random.Random(config.seed)
    different = 0
    for stage, words in stages(files, config.out).items():
        quiet, killed = config.out / f"{stage}-quiet", config.out / f"{stage}-killed"
        run_to_the_end([*words, f"run_dir={quiet}"])
        steps = [kill_once([*words, f"run_dir={killed}"], killed, rng) for _ in range(config.kills)]
        run_to_the_end([*words, f"run_dir={killed}"])
        same = weights_below(quiet) == weights_below(killed) and all(
            torch.equal(a, b) for a, b in zip(tensors_below(quiet), tensors_below(killed), strict=True)
        )
        different += not same
        print(f"{stage}: killed {steps}; final weights {'identical, bit for bit' if same else 'DIFFER'}", flush=True)
    if different:
        raise SystemExit(1)


def stages(files: SyntheticFiles, out: Path) -> dict[str, list[str]]:
    """The command of each stage, but for its run_dir."""
    python = sys.executable
    loop = ["loop.log_every=1", "loop.save_every=3", "loop.accumulate=2"]
    data = [f"data.images={files.train_images}", f"data.table={files.train_table}", f"data.folds={out / 'folds.csv'}"]
    small = ["backbone.model=resnet10t", "image_size=32", "loop.batch_size=16", "loop.epochs=15", *loop, *data]
    pretrain = [python, str(ROOT / "ssl_isic" / "pretrain.py"), f"data.sources.train={files.train_images}", *loop]
    return {
        "pretrain": [
            *pretrain,
            f"data.sources.test={files.test_images}",
            "backbone.model=resnet10t",
            "backbone.drop_path=0.1",
            "views.size=32",
            "method.hidden_size=64",
            "loop.batch_size=50",
            "loop.epochs=8",
        ],
        "finetune": [python, str(ROOT / "finetune" / "train.py"), *small],
        "pseudolabel": [
            python,
            str(ROOT / "pseudolabel" / "run.py"),
            *small,
            f"pool.images={files.test_images}",
            "rounds=1",
        ],
    }


def run_to_the_end(words: Sequence[str]) -> None:
    """Run a command; its own output is shown only when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr}")


def kill_once(words: Sequence[str], run_dir: Path, rng: random.Random) -> str:
    """Start a command and kill its process group a random time after it has logged a new step; returns where."""
    before = logged_lines(run_dir)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and logged_lines(run_dir) == before:
        time.sleep(0.02)
    time.sleep(rng.uniform(0, LONGEST_WAIT_S))
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return f"after {logged_lines(run_dir)} logged rows"
    return "never: it had ended"


def logged_lines(run_dir: Path) -> int:
    """Rows in all metrics.jsonl below `run_dir`."""
    return sum(path.read_text().count("\n") for path in run_dir.rglob("metrics.jsonl"))


def weights_below(run_dir: Path) -> list[str]:
    """Exported models below `run_dir`."""
    return sorted(
        str(path.relative_to(run_dir)) for path in run_dir.rglob("model.safetensors") if "checkpoints" not in path.parts
    )


def tensors_below(run_dir: Path) -> list[torch.Tensor]:
    """Every exported tensor, in order."""
    return [tensor for name in weights_below(run_dir) for _, tensor in sorted(load_file(run_dir / name).items())]


if __name__ == "__main__":
    sys.exit(main())
