"""Features keep their order and their rows; they are plain timm's, on one process as on two."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import simplejpeg
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from ssl_isic.embed import main
from ssl_isic.evaluation.source import Embedder

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]


def by_plain_timm(folder: Path, jpegs: list[bytes], conversion: int | None = None) -> NDArray[np.float32]:
    """Features (N, D) of one batch: area-resized to 32 px, normalised as the folder's config.json says."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    mean, std = (255 * torch.tensor(model.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    images = [simplejpeg.decode_jpeg(jpeg) for jpeg in jpegs]
    images = images if conversion is None else [cv2.cvtColor(image, conversion) for image in images]
    images = [cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA) for image in images]
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float()
    with torch.no_grad():
        features: NDArray[np.float32] = model((pixels - mean) / std).numpy()
    return features


def write_table(path: Path, ids: list[str]) -> Path:
    pd.DataFrame({"isic_id": ids}).to_csv(path, index=False)
    return path


def test_features_are_plain_timms_to_the_last_bit_in_the_tables_order(
    tmp_path: Path, backbone_folder: Path, lesions: Path, lesion_jpegs: dict[str, bytes]
) -> None:
    ids = list(lesion_jpegs)[40:5:-3]
    table, out = write_table(tmp_path / "table.csv", ids), tmp_path / "made" / "features.npy"
    words = [f"backbone={backbone_folder}", f"images={lesions}", f"table={table}", f"out={out}", "workers=0"]
    assert main(words) == 0
    features = np.load(out)
    assert features.dtype == np.float32
    assert np.array_equal(features, by_plain_timm(backbone_folder, [lesion_jpegs[name] for name in ids]))
    named = pd.read_csv(out.parent / "features.ids.csv")
    assert named["isic_id"].tolist() == ids
    assert named["readable"].all()
    assert sorted(path.name for path in out.parent.iterdir()) == ["features.ids.csv", "features.npy"]


def test_images_are_cleaned_as_the_weights_say_or_as_the_key_says(
    tmp_path: Path, backbone_folder: Path, lesions: Path, lesion_jpegs: dict[str, bytes]
) -> None:
    folder = tmp_path / "backbone"
    shutil.copytree(backbone_folder, folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "clean": ["hsv"]}))
    found = dict[str, NDArray[np.float32]]()
    for name, words in {"null": [], "none": ["clean=[]"], "lab": ["clean=[lab]"]}.items():
        out = tmp_path / f"{name}.npy"
        assert main([f"backbone={folder}", f"images={lesions}", f"out={out}", "workers=0", *words]) == 0
        found[name] = np.load(out)
    jpegs = list(lesion_jpegs.values())
    assert np.array_equal(found["none"], by_plain_timm(folder, jpegs))
    for name, code in {"null": cv2.COLOR_RGB2HSV_FULL, "lab": cv2.COLOR_RGB2LAB}.items():
        assert np.array_equal(found[name], by_plain_timm(folder, jpegs, code))


def test_without_a_table_it_is_every_image_in_the_order_of_their_ids_whatever_the_batch(
    tmp_path: Path, backbone_folder: Path, lesions: Path, lesion_jpegs: dict[str, bytes]
) -> None:
    out = tmp_path / "features.npy"
    words = [f"backbone={backbone_folder}", f"images={lesions}", f"out={out}", "workers=1", "batch_size=7"]
    assert main(words) == 0
    assert pd.read_csv(tmp_path / "features.ids.csv")["isic_id"].tolist() == sorted(lesion_jpegs)
    expected = by_plain_timm(backbone_folder, [lesion_jpegs[name] for name in sorted(lesion_jpegs)])
    assert np.allclose(np.load(out), expected, rtol=1e-4, atol=1e-6)


