"""Fine-tuning from its command to its files: what a fold has seen, what is written, and that a killed run goes on exactly."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from accelerate import Accelerator
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker
from accelerate.utils import LoggerType
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

import finetune.classifier
import finetune.train
import finetune.training
from finetune.ensemble import predict_folder
from finetune.train import main
from ssl_isic.backbones import BackboneConfig, build_backbone, save_backbone
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import TrainingImages
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.run_folder import read_metrics

FOLDS = (0, 1, 2)


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test may catch it."""


def weights(run_dir: Path, fold: int) -> dict[str, Tensor]:
    return load_file(run_dir / f"fold-{fold}" / "model" / "model.safetensors")


def assert_same_end(run_dir: Path, reference: Path) -> None:
    for fold in FOLDS:
        ours, theirs = weights(run_dir, fold), weights(reference, fold)
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    for name in ("oof.csv", "folds_report.csv", "models.json", "summary.json"):
        assert (run_dir / name).read_bytes() == (reference / name).read_bytes()


def one_line_of_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_every_labelled_lesion_is_scored_once_by_the_model_that_never_saw_it(
    finetuned: Path, labelled_files: Any
) -> None:
    oof = pd.read_csv(finetuned / "oof.csv")
    assert list(oof.columns) == ["isic_id", "fold", "target", "p_malignant"]
    assert sorted(oof["isic_id"]) == sorted(labelled_files.ids)
    by_id = oof.set_index("isic_id").loc[labelled_files.ids]
    assert by_id["fold"].tolist() == labelled_files.fold.tolist()
    assert by_id["target"].tolist() == labelled_files.target.tolist()
    for fold in FOLDS:
        rows = oof[oof["fold"] == fold]
        scores = saved_model_scores(finetuned, fold, rows, labelled_files.images)
        assert np.allclose(scores, rows["p_malignant"], rtol=1e-6, atol=0)


def saved_model_scores(
    run_dir: Path, fold: int, rows: pd.DataFrame, images: Path, cleaning: Sequence[str] = ()
) -> NDArray[np.float64]:
    """Probabilities (N,) of the lesions of `rows` by the saved model of a fold."""
    pool = ImagePool({"labelled": images})
    stored = [name.decode() for name in pool.slice_of("labelled")[1]]
    p, _ = predict_folder(
        run_dir / f"fold-{fold}" / "model",
        pool,
        np.array([stored.index(identifier) for identifier in rows["isic_id"]], dtype=np.int64),
        prior=0.5,
        image_size=32,
        batch_size=6,
        loader=LoaderConfig(workers=0),
        cleaning=cleaning,
        accelerator=Accelerator(cpu=True),
        title="",
    )
    return p


def test_a_saved_vit_scores_as_it_did_in_training(
    tmp_path: Path, tiny_finetune: list[str], labelled_files: Any
) -> None:
    """Its position embeddings are laid out for 32 px, where timm's configuration of the network says 160."""
    words = [f"run_dir={tmp_path}", *tiny_finetune, "backbone.model=test_vit", "folds=[2]", "loop.epochs=1"]
    assert main(words) == 0
    oof = pd.read_csv(tmp_path / "oof.csv")
    assert np.allclose(saved_model_scores(tmp_path, 2, oof, labelled_files.images), oof["p_malignant"], rtol=1e-6)


def test_a_run_that_cleans_says_so_beside_its_models_and_scores_cleaned_images(
    tmp_path: Path, tiny_finetune: list[str], labelled_files: Any
) -> None:
    words = [f"run_dir={tmp_path}", *tiny_finetune, "folds=[2]", "loop.epochs=1", "data.clean=[shades_of_gray,hsv]"]
    assert main(words) == 0
    names = ["shades_of_gray", "hsv"]
    assert json.loads((tmp_path / "models.json").read_text())["clean"] == names
    assert json.loads((tmp_path / "fold-2" / "model" / "config.json").read_text())["clean"] == names
    assert timm.create_model(f"local-dir:{tmp_path / 'fold-2' / 'model'}", pretrained=True).num_classes == 1
    oof = pd.read_csv(tmp_path / "oof.csv")
    scores = saved_model_scores(tmp_path, 2, oof, labelled_files.images, names)
    assert np.allclose(scores, oof["p_malignant"], rtol=1e-6)
    assert not np.allclose(saved_model_scores(tmp_path, 2, oof, labelled_files.images), oof["p_malignant"], rtol=1e-3)


