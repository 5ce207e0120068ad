"""The pretraining stage as a user meets it: bad input is one line, and lesions, patients and clinics reach the batches."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate.state import AcceleratorState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType
from safetensors.torch import load_file

from ssl_isic import pretrain, pretraining
from ssl_isic.config import load_yaml
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import Draw
from ssl_isic.data.views import ViewsConfig, simclr_views
from ssl_isic.errors import InputError
from ssl_isic.loop import LoopConfig, build_accelerator
from ssl_isic.pool import Pool, PoolConfig
from ssl_isic.run_folder import read_metrics


@pytest.fixture
def words(tmp_path: Path, lesions: Path) -> list[str]:
    """What a run of a tiny network needs."""
    run = [f"run_dir={tmp_path / 'run'}", f"data.sources.train={lesions}", "data.workers=0", "backbone.model=test_vit"]
    return [*run, "views.size=32", "views.local_size=16", "loop.batch_size=8", "loop.epochs=0.5", "loop.log_every=1"]


@pytest.fixture
def table(tmp_path: Path, lesion_jpegs: dict[str, bytes]) -> Path:
    """Two photographs a lesion, four a patient; the first 36 of 48 images are of clinic A, six have no clinic."""
    number = np.arange(len(lesion_jpegs))
    frame = pd.DataFrame(
        {
            "isic_id": list(lesion_jpegs),
            "lesion_id": [f"L{k // 2}" for k in number],
            "patient_id": [f"P{k // 4}" for k in number],
            "attribution": ["A" if k < 36 else "B" if k < 42 else None for k in number],
        }
    )
    frame.to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (["method.name=mae", "backbone.model=test_resnet"], "test_resnet"),
        (["method.name=dinov2", "backbone.model=test_resnet"], "test_resnet"),
        (["method.name=dino", "views.local_size=9"], "views.local_size=9 does not divide into patches"),
        (["views.size=40"], "views.size=40 does not divide into patches of 16 px"),
        (["loop.batch_size=1"], "nothing to tell it from"),
        (["loop.batch_size=8", "loop.accumulate=8"], "nothing to tell it from"),
        (["loop.batch_size=64"], "does not fill one batch"),
        (["method.not_negative=patient"], "method.not_negative=patient needs data.tables"),
        (["data.second_view=lesion"], "data.second_view=lesion needs data.tables"),
        (["data.balance=clinic"], "data.balance=clinic needs data.tables"),
        (["data.tables.elsewhere=t.csv", "method.not_negative=patient"], "no such source"),
        (["method.chunk=0"], "method.chunk"),
        (["method.chunk=1", "backbone.model=test_resnet"], "method.chunk=1: test_resnet has batch norm"),
        (["method.name=mae", "views.size=8"], "views.size=8 does not divide into patches of 16 px"),
        (["optim.lr_batch_size=256"], "optim.lr_batch_size=256: the learning rate of simclr would be scaled twice"),
        (["backbone.weights=nowhere"], "no such file"),
        (["backbone.model=vgg11", "backbone.drop_path=0.1"], "vgg11 has no stochastic depth; set backbone.drop_path=0"),
        (["backbone.model=vgg11", "backbone.grad_checkpointing=true"], "recompute the activations of vgg11"),
        (["data.workers=1000000"], "data.workers: input should be less than or equal to 512"),
        (["views.size=100000"], "views.size: input should be less than or equal to 4096"),
        (["seed=99999999999"], "seed: input should be less than 2147483648"),
        (["loop.trackers=[tensorboard]"], "loop.trackers: tensorboard is not installed; pip install tensorboard"),
        (["loop.trackers=[notes]"], "Unsupported logging capability: notes"),
        (["optim.name=lars", "method.name=dino"], "set optim.lr too"),
        (["optim.heads_first_epochs=1"], "optim.heads_first_epochs=1 is all of loop.epochs=0.5"),
        (["method.name=mae", "loop.compile=true", "backbone.grad_checkpointing=true"], "loop.compile would do nothing"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_run(
    words: list[str],
    tmp_path: Path,
    word: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ssl_isic.loop.get_available_trackers", list)
    assert pretrain.main([*words, *word]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert says in error[-1]
    assert not (tmp_path / "run").exists()


def test_a_method_of_one_view_has_no_second_one_to_show(
    words: list[str], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["method.name=mae", f"data.tables.train={table}", "data.second_view=lesion"]
    assert pretrain.main([*words, *asked]) == 2
    assert "data.second_view=lesion: method mae takes one view of an image; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (["backbone.model=test_resnet", "method.chunk=6"], "method.chunk=6: batch norm sees no more images than that"),
        (["backbone.freeze_stages=1"], "backbone.freeze_stages=1: these stages keep random weights"),
        (["method.chunk=6"], ""),
    ],
)
def test_what_is_odd_about_a_run_is_said_at_its_start(
    words: list[str], word: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main([*words, *word]) == 0
    printed = capsys.readouterr().out
    assert says in printed
    assert ("batch norm sees" in printed) == ("batch norm sees" in says)


@pytest.mark.parametrize(("images", "accumulate", "most"), [(3, 1, 1), (7, 1, 3), (7, 2, 1)])
def test_too_few_images_for_the_processes_say_how_many_to_launch(images: int, accumulate: int, most: int) -> None:
    four: Any = SimpleNamespace(num_processes=4, process_index=0)
    loop = LoopConfig(batch_size=8 * accumulate, accumulate=accumulate)
    with pytest.raises(InputError, match=rf"{images} images are too few for 4 processes .*; launch {most} at most"):
        pretraining._micro_batch(loop, images, four)
    assert pretraining._micro_batch(loop, 8 * accumulate, four) == 2


def test_a_run_goes_on_in_the_precision_that_it_was_launched_with(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new process each time, as far as Accelerate knows."""
    assert pretrain.main(words) == 0
    assert load_yaml(tmp_path / "run" / "config.yaml")["loop"]["mixed_precision"] == "no"
    AcceleratorState._reset_state(reset_partial_state=True)
    assert pretrain.main([*words, "loop.mixed_precision=bf16"]) == 2
    AcceleratorState._reset_state(reset_partial_state=True)
    assert "holds a run with loop.mixed_precision=no, this one has loop.mixed_precision=bf16" in capsys.readouterr().err
    assert pretrain.main([*words, "loop.mixed_precision=no"]) == 0


