"""What a fine-tuning run writes about itself: out-of-fold scores, a row a fold, a summary with intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from finetune.ensemble import fold_folder
from finetune.labelled import Labelled
from ssl_isic.files import atomic_write, write_json
from ssl_isic.metrics import bootstrap, partial_auc, roc_auc, top_k_sensitivity
from ssl_isic.run_folder import read_metrics

METRICS = ("pauc", "auc", "ap")
TOP_K = 15
"""Of a patient's images, in ISIC-2024's secondary metric."""


class NegativesShown(NamedTuple):
    """How many different negatives a model was shown, of how many there are."""

    shown: int
    negatives: int


def write_reports(run_dir: Path, folds: Sequence[int], labelled: Labelled, seen: NegativesShown | None) -> None:
    """Write `oof.csv`, `folds_report.csv` and `summary.json` of the finished `folds`, and print them.

    `seen` is of the first fold's model.
    """
    oof = pd.concat([pd.read_csv(fold_folder(run_dir, fold) / "valid.csv", dtype={"isic_id": str}) for fold in folds])
    with atomic_write(run_dir / "oof.csv") as temporary:
        oof.to_csv(temporary, index=False, float_format="%.17g")
    report = pd.DataFrame([_fold_row(run_dir, fold, oof) for fold in folds])
    with atomic_write(run_dir / "folds_report.csv") as temporary:
        report.to_csv(temporary, index=False)
    print(report.to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    summary = _summary(oof, report, labelled)
    if seen is not None:
        summary["distinct_negatives_shown"], summary["negatives"] = seen
        print(f"the model of fold {folds[0]} has seen {seen.shown} of {seen.negatives} different negatives")
    write_json(run_dir / "summary.json", summary)


def _summary(oof: pd.DataFrame, report: pd.DataFrame, labelled: Labelled) -> dict[str, Any]:
    row_of = {identifier: row for row, identifier in enumerate(labelled.ids)}
    rows = np.array([row_of[identifier] for identifier in oof["isic_id"]])
    groups = labelled.groups[rows] if len(np.unique(labelled.groups[rows])) > 1 else None
    resampled = "rows, since all are of one group" if groups is None else "groups"
    target, score = oof["target"].to_numpy(float), oof["p_malignant"].to_numpy(float)
    summary: dict[str, Any] = {"rows": len(oof), "positives": int(target.sum())}
    for name, metric in (("pauc", partial_auc), ("auc", roc_auc)):
        interval = bootstrap(metric, target, score, groups)
        mean_of_folds = float(report[f"last_{name}"].mean())
        summary[name] = {**interval._asdict(), "mean_of_folds": mean_of_folds}
        print(
            f"out-of-fold {name} {interval:.4f} (95 % bootstrap over {resampled}); mean of the folds {mean_of_folds:.4f}"
        )
    if labelled.patients is not None:
        patients = labelled.patients[rows]
        if np.unique(patients, return_counts=True)[1].max() > TOP_K:
            found = summary[f"top_{TOP_K}_sensitivity"] = top_k_sensitivity(target, score, patients, TOP_K)
            print(f"{found:.4f} of the malignant are among the {TOP_K} highest scores of their patient")
    return summary


def _fold_row(run_dir: Path, fold: int, oof: pd.DataFrame) -> dict[str, Any]:
    rows = oof[oof["fold"] == fold]
    scored = [row for row in read_metrics(fold_folder(run_dir, fold) / "metrics.jsonl") if "valid/pauc" in row]
    best, last = max(scored, key=lambda row: row["valid/pauc"]), scored[-1]
    return {
        "fold": fold,
        "rows": len(rows),
        "positives": int(rows["target"].sum()),
        **{f"last_{name}": last[f"valid/{name}"] for name in METRICS},
        "best_epoch": best["epoch"],
        **{f"best_{name}": best[f"valid/{name}"] for name in METRICS},
    }
