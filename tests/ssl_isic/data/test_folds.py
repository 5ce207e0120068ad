"""Folds keep groups whole and prevalence alike, come back from their file, and say what is wrong with them."""

import hashlib
import os
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.data.folds import check_folds, fold_report, ids_hash, make_folds, read_folds, write_folds
from ssl_isic.errors import InputError


def patients(seed: int = 0) -> tuple[list[str], NDArray[np.float64], NDArray[np.str_]]:
    """600 rows of 60 patients of uneven size, a tenth positive."""
    rng = np.random.default_rng(seed)
    group = np.minimum(rng.exponential(15, size=600).astype(int), 59)
    target = (rng.random(600) < 0.1).astype(np.float64)
    return [f"I{i}" for i in rng.permutation(600)], target, np.array([f"P{g}" for g in group])


@pytest.mark.parametrize("n_folds", [2, 3, 5])
def test_every_group_is_in_one_fold_and_prevalence_is_alike(n_folds: int) -> None:
    ids, target, groups = patients()
    fold = make_folds(ids, target, groups, n_folds, seed=0)
    assert set(fold) == set(range(n_folds))
    for group in set(groups):
        assert len(set(fold[groups == group])) == 1
    for number in range(n_folds):
        assert target[fold == number].mean() == pytest.approx(target.mean(), abs=0.03)
    check_folds(target, groups, fold)


def test_folds_do_not_depend_on_the_order_of_rows_but_on_the_seed() -> None:
    ids, target, groups = patients()
    order = np.random.default_rng(1).permutation(len(ids))
    for kept_together in (groups, np.array(ids)):
        fold = make_folds(ids, target, kept_together, 4, seed=0)
        shuffled = make_folds([ids[row] for row in order], target[order], kept_together[order], 4, seed=0)
        assert np.array_equal(shuffled, fold[order])
        assert not np.array_equal(make_folds(ids, target, kept_together, 4, seed=1), fold)


def test_rows_that_are_their_own_group_are_stratified_exactly() -> None:
    ids = [f"I{i}" for i in range(1000)]
    target = (np.arange(1000) < 50).astype(np.float64)
    fold = make_folds(ids, target, np.array(ids), 5, seed=0)
    assert np.bincount(fold).tolist() == [200] * 5
    assert np.bincount(fold, weights=target).tolist() == [10] * 5


@pytest.mark.parametrize(
    ("target", "groups", "n_folds", "message"),
    [
        ([0, 1, 0, 1], "abcd", 1, "2 or more folds, got 1"),
        ([0, 1, 0, 1, 0], "abcbe", 2, "2 folds need 2 groups with positives, there are 1; label more"),
        ([1, 1, 0, 1, 1], "abcde", 2, "2 folds need 2 groups with negatives, there are 1; label more"),
    ],
)
def test_folds_that_cannot_be_made(target: list[float], groups: str, n_folds: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_folds(list("vwxyz")[: len(target)], np.array(target, float), np.array(list(groups)), n_folds, seed=0)


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        ([0, 0, 0, 0, 0, 0], "all rows are in fold 0"),
        ([0, 0, 0, 0, 1, 1], "fold 1 has no positives; make fewer folds"),
        ([0, 2, 0, 0, 0, 0], "fold 2 has no negatives"),
        ([0, 1, 1, 0, 1, 0], "group c is in folds 0 and 1; a group must stay in one fold"),
    ],
)
def test_folds_that_cannot_be_used(fold: list[int], message: str) -> None:
    target = np.array([1, 1, 0, 0, 0, 0.0])
    groups = np.array(["a", "b", "b", "a", "c", "c"])
    with pytest.raises(InputError, match=message):
        check_folds(target, groups, np.array(fold))


def test_folds_come_back_aligned_to_any_order_and_part_of_the_ids(tmp_path: Path) -> None:
    ids, target, groups = patients()
    fold = make_folds(ids, target, groups, 5, seed=0)
    path = tmp_path / "folds.csv"
    write_folds(path, ids, groups, fold)
    assert path.read_text().splitlines()[:2] == ["isic_id,group,fold", f"{ids[0]},{groups[0]},{fold[0]}"]
    some = np.random.default_rng(0).permutation(600)[:100]
    assert np.array_equal(read_folds(path, [ids[row] for row in some]), fold[some])
    assert os.listdir(tmp_path) == ["folds.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("isic_id,group\nI1,a\n", "has no column fold"),
        ("isic_id,fold\nI1,0\nI1,1\n", "isic_id I1 is in rows 2 and 3"),
        ("isic_id,fold\nI1,0\nI2,-1\n", "fold must be 0, 1, 2 or so on, got -1 in row 3"),
        ("isic_id,fold\nI1,0.5\nI2,1\n", "fold must be 0, 1, 2 or so on, got 0.5 in row 2"),
        ("isic_id,fold\nI1,\nI2,1\n", "fold must be 0, 1, 2 or so on, got nan in row 2"),
        ("isic_id,fold\nI1,0\nI2,val\n", "fold must be 0, 1, 2 or so on, got val in row 3"),
        ("isic_id,fold\nI1,0\n", "2 of 3 ids have no fold, the first is I2; make the folds again"),
    ],
)
def test_a_broken_folds_file_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "folds.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_folds(path, ["I1", "I2", "I3"])
    assert str(path) in str(caught.value)
    with pytest.raises(InputError, match="there is no file"):
        read_folds(tmp_path / "absent.csv", ["I1"])


def test_ids_hash_is_of_the_set() -> None:
    assert ids_hash(["b", "a"]) == ids_hash(["a", "b"]) == hashlib.sha256(b"a\nb").hexdigest()
    assert ids_hash(["a", "b"]) != ids_hash(["a", "c"])


def test_report_by_hand() -> None:
    target = np.array([1, 0, 0, 1, 0.0])
    groups = np.array(["a", "a", "b", "c", "c"])
    assert fold_report(target, groups, np.array([0, 0, 0, 1, 1])).splitlines() == [
        "fold     rows positives   groups prevalence",
        "   0        3         1        2    33.333%",
        "   1        2         1        1    50.000%",
        " all        5         2        3    40.000%",
    ]
