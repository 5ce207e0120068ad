"""HAM10000, malignant or not, with a fifth of the lesions labelled: what each start and each pseudo-label round is worth.

    python benchmarks/ham10000.py images=ham10000-image.hdf5 table=ham10000-metadata.csv out=runs/ham10000 \\
        'starts={random: null, imagenet: tf_efficientnet_lite0.safetensors, simclr: runs/simclr-2-cores/backbone}' \\
        'against=[random]' 'rounds=[simclr]'

Every start is fine-tuned and given pseudo-label rounds with the same folds, seeds and settings (the two
`ham10000-2-cores.yaml`). The peer in the same run is logistic regression on twelve colour numbers. Scores are
out-of-fold on the labelled lesions, and of the folds' mean on the pool, whose truth training never sees; intervals are
bootstraps over lesions. A finished step is not run again.

With `seeds=[0,1,2]` each start is fine-tuned once for every seed; `simclr: "runs/simclr-seed{seed}/backbone"` is a backbone for
each. A table of means and ranges over seeds follows; the range of a difference goes from the worst seed less the other's best
to the opposite. With `models={simclr: resnet18}` that start is another network than the others.
"""

import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np
import pandas as pd
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from finetune.colour_baseline import colour_baseline
from finetune.labelled import Labelled, LabelledConfig, read_labelled
from finetune.train import main as finetune
from pseudolabel.run import main as pseudolabel
from ssl_isic.config import Config, read_config
from ssl_isic.data.images import ImagePool
from ssl_isic.data.tables import match_ids
from ssl_isic.errors import InputError, command
from ssl_isic.evaluation.colour import colour_features
from ssl_isic.folds import main as make_folds
from ssl_isic.metrics import Floats, bootstrap, paired_bootstrap, partial_auc, roc_auc

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LABELLED_SHARE = 0.2
FOLDS = 3
COLOUR = "twelve colour numbers"
METRICS = {"AUC": roc_auc, "pAUC": partial_auc}


class BenchmarkConfig(Config):
    """Compare starts on HAM10000 with few labels."""

    images: Path
    """HAM10000 as HDF5 or a folder."""
    table: Path
    """CSV with isic_id, lesion_id and target."""
    out: Path = Path("runs/ham10000")
    """Folder for everything."""
    starts: dict[str, str | None]
    """Named backbones: null for random, else a folder or file of weights, in whose path {seed} is the seed."""
    model: str = "tf_efficientnet_lite0"
    """timm architecture of the starts."""
    models: dict[str, str] = {}
    """Architectures of starts that have another."""
    against: list[str] = []
    """Starts that the others are compared with, lesion by lesion."""
    rounds: list[str] = []
    """Starts that are given pseudo-label rounds."""
    seed: int = 0
    """Seed of the split."""
    seeds: list[int] = Field([0], min_length=1)
    """Seeds of fine-tuning."""

    def run_dir(self, name: str, seed: int) -> Path:
        """Where a start is fine-tuned."""
        return self.out / f"{name}-seed{seed}"

    def backbone(self, name: str, seed: int) -> list[str]:
        """The network of a start, as words for the stages."""
        weights = (self.starts[name] or "null").replace("{seed}", str(seed))
        return [f"backbone.weights={weights}", f"backbone.model={self.models.get(name, self.model)}"]


@command
def main(argv: Sequence[str]) -> None:
    """Run what is not finished, then print the tables."""
    config = read_config(BenchmarkConfig, argv, prog="benchmarks/ham10000.py")
    unknown = sorted({*config.rounds, *config.against, *config.models} - config.starts.keys())
    if unknown:
        raise InputError(
            f"rounds, against or models name {', '.join(unknown)}, but starts has {', '.join(config.starts)}"
        )
    labelled_table, pool_table = _split(config)
    folds = config.out / "folds.csv"
    if not folds.exists():
        _run(make_folds, [f"table={labelled_table}", "group=lesion_id", f"folds={FOLDS}", f"out={folds}"])
    data = [f"data.images={config.images}", f"data.table={labelled_table}", f"data.folds={folds}"]
    unlabelled = [
        f"pool.images={config.images}",
        f"pool.table={pool_table}",
        "pool.truth=target",
        "pool.group=lesion_id",
    ]
    for name, seed in product(config.starts, config.seeds):
        settings = ["--config", str(CONFIGS / "finetune" / "ham10000-2-cores.yaml"), f"seed={seed}"]
        start = [*data, *config.backbone(name, seed)]
        _run(finetune, [*settings, f"run_dir={config.run_dir(name, seed)}", *start])
    for name, seed in product(config.rounds, config.seeds):
        settings = ["--config", str(CONFIGS / "pseudolabel" / "ham10000-2-cores.yaml"), f"seed={seed}"]
        given = [f"run_dir={config.run_dir(name, seed)}-rounds", f"round_0={config.run_dir(name, seed)}"]
        start = [*data, *config.backbone(name, seed)]
        _run(pseudolabel, [*settings, *given, *start, *unlabelled])
    labelled, colour = _labelled(config, labelled_table, folds)
    scores = {seed: {COLOUR: colour, **_scores(config, labelled, seed)} for seed in config.seeds}
    for seed in config.seeds:
        print(f"\nseed {seed}\n{_markdown(_starts(config, labelled, scores[seed]))}")
    if len(config.seeds) > 1:
        print(f"\nmean [range] over seeds\n{_markdown(_over_seeds(config, labelled, scores))}")
    for name, seed in product(config.rounds, config.seeds):
        print(f"\n{name}, seed {seed}, rounds\n{_markdown(_rounds(Path(f'{config.run_dir(name, seed)}-rounds')))}")
    print(f"\ntwelve colour numbers on the pool: {_colour_on_pool(config, labelled_table, pool_table)}")


