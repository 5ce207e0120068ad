"""`submission.csv`: written so that it is accepted, read back as Kaggle reads it before it gets its name."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssl_isic.data.tables import encode_ids, match_ids, read_table
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write

COLUMNS = ["isic_id", "target"]


def write_submission(path: Path, ids: Sequence[str], scores: NDArray[np.float64], sample: Path | None) -> int:
    """Write `scores` of `ids` (probabilities, float64, all digits) in the order of the `sample`; without one, as given.

    Returns the number of ids that the sample does not ask for; they are left out. A file already at `path` stands
    until the new one has passed `check_submission`.

    Raises:
        InputError: a score that is NaN or outside [0, 1]; repeated ids; ids of the sample without a score.
        ValueError: not one score an id.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.shape != (len(ids),):
        raise ValueError(f"one score an id is needed, got {scores.shape} for {len(ids)} ids")
    _check_scores("the scores", ids, scores)
    by_id = np.argsort(encode_ids(ids), kind="stable")
    stored = encode_ids(ids)[by_id]
    repeated = np.flatnonzero(stored[1:] == stored[:-1])
    if repeated.size:
        raise InputError(f"{stored[repeated[0]].decode()} has more than one score; keep one score an image")
    surplus = 0
    if sample is not None:
        ids = read_table(sample)["isic_id"].tolist()
        match = match_ids(ids, stored)
        if match.missing:
            count, first = len(match.missing), match.missing[0]
            raise InputError(
                f"{count} of the {len(ids)} ids in {sample} have no score, the first is {first}; predict them"
            )
        scores, surplus = scores[by_id[match.rows]], match.surplus
    with atomic_write(path) as temporary:
        text = [repr(score) for score in scores.tolist()]
        pd.DataFrame({"isic_id": ids, "target": text}).to_csv(temporary, index=False)
        if not np.array_equal(check_submission(temporary, sample), scores):
            raise InputError(f"{path} does not read back as it was written; check the disk and write it again")
    return surplus


def check_submission(path: Path, sample: Path | None) -> NDArray[np.float64]:
    """Read a submission and return its scores, (rows,), to the last bit; refuse what Kaggle would refuse.

    Raises:
        InputError: columns other than isic_id,target; repeated ids; ids unlike the sample's or in another order; a
            score that is not a number in [0, 1].
    """
    table = read_table(path, COLUMNS)
    if list(table.columns) != COLUMNS:
        raise InputError(f"{path}: the columns must be {','.join(COLUMNS)}, got {','.join(table.columns)}")
    ids = table["isic_id"].tolist()
    _check_scores(str(path), ids, pd.to_numeric(table["target"], errors="coerce").to_numpy(dtype=np.float64))
    if sample is not None:
        _check_order(path, ids, sample)
    text = pd.read_csv(path, dtype=str)["target"]
    return np.array([float(score) for score in text], dtype=np.float64)  # pandas 2 may round a number's last bit


def _check_scores(source: str, ids: Sequence[str], scores: NDArray[np.float64]) -> None:
    broken = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if broken.size:
        first = broken[0]
        raise InputError(
            f"{source}: {broken.size} of {scores.size} are not numbers in [0, 1], the first is {scores[first]} of "
            f"{ids[first]}; turn logits into probabilities"
        )


def _check_order(path: Path, ids: list[str], sample: Path) -> None:
    wanted = read_table(sample)["isic_id"].tolist()
    for row, (got, asked) in enumerate(zip(ids, wanted, strict=False), start=2):
        if got != asked:
            raise InputError(f"{path}: row {row} is {got} where {sample} has {asked}; keep the sample's order")
    if len(ids) != len(wanted):
        raise InputError(f"{path} has {len(ids)} rows and {sample} {len(wanted)}; predict every image of the sample")
