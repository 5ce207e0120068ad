"""The collapse guard on real lesions: each method as it is by default, and some with what keeps them from collapse removed.

    python benchmarks/collapse.py images=ham10000-image.hdf5 out=runs/collapse

Each runs for 100 steps (`steps`) of 64 images on a small network of its kind. What the guard should do: stop the broken ones,
leave the others alone.
"""

import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from ssl_isic.config import Config, read_config
from ssl_isic.data.images import open_store
from ssl_isic.errors import command
from ssl_isic.pretrain import main as pretrain
from ssl_isic.run_folder import read_metrics

BATCH = 64
NO_CENTER = ["method.name=dino", "method.center_momentum=1"]
CASES = {
    "simclr": ["method.name=simclr", "backbone.model=resnet10t"],
    "dino": ["method.name=dino", "backbone.model=resnet10t"],
    "dinov2": ["method.name=dinov2", "backbone.model=test_vit"],
    "lejepa": ["method.name=lejepa", "backbone.model=resnet10t"],
    "mae": ["method.name=mae", "backbone.model=test_vit"],
    "vicreg": ["method.name=vicreg", "backbone.model=resnet10t"],
    "dino, no center": [*NO_CENTER, "backbone.model=resnet10t"],
    "dino, no center, no teacher temperature": [
        *NO_CENTER,
        "method.teacher_temperature=1",
        "method.teacher_warmup_temperature=1",
        "backbone.model=resnet10t",
    ],
    "dino, ViT, no center": [*NO_CENTER, "backbone.model=test_vit"],
    "dinov2, no center": [
        "method.name=dinov2",
        "method.centering=center",
        "method.center_momentum=1",
        "backbone.model=test_vit",
    ],
    "lejepa, no sigreg": ["method.name=lejepa", "method.sigreg_weight=0", "backbone.model=resnet10t"],
    "vicreg, no variance": ["method.name=vicreg", "method.variance_weight=0", "backbone.model=resnet10t"],
}


class CollapseConfig(Config):
    """Run each method for a few steps under the guard."""

    images: Path
    """HDF5 or folder of images."""
    out: Path = Path("runs/collapse")
    """Folder for the runs."""
    steps: int = Field(100, ge=1)
    """Optimizer steps of each run."""
    cases: list[str] = list(CASES)
    """Which of the cases to run."""


@command
def main(argv: Sequence[str]) -> None:
    """Run the cases and print a table."""
    config = read_config(CollapseConfig, argv, prog="benchmarks/collapse.py")
    print("| run | steps | last loss | feature std | projection std | teacher, marginal entropy | guard |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in config.cases:
        print(_row(config, name), flush=True)


def _row(config: CollapseConfig, name: str) -> str:
    run_dir = config.out / name.replace(", ", "-").replace(" ", "-")
    words = [f"run_dir={run_dir}", f"data.sources.images={config.images}", "data.workers=0", "views.size=64"]
    words += ["views.local_size=32", f"loop.batch_size={BATCH}", f"loop.epochs={_epochs(config)}"]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = pretrain([*words, "monitor.images=0", *CASES[name]])
    last = [row for row in read_metrics(run_dir / "metrics.jsonl") if "loss" in row][-1]
    shown = [f"{last[key]:.3f}" if key in last else "" for key in ("loss", "feature_std", "projection_std")]
    entropies = ", ".join(f"{last[key]:.2f}" for key in ("teacher_entropy", "marginal_entropy") if key in last)
    verdict = "silent" if code == 0 else said.getvalue().strip().splitlines()[-1].partition(";")[0]
    return f"| {name} | {last['step']} | {' | '.join(shown)} | {entropies} | {verdict} |"


def _epochs(config: CollapseConfig) -> float:
    return config.steps / (len(open_store(config.images).ids) // BATCH)


if __name__ == "__main__":
    sys.exit(main())
