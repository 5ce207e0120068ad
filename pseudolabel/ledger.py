"""The ledger of pseudo-labels: who labelled what, in which round, for which student, with what probability, and why."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from finetune.labelled import TrainingRows
from pseudolabel.selection import Selection
from ssl_isic.files import atomic_write

COLUMNS = ("isic_id", "round", "fold", "teacher", "p_raw", "p_calibrated", "label", "target", "weight", "reason")


def ledger_rows(
    ids: NDArray[np.str_],
    selection: Selection,
    *,
    round_number: int,
    fold: int,
    teacher: str,
    p_raw: NDArray[np.float64],
    p_calibrated: NDArray[np.float64],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
) -> pd.DataFrame:
    """One row for each chosen image. `ids`, `p_raw`, `p_calibrated` are the pool's (N,); `target`, `weight` the chosen (M,)."""
    quota = {1: selection.positive_quota, 0: selection.negative_quota}
    word = {1: "malignant", 0: "benign"}
    reasons = [
        f"one of the {quota[int(label)]} most certainly {word[int(label)]}; "
        f"{selection.expected_positives:.1f} malignant expected in the pool"
        for label in selection.label
    ]
    return pd.DataFrame(
        {
            "isic_id": ids[selection.rows],
            "round": round_number,
            "fold": fold,
            "teacher": teacher,
            "p_raw": p_raw[selection.rows],
            "p_calibrated": p_calibrated[selection.rows],
            "label": selection.label,
            "target": target,
            "weight": weight,
            "reason": reasons,
        },
        columns=list(COLUMNS),
    )


def write_ledger(path: Path, rows: pd.DataFrame) -> None:
    """Write ledger rows with all their digits."""
    with atomic_write(path) as temporary:
        rows.to_csv(temporary, index=False, float_format="%.17g")


def read_ledger(path: Path) -> pd.DataFrame:
    """Read ledger rows back, as they were written."""
    return pd.read_csv(path, dtype={"isic_id": str, "teacher": str, "reason": str})


def training_rows(ledger: pd.DataFrame, index_of: dict[str, int]) -> TrainingRows:
    """The ledger's images as rows to train on; `index_of` gives an id's place in the pool of images."""
    return TrainingRows(
        np.array([index_of[identifier] for identifier in ledger["isic_id"]], dtype=np.int64),
        ledger["target"].to_numpy(np.float64),
        ledger["weight"].to_numpy(np.float64),
        ledger["label"].to_numpy() == 1,
    )
