"""The ledger comes back as it was written, and trains what it says."""

from pathlib import Path

import numpy as np
import pandas as pd

from pseudolabel.ledger import COLUMNS, ledger_rows, read_ledger, training_rows, write_ledger
from pseudolabel.selection import Selection, SelectionConfig, select

IDS = np.array(["0001", "1e5", "I 2", "I,3", "I4", "I5"])


def rows_of(selection: Selection) -> pd.DataFrame:
    p = np.array([1 / 3, 0.1 + 0.2, 1e-17, 2**-53, 0.9, np.nextafter(0.9, 1)])
    return ledger_rows(
        IDS,
        selection,
        round_number=2,
        fold=4,
        teacher="runs/a, b/fold-4/model",
        p_raw=p,
        p_calibrated=p**2,
        target=p[selection.rows] / 3,
        weight=1 - p[selection.rows],
    )


SELECTION = Selection(np.array([5, 4, 2]), np.array([1, 1, 0]), 2, 1, 2.449)


def test_a_ledger_says_who_labelled_what_and_why() -> None:
    rows = rows_of(SELECTION)
    assert tuple(rows.columns) == COLUMNS
    assert rows["isic_id"].tolist() == ["I5", "I4", "I 2"]
    assert {*rows["round"]} == {2}
    assert {*rows["fold"]} == {4}
    assert {*rows["teacher"]} == {"runs/a, b/fold-4/model"}
    assert rows["p_raw"].tolist() == [np.nextafter(0.9, 1), 0.9, 1e-17]
    assert rows["p_calibrated"].tolist() == [np.nextafter(0.9, 1) ** 2, 0.9**2, 1e-17**2]
    assert rows["reason"].tolist() == [
        "one of the 2 most certainly malignant; 2.4 malignant expected in the pool",
        "one of the 2 most certainly malignant; 2.4 malignant expected in the pool",
        "one of the 1 most certainly benign; 2.4 malignant expected in the pool",
    ]


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    rows = rows_of(SELECTION)
    write_ledger(tmp_path / "ledger.csv", rows)
    back = read_ledger(tmp_path / "ledger.csv")
    for name in COLUMNS:
        assert back[name].tolist() == rows[name].tolist(), name
    write_ledger(tmp_path / "again.csv", back)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "ledger.csv").read_bytes()


def test_its_training_rows_are_the_chosen_images_with_their_targets_and_weights() -> None:
    rows = rows_of(SELECTION)
    training = training_rows(rows, {identifier: 100 + k for k, identifier in enumerate(IDS)})
    assert training.indices.tolist() == [105, 104, 102]
    assert training.target.tolist() == rows["target"].tolist()
    assert training.weight.tolist() == rows["weight"].tolist()
    assert training.positive.tolist() == [True, True, False], "the sampler counts by the label, not the soft target"


def test_an_empty_ledger_trains_nothing(tmp_path: Path) -> None:
    nothing = select(np.zeros(6), np.ones(6, bool), SelectionConfig(), 1)
    write_ledger(tmp_path / "ledger.csv", rows_of(nothing))
    training = training_rows(read_ledger(tmp_path / "ledger.csv"), {})
    assert (training.indices.dtype, training.positive.dtype) == (np.int64, np.bool_)
    assert len(training.indices) == len(training.target) == len(training.weight) == len(training.positive) == 0
