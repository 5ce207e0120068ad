"""Speed and memory of pretraining, beside lightly-train on the same images, network, sizes, batch, threads and workers.

    python benchmarks/pretrain.py images=isic2024-train-image.hdf5 out=runs/pretrain-speed
    python benchmarks/pretrain.py images=... 'ours={plain: [], compiled: [loop.compile=true]}' 'cases={simclr: 128}'
    python benchmarks/pretrain.py images=... 'cases={simclr: 1024, dino: 1024}' model=vit_small_patch16_224 size=128 \\
        local_size=64 precision=bf16 workers=16 steps=200 peak_tflops=989 \\
        'ours={plain: [], compiled: [loop.compile=true]}'  # H100, H200; without a network add peer=false

Ours and the peer take turns, in rounds, each run in a process of its own: ours as `accelerate launch` starts it,
lightly-train 0.18 in an environment of its own (made under `out`, unless `peer_python` names an interpreter). On a CPU,
`accelerate launch` gives its process one thread unless told otherwise, as it is here (`--num_cpu_threads_per_process`), and
lightly-train's user gets torch's default, all cores. Here both have `threads`.

What is measured:
- images/s: optimizer steps after `warmup_steps`, all that happens between them included: loading, logging, schedules. Neither
  saves a checkpoint or begins an epoch in between. Ours by the clock of its metrics.jsonl, the peer by that of its network.
  As many steps as workers read ahead are taken before those that are counted, since their batches were made while the first
  step was slow, and after them, so that a batch is made for each that is counted.
- views ready: the same loop of each on one batch that is there already, no workers (ours: `ready_views.py`, uint8 views on the
  device; the peer: noise of its views' shapes). Their ratio is the share of pure compute: what loading leaves of it.
- an epoch over ISIC-2024's 401,059 images, by the images/s of the run.
- with `peak_tflops`, what the device can do in this precision: model FLOPs utilisation, the share of it that goes into the
  products of the method's forward and backward passes (ours only; a multiply and add are two).
- memory: the most that the process and all below it hold, asked each second; a page that n processes share counts 1/n in each.
  Of a GPU the most that torch's tensors took, with views ready.
- medians over rounds, and the range; ratios are taken within a round.

The same: views of the `paper` preset (the peer's own list: crop, flip, jitter, grey, blur, solarisation), heads of equal size.
Not the same: for DINO the optimizer, ours AdamW, the peer's SGD, by their defaults; JPEG decoding, normalisation, all else.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from pathlib import Path
from statistics import median
from typing import Literal

import torch
import torchvision
from child import run_child
from pydantic import Field
from ready_views import COMPUTE

from ssl_isic.config import Config, read_config
from ssl_isic.data.images import open_store
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError, command
from ssl_isic.run_folder import read_metrics

HERE = Path(__file__).resolve().parent
PEER = "lightly-train"
PEER_VERSION = "0.18.0"
MIB = 1 << 20
FULL_EPOCH = 401_059  # images of ISIC-2024
AS_PEER = {  # heads as lightly-train makes them for fewer than 20,000 images
    "simclr": ["method.name=simclr", "method.head_layers=2"],
    "dino": ["method.name=dino", "method.prototypes=1024"],
}
Method = Literal["simclr", "dino"]


class SpeedConfig(Config):
    """Time pretraining, ours and lightly-train's."""

    images: Path
    """HDF5 or folder of JPEG images."""
    out: Path = Path("runs/pretrain-speed")
    """Folder for everything."""
    cases: dict[Method, int] = {"simclr": 128, "dino": 64}
    """Methods, each with its batch size."""
    ours: dict[str, list[str]] = {"ours": []}
    """Named runs of ours, each with the keys of `ssl-isic pretrain` that it sets."""
    peer: bool = True
    """Whether lightly-train runs, too; false where its environment cannot be made."""
    peer_python: Path | None = None
    """Interpreter of an environment with lightly-train; null makes one under `out`."""
    model: str = "resnet18"
    """timm architecture."""
    size: int = Field(64, ge=8)
    """Side of a global view, px."""
    local_size: int = Field(32, ge=8)
    """Side of a local crop, px (DINO)."""
    local_crops: int = Field(6, ge=0)
    """Local crops an image (DINO)."""
    workers: int = Field(2, ge=1)
    """Loading processes."""
    threads: int = Field(os.cpu_count() or 1, ge=1)
    """Threads of the training process."""
    precision: Literal["no", "bf16"] = "no"
    """Mixed precision of both."""
    peak_tflops: float | None = Field(None, gt=0)
    """Dense products that the device can do in a second, 10^12; null leaves out the utilisation."""
    warmup_steps: int = Field(10, ge=1)
    """Steps that are not counted."""
    steps: int = Field(50, ge=1)
    """Steps that are."""
    rounds: int = Field(5, ge=1)
    """How often each is run."""

    @property
    def read_ahead(self) -> int:
        """Batches that our workers, who read further ahead than the peer's, make before they are asked for."""
        return self.workers * LoaderConfig().prefetch

    @property
    def first_counted(self) -> int:
        """Steps before those that are counted, whole tens, so that rows of the log need not be many."""
        return -(-(self.warmup_steps + self.read_ahead) // 10) * 10

    @property
    def total(self) -> int:
        """Steps of a run."""
        return self.first_counted + self.steps + self.read_ahead


@dataclass(frozen=True)
class Measured:
    """One run with loading and one with views ready: images/s, the peak memory of the first, a GPU's of the second, bytes."""

    images_per_s: float
    ready_images_per_s: float
    peak_bytes: int
    device_bytes: int
    flops_an_image: float | None = None


@command
def main(argv: Sequence[str]) -> None:
    """Run all rounds of each case, then print its table."""
    config = read_config(SpeedConfig, argv, prog="benchmarks/pretrain.py")
    if PEER in config.ours:
        raise InputError(f"ours names a run {PEER}, as the peer is called; choose another name")
    folder = write_jpegs(config)
    peer_python = (config.peer_python or make_peer(config.out / "peer")) if config.peer else None
    for method, batch_size in config.cases.items():
        rounds: dict[str, list[Measured]] = defaultdict(list)
        for number in range(config.rounds):
            names = [*config.ours, *([PEER] if peer_python else [])]
            for name in names if number % 2 == 0 else reversed(names):
                if name == PEER and peer_python:
                    rounds[name].append(measure_peer(config, peer_python, folder, method, batch_size))
                else:
                    rounds[name].append(measure_ours(config, name, folder, method, batch_size))
                print(f"round {number}: {method}, {name}: {rounds[name][-1]}", file=sys.stderr, flush=True)
        crops = f" + {config.local_crops} x {config.local_size}" if method == "dino" else ""
        print(f"\n{method}, {config.model}, 2 x {config.size}{crops} px, batch {batch_size}, ", end="")
        print(f"{config.threads} threads, {config.workers} workers; {config.rounds} rounds of {config.steps} steps\n")
        print(table({name: rounds[name] for name in names}, config.peak_tflops), flush=True)


def write_jpegs(config: SpeedConfig) -> Path:
    """The first images of `config.images`, as many as the longest run takes, as a folder of files. Where there are too few,
    each stands there several times, under other names for the same file."""
    needed = config.total * max(config.cases.values())
    store = open_store(config.images)
    folder = config.out / f"jpegs-{needed}"
    if not folder.is_dir():
        part = config.out / "jpegs-part"
        part.mkdir(parents=True, exist_ok=True)
        for copy, row in (divmod(number, len(store.ids)) for number in range(needed)):
            name = store.ids[row].decode()
            if copy:
                (part / f"{name}-{copy}.jpg").hardlink_to(part / f"{name}.jpg")
            else:
                (part / f"{name}.jpg").write_bytes(store.read(row))
        part.rename(folder)
    return folder


def make_peer(folder: Path) -> Path:
    """An environment with lightly-train and the torch that runs here; its interpreter."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        pins = [
            f"torch=={torch.__version__.partition('+')[0]}",
            f"torchvision=={torchvision.__version__.partition('+')[0]}",
        ]
        wanted = [f"lightly-train[timm]=={PEER_VERSION}", *pins]
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
        except subprocess.CalledProcessError as error:
            raise InputError(
                f"{wanted[0]} could not be installed ({error.cmd[1]} ended with {error.returncode}); name an interpreter that "
                "has it by peer_python=..., or leave it out with peer=false"
            ) from None
        (folder / "ready").touch()
    return python


def measure_ours(config: SpeedConfig, name: str, folder: Path, method: Method, batch_size: int) -> Measured:
    """Train with ours, loading and with views ready."""
    epochs = config.total / (sum(1 for _ in folder.iterdir()) // batch_size)
    words = [*AS_PEER[method], f"data.sources.images={folder}", f"data.workers={config.workers}"]
    words += [f"backbone.model={config.model}", "views.preset=paper", f"views.size={config.size}"]
    words += ["views.global_scale=null", "views.local_scale=null"]  # the paper's, as the peer has them
    words += [f"views.local_size={config.local_size}", f"loop.batch_size={batch_size}", f"loop.epochs={epochs}"]
    words += [f"loop.log_every={gcd(config.first_counted, config.steps)}", "loop.save_every=0", "monitor.images=0"]
    words += [f"loop.mixed_precision={config.precision}"]
    words += [f"method.local_crops={config.local_crops}"] if method == "dino" else []
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1"]
    launch += ["--num_cpu_threads_per_process", str(config.threads)]
    speeds, peaks = [], []
    for kind, script in (("loading", HERE.parent / "ssl_isic" / "pretrain.py"), ("ready", HERE / "ready_views.py")):
        run_dir = config.out / f"{method}-{name}-{kind}"
        shutil.rmtree(run_dir, ignore_errors=True)
        peaks.append(
            run_child([*launch, str(script), f"run_dir={run_dir}", *words, *config.ours[name]], run_dir, os.environ)
        )
        rows = [row for row in read_metrics(run_dir / "metrics.jsonl") if "images_per_s" in row]
        counted = [row for row in rows if 0 <= row["step"] - config.first_counted <= config.steps]
        images = [(after["step"] - before["step"]) * batch_size for before, after in pairwise(counted)]
        seconds = sum(count / row["images_per_s"] for count, row in zip(images, counted[1:], strict=True))
        speeds.append(sum(images) / seconds)
    compute = json.loads((run_dir / COMPUTE).read_text())
    return Measured(*speeds, peaks[0], compute["device_bytes"], compute["flops_an_image"])


def measure_peer(config: SpeedConfig, python: Path, folder: Path, method: Method, batch_size: int) -> Measured:
    """Train with lightly-train, loading and with views ready."""
    words = [
        "--model",
        config.model,
        "--method",
        method,
        "--batch-size",
        str(batch_size),
        "--workers",
        str(config.workers),
    ]
    words += ["--image-size", str(config.size), "--local-size", str(config.local_size)]
    words += ["--local-crops", str(config.local_crops), "--epochs", "1"]
    words += ["--steps", str(config.total), "--precision", config.precision]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = str(config.threads)
    script = HERE / "peers" / "lightly_train_speed.py"
    speeds, peaks = [], []
    for kind in ("loading", "ready"):
        times = config.out / f"{method}-{PEER}-{kind}" / "times.json"
        shutil.rmtree(times.parent, ignore_errors=True)
        options = [*words, "--ready"] if kind == "ready" else words
        peaks.append(
            run_child([str(python), str(script), str(folder), str(times), *options], times.parent, environment)
        )
        clock = json.loads(times.read_text())
        started_s = clock["started_s"][config.first_counted :]
        speeds.append(config.steps * batch_size / (started_s[config.steps] - started_s[0]))
    return Measured(*speeds, peaks[0], clock["device_bytes"])


def table(rounds: Mapping[str, Sequence[Measured]], peak_tflops: float | None) -> str:
    """A row for each name of `rounds`; the peer, where it ran, is the last."""
    peers = rounds.get(PEER)
    heads = ["run", "images/s", "views ready", "share of pure compute", "x the peer", "memory, MiB", "of the GPU, MiB"]
    heads += ["epoch, min", "utilisation"]
    lines = [" | ".join(heads), " | ".join(["---"] * len(heads))]
    for name, runs in rounds.items():
        ahead = [one.images_per_s / peer.images_per_s for one, peer in zip(runs, peers or [], strict=peers is not None)]
        used = [one.images_per_s * one.flops_an_image for one in runs if one.flops_an_image]
        cells = [
            spread([one.images_per_s for one in runs], ".1f"),
            spread([one.ready_images_per_s for one in runs], ".1f"),
            spread([one.images_per_s / one.ready_images_per_s for one in runs], ".3f"),
            spread(ahead, ".2f") if ahead else "",
            f"{median(one.peak_bytes for one in runs) / MIB:.0f}",
            f"{median(one.device_bytes for one in runs) / MIB:.0f}" if any(one.device_bytes for one in runs) else "",
            spread([FULL_EPOCH / one.images_per_s / 60 for one in runs], ".1f"),
            spread([flops / (peak_tflops * 1e12) for flops in used], ".3f") if peak_tflops and used else "",
        ]
        lines.append(" | ".join([name, *cells]))
    return "\n".join(f"| {line} |" for line in lines)


def spread(values: Sequence[float], form: str) -> str:
    """Median, and the range in brackets."""
    return f"{median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


if __name__ == "__main__":
    sys.exit(main())
