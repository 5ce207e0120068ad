"""`ssl-isic demo`: all four stages on synthetic lesions, and pictures of what they did."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field

from finetune.classifier import HeadConfig
from finetune.colour_baseline import colour_baseline
from finetune.labelled import LabelledConfig, read_labelled
from finetune.submission import check_submission
from finetune.submitting import SubmitConfig, submit
from finetune.training import LABELLED, FinetuneConfig, SamplingConfig, finetune
from pseudolabel.rounds import PseudolabelConfig, read_oof, run_rounds
from pseudolabel.unlabelled import UnlabelledConfig
from ssl_isic.backbones import BackboneConfig
from ssl_isic.config import Config, Seed, Workers, read_config
from ssl_isic.contact_sheets import contact_sheet
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.synthetic import SyntheticFiles, write_synthetic
from ssl_isic.data.tables import read_table, read_target
from ssl_isic.data.views import ViewsConfig, dino_views, simclr_views
from ssl_isic.errors import command
from ssl_isic.files import atomic_write
from ssl_isic.folds import main as make_folds
from ssl_isic.loop import LoopConfig
from ssl_isic.methods.simclr import SimCLRConfig
from ssl_isic.metrics import bootstrap, partial_auc, roc_auc
from ssl_isic.monitoring import MonitorConfig
from ssl_isic.optim import OptimConfig
from ssl_isic.pool import PoolConfig
from ssl_isic.pretraining import PretrainConfig, pretrain
from ssl_isic.run_curves import loss_curves

FOLDS = 3
LESIONS_SHOWN = 4


class DemoConfig(Config):
    """All stages on synthetic lesions, in minutes."""

    out: Path = Path("runs/demo")
    """Folder for everything that the demo makes."""
    seed: Seed = 0
    """Seed of everything random."""
    train_rows: int = Field(2700, ge=100)
    """Labelled lesions."""
    test_rows: int = Field(1000, ge=50)
    """Unlabelled lesions."""
    prevalence: float = Field(0.03, gt=0, lt=1)
    """Share of malignant lesions."""
    model: str = "resnet10t"
    """The backbone."""
    image_size: int = Field(32, ge=16)
    """Side of the images, px."""
    pretrain_epochs: float = Field(3.0, gt=0)
    """Epochs of SimCLR."""
    finetune_epochs: float = Field(5.0, gt=0)
    """Epochs of each classifier."""
    rounds: int = Field(2, ge=1)
    """Pseudo-label rounds at most."""
    workers: Workers = 0
    """Processes that read images; 0 leaves both cores of a small machine to training."""


@command
def main(argv: Sequence[str]) -> None:
    """Run the demo."""
    config = read_config(DemoConfig, argv, prog="ssl-isic demo")
    started = time.monotonic()
    _say("1/6 Painting synthetic lesions")
    files = write_synthetic(
        config.out / "data",
        train_rows=config.train_rows,
        test_rows=config.test_rows,
        prevalence=config.prevalence,
        seed=config.seed,
    )
    folds = config.out / "folds.csv"
    make_folds([f"table={files.train_table}", f"folds={FOLDS}", f"seed={config.seed}", f"out={folds}"])
    _say("2/6 Pretraining without labels: SimCLR on train and test images")
    backbone = pretrain(_pretraining(config, files))
    _say("3/6 Fine-tuning from a random start, then from the pretrained backbone")
    random = finetune(_finetuning(config, files, folds, "random", None))
    pretrained = finetune(_finetuning(config, files, folds, "pretrained", backbone))
    _say("4/6 Pseudo-label rounds on the test images")
    rounds = run_rounds(_rounds(config, files, folds, backbone, pretrained))
    _say("5/6 Submission")
    submission = config.out / "submission.csv"
    submit(
        SubmitConfig(
            run_dir=rounds,
            images=files.test_images,
            sample=files.sample_submission,
            out=submission,
            workers=config.workers,
        )
    )
    _say("6/6 Pictures")
    sheet, curves = config.out / "views.png", config.out / "losses.png"
    _draw_views(files, config, sheet)
    _draw_losses(config.out, sorted(rounds.glob("round-*")), curves)
    _say("What came out")
    table = _results(config, files, folds, random, pretrained, rounds)
    print(table.to_string(index=False))
    with atomic_write(config.out / "results.csv") as temporary:
        table.to_csv(temporary, index=False)
    _print_test_score(files, submission)
    for path, what in ((submission, "the submission"), (sheet, "lesions and their views"), (curves, "loss curves")):
        print(f"{path}: {what}")
    print(f"done in {time.monotonic() - started:.0f} s")


def _say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _pretraining(config: DemoConfig, files: SyntheticFiles) -> PretrainConfig:
    return PretrainConfig(
        run_dir=config.out / "pretrain",
        seed=config.seed,
        data=PoolConfig(sources={"train": files.train_images, "test": files.test_images}, workers=config.workers),
        views=ViewsConfig(size=config.image_size),
        backbone=BackboneConfig(model=config.model),
        method=SimCLRConfig(hidden_size=512),
        optim=OptimConfig(lr=1e-3, lr_batch_size=None, weight_decay=0.01),
        loop=LoopConfig(epochs=config.pretrain_epochs, batch_size=100, channels_last=True, log_every=5, save_every=50),
        monitor=MonitorConfig(images=0),
    )


def _finetuning_keys(config: DemoConfig, files: SyntheticFiles, folds: Path, backbone: Path | None) -> dict[str, Any]:
    return {
        "seed": config.seed,
        "data": LabelledConfig(images=files.train_images, table=files.train_table, folds=folds, workers=config.workers),
        "image_size": config.image_size,
        "backbone": BackboneConfig(model=config.model, weights=str(backbone) if backbone else None),
        "sampling": SamplingConfig(negatives_per_positive=5.0),
        "loop": LoopConfig(epochs=config.finetune_epochs, batch_size=32, channels_last=True, log_every=5),
        "head": HeadConfig(backbone_lr_scale=1.0),
        "optim": OptimConfig(lr=2e-3, lr_batch_size=None, weight_decay=0.01),
        "evaluate_every": 4.0,
    }


def _finetuning(
    config: DemoConfig, files: SyntheticFiles, folds: Path, name: str, backbone: Path | None
) -> FinetuneConfig:
    return FinetuneConfig(run_dir=config.out / f"finetune-{name}", **_finetuning_keys(config, files, folds, backbone))


def _rounds(config: DemoConfig, files: SyntheticFiles, folds: Path, backbone: Path, round_0: Path) -> PseudolabelConfig:
    return PseudolabelConfig(
        run_dir=config.out / "pseudolabel",
        pool=UnlabelledConfig(images=files.test_images, table=files.test_table),
        rounds=config.rounds,
        round_0=round_0,
        **_finetuning_keys(config, files, folds, backbone),
    )


def _results(
    config: DemoConfig, files: SyntheticFiles, folds: Path, random: Path, pretrained: Path, rounds: Path
) -> pd.DataFrame:
    """Out-of-fold pAUC and AUC of every start and round, with bootstrap intervals over patients."""
    pool = ImagePool({LABELLED: files.train_images})
    labelled = read_labelled(
        LabelledConfig(images=files.train_images, table=files.train_table, folds=folds), pool, LABELLED
    )
    scores = {"twelve colour numbers": colour_baseline(labelled, pool)}
    runs = {"random start": random, "pretrained (round 0)": pretrained}
    runs.update(
        {
            folder.name.replace("-", " "): folder
            for folder in sorted(rounds.glob("round-*"))
            if (folder / "oof.csv").exists()
        }
    )
    for name, run in runs.items():
        scores[name] = read_oof(run).set_index("isic_id").loc[labelled.ids, "p_malignant"].to_numpy(np.float64)
    return pd.DataFrame(
        [
            {
                "model": name,
                "pAUC [95 %]": f"{bootstrap(partial_auc, labelled.target, score, labelled.groups):.3f}",
                "AUC [95 %]": f"{bootstrap(roc_auc, labelled.target, score, labelled.groups):.3f}",
            }
            for name, score in scores.items()
        ]
    )


def _print_test_score(files: SyntheticFiles, submission: Path) -> None:
    """Score the submission by the truth, which a real competition hides."""
    score = check_submission(submission, files.sample_submission)
    truth = read_table(files.test_truth).set_index("isic_id")
    ids = read_table(submission)["isic_id"].tolist()
    target = read_target(truth.loc[ids].reset_index(), "target", files.test_truth)
    pauc, auc = bootstrap(partial_auc, target, score), bootstrap(roc_auc, target, score)
    print(f"\nthe submission on the hidden truth: pAUC {pauc:.3f}, AUC {auc:.3f}")


def _draw_views(files: SyntheticFiles, config: DemoConfig, path: Path) -> None:
    """Some lesions of each kind with what the methods see of them."""
    table = read_table(files.train_table)
    target = read_target(table, "target", files.train_table)
    pool = ImagePool({LABELLED: files.train_images})
    size = ViewsConfig(size=config.image_size, local_size=config.image_size // 2)
    lesion, multi_crop = simclr_views(size), dino_views(size, local_crops=2)
    paper = simclr_views(size.model_copy(update={"preset": "paper"}))
    rows = []
    for label, word in ((1.0, "malignant"), (0.0, "benign")):
        for row in np.flatnonzero(target == label)[:LESIONS_SHOWN].tolist():
            image = decode_rgb(pool.read(row))
            seed = [config.seed, row]
            views = [*lesion(image, seed), *multi_crop(image, seed)[2:], *paper(image, seed)]
            rows.append((f"{table['isic_id'][row]}\n{word}", [image, *views]))
    columns = ["lesion", "view 1", "view 2", "local crop", "local crop", "paper view 1", "paper view 2"]
    contact_sheet(rows, path, columns=columns, title="Synthetic lesions and their augmented views")


def _draw_losses(out: Path, rounds: Sequence[Path], path: Path) -> None:
    runs = {
        "SimCLR": out / "pretrain",
        "fine-tuning, random start, fold 0": out / "finetune-random" / "fold-0",
        "fine-tuning, pretrained, fold 0": out / "finetune-pretrained" / "fold-0",
        **{f"{folder.name.replace('-', ' ')}, fold 0": folder / "fold-0" for folder in rounds},
    }
    logs = {name: folder / "metrics.jsonl" for name, folder in runs.items()}
    loss_curves({name: log for name, log in logs.items() if log.exists()}, path, title="Loss and validation pAUC")


if __name__ == "__main__":
    sys.exit(main())
