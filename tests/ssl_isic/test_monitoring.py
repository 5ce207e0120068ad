"""What is looked at while a pretraining runs: which images are held out, what is measured, and what stops a run."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import simplejpeg
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ssl_isic.config import validate
from ssl_isic.data.images import ImagePool
from ssl_isic.data.shard_writing import ShardsConfig, write_shards
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.defaults import fill_defaults
from ssl_isic.errors import InputError
from ssl_isic.evaluation.colour import colour_features
from ssl_isic.evaluation.neighbours import knn_scores
from ssl_isic.evaluation.spectrum import rankme
from ssl_isic.metrics import roc_auc
from ssl_isic.monitoring import FEWEST, HeldOut, Monitor, MonitorConfig, hold_out
from ssl_isic.pool import Pool, PoolConfig
from ssl_isic.pretraining import PretrainConfig, pretrain
from ssl_isic.run_folder import read_metrics

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]
IMAGES, POSITIVES = 700, 40


@pytest.fixture(scope="module")
def redness() -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.random.default_rng(0).uniform(60, 220, IMAGES)


@pytest.fixture(scope="module")
def many(
    tmp_path_factory: pytest.TempPathFactory, write_hdf5: WriteHdf5, redness: np.ndarray[Any, np.dtype[np.float64]]
) -> dict[str, Path]:
    """700 noisy squares of 32 px; the 40 reddest are malignant, two images a patient."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(1)
    ids = [f"ISIC_{k:07d}" for k in range(IMAGES)]
    pixels = [rng.normal((red, 100, 90), 12, (32, 32, 3)).clip(0, 255).astype(np.uint8) for red in redness]
    encoded = {name: simplejpeg.encode_jpeg(image, quality=90) for name, image in zip(ids, pixels, strict=True)}
    target = (redness >= np.sort(redness)[-POSITIVES]).astype(int)
    patients = [f"P{k // 2}" for k in range(IMAGES)]
    pd.DataFrame({"isic_id": ids, "patient_id": patients, "target": target}).to_csv(folder / "table.csv", index=False)
    return {"images": write_hdf5(folder / "many.hdf5", encoded), "table": folder / "table.csv"}


def pool_of(many: dict[str, Path], tables: bool = True) -> Pool:
    given = {"train": many["table"]} if tables else {}
    config = PoolConfig(sources={"train": many["images"]}, tables=given, workers=0)
    return Pool(config, ImagePool(config.sources), "target")


def with_reddest(
    malignant: int, many: dict[str, Path], redness: np.ndarray[Any, np.dtype[np.float64]], folder: Path
) -> dict[str, Path]:
    """`many` with another number of malignant images."""
    target = (redness >= np.sort(redness)[-malignant]).astype(int)
    pd.read_csv(many["table"]).assign(target=target).to_csv(folder / "reddest.csv", index=False)
    return {**many, "table": folder / "reddest.csv"}


DINO = {"name": "dino", "local_crops": 2, "prototypes": 1024, "hidden_size": 512}


def config_of(run_dir: Path, many: dict[str, Path], steps: int, **tree: Any) -> PretrainConfig:
    base = {
        "run_dir": run_dir,
        "data": {"sources": {"train": many["images"]}, "tables": {"train": many["table"]}, "workers": 0},
        "views": {"size": 32, "local_size": 16},
        "backbone": {"model": "test_vit"},
        "loop": {"epochs": steps / 19, "batch_size": 32, "log_every": 20, "save_every": 0},
    }
    return fill_defaults(validate(PretrainConfig, {**base, **tree}, source="test")).config


def test_a_tenth_of_the_pool_is_held_out_and_the_draw_is_the_seeds(many: dict[str, Path]) -> None:
    first, again, other = (hold_out(MonitorConfig(), pool_of(many), seed).indices for seed in (0, 0, 1))
    assert len(np.unique(first)) == 70
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(hold_out(MonitorConfig(images=65), pool_of(many), 0).indices) == 65
    assert len(hold_out(MonitorConfig(images=FEWEST - 1), pool_of(many), 0).indices) == 0


