"""Columns that the test set lacks are refused as inputs, by name and by comparison; as auxiliary targets they are fine."""

from pathlib import Path

import pandas as pd
import pytest

from ssl_isic.config import Config, validate
from ssl_isic.data.columns import TRAIN_ONLY, InputColumns, check_inputs
from ssl_isic.errors import InputError


class Model(Config):
    """A model of a table, as a user would configure one."""

    inputs: InputColumns = []
    """What it reads."""
    auxiliary: list[str] = []
    """What it predicts besides."""


@pytest.mark.parametrize("column", TRAIN_ONLY)
def test_a_configuration_refuses_a_train_only_column_as_input_and_allows_it_as_target(column: str) -> None:
    with pytest.raises(InputError, match=f"inputs: {column} is not in ISIC-2024's test set.*auxiliary target"):
        validate(Model, {"inputs": ["sex", column]}, source="model.yaml")
    model = validate(Model, {"inputs": ["sex"], "auxiliary": [column]}, source="model.yaml")
    assert model.auxiliary == [column]


def test_a_column_that_the_test_table_lacks_is_refused(tmp_path: Path) -> None:
    train, test = tmp_path / "train.csv", tmp_path / "test.csv"
    pd.DataFrame({"isic_id": ["a"], "target": [0], "malignant": [0], "age": [1], "biopsy": ["x"]}).to_csv(
        train, index=False
    )
    pd.DataFrame({"isic_id": ["b"], "age": [2]}).to_csv(test, index=False)
    check_inputs(["age"], "target", train, test)
    check_inputs(["age", "biopsy"], "target", train, None)
    for inputs, target, message in (
        (["age", "biopsy"], "target", f"{test} has no column biopsy, which {train} has"),
        (["target"], "target", f"{train}: target is not in ISIC-2024's test set"),
        (["malignant"], "malignant", f"{train}: malignant is the target"),
        (["ages"], "target", f"{train} has no column ages; did you mean age?"),
    ):
        with pytest.raises(InputError) as caught:
            check_inputs(inputs, target, train, test)
        assert str(caught.value).startswith(message)


def test_the_list_is_what_the_real_tables_differ_in(shared_data: Path) -> None:
    train, test = (
        pd.read_csv(shared_data / name, nrows=1).columns
        for name in ("isic2024-fullschema-metadata.csv", "test-metadata.csv")
    )
    assert (len(train), len(test)) == (55, 44)
    assert set(train) - set(test) == set(TRAIN_ONLY)
