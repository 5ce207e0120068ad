"""The submission is the mean of the folds' models, computed here again with plain timm; no image loses its row."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import simplejpeg
import timm
import torch
from numpy.typing import NDArray

import finetune.submitting
from finetune.submission import check_submission
from finetune.submit import main
from ssl_isic.data.workers import LoaderConfig


def by_plain_timm(run_dir: Path, jpegs: list[bytes], to_hsv: bool = False) -> NDArray[np.float64]:
    """Mean probability over the folds' models, (N,): area-resized to 32 px, normalised as each config.json says."""
    members = []
    for fold in range(3):
        folder = run_dir / f"fold-{fold}" / "model"
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        settings = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
        assert settings["input_size"] == [3, 32, 32]
        p = []
        for jpeg in jpegs:
            image = simplejpeg.decode_jpeg(jpeg)
            image = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL) if to_hsv else image
            pixels = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA)
            normalised = (pixels / 255 - settings["mean"]) / settings["std"]
            with torch.no_grad():
                logit = model(torch.tensor(normalised, dtype=torch.float32).permute(2, 0, 1)[None])
            p.append(logit.double().sigmoid().item())
        members.append(p)
    return np.mean(members, axis=0)


def write_sample(path: Path, ids: list[str]) -> Path:
    pd.DataFrame({"isic_id": ids, "target": 0.3}).to_csv(path, index=False)
    return path


def test_it_is_the_mean_of_the_models_in_the_samples_order(
    tmp_path: Path, finetuned: Path, lesions: Path, lesion_jpegs: dict[str, bytes]
) -> None:
    ids = list(lesion_jpegs)[:35:-1]  # the 12 without labels, backwards
    sample, out = write_sample(tmp_path / "sample.csv", ids), tmp_path / "submission.csv"
    words = [f"run_dir={finetuned}", f"images={lesions}", f"sample={sample}", f"out={out}"]
    assert main([*words, "batch_size=5", "workers=1"]) == 0
    scores = check_submission(out, sample)
    assert pd.read_csv(out)["isic_id"].tolist() == ids
    assert np.allclose(scores, by_plain_timm(finetuned, [lesion_jpegs[name] for name in ids]), rtol=1e-5, atol=0)
    assert len({*scores}) == 12
    assert not (tmp_path / "submission_bad_images.csv").exists()


def test_images_are_cleaned_as_the_models_images_were(
    tmp_path: Path, finetuned: Path, lesions: Path, lesion_jpegs: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, ids, out = tmp_path / "run", list(lesion_jpegs)[36:], tmp_path / "submission.csv"
    shutil.copytree(finetuned, run_dir)
    listed = json.loads((run_dir / "models.json").read_text())
    sample = write_sample(tmp_path / "sample.csv", ids)
    words = [f"run_dir={run_dir}", f"images={lesions}", f"sample={sample}", f"out={out}", "workers=0"]
    (run_dir / "models.json").write_text(json.dumps({**listed, "clean": ["hsv"]}))
    assert main(words) == 0
    expected = by_plain_timm(run_dir, [lesion_jpegs[name] for name in ids], to_hsv=True)
    assert np.allclose(check_submission(out, sample), expected, rtol=1e-5, atol=0)
    assert main([*words, "clean=[hair]"]) == 2
    assert "unknown key clean" in capsys.readouterr().err
    (run_dir / "models.json").write_text(json.dumps({**listed, "clean": ["hvs"]}))
    assert main(words) == 2
    assert "no cleaning is called hvs; did you mean hsv?" in capsys.readouterr().err


def test_images_are_decoded_as_the_models_images_were(
    tmp_path: Path, finetuned: Path, lesions: Path, lesion_jpegs: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, ids, decoded = tmp_path / "run", list(lesion_jpegs)[36:], list[str]()
    shutil.copytree(finetuned, run_dir)
    predict_folder = finetune.submitting.predict_folder

    def seen(*given: Any, loader: LoaderConfig, **named: Any) -> Any:
        decoded.append(loader.decode)
        return predict_folder(*given, loader=loader, **named)

    monkeypatch.setattr(finetune.submitting, "predict_folder", seen)
    sample = write_sample(tmp_path / "sample.csv", ids)
    words = [f"run_dir={run_dir}", f"images={lesions}", f"sample={sample}", f"out={tmp_path / 's.csv'}", "workers=0"]
    assert main(words) == 0
    listed = json.loads((run_dir / "models.json").read_text())
    assert listed["decode"] == "reduced"
    (run_dir / "models.json").write_text(json.dumps({**listed, "decode": "full"}))
    assert main(words) == 0
    assert main([*words, "decode=reduced"]) == 0
    assert decoded == ["reduced"] * 3 + ["full"] * 3 + ["reduced"] * 3


def test_an_image_that_cannot_be_read_gets_the_mean_of_the_others_and_is_named(
    tmp_path: Path,
    finetuned: Path,
    lesion_jpegs: dict[str, bytes],
    write_hdf5: Callable[[Path, Mapping[str, bytes]], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = list(lesion_jpegs)[36:40]
    images = {name: lesion_jpegs[name] for name in ids[:3]}
    images[ids[1]] = images[ids[1]][:300]  # truncated; and ids[3] is not there
    store = write_hdf5(tmp_path / "test.hdf5", images)
    sample, out = write_sample(tmp_path / "sample.csv", ids), tmp_path / "made" / "submission.csv"
    assert main([f"run_dir={finetuned}", f"images={store}", f"sample={sample}", f"out={out}", "workers=0"]) == 0
    scores = check_submission(out, sample)
    assert scores[[1, 3]] == pytest.approx([scores[[0, 2]].mean()] * 2, rel=1e-12)
    expected = by_plain_timm(finetuned, [lesion_jpegs[ids[0]], lesion_jpegs[ids[2]]])
    assert np.allclose(scores[[0, 2]], expected, rtol=1e-5, atol=0)
    assert (tmp_path / "made" / "submission_bad_images.csv").read_text().split() == ["isic_id", ids[1], ids[3]]
    assert "2 images are missing or do not decode and got the mean of the others: see" in capsys.readouterr().out


def test_wrong_input_is_one_line_and_writes_nothing(
    tmp_path: Path, finetuned: Path, lesions: Path, lesion_jpegs: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    ids, out = list(lesion_jpegs)[36:], tmp_path / "submission.csv"
    sample = write_sample(tmp_path / "sample.csv", ids)
    strangers = write_sample(tmp_path / "strangers.csv", ["ISIC_1", "ISIC_2"])
    broken = tmp_path / "broken"
    for fold in range(3):
        (broken / f"fold-{fold}").mkdir(parents=True)
    (broken / "models.json").write_text((finetuned / "models.json").read_text())

    def refused(run_dir: Path, images: Path, sample: Path) -> str:
        assert main([f"run_dir={run_dir}", f"images={images}", f"sample={sample}", f"out={out}", "workers=0"]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    assert f"{lesions} holds none of the 2 ids of {strangers}" in refused(finetuned, lesions, strangers)
    assert "is " + str(tmp_path) + " a finished fine-tuning" in refused(tmp_path, lesions, sample)
    assert f"cannot load the model in {broken / 'fold-0' / 'model'}" in refused(broken, lesions, sample)
    assert "no such file: /nowhere.hdf5" in refused(finetuned, Path("/nowhere.hdf5"), sample)
    assert "is not a readable HDF5 file" in refused(finetuned, sample, sample)
    assert "there is no file /nowhere.csv" in refused(finetuned, lesions, Path("/nowhere.csv"))
    assert not out.exists()