def test_an_image_of_two_sources_is_held_out_of_both(many: dict[str, Path]) -> None:
    config = PoolConfig(sources={"train": many["images"], "again": many["images"]}, workers=0)
    pool = Pool(config, ImagePool(config.sources))
    assert pool.repeated.tolist() == list(range(IMAGES, 2 * IMAGES))
    held_out = hold_out(MonitorConfig(), pool, 0)
    assert len(held_out.indices) == 70
    assert held_out.indices.max() < IMAGES


@pytest.mark.parametrize(("malignant", "held"), [(600, 18), (160, 16), (POSITIVES, 10)])
def test_with_labels_a_quarter_may_be_malignant_but_a_tenth_of_those_that_are(
    many: dict[str, Path], redness: np.ndarray[Any, np.dtype[np.float64]], tmp_path: Path, malignant: int, held: int
) -> None:
    more = with_reddest(malignant, many, redness, tmp_path)
    held_out = hold_out(MonitorConfig(target="target"), pool_of(more), 0)
    assert held_out.target is not None
    assert held_out.groups is not None
    assert len(held_out.indices) == 70
    assert np.array_equal(held_out.target, pd.read_csv(more["table"])["target"].to_numpy()[held_out.indices])
    assert int(held_out.target.sum()) == held
    same = held_out.indices[:, None] // 2 == held_out.indices[None, :] // 2
    assert np.array_equal(held_out.groups[:, None] == held_out.groups[None, :], same)


@pytest.mark.parametrize("target", [None, "target"])
def test_no_photograph_of_a_held_out_lesion_is_trained_on(
    many: dict[str, Path], redness: np.ndarray[Any, np.dtype[np.float64]], tmp_path: Path, target: str | None
) -> None:
    more = with_reddest(350, many, redness, tmp_path)
    table = pd.read_csv(more["table"])
    table["lesion_id"] = [f"L{k % 200}" if k < 650 else None for k in range(IMAGES)]
    table.to_csv(tmp_path / "lesions.csv", index=False)
    pool = pool_of({**more, "table": tmp_path / "lesions.csv"})
    held_out = hold_out(MonitorConfig(target=target), pool, 0)
    trained_on = pool.without(held_out.left_out)
    lesion = table["lesion_id"].fillna("").to_numpy()
    assert len(held_out.indices) == 70
    assert len(trained_on) + len(held_out.left_out) == IMAGES
    assert not set(lesion[held_out.indices]) & set(lesion[trained_on]) - {""}
    assert len({*lesion[held_out.indices]}) < 45, "whole lesions, of three and four photographs"
    assert "" in lesion[trained_on]
    if target is None:
        assert len(held_out.left_out) < 74, "those of the last lesion"


