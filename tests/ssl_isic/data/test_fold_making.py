"""`ssl-isic folds`: groups of columns and pictures in one fold, clinics held out, a file for each seed, a manifest for each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl_isic import folds
from ssl_isic.data.folds import check_folds, fold_report, ids_hash, make_folds, read_folds
from ssl_isic.data.grouping import texts_hash
from ssl_isic.data.manifest import read_manifest


def split(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"group": str}).set_index("isic_id")


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert folds.main(words) == 2
    message = capsys.readouterr().err
    assert message.startswith("ssl-isic: ")
    assert message.count("\n") == 1
    return message


def test_one_column_as_ever(labelled_set: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = labelled_set.frame.drop(columns="lesion_id")
    table.to_csv(tmp_path / "t.csv", index=False)
    out = tmp_path / "new" / "folds.csv"
    assert folds.main([f"table={tmp_path / 't.csv'}", f"out={out}", "folds=3", "seed=4"]) == 0
    ids, target, groups = table["isic_id"].tolist(), table["target"].to_numpy(float), table["patient_id"].to_numpy(str)
    assert np.array_equal(read_folds(out, ids), make_folds(ids, target, groups, 3, seed=4))
    assert split(out)["group"].tolist() == groups.tolist()
    assert fold_report(target, groups, read_folds(out, ids)) in capsys.readouterr().out


def test_columns_and_pictures_are_joined_and_the_manifest_says_so(labelled_set: Any, tmp_path: Path) -> None:
    out = tmp_path / "folds.csv"
    words = [
        f"table={labelled_set.table}",
        f"images={labelled_set.images}",
        "groups=[patient_id, lesion_id]",
        "workers=0",
    ]
    assert folds.main([*words, f"out={out}", "folds=3"]) == 0
    made, frame = split(out), labelled_set.frame
    together = made.loc[frame["isic_id"].iloc[[0, 1, 58, 59]]]  # by patient, by lesion, by picture
    assert together["fold"].nunique() == together["group"].nunique() == 1
    assert set(together["group"]) == {"ISIC_0000000"}
    check_folds(frame["target"].to_numpy(float), made["group"].to_numpy(str), made["fold"].to_numpy())
    manifest = json.loads((tmp_path / "folds.json").read_text())
    ids = frame["isic_id"].tolist()
    assert manifest["ids_sha256"] == ids_hash(ids)
    assert manifest["folds_sha256"] == texts_hash(ids, made["fold"].tolist())
    assert manifest["columns"]["lesion_id"] == texts_hash(ids, frame["lesion_id"].fillna("").tolist())
    assert (manifest["rows"], manifest["groups"], manifest["folds"], manifest["protocol"]) == (60, 29, 3, "groups")
    assert manifest["near_duplicates"] == {
        "images": "images.hdf5",
        "distance": 7,
        "correlation": 0.75,
        "flips": False,
        "pairs": 1,
    }


def test_a_file_for_each_seed(labelled_set: Any, tmp_path: Path) -> None:
    words = [f"table={labelled_set.table}", "groups=[patient_id, lesion_id]", "folds=3", f"out={tmp_path / 'f.csv'}"]
    assert folds.main([*words, "seeds=[0,1,5]"]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"f-seed{seed}{end}" for seed in (0, 1, 5) for end in (".csv", ".json")]
    assert folds.main([*words, "seed=5"]) == 0
    assert (tmp_path / "f.csv").read_bytes() == (tmp_path / "f-seed5.csv").read_bytes()
    assert not np.array_equal(split(tmp_path / "f-seed0.csv")["fold"], split(tmp_path / "f.csv")["fold"])


def test_clinics_are_held_out_whole_and_those_that_share_a_patient_together(
    labelled_set: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"table={labelled_set.table}", "groups=[patient_id, lesion_id]", "protocol=clinics"]
    out = tmp_path / "folds.csv"
    assert folds.main([*words, "folds=5", f"out={out}"]) == 0
    said = capsys.readouterr().out
    assert "clinic A and clinic F share 1 groups, the first ISIC_0000000: they are held out together" in said
    made = split(out).join(labelled_set.frame.set_index("isic_id"))
    assert made.groupby("attribution")["fold"].nunique().max() == 1
    assert (
        made.groupby("fold")["attribution"].unique().map(sorted).map(tuple).tolist().count(("clinic A", "clinic F"))
        == 1
    )
    assert made["group"].nunique() == 29, "the bootstrap's groups are patients, not clinics"
    manifest = read_manifest(out)
    assert manifest is not None
    assert sorted(map(tuple, manifest.clinics.values()))[0] == ("clinic A", "clinic F")
    assert set(manifest.columns) == {"patient_id", "lesion_id", "attribution"}
    message = refused([*words, "folds=6", f"out={tmp_path / 'more.csv'}"], capsys)
    assert "the 6 clinics of attribution make 5 folds at most" in message
    assert not (tmp_path / "more.csv").exists()


def test_what_is_refused(labelled_set: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = f"table={labelled_set.table}", f"out={tmp_path / 'folds.csv'}"
    assert "has no column patient; did you mean patient_id?" in refused([table, out, "group=patient"], capsys)
    assert "lesion_id is empty in row 2 (58 such rows)" in refused([table, out, "group=lesion_id"], capsys)
    message = refused([table, out, "group=none", "seed=1"], capsys)
    assert "add it to groups, or drop it from" in message
    assert "rows that leak: " in message
    assert "100 folds need 100 groups with positives" in refused([table, out, "group=none", "folds=100"], capsys)
    assert "is where the manifest goes" in refused([table, f"out={tmp_path / 'folds.json'}"], capsys)
    assert "seeds=[1, 1]: name each seed once" in refused([table, out, "seeds=[1,1]"], capsys)
    other = tmp_path / "other"
    other.mkdir()
    (other / "X.jpg").write_bytes(b"")
    assert "holds none of the 60 ids" in refused([table, out, f"images={other}"], capsys)
    assert "near_duplicates.distance" in refused([table, out, "near_duplicates.distance=40"], capsys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_real_lesions_stay_in_one_fold(shared_data: Path, tmp_path: Path) -> None:
    table, out = shared_data / "ham10000-metadata.csv", tmp_path / "folds.csv"
    assert folds.main([f"table={table}", f"out={out}"]) == 0
    plain = pd.read_csv(table).merge(pd.read_csv(out), on="isic_id")
    assert len(plain) == 10_015
    assert plain.groupby("lesion_id")["fold"].nunique().max() == 1
    assert plain.groupby("fold")["target"].mean().to_numpy() == pytest.approx(plain["target"].mean(), abs=0.001)
