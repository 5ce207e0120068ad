"""A submission is in the sample's order, to the last bit of each score, or it is not written at all."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from finetune.submission import check_submission, write_submission
from ssl_isic.errors import InputError


def make_sample(tmp_path: Path, ids: list[str]) -> Path:
    path = tmp_path / "sample.csv"
    path.write_text("isic_id,target\n" + "".join(f"{identifier},0.3\n" for identifier in ids))
    return path


def test_scores_follow_the_order_of_the_sample_and_surplus_is_counted(tmp_path: Path) -> None:
    sample = make_sample(tmp_path, ["I3", "I1", "I2"])
    path = tmp_path / "out" / "submission.csv"
    assert write_submission(path, ["I1", "I9", "I2", "I3"], np.array([0.1, 0.9, 0.2, 0.3]), sample) == 1
    assert path.read_text() == "isic_id,target\nI3,0.3\nI1,0.1\nI2,0.2\n"
    assert check_submission(path, sample).tolist() == [0.3, 0.1, 0.2]
    assert write_submission(path, ["I2", "I1"], np.array([0, 1.0]), sample=None) == 0
    assert path.read_text() == "isic_id,target\nI2,0.0\nI1,1.0\n"
    assert os.listdir(path.parent) == ["submission.csv"]


def test_scores_and_their_ranks_survive_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    neighbours = 0.5 + np.arange(500) * 2.0**-53 * 2
    scores = np.concatenate([10 ** rng.uniform(-300, 0, 1500), neighbours, neighbours, [0.0, 1.0, 5e-324, 0.1 + 0.2]])
    ids = [f"I{i}" for i in range(scores.size)]
    order = rng.permutation(scores.size)
    sample = make_sample(tmp_path, ids)
    path = tmp_path / "submission.csv"
    write_submission(path, [ids[row] for row in order], scores[order], sample)
    assert np.array_equal(check_submission(path, sample), scores)
    written = [float(line.split(",")[1]) for line in path.read_text().splitlines()[1:]]
    assert np.array_equal(rankdata(written), rankdata(scores))


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        (["I1", "I2"], [0.5, np.nan], "1 of 2 are not numbers in [0, 1], the first is nan of I2"),
        (["I1", "I2"], [np.inf, 0.5], "the first is inf of I1"),
        (["I1", "I2"], [1.5, -2.0], "2 of 2 are not numbers in [0, 1], the first is 1.5 of I1; turn logits into"),
        (["I1", "I2", "I1"], [0.1, 0.2, 0.3], "I1 has more than one score"),
        (["I1", "I7"], [0.1, 0.2], "1 of the 2 ids in"),
        (["I7"], [0.1], "have no score, the first is I1; predict them"),
    ],
)
def test_what_is_refused_leaves_the_old_submission(
    tmp_path: Path, ids: list[str], scores: list[float], message: str
) -> None:
    sample = make_sample(tmp_path, ["I1", "I2"])
    path = tmp_path / "submission.csv"
    path.write_text("old")
    with pytest.raises(InputError, match=re.escape(message)):
        write_submission(path, ids, np.array(scores), sample)
    assert path.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["sample.csv", "submission.csv"]


def test_one_score_an_id(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one score an id is needed, got \(2, 1\) for 2 ids"):
        write_submission(tmp_path / "submission.csv", ["I1", "I2"], np.zeros((2, 1)), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("isic_id,target,x\nI1,0,0\nI2,0,0\n", "the columns must be isic_id,target, got isic_id,target,x"),
        ("target,isic_id\n0,I1\n0,I2\n", "the columns must be isic_id,target, got target,isic_id"),
        ("isic_id,score\nI1,0\nI2,0\n", "has no column target"),
        ("isic_id,target\nI1,0\nI1,0\n", "isic_id I1 is in rows 2 and 3"),
        ("isic_id,target\nI2,0\nI1,0\n", "row 2 is I2 where"),
        ("isic_id,target\nI1,0\n", "has 1 rows and"),
        ("isic_id,target\nI1,0\nI2,0\nI3,0\n", "has 3 rows and"),
        ("isic_id,target\nI1,0\nI2,\n", "the first is nan of I2"),
        ("isic_id,target\nI1,high\nI2,0\n", "the first is nan of I1"),
        ("isic_id,target\nI1,inf\nI2,0\n", "the first is inf of I1"),
        ("isic_id,target\nI1,1.01\nI2,0\n", "the first is 1.01 of I1"),
    ],
)
def test_a_submission_that_kaggle_would_refuse(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        check_submission(path, make_sample(tmp_path, ["I1", "I2"]))
    assert str(path) in str(caught.value)


def test_the_real_sample(shared_data: Path, tmp_path: Path) -> None:
    sample = shared_data / "sample_submission.csv"
    ids = pd.read_csv(sample)["isic_id"].tolist()
    path = tmp_path / "submission.csv"
    assert write_submission(path, ids[::-1], np.array([0.1, 0.2, 1 / 3]), sample) == 0
    assert pd.read_csv(path)["isic_id"].tolist() == ids
    assert check_submission(path, sample).tolist() == [1 / 3, 0.2, 0.1]
    assert check_submission(sample, sample).tolist() == [0.3] * 3
