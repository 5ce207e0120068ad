"""Which columns of a table a model may read: none that the test set lacks, and none that says the answer.

ISIC-2024's training table has 55 columns and its test table 44; the eleven others come from the biopsy or from the vendor's
own classifier, and a model that reads one of them cannot be submitted. They may be targets of an auxiliary loss.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from ssl_isic.data.tables import read_header, require_column
from ssl_isic.errors import InputError

TRAIN_ONLY = (
    "target",
    "lesion_id",
    "iddx_full",
    "iddx_1",
    "iddx_2",
    "iddx_3",
    "iddx_4",
    "iddx_5",
    "mel_mitotic_index",
    "mel_thick_mm",
    "tbp_lv_dnn_lesion_confidence",
)
"""Columns of ISIC-2024's train-metadata.csv that its test-metadata.csv has not."""


def _for_inputs(columns: list[str]) -> list[str]:
    for column in columns:
        if column in TRAIN_ONLY:
            raise ValueError(
                f"{column} is not in ISIC-2024's test set, and a model that reads it cannot be submitted; "
                "take it out, or make it an auxiliary target"
            )
    return columns


InputColumns = Annotated[list[str], AfterValidator(_for_inputs)]
"""Columns that a model reads; the type refuses those of `TRAIN_ONLY`. Auxiliary targets are a plain list[str]."""


def check_inputs(inputs: Sequence[str], target: str, table: Path, test_table: Path | None) -> None:
    """Refuse columns that a model cannot read when it counts.

    Args:
        inputs: the columns that it reads, of `table`.
        target: the column that it predicts.
        test_table: what it will be asked about; null checks only `table`.

    Raises:
        InputError: a column that is the target, that the test set of ISIC-2024 lacks, or that is not in one of the tables.
    """
    here = read_header(table)
    for column in inputs:
        require_column(here, column, table)
        try:
            _for_inputs([column])
        except ValueError as error:
            raise InputError(f"{table}: {error}") from None
        if column == target:
            raise InputError(f"{table}: {column} is the target, which no model may read; take it out of the inputs")
    if test_table is None:
        return
    there = read_header(test_table)
    for column in inputs:
        if column not in there:
            raise InputError(
                f"{test_table} has no column {column}, which {table} has: a model that reads it cannot be used there; "
                "take it out of the inputs, or make it an auxiliary target"
            )