def test_an_image_that_cannot_be_read_keeps_its_row_as_zeros_and_is_named(
    tmp_path: Path,
    backbone_folder: Path,
    lesion_jpegs: dict[str, bytes],
    write_hdf5: WriteHdf5,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids = list(lesion_jpegs)[:4]
    images = {name: lesion_jpegs[name] for name in ids[:3]}
    images[ids[1]] = images[ids[1]][:300]  # truncated; and ids[3] is not there
    store, table = write_hdf5(tmp_path / "images.hdf5", images), write_table(tmp_path / "table.csv", ids)
    words = [f"backbone={backbone_folder}", f"images={store}", f"table={table}", f"out={tmp_path / 'f.npy'}"]
    assert main([*words, "workers=0"]) == 0
    features = np.load(tmp_path / "f.npy")
    expected = by_plain_timm(backbone_folder, [lesion_jpegs[ids[0]], lesion_jpegs[ids[2]]])
    assert np.allclose(features[[0, 2]], expected, rtol=1e-4, atol=1e-6)
    assert not features[[1, 3]].any()
    assert pd.read_csv(tmp_path / "f.ids.csv")["readable"].tolist() == [True, False, True, False]
    assert f"2 images are missing or do not decode and have zeros, the first is {ids[1]}" in capsys.readouterr().out


def test_a_file_that_cannot_be_opened_has_zeros_too(
    tmp_path: Path, backbone_folder: Path, lesion_jpegs: dict[str, bytes]
) -> None:
    folder, (first, second) = tmp_path / "images", list(lesion_jpegs)[:2]
    folder.mkdir()
    (folder / f"{first}.jpg").write_bytes(lesion_jpegs[first])
    (folder / f"{second}.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert main([f"backbone={backbone_folder}", f"images={folder}", f"out={tmp_path / 'f.npy'}", "workers=0"]) == 0
    assert pd.read_csv(tmp_path / "f.ids.csv")["readable"].tolist() == [True, False]


def test_images_none_of_which_decodes_are_refused(
    tmp_path: Path, backbone_folder: Path, write_hdf5: WriteHdf5, capsys: pytest.CaptureFixture[str]
) -> None:
    junk = write_hdf5(tmp_path / "junk.hdf5", {"ISIC_1": b"junk", "ISIC_2": b"\xff\xd8"})
    words = [f"backbone={backbone_folder}", f"images={junk}", f"out={tmp_path / 'f.npy'}", "workers=0"]
    assert main([*words, "image_size=32"]) == 2
    assert f"none of 2 images in {junk} is there and decodes" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["junk.hdf5"]


@pytest.mark.slow
def test_two_processes_write_what_one_writes(tmp_path: Path, backbone_folder: Path, lesions: Path) -> None:
    launchers: dict[str, list[str]] = {
        "one": ["-m", "ssl_isic.cli"],
        "two": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "ssl_isic.cli"],
    }
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    for name, launcher in launchers.items():
        # 48 images in batches of 5: the last round has 8 for two ranks, 3 for one
        words = [f"backbone={backbone_folder}", f"images={lesions}", f"out={tmp_path / name}.npy", "batch_size=5"]
        run = [sys.executable, *launcher, "embed", *words, "workers=0"]
        done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("48 rows of test_resnet at 32 px") == 1
    one, two = (np.load(tmp_path / f"{name}.npy") for name in launchers)
    assert np.abs(one).max() > 0.1
    assert np.allclose(one, two, rtol=1e-5, atol=1e-6)
    assert (tmp_path / "one.ids.csv").read_bytes() == (tmp_path / "two.ids.csv").read_bytes()


def test_parquet_is_one_table(
    tmp_path: Path, backbone_folder: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[pd.DataFrame]()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())  # as if pyarrow were there
    monkeypatch.setattr(pd.DataFrame, "to_parquet", lambda frame, path, index: written.append(frame))
    words = [f"backbone={backbone_folder}", f"images={lesions}", "workers=0", "batch_size=48"]
    assert main([*words, f"out={tmp_path / 'f.parquet'}"]) == 0
    assert main([*words, f"out={tmp_path / 'f.npy'}"]) == 0
    frame = written[0]
    features = np.load(tmp_path / "f.npy")
    assert list(frame.columns) == ["isic_id", "readable", *(f"f{number}" for number in range(features.shape[1]))]
    assert np.array_equal(frame.iloc[:, 2:].to_numpy(np.float32), features)
    assert frame["isic_id"].tolist() == pd.read_csv(tmp_path / "f.ids.csv")["isic_id"].tolist()


def test_wrong_input_is_one_line_and_writes_nothing(
    tmp_path: Path,
    backbone_folder: Path,
    lesions: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    strangers = write_table(tmp_path / "strangers.csv", ["ISIC_1", "ISIC_2"])
    out = tmp_path / "out"
    folder = tmp_path / "folder.npy"
    out.mkdir()
    folder.mkdir()

    def refused(*words: str) -> str:
        given = [f"backbone={backbone_folder}", f"images={lesions}", f"out={out / 'f.npy'}", "workers=0", *words]
        assert main(given) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        return lines[0]

    assert f"holds none of the 2 ids of {strangers}" in refused(f"table={strangers}")
    assert "there is no file /nowhere.csv" in refused("table=/nowhere.csv")
    assert "no such file: /nowhere.hdf5" in refused("images=/nowhere.hdf5")
    assert "no such file or folder: /nowhere" in refused("backbone=/nowhere")
    assert "name a .npy or a .parquet file" in refused(f"out={out / 'features.csv'}")
    assert 'pip install "ssl-isic[parquet]"' in refused(f"out={out / 'features.parquet'}")
    assert "it is a folder; name a file" in refused(f"out={folder}")
    assert "strangers.csv/f.npy: File exists; choose another place" in refused(f"out={strangers}/f.npy")
    assert "unknown key bakbone; did you mean backbone?" in refused("bakbone=x")
    assert not any(out.iterdir())


def test_features_that_are_not_finite_are_refused_and_nothing_is_written(
    tmp_path: Path, lesions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = timm.create_model("test_resnet").state_dict()
    next(iter(state.values())).fill_(torch.inf)
    save_file(state, tmp_path / "broken.safetensors")
    words = [f"backbone.weights={tmp_path / 'broken.safetensors'}", "backbone.model=test_resnet", "image_size=32"]
    assert main([*words, f"images={lesions}", f"out={tmp_path / 'out' / 'f.npy'}", "workers=0"]) == 2
    assert "the features of ISIC_0000000 are not finite; are the weights damaged?" in capsys.readouterr().err
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("words", "lost", "left"),
    [
        (["clean=[]"], None, 33),
        (["clean=[hsv]"], None, 48),
        (["clean=[]"], "values", 48),
        (["clean=[]"], "readable", 48),
    ],
)
def test_an_interrupted_pass_goes_on_where_it_was_unless_it_is_another_or_lost(
    words: list[str],
    lost: str | None,
    left: int,
    tmp_path: Path,
    backbone_folder: Path,
    lesions: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = [f"backbone={backbone_folder}", f"images={lesions}", "workers=0", "batch_size=5"]
    assert main([*run, *words, f"out={tmp_path / 'whole.npy'}"]) == 0
    passed: list[int] = []
    forward = Embedder.forward

    def three_batches(embedder: Embedder, pixels: Tensor) -> Tensor:
        passed.append(len(pixels))
        if len(passed) == 4:
            raise KeyboardInterrupt
        return forward(embedder, pixels)

    monkeypatch.setattr(Embedder, "forward", three_batches)
    out = tmp_path / "killed.npy"
    assert main([*run, f"out={out}"]) == 130
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(("killed", ".part"))] == [
        "killed.npy.unfinished"
    ]
    with (tmp_path / "killed.npy.unfinished" / "values").open("ab") as values:
        values.write(b"half a row")  # as a kill -9 in the middle of a write leaves
    if lost:
        (tmp_path / "killed.npy.unfinished" / lost).unlink()
    assert main([*run, *words, f"out={out}"]) == 0  # clean=[] is what the first command did, whose weights know of none
    assert sum(passed[4:]) == left
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert (tmp_path / "killed.ids.csv").read_bytes() == (tmp_path / "whole.ids.csv").read_bytes()
    assert not (tmp_path / "killed.npy.unfinished").exists()
