"""Planted leaks are each caught by `ssl-isic leaks`, which names the rows; an honest set passes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ssl_isic import folds, leaks
from ssl_isic.data.folds import ids_hash
from ssl_isic.data.grouping import texts_hash

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def files(labelled_set: Any, tmp_path: Path) -> dict[str, Path]:
    """Sound folds of the set with their manifest, and a copy of its table."""
    table = tmp_path / "table.csv"
    table.write_bytes(labelled_set.table.read_bytes())
    words = [
        f"table={table}",
        f"images={labelled_set.images}",
        "groups=[patient_id, lesion_id]",
        "workers=0",
        "folds=3",
    ]
    assert folds.main([*words, f"out={tmp_path / 'folds.csv'}"]) == 0
    return {"folds": tmp_path / "folds.csv", "table": table, "images": labelled_set.images}


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Check:
    """Runs the command; returns its code, what it printed and its one line of complaint."""

    def run(files: dict[str, Path], *words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = leaks.main([*(f"{key}={path}" for key, path in files.items()), "workers=0", *words])
        out, err = capsys.readouterr()
        complaint = [line for line in err.splitlines() if line.startswith("ssl-isic")]
        assert len(complaint) == (code == 2)
        return code, out, " ".join(complaint)

    return run


def move(path: Path, row: int) -> tuple[str, int, int]:
    """Put one row of a folds.csv into the next fold; returns its id, its fold, and its new one."""
    frame = pd.read_csv(path, dtype=str)
    old = int(frame.loc[row, "fold"])
    frame.loc[row, "fold"] = str((old + 1) % 3)
    frame.to_csv(path, index=False)
    return frame.loc[row, "isic_id"], old, (old + 1) % 3


def test_honest_folds_pass(files: dict[str, Path], check: Check) -> None:
    code, out, _ = check(files)
    assert code == 0
    assert "no leaks by patient_id, lesion_id, near-duplicates (1 pairs); sha256 of folds.json" in out


def test_a_changed_folds_file(files: dict[str, Path], check: Check) -> None:
    move(files["folds"], 7)
    code, _, err = check(files)
    assert code == 2
    assert (
        f"{files['folds']}: its folds are not those that {files['folds'].with_suffix('.json')} was written with" in err
    )
    frame = pd.read_csv(files["folds"])
    frame.iloc[1:].to_csv(files["folds"], index=False)
    assert "1 of 60 ids have no fold, the first is ISIC_0000000" in check(files)[2]


def test_a_patient_in_two_folds(files: dict[str, Path], check: Check) -> None:
    files["folds"].with_suffix(".json").unlink()
    name, old, new = move(files["folds"], 7)
    code, _, err = check(files, f"out={files['folds'].parent / 'leaks.csv'}")
    assert code == 2
    assert f"{files['folds']} leaks: patient_id P03 is in folds {old} and {new} (ISIC_0000006 and {name})" in err
    assert "rows that leak: 1 by patient_id;" in err
    found = pd.read_csv(files["folds"].parent / "leaks.csv")
    assert found.iloc[0].tolist() == ["patient_id", "P03", "ISIC_0000006", old, name, new]


def test_a_lesion_in_two_folds_whatever_the_groups(files: dict[str, Path], check: Check) -> None:
    frame = pd.read_csv(files["folds"], dtype=str).drop(columns="group")
    other = str((int(frame.loc[0, "fold"]) + 1) % 3)
    frame.loc[[58, 59], "fold"] = other  # the patient moves whole, and tears the lesion and the picture
    frame.to_csv(files["folds"], index=False)
    files["folds"].with_suffix(".json").unlink()
    assert "lesion_id L1 is in folds" in check(files)[2]
    assert "1 by lesion_id, 1 by near-duplicates" in check(files)[2]
    table = pd.read_csv(files["table"]).drop(columns="lesion_id")
    table.to_csv(files["table"], index=False)
    assert "near-duplicates are in folds" in check(files)[2]
    assert "(ISIC_0000000 and ISIC_0000059); rows that leak: 1 by near-duplicates" in check(files)[2]
    del files["images"]
    assert check(files)[0] == 0, "without images nobody sees it"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table.assign(patient_id=table["patient_id"].replace("P05", "P77")),
            "patient_id is not what it was",
        ),
        (lambda table: table.iloc[:-1], "has 59 ids, and"),
        (lambda table: table.drop(columns="lesion_id"), "has no column lesion_id"),
    ],
)
def test_a_changed_table(files: dict[str, Path], check: Check, change: Any, message: str) -> None:
    change(pd.read_csv(files["table"], dtype=str)).to_csv(files["table"], index=False)
    code, _, err = check(files)
    assert code == 2
    assert f"{files['table']}" in err
    assert message in err


def test_a_train_only_column(files: dict[str, Path], check: Check, tmp_path: Path) -> None:
    assert "inputs: lesion_id is not in ISIC-2024's test set" in check(files, "inputs=[attribution, lesion_id]")[2]
    test = tmp_path / "test.csv"
    pd.DataFrame({"isic_id": ["x"], "patient_id": ["y"]}).to_csv(test, index=False)
    assert f"{test} has no column attribution" in check(files, "inputs=[attribution]", f"test_table={test}")[2]
    assert "name them" in check(files, f"test_table={test}")[2]
    assert check(files, "inputs=[attribution]")[0] == 0


def test_a_manifest_that_is_none(files: dict[str, Path], check: Check) -> None:
    manifest = files["folds"].with_suffix(".json")
    for text in ("{}", "no json", json.dumps({**json.loads(manifest.read_text()), "seed": "x"})):
        manifest.write_text(text)
        assert f"{manifest} is not the manifest of folds" in check(files)[2]


def test_ten_thousand_honest_rows(tmp_path: Path, check: Check) -> None:
    """Sound folds of 10,000 rows without images are made and checked."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"isic_id": [f"ISIC_{row:07d}" for row in range(10_000)]})
    frame["patient_id"] = [f"P{number}" for number in np.minimum(rng.exponential(60, 10_000).astype(int), 400)]
    frame["lesion_id"] = [f"L{row // 3}" if row % 10 == 0 else None for row in range(10_000)]
    frame["target"] = (rng.random(10_000) < 0.05).astype(int)
    frame.to_csv(tmp_path / "table.csv", index=False)
    paths = {"table": tmp_path / "table.csv"}
    assert (
        folds.main([f"table={paths['table']}", "groups=[patient_id,lesion_id]", f"out={tmp_path / 'folds.csv'}"]) == 0
    )
    assert check({**paths, "folds": tmp_path / "folds.csv"})[0] == 0
    manifest = json.loads((tmp_path / "folds.json").read_text())
    assert manifest["ids_sha256"] == ids_hash(frame["isic_id"])
    assert manifest["columns"]["patient_id"] == texts_hash(frame["isic_id"].tolist(), frame["patient_id"].tolist())