def test_photographs_of_a_lesion_are_of_one_patient_though_the_table_does_not_say_whose(
    many: dict[str, Path], redness: np.ndarray[Any, np.dtype[np.float64]], tmp_path: Path
) -> None:
    more = with_reddest(350, many, redness, tmp_path)
    table = pd.read_csv(more["table"])
    known = np.arange(IMAGES) < 300  # two a patient; of the others only the lesion is known
    lesion = np.arange(IMAGES) // 4
    pd.DataFrame(
        {
            "isic_id": table["isic_id"],
            "target": table["target"],
            "patient_id": table["patient_id"].where(known),
            "lesion_id": pd.Series(lesion).where(~known).map("L{:.0f}".format, na_action="ignore"),
        }
    ).to_csv(tmp_path / "mixed.csv", index=False)
    pool = pool_of({**more, "table": tmp_path / "mixed.csv"})
    expected = np.where(known, np.arange(IMAGES) // 2, IMAGES + lesion)
    groups = pool.groups("patient")
    assert np.array_equal(groups[:, None] == groups[None, :], expected[:, None] == expected[None, :])
    held_out = hold_out(MonitorConfig(target="target"), pool, 0)
    assert held_out.groups is not None
    same = expected[held_out.indices]
    assert np.array_equal(held_out.groups[:, None] == held_out.groups[None, :], same[:, None] == same[None, :])


def test_of_a_source_in_shards_few_shards_are_held_out_of(many: dict[str, Path], tmp_path: Path) -> None:
    index = write_shards(ShardsConfig(images=many["images"], out=tmp_path / "shards", shard_mb=0.12))
    assert len(index.shards) >= 10
    pool = pool_of({**many, "images": tmp_path / "shards"})
    shard, _ = pool.images.shards()
    indices = hold_out(MonitorConfig(), pool, 0).indices
    assert len(np.unique(indices)) == 70
    assert np.array_equal(np.unique(shard[indices]), np.arange(-(-70 // len(index.shards[0].ids))))
    held_out = hold_out(MonitorConfig(target="target"), pool, 0)
    assert held_out.target is not None
    assert int(held_out.target.sum()) == 10
    positives = pd.read_csv(many["table"])["target"].to_numpy() == 1
    enough = np.cumsum(np.bincount(shard[positives], minlength=len(index.shards))) >= 10
    assert shard[held_out.indices].max() == np.flatnonzero(enough)[0]


def test_labels_that_are_none_are_one_line(many: dict[str, Path], tmp_path: Path) -> None:
    table = pd.read_csv(many["table"]).assign(target="melanoma")
    table.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=r"t\.csv, row 2: monitor.target=target must be 0 or 1, got melanoma"):
        hold_out(MonitorConfig(target="target"), pool_of({**many, "table": tmp_path / "t.csv"}), 0)
    with pytest.raises(InputError, match=r"monitor\.target=target needs data.tables"):
        config_of(tmp_path, many, 1, data={"sources": {"train": many["images"]}}, monitor={"target": "target"})


def test_labels_of_too_few_images_are_one_line(many: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"monitor\.target=target: 63 images would be held out of 700.*64 are needed"):
        hold_out(MonitorConfig(images=63, target="target"), pool_of(many), 0)


class Redness(nn.Module):
    """Sixteen features: the image's mean colour and its pixels' rows, so that red images are easily told apart."""

    pretrained_cfg = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images.mean(dim=(2, 3)), images.mean(dim=(1, 3))[:, :13]], dim=1)


def test_what_is_measured_is_measured_on_the_held_out_images(
    many: dict[str, Path], redness: np.ndarray[Any, np.dtype[np.float64]], tmp_path: Path
) -> None:
    pool = pool_of(with_reddest(200, many, redness, tmp_path))
    held_out = hold_out(MonitorConfig(target="target"), pool, 0)
    values = dict(Monitor(pool, held_out, 32, LoaderConfig(workers=0), Accelerator(cpu=True))(Redness()))
    assert held_out.target is not None
    best = roc_auc(held_out.target, redness[held_out.indices])
    assert best == 1.0
    assert values["held_out_probe_auc"] > 0.95
    assert values["held_out_colour_auc"] > 0.95
    assert values["held_out_knn_auc"] > 0.9
    assert 0.15 < values["held_out_probe_pauc"] <= 0.2
    assert 1 < values["held_out_rankme"] < 16
    assert values["held_out_alignment"] > 0, "rows of pixels are turned into columns"
    assert values["held_out_uniformity"] < 0
    constant = np.ones((8, 4))
    assert rankme(constant) == pytest.approx(1, abs=1e-3)


def test_of_several_sources_the_line_says_what_each_has(many: dict[str, Path], tmp_path: Path) -> None:
    """Where malignant images come from one source, an AUC measures what tells the sources apart."""
    benign, plain = tmp_path / "benign.csv", "".join(f"ISIC_{k:07d},P{k},0\n" for k in range(700, 1400))
    benign.write_text("isic_id,patient_id,target\n" + plain)
    pool = pool_of(many)
    jpegs = {f"ISIC_{k + 700:07d}": pool.images.read(k) for k in range(IMAGES)}
    folder = tmp_path / "more"
    folder.mkdir()
    for name, jpeg in jpegs.items():
        (folder / f"{name}.jpg").write_bytes(jpeg)
    config = PoolConfig(
        sources={"train": many["images"], "more": folder}, tables={"train": many["table"], "more": benign}, workers=0
    )
    both = Pool(config, ImagePool(config.sources), "target")
    monitor = MonitorConfig(target="target")
    held_out = hold_out(monitor, both, 0)
    first = int((held_out.indices < IMAGES).sum())
    line = held_out.remark(monitor, both.images)
    assert f"(10 of {first} in train, 0 of {140 - first} in more: what tells the sources apart raises the AUC" in line
    assert "in train" not in hold_out(monitor, pool, 0).remark(monitor, pool.images)


def test_an_image_that_does_not_decode_is_in_no_figure(
    many: dict[str, Path], redness: np.ndarray[Any, np.dtype[np.float64]], tmp_path: Path, write_hdf5: WriteHdf5
) -> None:
    labelled = with_reddest(200, many, redness, tmp_path)
    whole = pool_of(labelled)
    held_out = hold_out(MonitorConfig(target="target"), whole, 0)
    assert held_out.target is not None
    assert held_out.groups is not None
    broken = held_out.indices[[0, 3]]
    bytes_of = {whole.images.id_of(k): whole.images.read(k) if k not in broken else b"torn" for k in range(IMAGES)}
    torn = pool_of({**labelled, "images": write_hdf5(tmp_path / "torn.hdf5", bytes_of)})
    there = ~np.isin(held_out.indices, broken)
    rest = HeldOut(held_out.indices[there], held_out.left_out, held_out.target[there], held_out.groups[there])
    values, without = (
        dict(Monitor(pool, held, 32, LoaderConfig(workers=0), Accelerator(cpu=True))(Redness()))
        for pool, held in ((torn, held_out), (whole, rest))
    )
    assert "held_out_probe_auc" in values
    assert values == pytest.approx(without)


def test_colour_is_looked_at_in_the_images_that_the_network_sees(many: dict[str, Path]) -> None:
    pool = pool_of(many)
    cleaned = Pool(pool.config.model_copy(update={"clean": ["clahe"]}), pool.images, "target")
    held_out = hold_out(MonitorConfig(target="target"), pool, 0)
    loader, accelerator = LoaderConfig(workers=0), Accelerator(cpu=True)
    colours = Monitor(cleaned, held_out, 32, loader, accelerator)._colour
    assert np.array_equal(colours, colour_features(pool.images, held_out.indices, ["clahe"]))
    assert not np.allclose(colours, Monitor(pool, held_out, 32, loader, accelerator)._colour)


def test_a_network_of_few_directions_has_no_slope_and_is_no_error(many: dict[str, Path]) -> None:
    class Narrow(Redness):
        def forward(self, images: Tensor) -> Tensor:
            flat = images.mean(dim=(1, 2, 3))[:, None]
            return torch.cat([flat, flat.sin(), flat.cos()], dim=1) @ torch.eye(3, 16)

    pool = pool_of(many)
    held_out = hold_out(MonitorConfig(), pool, 0)
    values = dict(Monitor(pool, held_out, 32, LoaderConfig(workers=0), Accelerator(cpu=True))(Narrow()))
    assert 1 < values["held_out_rankme"] < 4
    assert "held_out_alpha_req" not in values


def test_a_patients_other_images_give_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two near-copies a patient, whose label is drawn: whoever looks at the other one knows it, and nobody else."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(200), 2)
    target = rng.permutation(np.arange(200) % 2)[patient].astype(float)
    features = rng.normal(size=(200, 300))[patient] + rng.normal(size=(400, 300)) / 100
    groups = np.array([f"P{number}" for number in patient])
    assert roc_auc(target, knn_scores(features, target, np.arange(400).astype(str))) > 0.9
    everything = np.arange(400)
    held_out = HeldOut(everything, everything, target, groups)
    pool: Any = SimpleNamespace(images=None, config=PoolConfig(sources={"none": Path("none")}))
    monkeypatch.setattr(Monitor, "_features", lambda self, network: (features, features, np.ones(400, bool)))
    monkeypatch.setattr("ssl_isic.monitoring.colour_features", lambda images, indices, cleaning: features[:, :12])
    values = dict(Monitor(pool, held_out, 32, LoaderConfig(workers=0), Accelerator(cpu=True))(nn.Identity()))
    for name in ("knn", "probe", "colour"):
        assert values[f"held_out_{name}_auc"] < 0.65, name
    assert 0.9 < values["held_out_feature_std"] < 1.1


@pytest.mark.slow
def test_a_run_logs_what_it_sees_and_does_not_train_on_it(many: dict[str, Path], tmp_path: Path) -> None:
    small = {"name": "simclr", "hidden_size": 32, "projection_size": 16, "not_negative": "patient"}
    pretrain(config_of(tmp_path, many, 19, method=small, monitor={"target": "target"}))
    rows = read_metrics(tmp_path / "metrics.jsonl")
    looked = [row for row in rows if "held_out_rankme" in row]
    assert [row["step"] for row in looked] == [0, 19]
    assert looked[0]["held_out_colour_auc"] == looked[1]["held_out_colour_auc"]
    assert looked[0]["held_out_probe_auc"] != looked[1]["held_out_probe_auc"]
    assert {"held_out_knn_auc", "held_out_probe_pauc", "held_out_alpha_req", "held_out_alignment"} <= looked[0].keys()
    negatives = next(row["negatives"] for row in rows if "negatives" in row)
    assert 60 < negatives < 62, "of 62, now and then two of the patient's own"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({**DINO, "center_momentum": 1.0}, "prototypes"),
        (
            {**DINO, "center_momentum": 1.0, "teacher_temperature": 1.0, "teacher_warmup_temperature": 1.0},
            "tells no images apart",
        ),
        ({"name": "lejepa", "sigreg_weight": 0.0, "hidden_size": 128}, "projection_scale is 0.0"),
        ({"name": "vicreg", "variance_weight": 0.0, "hidden_size": 128}, "variance, the penalty, is 0.9"),
    ],
)
def test_a_method_without_what_keeps_it_from_collapse_is_stopped_within_100_steps(
    many: dict[str, Path], tmp_path: Path, broken: dict[str, Any], says: str
) -> None:
    """Also where rows are logged each 50 steps, as in the configurations for GPUs."""
    config = config_of(tmp_path, many, 100, method=broken, optim={"lr": 2e-3, "warmup_epochs": 0.5})
    config = config.model_copy(update={"loop": config.loop.model_copy(update={"log_every": 50})})
    with pytest.raises(InputError, match=says) as stopped:
        pretrain(config)
    assert "monitor.collapse=warn" in str(stopped.value)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "dino", "vicreg", "lejepa", "mae", "dinov2"])
def test_no_method_at_its_defaults_is_taken_for_a_collapse(many: dict[str, Path], tmp_path: Path, method: str) -> None:
    narrow = {} if method == "mae" else {"hidden_size": 128}  # for speed
    pretrain(config_of(tmp_path, many, 100, method={"name": method, **narrow}))
    rows = [row for row in read_metrics(tmp_path / "metrics.jsonl") if "loss" in row]
    assert rows[-1]["step"] == 100
    assert all(np.isfinite(row["loss"]) for row in rows)
