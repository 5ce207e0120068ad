"""Rows that survive a kill."""

from pathlib import Path

import numpy as np
import pytest

from ssl_isic.data.kept_rows import KeptRows

PAIRS = np.arange(20, dtype=np.int32).reshape(10, 2)


def kept(folder: Path, plan: str = "a") -> KeptRows:
    return KeptRows(folder, "rows", {"plan": plan}, 10, np.dtype(np.int32), (2,))


def test_rows_cut_in_the_middle_are_written_again(tmp_path: Path) -> None:
    with kept(tmp_path).appending() as file:
        file.append(PAIRS[:4])
    with kept(tmp_path).path.open("ab") as torn:
        torn.write(b"\1\2\3")  # a row of 8 bytes of which 3 were written
    assert kept(tmp_path).done() == 4
    with kept(tmp_path).appending() as file:
        file.append(PAIRS[4:])
    assert np.array_equal(kept(tmp_path).read(), PAIRS)


def test_rows_of_another_plan_count_nothing_and_go(tmp_path: Path) -> None:
    with kept(tmp_path).appending() as file:
        file.append(PAIRS)
    assert kept(tmp_path, "b").done() == 0
    with kept(tmp_path, "b").appending() as file:
        file.append(PAIRS[:1] + 1)
    assert kept(tmp_path, "b").done() == 1
    assert kept(tmp_path).done() == 0


def test_rows_that_are_not_all_there_are_not_read(tmp_path: Path) -> None:
    with kept(tmp_path).appending() as file:
        file.append(PAIRS[:9])
    with pytest.raises(ValueError, match="9 of 10 rows"):
        kept(tmp_path).read()


def test_rows_that_are_forgotten_leave_nothing_but_what_others_put_there(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    with kept(folder).appending() as file:
        file.append(PAIRS)
    (folder / "mine.txt").write_text("mine")
    kept(folder).forget()
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    kept(folder).forget()
    assert not folder.exists()