def test_a_backbone_that_learned_from_images_cleaned_otherwise_is_noted(
    tmp_path: Path, tiny_finetune: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_backbone(build_backbone(BackboneConfig(model="test_resnet"), 32), tmp_path / "backbone", 32, ["hair"])
    monkeypatch.setattr(finetune.training, "train_folds", lambda *_: None)
    words = [*tiny_finetune, f"backbone.weights={tmp_path / 'backbone'}"]
    assert main([f"run_dir={tmp_path / 'other'}", *words]) == 0
    assert "learned from images with clean=['hair']; this run has data.clean=[]" in capsys.readouterr().out
    assert main([f"run_dir={tmp_path / 'same'}", *words, "data.clean=[hair]"]) == 0
    assert "learned from" not in capsys.readouterr().out


def test_no_fold_trains_on_itself(
    tmp_path: Path, tiny_finetune: list[str], labelled_files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = list[set[str]]()

    def spy(_: Any, dataset: TrainingImages, *__: Any, **___: Any) -> None:
        trained.append({dataset.id_of(row) for row in range(len(dataset))})
        raise Killed

    monkeypatch.setattr(finetune.training, "fit", spy)
    fold_of = dict(zip(labelled_files.ids, labelled_files.fold, strict=True))
    for fold in FOLDS:
        with pytest.raises(Killed):
            main([f"run_dir={tmp_path / str(fold)}", *tiny_finetune, f"folds=[{fold}]"])
        assert trained[fold] == {identifier for identifier in fold_of if fold_of[identifier] != fold}


def test_the_report_tells_the_last_epoch_from_the_best(finetuned: Path) -> None:
    report = pd.read_csv(finetuned / "folds_report.csv").set_index("fold")
    oof = pd.read_csv(finetuned / "oof.csv")
    assert report.index.tolist() == list(FOLDS)
    for fold in FOLDS:
        scored = [row for row in read_metrics(finetuned / f"fold-{fold}" / "metrics.jsonl") if "valid/pauc" in row]
        assert [row["epoch"] for row in scored] == [1, 2]
        row = report.loc[fold]
        assert row["last_pauc"] == scored[-1]["valid/pauc"]
        assert row["best_pauc"] == max(each["valid/pauc"] for each in scored)
        assert row["best_auc"] == scored[int(row["best_epoch"]) - 1]["valid/auc"]
        held = oof[oof["fold"] == fold]
        positive, negative = (held.loc[held["target"] == label, "p_malignant"].to_numpy() for label in (1, 0))
        wins = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
        assert row["last_auc"] == pytest.approx(wins), "the saved model is the last one, not the best on its own fold"
        assert (row["rows"], row["positives"]) == (len(held), len(positive))


def test_the_models_are_listed_with_what_prediction_needs(finetuned: Path, labelled_files: Any) -> None:
    listed = json.loads((finetuned / "models.json").read_text())
    models = [f"fold-{k}/model" for k in FOLDS]
    assert listed == {"models": models, "prior": 8 / 36, "image_size": 32, "clean": [], "decode": "reduced"}
    for name in listed["models"]:
        model = timm.create_model(f"local-dir:{finetuned / name}", pretrained=True)
        assert model.num_classes == 1
    summary = json.loads((finetuned / "summary.json").read_text())
    assert (summary["rows"], summary["positives"], summary["negatives"]) == (36, 8, 19)
    assert 8 <= summary["distinct_negatives_shown"] <= 19
    assert summary["auc"]["low"] <= summary["auc"]["value"] <= summary["auc"]["high"]
    of_folds = pd.read_csv(finetuned / "folds_report.csv")["last_auc"]
    assert summary["auc"]["mean_of_folds"] == pytest.approx(of_folds.mean())
    assert "top_15_sensitivity" not in summary, "no patient has more images"


def test_a_classifier_as_the_start_is_told(
    tmp_path: Path, finetuned: Path, tiny_finetune: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"backbone.weights={finetuned / 'fold-0' / 'model'}", "folds=[1]", "loop.epochs=1"]
    assert main([f"run_dir={tmp_path / 'run'}", *tiny_finetune, *words]) == 0
    assert "it has seen the labels that its folds are scored by" in capsys.readouterr().out


def test_a_fold_of_one_clinic_has_its_report_and_its_models(
    tmp_path: Path, labelled_files: Any, tiny_finetune: list[str]
) -> None:
    table, folds = tmp_path / "table.csv", tmp_path / "folds.csv"
    clinics = [f"clinic {fold}" for fold in labelled_files.fold]
    pd.read_csv(labelled_files.table).assign(clinic=clinics).to_csv(table, index=False)
    pd.read_csv(labelled_files.folds).assign(group=clinics).to_csv(folds, index=False)
    words = [f"data.table={table}", f"data.folds={folds}", "data.group=clinic", "folds=[0]", "loop.epochs=1"]
    assert main([f"run_dir={tmp_path / 'run'}", *tiny_finetune, *words]) == 0
    assert json.loads((tmp_path / "run" / "models.json").read_text())["models"] == ["fold-0/model"]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 0 <= summary["auc"]["low"] < summary["auc"]["high"] <= 1


def test_a_finished_run_is_not_trained_again(
    tmp_path: Path, finetuned: Path, tiny_finetune: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(finetuned, run_dir)
    models = sorted(run_dir.glob("fold-*/model/model.safetensors"))
    before = [path.stat().st_mtime_ns for path in models]
    monkeypatch.setattr(finetune.training, "train_fold", lambda *_: pytest.fail("a finished fold was trained again"))
    assert main([f"run_dir={run_dir}", *tiny_finetune]) == 0
    assert [path.stat().st_mtime_ns for path in models] == before
    assert len(models) == 3
    assert_same_end(run_dir, finetuned)


def test_a_run_goes_on_where_its_files_lie_elsewhere_if_their_labels_are_the_same(
    tmp_path: Path, finetuned: Path, tiny_finetune: list[str], labelled_files: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finetuned, tmp_path / "run")
    shutil.copy(labelled_files.images, tmp_path / "images.hdf5")
    shutil.copy(labelled_files.folds, tmp_path / "folds.csv")
    rows = pd.read_csv(labelled_files.table)
    rows.assign(age=50).to_csv(tmp_path / "table.csv", index=False)
    words = [*tiny_finetune, f"run_dir={tmp_path / 'run'}", f"data.table={tmp_path / 'table.csv'}"]
    words += [f"data.images={tmp_path / 'images.hdf5'}", f"data.folds={tmp_path / 'folds.csv'}"]
    assert main(words) == 0
    for changed in (
        rows.assign(target=np.roll(rows["target"], 1)),
        rows[::-1],
    ):  # in another order it is trained otherwise
        changed.to_csv(tmp_path / "table.csv", index=False)
        assert main(words) == 2
        assert "holds a run on other data: data.table was 36 rows, sha256" in capsys.readouterr().err


def test_one_fold_first_and_all_of_them_later(tmp_path: Path, finetuned: Path, tiny_finetune: list[str]) -> None:
    words = [f"run_dir={tmp_path / 'run'}", *tiny_finetune]
    assert main([*words, "folds=[1]", "evaluate_every=0"]) == 0
    model = tmp_path / "run" / "fold-1" / "model" / "model.safetensors"
    written = model.stat().st_mtime_ns
    assert main(words) == 0
    assert model.stat().st_mtime_ns == written
    assert (tmp_path / "run" / "oof.csv").read_bytes() == (finetuned / "oof.csv").read_bytes()


@pytest.mark.parametrize("name", ["notes", "wandb"])
def test_a_tracker_gets_every_fold(
    name: str, tmp_path: Path, tiny_finetune: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights & Biases passes over what comes at a lower step than before: it is given none."""
    rows: list[tuple[int | None, dict[str, Any]]] = []

    class Notes(GeneralTracker):
        requires_logging_directory = False

        def __init__(self, run_name: str, **_: Any) -> None:
            super().__init__()

        @property
        def tracker(self) -> None: ...

        def store_init_configuration(self, values: dict[str, Any]) -> None: ...

        def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
            rows.append((step, values))

    Notes.name = name
    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, name, Notes)
    monkeypatch.setattr("ssl_isic.loop.get_available_trackers", lambda: [LoggerType.WANDB])
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [LoggerType.WANDB])
    assert main([f"run_dir={tmp_path / 'run'}", *tiny_finetune, f"loop.trackers=[{name}]"]) == 0
    for fold in FOLDS:
        of_fold = [(step, values) for step, values in rows if f"fold-{fold}/loss" in values]
        steps = [values.pop(f"fold-{fold}/step") if name == "wandb" else step for step, values in of_fold]
        assert steps == list(range(1, len(of_fold) + 1))
        assert {step for step, _ in of_fold} == ({None} if name == "wandb" else {*steps})


def test_killed_between_folds_it_goes_on_with_the_next(
    tmp_path: Path, finetuned: Path, tiny_finetune: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"run_dir={tmp_path / 'run'}", *tiny_finetune]
    train_fold, started = finetune.training.train_fold, []

    def killed_before_fold_1(*arguments: Any) -> None:
        started.append(arguments[4])
        if len(started) == 2:
            raise Killed
        train_fold(*arguments)

    monkeypatch.setattr(finetune.training, "train_fold", killed_before_fold_1)
    with pytest.raises(Killed):
        main(words)
    assert not (tmp_path / "run" / "oof.csv").exists()
    monkeypatch.setattr(finetune.training, "train_fold", lambda *a: (started.append(a[4]), train_fold(*a)))
    assert main(words) == 0
    assert started == [0, 1, 1, 2]
    assert_same_end(tmp_path / "run", finetuned)


@pytest.mark.parametrize("dies_in", ["training", "saving the model", "writing the scores"])
def test_killed_within_a_fold_it_ends_with_the_same_bits(
    dies_in: str, tmp_path: Path, finetuned: Path, tiny_finetune: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"run_dir={tmp_path / 'run'}", *tiny_finetune, "loop.save_every=2"]
    module, name, call = {
        "training": (finetune.classifier, "classification_loss", 10),  # the 4th of fold 1, in its second epoch
        "saving the model": (finetune.training, "save_backbone", 2),
        "writing the scores": (finetune.training, "write_predictions", 2),
    }[dies_in]
    monkeypatch.setattr(module, name, killed_at(call, getattr(module, name)))
    with pytest.raises(Killed):
        main(words)
    folder = tmp_path / "run" / "fold-1"
    assert not (folder / "valid.csv").exists()
    saved = [path.name for path in (folder / "checkpoints").glob("step-*")]
    assert sorted(saved) == (["step-000000002"] if dies_in == "training" else ["step-000000004", "step-000000006"])
    monkeypatch.undo()
    assert main(words) == 0
    assert_same_end(tmp_path / "run", finetuned)
    assert sorted(path.name for path in (tmp_path / "run" / "fold-1").iterdir()) == [
        "metrics.jsonl",
        "model",
        "valid.csv",
    ]


def killed_at(call: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, which ends in Killed the `call`-th time."""
    calls = 0

    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise Killed
        return function(*arguments, **keywords)

    return wrapped


@pytest.mark.slow
def test_sigkill_and_the_same_command_again(tmp_path: Path, finetuned: Path, tiny_finetune: list[str]) -> None:
    run_dir = tmp_path / "run"
    words = [f"run_dir={run_dir}", *tiny_finetune, "loop.save_every=1"]
    process = subprocess.Popen(
        [sys.executable, finetune.train.__file__, *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    deadline = time.monotonic() + 240
    while not list(run_dir.glob("fold-0/checkpoints/step-*")) and process.poll() is None:
        assert time.monotonic() < deadline, "no checkpoint in four minutes"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (run_dir / "oof.csv").exists()
    assert main(words) == 0
    assert_same_end(run_dir, finetuned)


def test_a_pretrained_backbone_is_where_training_starts(
    tmp_path: Path, tiny_finetune: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(11)
    pretrained = build_backbone(BackboneConfig(model="test_resnet"), 32)
    save_backbone(pretrained, tmp_path / "backbone", 32)
    at_start: list[dict[str, Tensor]] = []

    def note(classifier: Any, *_: Any, **__: Any) -> None:
        at_start.append({name: value.clone() for name, value in classifier.exported().state_dict().items()})
        raise Killed

    monkeypatch.setattr(finetune.training, "fit", note)
    with pytest.raises(Killed):
        main([f"run_dir={tmp_path / 'run'}", *tiny_finetune, f"backbone.weights={tmp_path / 'backbone'}"])
    expected = load_file(tmp_path / "backbone" / "model.safetensors")
    assert at_start[0].keys() - expected.keys() == {"fc.weight", "fc.bias"}
    assert [name for name in expected if not torch.equal(expected[name], at_start[0][name])] == []


def test_a_backbone_of_another_network_is_refused(
    tmp_path: Path, tiny_finetune: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    save_backbone(build_backbone(BackboneConfig(model="test_vit"), 32), tmp_path / "backbone", 32)
    words = [f"run_dir={tmp_path / 'run'}", *tiny_finetune, f"backbone.weights={tmp_path / 'backbone'}"]
    assert f"{tmp_path / 'backbone'} is not of a test_resnet" in one_line_of_error(words, capsys)


@pytest.mark.parametrize(("folds", "message"), [("[7]", "has no fold 7; it has [0, 1, 2]"), ("[]", "name each fold")])
def test_folds_that_are_not_there_are_refused_and_leave_no_run(
    folds: str, message: str, tmp_path: Path, tiny_finetune: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run_dir={tmp_path / 'run'}", *tiny_finetune, f"folds={folds}"]
    assert message in one_line_of_error(words, capsys)
    assert not (tmp_path / "run").exists(), "the corrected command may use the same folder"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("data.group=patient", "table.csv has no column patient; did you mean patient_id?"),
        ("data.target=clinic", "table.csv: clinic must be 0 or 1, got A in row 2"),
        ("data.images=/nowhere/train.hdf5", "no such file: /nowhere/train.hdf5"),
        ("data.table=/nowhere/train.csv", "there is no file /nowhere/train.csv"),
        ("loop.epoch=3", "loop.epoch"),
        ("loop.batch_size=400", "an epoch of 15 images does not fill one batch; lower loop.batch_size=400"),
        ("backbone.model=test_resnest", "timm has no test_resnest"),
        ("views.preset=paper", "no paper has a preset for fine-tuning; take finetune"),
        ("views.scale=[0.9, 0.5]", "views.scale: write [smallest, largest]"),
    ],
)
def test_wrong_input_is_one_line(
    word: str, message: str, tmp_path: Path, tiny_finetune: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in one_line_of_error([f"run_dir={tmp_path / 'run'}", *tiny_finetune, word], capsys)


def test_one_fold_alone(tmp_path: Path, finetuned: Path, tiny_finetune: list[str]) -> None:
    assert main([f"run_dir={tmp_path / 'run'}", *tiny_finetune, "folds=[2]"]) == 0
    ours, theirs = weights(tmp_path / "run", 2), weights(finetuned, 2)
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    assert {*pd.read_csv(tmp_path / "run" / "oof.csv")["fold"]} == {2}
    assert json.loads((tmp_path / "run" / "models.json").read_text())["models"] == ["fold-2/model"]