def test_a_table_that_has_changed_is_refused_and_what_a_run_does_not_read_may_change(
    words: list[str], table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = [*words, f"data.tables.train={table}", "method.not_negative=lesion"]
    assert pretrain.main(run) == 0
    rows = pd.read_csv(table)
    rows.assign(age=50)[::-1].to_csv(table, index=False)
    assert pretrain.main(run) == 0
    rows.assign(lesion_id="L0").to_csv(table, index=False)
    assert pretrain.main(run) == 2
    assert "holds a run on other data: data.tables.train was 48 rows, sha256" in capsys.readouterr().err


def test_a_run_goes_on_where_its_files_lie_elsewhere_if_they_are_the_same(
    words: list[str], table: Path, tmp_path: Path, lesions: Path, lesion_jpegs: dict[str, bytes], capsys: Any
) -> None:
    images, backbone = tmp_path / "there" / "images", tmp_path / "there" / "backbone"
    assert pretrain.main([*words, f"run_dir={tmp_path / 'start'}"]) == 0
    first = [f"data.tables.train={table}", f"backbone.weights={tmp_path / 'start' / 'backbone'}"]
    assert pretrain.main([*words, *first]) == 0

    images.mkdir(parents=True)
    for isic_id, data in lesion_jpegs.items():
        (images / f"{isic_id}.jpg").write_bytes(data)
    table.rename(tmp_path / "there" / "table.csv")
    (tmp_path / "start" / "backbone").rename(backbone)
    tables = f"data.tables.train={tmp_path / 'there' / 'table.csv'}"
    moved = [*words, f"data.sources.train={images}", tables, f"backbone.weights={backbone}"]
    assert pretrain.main(moved) == 0
    assert load_yaml(tmp_path / "run" / "config.yaml")["data"]["sources"] == {"train": str(images)}

    last = max(lesion_jpegs)
    (images / f"{last}.jpg").write_bytes(lesion_jpegs[min(lesion_jpegs)])
    assert pretrain.main(moved) == 2
    assert "holds a run on other data: data.sources.train was 48 ids, sha256" in capsys.readouterr().err
    (images / f"{last}.jpg").write_bytes(lesion_jpegs[last])
    shutil.copy(tmp_path / "run" / "backbone" / "model.safetensors", backbone)
    assert pretrain.main(moved) == 2
    assert "holds a run on other data: backbone.weights was sha256" in capsys.readouterr().err


def test_a_lesion_column_that_was_named_has_to_be_there(
    words: list[str], table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main([*words, f"data.tables.train={table}", "data.lesion=lesion", "monitor.images=0"]) == 2
    assert f"data.lesion=lesion is not a column of {table}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_tracker_gets_the_settings_and_the_rows(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, Any] = {"rows": []}

    class Notes(GeneralTracker):
        name, requires_logging_directory = "notes", False

        def __init__(self, run_name: str, **_: Any) -> None:
            super().__init__()
            kept["run"] = run_name

        @property
        def tracker(self) -> None: ...

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            kept["settings"] = values

        def log(self, values: dict[str, Any], step: int | None, **_: Any) -> None:
            kept["rows"].append({"step": step, **values})

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "notes", Notes)
    assert pretrain.main([*words, "loop.trackers=[notes]", "optim.lr=0.125"]) == 0
    assert kept["run"] == "run"
    assert kept["settings"]["optim.lr"] == 0.125
    assert kept["settings"]["backbone.weights"] == "None"
    written = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in kept["rows"]] == [(row["step"], row["loss"]) for row in written]


