"""The loader: what reading costs, what a second worker brings, and time and memory with 400,000 images.

    python benchmarks/loader.py images=isic2024-train-image.hdf5 out=runs/loader peer_python=peer/bin/python
    python benchmarks/loader.py images=... 'parts=[many]' many.batches=10000

- reading: microseconds of CPU to read the bytes of one image, in random order, files in the system's memory: by name with
  h5py, and by our store: the first time, again, and from a copy in memory.
- workers: SimCLR's paper views at `size` px in batches of 128, which nobody uses. CPU time of the main process and of its
  workers, and images a second by the clock; lightly-train's loader on the same images as files, with as many workers. They
  take turns in rounds. `x one worker` is what two workers bring on two free cores, 2 x the CPU time of a worker for an image
  with one of them / with two: the clock says it only on an idle machine.
- many: `many.images` of them in one HDF5 file in Kaggle's form: seconds to the first batch, and the memory that is a worker's
  own (USS), at its first batch and its last.
"""

import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

import h5py
import numpy as np
import psutil
import torch
from pydantic import Field

from ssl_isic.config import Config, read_config
from ssl_isic.data.hdf5_store import Hdf5Store
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import BatchLayout, ShuffledOrder, TrainingImages, TrainingStream, training_loader
from ssl_isic.data.views import ViewsConfig, simclr_views
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import command
from ssl_isic.files import atomic_write

PEER = Path(__file__).resolve().parent / "peers" / "lightly_train_loader.py"
BATCH = 128
MIB = 1 << 20
Part = Literal["reading", "workers", "many"]


class ManyConfig(Config):
    """Many images."""

    images: int = Field(400_000, ge=1000)
    """How many images."""
    batches: int = Field(10_000, ge=10)
    """Batches that are drawn from them."""
    batch_size: int = Field(8, ge=1)
    """Images of one of them."""


class LoaderBenchmarkConfig(Config):
    """Time the loader."""

    images: Path
    """HDF5 file of JPEG images."""
    out: Path = Path("runs/loader")
    """Folder for generated files."""
    parts: list[Part] = ["reading", "workers", "many"]
    """What is measured."""
    size: int = Field(128, ge=8)
    """Side of a view, px."""
    passes: int = Field(3, ge=1)
    """How often one turn goes through the images; HDF5 is asked where they lie in the first."""
    rounds: int = Field(3, ge=1)
    """Turns of each."""
    many: ManyConfig = ManyConfig()
    """Many images."""
    peer_python: Path | None = None
    """Interpreter of an environment with lightly-train 0.18; null leaves it out."""


class Turn(NamedTuple):
    """Seconds that some images took."""

    clock_s: float
    main_s: float
    workers_s: float


def measure_reading(config: LoaderBenchmarkConfig) -> None:
    """Print a table of what reading one image costs."""
    rows = np.random.default_rng(0).permutation(len(Hdf5Store(config.images).ids))[:4000].tolist()
    times = defaultdict(list)
    for _ in range(config.rounds):
        store = Hdf5Store(config.images)
        store.read(0)
        with h5py.File(config.images) as file:
            names = [store.ids[row].decode() for row in rows]
            times["h5py, by name"].append(microseconds(lambda name: file[name][()], names))
        times["ours, the first time"].append(microseconds(store.read, rows))
        times["ours, from then on"].append(microseconds(store.read, rows))
        store.hold(lambda _: None)
        times["ours, data.cache=ram"].append(microseconds(store.read, rows))
    print("\n| reading one image | CPU, microseconds |\n| --- | --- |")
    for name, of_rounds in times.items():
        print(f"| {name} | {spread(of_rounds, '.1f')} |")


def microseconds(read: Callable[..., object], keys: Sequence[object]) -> float:
    """CPU time of one call."""
    started = time.process_time()
    for key in keys:
        read(key)
    return (time.process_time() - started) / len(keys) * 1e6


