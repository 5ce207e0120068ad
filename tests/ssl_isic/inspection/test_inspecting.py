"""The command as a user meets it: killed and run again, with bad input, with a backbone."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from ssl_isic.errors import EXIT_FOUND, InputError
from ssl_isic.inspection.likeness import cosine_pairs
from ssl_isic.survey import main

PATIENCE_S = 120


@pytest.mark.slow
def test_a_killed_run_goes_on(clean: Any) -> None:
    for number in range(2000):
        clean.images[f"more_{number:05d}"] = clean.images["ISIC_0000003"]
    words = clean.write()
    command = [sys.executable, "-m", "ssl_isic.cli", "inspect", *words, "data.workers=1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    kept, deadline = clean.out / "scan" / "scan.bin", time.monotonic() + PATIENCE_S
    while not kept.exists() or kept.stat().st_size == 0:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (clean.out / "report.html").exists()
    before = kept.stat()
    assert main(words) == 0
    assert kept.stat().st_ino == before.st_ino
    assert kept.stat().st_size > before.st_size
    assert json.loads((clean.out / "report.json").read_text())["images"] == 2040


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("data.sources.here=nowhere.hdf5", "no such file: nowhere.hdf5"),
        ("data.tables.here=nowhere.csv", "there is no file nowhere.csv"),
        ("data.tables.elsewhere=nowhere.csv", "data.tables.elsewhere: there is no such source; data.sources has here"),
        ("folds=nowhere.csv", "there is no file nowhere.csv"),
        ("columns.clinic=hospital", "columns.clinic:"),
        ("columns.hospital=attribution", "unknown key columns.hospital"),
        ("near_duplicates.distance=99", "near_duplicates.distance: input should be less than or equal to 15"),
        ("backbone=nowhere", "backbone.weights: no such file or folder: nowhere"),
        ("backbone.model=resnet_81", "nothing says the size of images for resnet_81"),
        ("pictures=many", "pictures: input should be a valid integer"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    word: str, line: str, clean: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*clean.write(), word]) == 2
    errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("ssl-isic: ")]
    assert len(errors) == 1
    assert line in errors[0]
    assert not clean.out.exists()  # what is wrong is said before anything is read


def test_no_source_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "data is required; set data.sources.NAME=..." in capsys.readouterr().err


def test_folds_that_are_no_folds(clean: Any, capsys: pytest.CaptureFixture[str]) -> None:
    clean.folds["fold"] = clean.folds["fold"].astype(object)
    clean.folds.loc[2, "fold"] = "first"
    assert clean.run() == 2
    assert "fold must be 0, 1, 2 or so on, got first in row 4" in capsys.readouterr().err


def test_an_out_that_is_a_file(clean: Any, capsys: pytest.CaptureFixture[str]) -> None:
    clean.out.write_text("mine")
    assert clean.run() == 2
    assert capsys.readouterr().err.count("ssl-isic: ") == 1
    assert clean.out.read_text() == "mine"


@pytest.mark.parametrize("kind", ["hdf5", "folder"])
def test_an_image_that_cannot_be_read_has_its_line_on_the_page(
    kind: str, tmp_path: Path, jpeg_of: Any, texture_of: Any
) -> None:
    images = tmp_path / "images"
    if kind == "folder":
        images.mkdir()
        (images / "a.jpg").write_bytes(jpeg_of(texture_of(0)))
        (images / "b.jpg").symlink_to(tmp_path / "nowhere.jpg")
    else:
        with h5py.File(images, "w") as file:
            file["a"] = np.void(jpeg_of(texture_of(0)))
            file.create_group("b")
    assert main([f"data.sources.here={images}", f"out={tmp_path / 'out'}", "data.workers=0"]) == EXIT_FOUND
    assert "there are no bytes, or they cannot be read" in (tmp_path / "out" / "report.html").read_text()


def test_a_second_run_reads_no_image_again(clean: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    words = clean.write()
    assert main(words) == 0
    first = (clean.out / "report.json").read_text()
    monkeypatch.setattr("ssl_isic.inspection.scanning.describe", lambda data: pytest.fail("read again"))
    assert main([*words, "max_unreadable=0.02"]) == 0
    assert (clean.out / "report.json").read_text() == first


def test_a_backbone_finds_the_copy_that_it_was_given(clean: Any) -> None:
    clean.images["ISIC_0000014"] = clean.images["ISIC_0000013"]
    clean.words += ["backbone.model=test_resnet", "image_size=32", "cosine=0.9999", "near_duplicates.distance=0"]
    assert clean.run() == 0
    report = json.loads((clean.out / "report.json").read_text())
    assert report["duplicates"]["file"]["sets"] == 1
    assert report["duplicates"]["embedding"]["sets"] == 0  # nothing beyond what bytes have told
    assert (clean.out / "scan" / "features.bin").stat().st_size % (4 * 40) == 0


def test_cosine_pairs_are_numpys() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 4)).astype(np.float32) + 5
    rows = np.sort(rng.permutation(300)[:250])
    centred = features[rows] - features[rows].mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    wanted = {(rows[i], rows[j]) for i, j in np.argwhere(np.triu(unit @ unit.T >= 0.95, 1))}
    found = cosine_pairs(features, rows, 0.95, torch.device("cpu"))
    assert {tuple(pair) for pair in found.tolist()} == wanted
    assert len(found) == len(wanted) > 20


def test_cosine_pairs_over_several_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(1).normal(size=(100, 3)).astype(np.float32)
    whole = cosine_pairs(features, np.arange(100), 0.9, torch.device("cpu"))
    monkeypatch.setattr("ssl_isic.inspection.likeness.TILE", 32)
    tiled = cosine_pairs(features, np.arange(100), 0.9, torch.device("cpu"))
    assert sorted(map(tuple, tiled.tolist())) == sorted(map(tuple, whole.tolist()))


def test_a_backbone_to_which_all_is_alike_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_isic.inspection.likeness.MOST_PAIRS", 100)
    features = np.repeat(np.eye(2, dtype=np.float32), 40, axis=0)
    with pytest.raises(InputError, match=r"cosine=0\.95 joins more than 100 pairs"):
        cosine_pairs(features, np.arange(80), 0.95, torch.device("cpu"))