def _run(stage: object, argv: list[str]) -> None:
    code = stage(argv)  # type: ignore[operator]
    if code:
        raise InputError(f"a stage ended with exit code {code}: {' '.join(argv)}")


def _split(config: BenchmarkConfig) -> tuple[Path, Path]:
    """A fifth of the lesions, drawn at random, are labelled; all images of the others are the pool."""
    table = pd.read_csv(config.table, dtype={"isic_id": str, "lesion_id": str})
    lesions = np.unique(table["lesion_id"].to_numpy(str))
    drawn = np.random.default_rng(config.seed).permutation(lesions)[: round(LABELLED_SHARE * len(lesions))]
    is_labelled = table["lesion_id"].isin(drawn)
    paths = config.out / "labelled.csv", config.out / "unlabelled.csv"
    config.out.mkdir(parents=True, exist_ok=True)
    for path, rows in zip(paths, (is_labelled, ~is_labelled), strict=True):
        table[rows].to_csv(path, index=False)
    return paths


def _labelled(config: BenchmarkConfig, labelled_table: Path, folds: Path) -> tuple[Labelled, Floats]:
    """The labelled images, and what twelve colour numbers score on them."""
    pool = ImagePool({"labelled": config.images})
    settings = LabelledConfig(images=config.images, table=labelled_table, folds=folds, group="lesion_id")
    labelled = read_labelled(settings, pool, "labelled")
    return labelled, colour_baseline(labelled, pool)


def _scores(config: BenchmarkConfig, labelled: Labelled, seed: int) -> dict[str, Floats]:
    """Out-of-fold scores of each start, in the order of `labelled`."""
    tables = {name: pd.read_csv(config.run_dir(name, seed) / "oof.csv").set_index("isic_id") for name in config.starts}
    return {name: oof.loc[labelled.ids, "p_malignant"].to_numpy(float) for name, oof in tables.items()}


def _starts(config: BenchmarkConfig, labelled: Labelled, scores: Mapping[str, Floats]) -> pd.DataFrame:
    rows = []
    for name, score in scores.items():
        row = {"start": name}
        for label, metric in METRICS.items():
            row[label] = "{:.3f} [{:.3f}, {:.3f}]".format(
                *bootstrap(metric, labelled.target, score, labelled.groups)[:3]
            )
            for other in config.against:
                if name != other:
                    difference = paired_bootstrap(metric, labelled.target, score, scores[other], labelled.groups)
                    row[f"{label} - {other}"] = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*difference[:3])
        rows.append(row)
    return pd.DataFrame(rows).fillna("")


def _over_seeds(
    config: BenchmarkConfig, labelled: Labelled, scores: Mapping[int, Mapping[str, Floats]]
) -> pd.DataFrame:
    rows = {name: {"start": name} for name in (COLOUR, *config.starts)}
    for label, metric in METRICS.items():
        values = {name: [metric(labelled.target, scores[seed][name]) for seed in config.seeds] for name in rows}
        for name, row in rows.items():
            own = values[name]
            row[label] = f"{mean(own):.3f} [{min(own):.3f}, {max(own):.3f}]"
            for other in config.against:
                if name != other:
                    low, high = min(own) - max(values[other]), max(own) - min(values[other])
                    row[f"{label} - {other}"] = f"{mean(own) - mean(values[other]):+.3f} [{low:+.3f}, {high:+.3f}]"
    return pd.DataFrame(list(rows.values())).fillna("")


def _rounds(run_dir: Path) -> pd.DataFrame:
    report = pd.read_csv(run_dir / "rounds_report.csv")
    shown = pd.DataFrame({"round": report["round"]})
    for name in ("auc", "auc_gain", "pauc", "gain", "pool_auc", "pool_pauc"):
        if name in report:
            values = report[[name, f"{name}_low", f"{name}_high"]].itertuples(index=False)
            shown[name] = ["" if pd.isna(value[0]) else "{:.3f} [{:.3f}, {:.3f}]".format(*value) for value in values]
    for name in ("malignant_precision", "benign_precision", "kept"):
        if name in report:
            shown[name] = report[name].round(3)
    return shown


def _colour_on_pool(config: BenchmarkConfig, labelled_table: Path, pool_table: Path) -> str:
    images = ImagePool({"all": config.images})
    tables = [pd.read_csv(path) for path in (labelled_table, pool_table)]
    features = [
        colour_features(
            images, match_ids(table["isic_id"].astype(str), images.slice_of("all")[1]).rows.astype(np.int64)
        )
        for table in tables
    ]
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features[0], tables[0]["target"])
    score = model.predict_proba(features[1])[:, 1]
    target, groups = tables[1]["target"].to_numpy(float), tables[1]["lesion_id"].to_numpy(str)
    auc, pauc = bootstrap(roc_auc, target, score, groups), bootstrap(partial_auc, target, score, groups)
    return "AUC {:.3f} [{:.3f}, {:.3f}], pAUC {:.3f} [{:.3f}, {:.3f}]".format(*auc[:3], *pauc[:3])


def _markdown(table: pd.DataFrame) -> str:
    rows = [["" if pd.isna(value) else str(value) for value in row] for row in table.itertuples(index=False)]
    lines = [list(table.columns), ["---"] * len(table.columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
