"""Every method from every start with the same budget, on real lesions, beside lightly-train.

    python benchmarks/methods.py isic2024=isic2024-train-image.hdf5 isic2024_table=isic2024-train-metadata.csv \\
        ham10000=ham10000-image.hdf5 ham10000_table=ham10000-metadata.csv \\
        imagenet=tf_efficientnet_lite0.safetensors peer_python=lightly-env/bin/python out=runs/methods

Pretrains on both files together, then `ssl-isic evaluate` (kNN and linear probe, out of fold, bootstrap over lesions) on
each of them. The budget is passes over the images; batch and sizes are the same for all, the rest is each library's
defaults; SimCLR runs with the other library's views, too. Convolutional nets see 64 px, vision transformers 96 px and start
at random. A finished run is not repeated. `convnet=resnet18` takes another convolutional net, with its own weights as
`imagenet` or from random weights only; give it a folder `out` of its own.

With `seeds=[0,1,2]` each runs once for every seed, and tables of means and ranges over seeds follow: of the runs, and of ours
less the peer's, where the range goes from our worst seed against its best to the opposite. With one seed
`ssl-isic evaluate` says how far each run is ahead of each of the peer's, on the same resamples.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product, starmap
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from pydantic import Field

from ssl_isic.compare import main as evaluate
from ssl_isic.config import Config, read_config
from ssl_isic.data.images import ImagePool
from ssl_isic.errors import InputError, command
from ssl_isic.evaluation.report import markdown, metrics_table, over_seeds

ROOT = Path(__file__).resolve().parents[1]
CONVNET, VIT = "convnet", "vit_tiny_patch16_224"
PEER = "lightly-train"


class Case(NamedTuple):
    """One pretraining, but for its seed."""

    library: str
    method: str
    model: str = CONVNET
    start: str = "random"
    preset: str = "lesion"

    @property
    def name(self) -> str:
        """What the case is called in folders, keys and tables."""
        views = {("ssl-isic", "paper"): "paper", (PEER, "lesion"): "lesion"}.get((self.library, self.preset), "")
        parts = [self.method, "vit" if self.model == VIT else "", views, self.start]
        parts.append(PEER if self.library == PEER else "")
        return "-".join(part for part in parts if part)

    @property
    def image_size(self) -> int:
        """Side of the global views, px; local ones have half."""
        return 96 if self.model == VIT else 64


class Run(NamedTuple):
    """One pretraining."""

    seed: int
    case: Case

    @property
    def name(self) -> str:
        """What the run is called in folders, keys and tables."""
        return f"{self.case.name}-seed{self.seed}"


SHOWN = {"knn_auc": 3, "knn_pauc": 4, "probe_auc": 3, "probe_pauc": 4}  # digits
STARTS = ("random", "imagenet")
CASES = [
    *(Case("ssl-isic", method, start=start) for start in STARTS for method in ("simclr", "dino", "lejepa", "vicreg")),
    *(Case("ssl-isic", "simclr", start=start, preset="paper") for start in STARTS),
    *(Case("ssl-isic", method, VIT) for method in ("dinov2", "mae", "simclr")),
    *(Case(PEER, method, start=start, preset="paper") for start in STARTS for method in ("simclr", "dino")),
    *(Case(PEER, "simclr", start=start) for start in STARTS),
]


class MethodsConfig(Config):
    """Compare methods, starts and libraries at one budget."""

    isic2024: Path
    """ISIC-2024 images."""
    isic2024_table: Path
    """CSV of their targets."""
    ham10000: Path
    """HAM10000 images."""
    ham10000_table: Path
    """CSV of their targets and lesions."""
    convnet: str = "tf_efficientnet_lite0"
    """timm architecture of the convolutional net."""
    imagenet: Path | None = None
    """ImageNet weights of the convolutional net; null leaves the starts from them out."""
    peer_python: Path | None = None
    """Python of an environment with lightly-train; null leaves its runs out."""
    out: Path = Path("runs/methods")
    """Folder for everything."""
    epochs: int = Field(2, ge=1)
    """Passes over the images."""
    batch_size: int = Field(128, ge=2)
    """Images of a step."""
    local_crops: int = Field(6, ge=0)
    """Local crops of the methods that have them."""
    seeds: list[int] = Field([0], min_length=1)
    """Seeds of pretraining."""
    jobs: int = Field(2, ge=1)
    """Runs at a time, one thread each."""
    ours: list[str] = []
    """More words for our runs, such as optim.name=lars; a folder `out` of their own keeps them apart."""
    cases: list[str] = [case.name for case in CASES]
    """Which of the runs; the tables are of those that are finished."""


@command
def main(argv: Sequence[str]) -> None:
    """Run what is not finished, then evaluate."""
    config = read_config(MethodsConfig, argv, prog="benchmarks/methods.py")
    known = {case.name: case for case in CASES}
    unknown = [name for name in config.cases if name not in known]
    if unknown:
        raise InputError(f"cases: no {unknown[0]}; choose of {', '.join(known)}")
    chosen = [case for case in map(known.__getitem__, config.cases) if _can_run(config, case)]
    if any(case.library == PEER for case in chosen):
        _write_jpegs(config)
    with ThreadPoolExecutor(config.jobs) as workers:
        for run in workers.map(lambda run: _pretrain(config, run), starmap(Run, product(config.seeds, chosen))):
            print(f"{run.name} is there", flush=True)
    for model in (CONVNET, VIT):
        runs = [Run(seed, case) for case in CASES for seed in config.seeds if case.model == model]
        done = [run for run in runs if _weights(config, run).exists()]
        for images, table, group in (
            (config.ham10000, config.ham10000_table, "lesion_id"),
            (config.isic2024, config.isic2024_table, "none"),
        ):
            if done:
                _evaluate(config, done, images, table, group)


def _can_run(config: MethodsConfig, case: Case) -> bool:
    """Whether what the case needs is given."""
    return bool((config.peer_python or case.library != PEER) and (config.imagenet or case.start != "imagenet"))


def _model(config: MethodsConfig, case: Case) -> str:
    return config.convnet if case.model == CONVNET else case.model


def _pretrain(config: MethodsConfig, run: Run) -> Run:
    if not _weights(config, run).exists():
        folder = config.out / run.name
        folder.mkdir(parents=True, exist_ok=True)
        words = _peer_words(config, run) if run.case.library == PEER else _our_words(config, run)
        with (folder / "output.txt").open("a") as output:
            code = subprocess.run(words, stdout=output, stderr=output, check=False, env=_one_thread()).returncode
        if code:
            raise InputError(f"{run.name} ended with exit code {code}; its words are in {folder / 'output.txt'}")
    return run


def _our_words(config: MethodsConfig, run: Run) -> list[str]:
    case = run.case
    words = [sys.executable, str(ROOT / "ssl_isic" / "pretrain.py"), f"run_dir={config.out / run.name}"]
    words += [f"data.sources.isic2024={config.isic2024}", f"data.sources.ham10000={config.ham10000}", "data.workers=0"]
    words += [
        f"seed={run.seed}",
        f"method.name={case.method}",
        f"backbone.model={_model(config, case)}",
        f"views.preset={case.preset}",
    ]
    words += [f"views.size={case.image_size}", f"views.local_size={case.image_size // 2}"]
    words += [f"loop.epochs={config.epochs}", f"loop.batch_size={config.batch_size}", "loop.channels_last=true"]
    if case.method in ("dino", "dinov2", "lejepa"):
        words.append(f"method.local_crops={config.local_crops}")
    if case.start == "imagenet":
        words.append(f"backbone.weights={config.imagenet}")
    return [*words, "monitor.images=0", "loop.save_every=50", *config.ours]


def _peer_words(config: MethodsConfig, run: Run) -> list[str]:
    case = run.case
    words = [str(config.peer_python), str(ROOT / "benchmarks" / "peers" / "lightly_train_pretrain.py")]
    words += [str(_jpegs(config)), str(_weights(config, run)), f"--method={case.method}"]
    words += [f"--model={_model(config, case)}", f"--epochs={config.epochs}", f"--batch-size={config.batch_size}"]
    words += [f"--image-size={case.image_size}", f"--local-size={case.image_size // 2}", "--workers=0"]
    words += [f"--local-crops={config.local_crops}", f"--seed={run.seed}"]
    if case.preset == "lesion":
        words.append("--lesion-views")
    return [*words, f"--weights={config.imagenet}"] if case.start == "imagenet" else words


def _jpegs(config: MethodsConfig) -> Path:
    return config.out / "jpegs"


def _write_jpegs(config: MethodsConfig) -> None:
    """The images as files, which is what lightly-train reads."""
    if _jpegs(config).exists():
        return
    pool = ImagePool({"isic2024": config.isic2024, "ham10000": config.ham10000})
    partial = config.out / "jpegs.part"
    partial.mkdir(parents=True, exist_ok=True)
    for index in range(len(pool)):
        (partial / f"{pool.id_of(index)}.jpg").write_bytes(pool.read(index))
    partial.rename(_jpegs(config))


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _weights(config: MethodsConfig, run: Run) -> Path:
    return config.out / run.name / ("backbone.safetensors" if run.case.library == PEER else "backbone")


def _evaluate(config: MethodsConfig, runs: Sequence[Run], images: Path, table: Path, group: str) -> None:
    case = runs[0].case
    words = [f"images={images}", f"table={table}", f"group={group}", f"image_size={case.image_size}"]
    words += ["shares=[1]", "map=pca"]
    for run in runs:
        words += [
            f"backbones.{run.name}.weights={_weights(config, run)}",
            f"backbones.{run.name}.model={_model(config, case)}",
        ]
    peers = [run.name for run in runs if run.case.library == PEER]
    if len(config.seeds) == 1 and peers:
        words.append(f"against=[{','.join(peers)}]")
    if config.imagenet and case.model == CONVNET:
        words += [f"backbones.imagenet.weights={config.imagenet}", f"backbones.imagenet.model={config.convnet}"]
    out = config.out / f"evaluation-{images.stem}-{case.image_size}"
    code = evaluate([*words, f"out={out}"])
    if code:
        raise InputError(f"ssl-isic evaluate ended with exit code {code} on {images}")
    if len(config.seeds) > 1:
        _print_over_seeds(runs, json.loads((out / "report.json").read_text())["rows"])


def _print_over_seeds(runs: Sequence[Run], rows: Sequence[dict[str, Any]]) -> None:
    """Tables of means and ranges: of each case, and of ours less the peer's."""
    row_of = {row["name"]: row for row in rows}
    of_case = dict[Case, list[dict[str, Any]]]()
    for run in runs:
        of_case.setdefault(run.case, []).append(row_of[run.name])
    print("\nMean [range] over seeds of pretraining.\n")
    print(metrics_table([over_seeds(found, f"{case.name}, {len(found)} seeds") for case, found in of_case.items()]))
    pairs = [
        (case, case._replace(library=PEER, preset=preset))
        for case in of_case
        for preset in ("lesion", "paper")
        if case.library != PEER
    ]
    lines = [
        [
            f"{ours.name} - {peers.name}",
            *(_ahead(of_case[ours], of_case[peers], metric, digits) for metric, digits in SHOWN.items()),
        ]
        for ours, peers in pairs
        if peers in of_case
    ]
    if lines:
        print("\nOurs less lightly-train's: of the means [our worst seed less its best, the opposite].\n")
        print(markdown(["", "kNN AUC", "kNN pAUC", "AUC", "pAUC"], lines))


def _ahead(ours: Sequence[dict[str, Any]], peers: Sequence[dict[str, Any]], metric: str, digits: int) -> str:
    mine, theirs = ([row[metric] for row in rows] for rows in (ours, peers))
    low, high = min(mine) - max(theirs), max(mine) - min(theirs)
    return f"{mean(mine) - mean(theirs):+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


if __name__ == "__main__":
    sys.exit(main())