def measure_workers(config: LoaderBenchmarkConfig) -> None:
    """Print a table of one and two workers, ours and the peer's."""
    batches = batches_of(config)
    count = BATCH * batches
    peer = start_peer(config) if config.peer_python else None
    turns: dict[str, list[Turn]] = defaultdict(list)
    for _ in range(config.rounds):
        for workers in (1, 2):
            turns[f"ours, {workers}"].append(our_turn(config, workers))
            if peer and peer.stdin and peer.stdout:
                print(workers, file=peer.stdin, flush=True)
                turns[f"lightly-train, {workers}"].append(Turn(*map(float, peer.stdout.readline().split())))
    print(
        "\n| loader, workers | main, ms a batch | CPU, ms an image | images/s by the clock | x one worker | by the clock |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for name, these in turns.items():
        one = turns[name.replace("2", "1")]
        both = list(zip(one, these, strict=True))
        cells = [
            spread([turn.main_s / batches * 1e3 for turn in these], ".1f"),
            spread([(turn.main_s + turn.workers_s) / count * 1e3 for turn in these], ".3f"),
            spread([count / turn.clock_s for turn in these], ".0f"),
            spread([int(name[-1]) * a.workers_s / b.workers_s for a, b in both], ".2f"),
            spread([a.clock_s / b.clock_s for a, b in both], ".2f"),
        ]
        print(f"| {name} | {' | '.join(cells)} |")
    for workers in (1, 2) if peer else ():
        pairs = zip(turns[f"ours, {workers}"], turns[f"lightly-train, {workers}"], strict=True)
        ratios = [(peers.main_s + peers.workers_s) / (ours.main_s + ours.workers_s) for ours, peers in pairs]
        print(f"\nCPU time, lightly-train's / ours, {workers} workers: {spread(ratios, '.2f')}")


def our_turn(config: LoaderBenchmarkConfig, workers: int) -> Turn:
    """Go through the images with so many workers, their start and end included."""
    pool = ImagePool({"images": config.images})
    views = simclr_views(ViewsConfig(preset="paper", size=config.size))
    dataset = TrainingImages(pool, np.arange(len(pool)), views, seed=0)
    stream = TrainingStream(ShuffledOrder(len(pool), 0), BatchLayout(BATCH), 0, batches_of(config))
    clock_s, main_s, workers_s = time.perf_counter(), time.process_time(), children_s()
    for _ in training_loader(dataset, stream, LoaderConfig(workers=workers), pin_memory=False):
        pass
    return Turn(time.perf_counter() - clock_s, time.process_time() - main_s, children_s() - workers_s)


def batches_of(config: LoaderBenchmarkConfig) -> int:
    """Batches of one turn."""
    return config.passes * (len(Hdf5Store(config.images).ids) // BATCH)


def children_s() -> float:
    """CPU time of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def start_peer(config: LoaderBenchmarkConfig) -> "subprocess.Popen[str]":
    """The peer's loader on the same images as files, waiting for numbers of workers."""
    store = Hdf5Store(config.images)
    folder = config.out / f"files-{len(store.ids)}"
    if not folder.is_dir():
        part = config.out / "files-part"
        part.mkdir(parents=True, exist_ok=True)
        for row in range(len(store.ids)):
            (part / f"{store.ids[row].decode()}.jpg").write_bytes(store.read(row))
        part.rename(folder)
    words = [str(config.peer_python), str(PEER), str(folder), str(config.size), str(BATCH), str(batches_of(config))]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def measure_many(config: LoaderBenchmarkConfig) -> None:
    """Print time to the first batch and memory of the workers."""
    many = config.many
    path = config.out / f"images-{many.images}.hdf5"
    if not path.exists():
        generate(path, config.images, many.images)
    started, started_cpu = time.perf_counter(), time.process_time()
    pool = ImagePool({"generated": path})
    dataset = TrainingImages(pool, np.arange(len(pool)), simclr_views(ViewsConfig(size=32)), seed=0)
    stream = TrainingStream(ShuffledOrder(len(pool), 0), BatchLayout(many.batch_size), 0, many.batches)
    batches = training_loader(dataset, stream, LoaderConfig(), pin_memory=False)
    next(batches)
    first_s, first_cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
    looks = (2, 1000, many.batches // 4, many.batches // 2, many.batches)
    held = {number: own_mib() for number, _ in enumerate(batches, start=2) if number in looks}
    print(
        f"\n{many.images} images: first batch after {first_s:.1f} s, {first_cpu_s:.1f} s of them CPU of the main process"
    )
    for number, (main_mib, *workers_mib) in held.items():
        workers = ", ".join(f"{mib:.0f}" for mib in workers_mib)
        print(f"batch {number}: own memory of the main process {main_mib:.0f} MiB, of workers {workers} MiB")


def own_mib() -> list[float]:
    """Memory that no other process shares (USS), of this process and of its workers."""
    this = psutil.Process()
    return [process.memory_full_info().uss / MIB for process in (this, *this.children())]


def generate(path: Path, images: Path, count: int) -> None:
    """Write `count` scalar datasets as Kaggle's file has them, with the bytes of `images` again and again."""
    store = Hdf5Store(images)
    numbers = np.sort(np.random.default_rng(0).choice(10_000_000, count, replace=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        for row, number in enumerate(numbers.tolist()):
            file.create_dataset(f"ISIC_{number:07d}", data=np.bytes_(store.read(row % len(store.ids))))


def spread(values: Sequence[float], form: str) -> str:
    """Median, and the range in brackets."""
    return f"{median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


PARTS: dict[Part, Callable[[LoaderBenchmarkConfig], None]] = {
    "reading": measure_reading,
    "workers": measure_workers,
    "many": measure_many,
}


@command
def main(argv: Sequence[str]) -> None:
    """Measure each part and print its table."""
    config = read_config(LoaderBenchmarkConfig, argv, prog="benchmarks/loader.py")
    torch.set_num_threads(1)
    for part in config.parts:
        PARTS[part](config)


if __name__ == "__main__":
    sys.exit(main())
