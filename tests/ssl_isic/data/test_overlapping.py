"""`ssl-isic overlap` finds evaluation images among pretraining images, whatever their ids, and says of which source."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ssl_isic import overlap
from ssl_isic.data.images import ImagePool
from ssl_isic.data.overlapping import read_overlap
from ssl_isic.errors import InputError
from ssl_isic.pool import Pool, PoolConfig


@pytest.fixture
def words(labelled_set: Any, write_hdf5: Any, tmp_path: Path) -> list[str]:
    """Source `old` has image 0 under its own id and image 59, which is the same; `new` has image 7 under another id."""
    jpegs = labelled_set.jpegs
    ids = list(jpegs)
    old = write_hdf5(tmp_path / "old.hdf5", {ids[0]: jpegs[ids[0]], ids[59]: jpegs[ids[59]], ids[9]: jpegs[ids[9]]})
    new = write_hdf5(tmp_path / "new.hdf5", {"X1": jpegs[ids[7]], "X2": jpegs[ids[50]]})
    labelled_set.frame.iloc[:9][["isic_id"]].to_csv(tmp_path / "table.csv", index=False)
    out = tmp_path / "out" / "overlap.csv"
    return [f"pretrain.old={old}", f"pretrain.new={new}", f"images={labelled_set.images}", "workers=0", f"out={out}"]


def test_pairs_and_counts(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert overlap.main([*words, f"table={tmp_path / 'table.csv'}"]) == 0
    out = tmp_path / "out" / "overlap.csv"
    found = pd.read_csv(out)
    assert found[["evaluation_id", "source", "isic_id"]].to_numpy().tolist() == [
        ["ISIC_0000000", "old", "ISIC_0000000"],
        ["ISIC_0000000", "old", "ISIC_0000059"],
        ["ISIC_0000007", "new", "X1"],
    ]
    counts = json.loads(out.with_suffix(".json").read_text())
    assert counts["evaluation_images"] == 9
    keys = ("images", "same_picture", "evaluation_images", "other_id")
    assert {name: tuple(one[key] for key in keys) for name, one in counts["sources"].items()} == {
        "old": (3, 2, 1, 0),
        "new": (2, 1, 1, 1),
    }
    pool = Pool(PoolConfig(sources={"old": tmp_path / "old.hdf5"}), ImagePool({"old": tmp_path / "old.hdf5"}))
    of_ids = f"3 ids, sha256 {counts['sources']['old']['ids_sha256']}"
    assert pool.hashes()["data.sources.old"].startswith(of_ids), "so an overlap can be held to a run"
    assert "of 9 evaluation images" in capsys.readouterr().out


def test_counts_are_of_the_images_that_are_evaluated(words: list[str], labelled_set: Any, tmp_path: Path) -> None:
    assert overlap.main(words) == 0
    out, ids = tmp_path / "out" / "overlap.csv", labelled_set.frame["isic_id"].tolist()
    assert read_overlap(out, ids[::-1]).sources["old"].evaluation_images == 3, "0, 59, which is the same, and 9"
    with pytest.raises(InputError, match="is about 60 other images than the 59 that are evaluated"):
        read_overlap(out, ids[1:])
    with pytest.raises(InputError, match="there is no file"):
        read_overlap(tmp_path / "none.csv", ids)
    out.with_suffix(".json").write_text("{}")
    with pytest.raises(InputError, match="does not hold the counts"):
        read_overlap(out, ids)


def test_what_is_refused(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pd.DataFrame({"isic_id": ["ISIC_0000000", "Y"]}).to_csv(tmp_path / "other.csv", index=False)
    for more, message in (
        (f"table={tmp_path / 'other.csv'}", "1 of 2 ids of"),
        (f"pretrain.evaluation={tmp_path / 'old.hdf5'}", "that is the name of the other side"),
        (f"out={tmp_path / 'x.json'}", "is where the counts go"),
        (f"images={tmp_path / 'nowhere.hdf5'}", "no such file"),
    ):
        assert overlap.main([*words, more]) == 2
        err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ssl-isic")]
        assert len(err) == 1
        assert message in err[0]
    assert not (tmp_path / "out").exists()