def test_a_tracker_that_is_installed_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = LoopConfig(trackers=["tensorboard"])
    with pytest.raises(InputError, match="tensorboard is not installed"):
        build_accelerator(loop, tmp_path)
    for module in ("ssl_isic.loop", "accelerate.tracking"):
        monkeypatch.setattr(f"{module}.get_available_trackers", lambda: [LoggerType.TENSORBOARD])
    assert build_accelerator(loop, tmp_path).log_with == [LoggerType.TENSORBOARD]


def test_the_backbone_says_how_its_images_were_cleaned(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main([*words, "data.clean=[shades_of_gray,hsv]"]) == 0
    settings = json.loads((tmp_path / "run" / "backbone" / "config.json").read_text())
    assert settings["clean"] == ["shades_of_gray", "hsv"]
    assert pretrain.main([*words, "data.clean=[hsv]"]) == 2
    assert "holds a run with data.clean=['shades_of_gray', 'hsv']" in capsys.readouterr().err


def test_weights_of_another_shape_are_named(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main(words) == 0
    other = [
        f"run_dir={tmp_path / 'other'}",
        "backbone.model=test_vit2",
        f"backbone.weights={tmp_path / 'run/backbone'}",
    ]
    assert pretrain.main([*words, *other]) == 2
    assert "is not of a test_vit2" in capsys.readouterr().err


def test_a_patients_own_images_are_gone_from_the_negatives(words: list[str], table: Path, tmp_path: Path) -> None:
    means = {}
    for kind in ("itself", "lesion", "patient"):
        run = [f"run_dir={tmp_path / kind}", f"method.not_negative={kind}", f"data.tables.train={table}"]
        assert pretrain.main([*words, *run]) == 0
        rows = [row for row in read_metrics(tmp_path / kind / "metrics.jsonl") if "negatives" in row]
        means[kind] = float(np.mean([row["negatives"] for row in rows]))
    assert means["itself"] == 14
    assert means["patient"] < means["lesion"] < 14


def test_an_image_that_two_sources_have_is_trained_on_once_and_the_run_says_so(
    words: list[str], lesions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main([*words, f"data.sources.again={lesions}", "loop.batch_size=24", "loop.epochs=1"]) == 0
    said = capsys.readouterr().out
    assert "batch 24 = micro-batch 24 x world size 1 x accumulate 1, on cpu in float32" in said
    assert "48 images are left out: an earlier source has an image of the same isic_id" in said
    assert "48 images of 2 sources, 0 held out" in said
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "negatives" in row]
    assert [(row["step"], row["negatives"]) for row in rows] == [(1, 46), (2, 46)]


def test_the_second_view_is_of_another_photograph_of_the_lesion(table: Path, lesions: Path) -> None:
    config = PoolConfig(sources={"train": lesions}, tables={"train": table}, second_view="lesion", workers=0)
    pool = Pool(config, ImagePool(config.sources))
    views = simclr_views(ViewsConfig(size=32, global_scale=(1.0, 1.0)))
    every, one_each = np.arange(48), np.arange(0, 48, 2)  # of image 10's lesion: both photographs, and one
    paired = pool.dataset(every, views, 0, [])[Draw(10, 0)]["views"]
    alone = pool.dataset(one_each, views, 0, [])[Draw(5, 0)]["views"]
    assert np.array_equal(paired[0], alone[0])
    assert not np.array_equal(paired[1], alone[1])
    itself = replace(pool, config=config.model_copy(update={"second_view": "itself"}))
    assert np.array_equal(itself.dataset(every, views, 0, [])[Draw(10, 0)]["views"][1], alone[1])


def test_batches_hold_every_clinic_and_the_unknown_are_their_sources(table: Path, lesions: Path) -> None:
    config = PoolConfig(sources={"train": lesions}, tables={"train": table}, balance="clinic", workers=0)
    pool = Pool(config, ImagePool(config.sources))
    clinics = pool.clinics()
    assert {name: int((clinics == name).sum()) for name in np.unique(clinics)} == {"A": 36, "B": 6, "train": 6}
    rows = pool.order(np.arange(48), seed=0).epoch(0)
    assert [sorted(clinics[rows[start : start + 3]].tolist()) for start in (0, 3)] == [["A", "B", "train"]] * 2


def test_a_run_says_what_the_tables_make_of_it(
    words: list[str], table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = [*words, f"data.tables.train={table}", "data.second_view=lesion", "data.balance=clinic"]
    assert pretrain.main(run) == 0
    said = capfd.readouterr().out
    rows = pd.read_csv(table)
    assert "data.second_view=lesion: 48 of 48 images have another photograph of their lesion" in said
    assert "method.not_negative=lesion: 48 of 48 images have others of their lesion" in said
    assert "data.balance=clinic: 3 clinics, 16 draws each; an image of B (6 images) comes 2.67 times an epoch" in said
    rows.assign(lesion_id=[f"L{row}" for row in range(len(rows))]).to_csv(table, index=False)
    assert pretrain.main([*run, f"run_dir={tmp_path / 'other'}"]) == 2
    assert "data.second_view=lesion: none of 48 images has another photograph of its lesion" in capfd.readouterr().err
    assert not (tmp_path / "other").exists()


def test_what_was_filled_in_is_in_the_runs_configuration(words: list[str], tmp_path: Path) -> None:
    assert pretrain.main(words) == 0
    text = (tmp_path / "run" / "config.yaml").read_text()
    assert "warmup_epochs: 0.05" in text
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["world_size"] == 1


def test_views_that_are_finished_on_the_device_train_the_same(words: list[str], tmp_path: Path) -> None:
    """The two differ by the rounding of pixels alone; with other draws the first losses would be far apart."""
    losses = []
    for on_device in ("false", "true"):
        run = tmp_path / on_device
        assert pretrain.main([*words, f"run_dir={run}", f"views.on_device={on_device}", "views.preset=paper"]) == 0
        losses.append([row["loss"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row])
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.02)


@pytest.mark.parametrize("method", ["simclr", "dino"])
def test_activations_that_are_computed_again_change_nothing(words: list[str], tmp_path: Path, method: str) -> None:
    """Batch norm's running statistics included, which a second forward pass would move twice."""
    run = [*words, "backbone.model=test_resnet", f"method.name={method}", "monitor.images=0", "loop.epochs=1"]
    assert pretrain.main([*run, f"run_dir={tmp_path / 'once'}"]) == 0
    assert pretrain.main([*run, f"run_dir={tmp_path / 'twice'}", "backbone.grad_checkpointing=true"]) == 0
    once, twice = (load_file(tmp_path / name / "backbone" / "model.safetensors") for name in ("once", "twice"))
    assert any(name.endswith("running_mean") for name in once)
    for name, value in once.items():
        torch.testing.assert_close(twice[name], value, msg=name)


def test_a_preset_that_is_wrong_leaves_no_run(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main([*words, "views.preset=lesions"]) == 2
    assert "no preset of views is called 'lesions'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
