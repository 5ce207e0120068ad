"""Rounds of pseudo-labels: who teaches whom, what may be known, which round is kept, and that a killed run goes on exactly.

Most tests give `round_0` and stand a cheap `train_folds` in for the students' training; the last two train.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
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
from safetensors.torch import load_file
from torch import Tensor

import finetune.training
import pseudolabel.rounds
from finetune.calibrate import Platt, fit_platt
from finetune.ensemble import read_ensemble
from finetune.labelled import TrainingRows
from pseudolabel.rounds import calibration_for
from pseudolabel.run import main
from ssl_isic.run_folder import read_metrics

FOLDS = (0, 1, 2)
Extras = dict[Path, dict[int, TrainingRows]]


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test may catch it."""


def odds(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logit))


@pytest.fixture(scope="session")
def round_0(tmp_path_factory: pytest.TempPathFactory, finetuned: Path) -> Path:
    """The fine-tuned run, as if it had learned something: its out-of-fold scores tell malignant from benign, roughly."""
    run_dir = tmp_path_factory.mktemp("round_0") / "run"
    shutil.copytree(finetuned, run_dir)
    oof = pd.read_csv(run_dir / "oof.csv")
    noise = np.random.default_rng(0).normal(0, 1, len(oof))
    oof["p_malignant"] = odds(1.5 * oof["target"].to_numpy(float) + noise - 2)
    oof.to_csv(run_dir / "oof.csv", index=False, float_format="%.17g")
    return run_dir


@pytest.fixture
def words(tmp_path: Path, round_0: Path, tiny_finetune: list[str], labelled_files: Any) -> list[str]:
    """Words for `ssl-isic pseudolabel`: as many pseudo-malignant as are expected, three pseudo-benign for each."""
    return [
        f"run_dir={tmp_path / 'run'}",
        *tiny_finetune,
        f"pool.images={labelled_files.images}",
        f"round_0={round_0}",
        "selection.positive_share=1",
        "selection.negatives_per_positive=3",
        "rounds=1",
    ]


@pytest.fixture
def students(finetuned: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], Extras]:
    """Stands in for training: the students of each round are round 0's networks, and score as they are told to."""

    def use(qualities: Sequence[str]) -> Extras:
        extras: Extras = {}

        def train_folds(config: Any, labelled: Any, pool: Any, extra: Any, run_dir: Path, accelerator: Any) -> None:
            quality = qualities[len(extras)]
            extras[run_dir] = extra
            for fold in FOLDS:
                shutil.copytree(finetuned / f"fold-{fold}" / "model", run_dir / f"fold-{fold}" / "model")
            oof = pd.read_csv(config.round_0 / "oof.csv")
            if quality in ("better", "best"):
                gap = {"better": 1.5, "best": 4}[quality]
                oof["p_malignant"] = odds(gap * oof["target"].to_numpy(float) + np.linspace(-3, -1, len(oof)))
            elif quality == "worse":
                oof["p_malignant"] = 1 - oof["p_malignant"]
            oof.to_csv(run_dir / "oof.csv", index=False, float_format="%.17g")

        monkeypatch.setattr(pseudolabel.rounds, "train_folds", train_folds)
        return extras

    return use


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teachers are taken at their word, uncalibrated, so that each expects some malignant lesions in the pool."""
    monkeypatch.setattr(pseudolabel.rounds, "calibration_for", lambda fold, oof: Platt(1.0, 0.0))


def ledgers(run_dir: Path, number: int = 1) -> list[pd.DataFrame]:
    return [pd.read_csv(run_dir / f"round-{number}" / f"fold-{fold}" / "pseudo_labels.csv") for fold in FOLDS]


def by_plain_timm(folder: Path, jpegs: Sequence[bytes]) -> NDArray[np.float64]:
    """Probabilities (N,) of one saved model."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    settings = json.loads((folder / "config.json").read_text())["pretrained_cfg"]
    p = []
    for jpeg in jpegs:
        pixels = cv2.resize(simplejpeg.decode_jpeg(jpeg), (32, 32), interpolation=cv2.INTER_AREA)
        normalised = torch.tensor((pixels / 255 - settings["mean"]) / settings["std"], dtype=torch.float32)
        with torch.no_grad():
            p.append(model(normalised.permute(2, 0, 1)[None]).double().sigmoid().item())
    return np.array(p)


def one_line_of_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("ssl-isic: ")]) == len(lines) == 1, lines
    return lines[0]


def test_a_fold_is_taught_by_its_own_model_and_nothing_else(
    words: list[str],
    round_0: Path,
    students: Callable[[Sequence[str]], Extras],
    lesion_jpegs: dict[str, bytes],
    labelled_files: Any,
    tmp_path: Path,
) -> None:
    extras = students(["better"])
    assert main(words) == 0
    unlabelled = list(lesion_jpegs)[36:]
    oof = pd.read_csv(round_0 / "oof.csv")
    for fold, ledger in enumerate(ledgers(tmp_path / "run")):
        assert {*ledger["teacher"]} == {str(round_0 / f"fold-{fold}" / "model")}
        assert {*ledger["isic_id"]} <= {*unlabelled}
        jpegs = [lesion_jpegs[identifier] for identifier in ledger["isic_id"]]
        assert np.allclose(ledger["p_raw"], by_plain_timm(round_0 / f"fold-{fold}" / "model", jpegs), rtol=1e-5)
        line = fit_platt(*oof.loc[oof["fold"] != fold, ["p_malignant", "target"]].to_numpy(float).T)
        assert np.allclose(ledger["p_calibrated"], line(ledger["p_raw"].to_numpy()), rtol=1e-9)
        # soft targets: odds restated from 8 malignant in 36 to 1 in 3 (two negatives drawn for each positive)
        calibrated = ledger["p_calibrated"] / (1 - ledger["p_calibrated"])
        drawn = calibrated * (28 / 8) * (1 / 2)
        assert np.allclose(ledger["target"], drawn / (1 + drawn), rtol=1e-9)
        malignant = ledger["label"] == 1
        certainty = ledger["target"].where(malignant, 1 - ledger["target"])
        assert np.allclose(ledger["weight"], 0.5 * certainty, rtol=1e-9), "as certain as among the samples drawn"
        p_pool = line(pd.read_csv(tmp_path / "run" / "round-0" / f"fold-{fold}" / "pool.csv")["p_malignant"].to_numpy())
        quota = round(p_pool.sum())
        assert (int(malignant.sum()), int((~malignant).sum())) == (quota, min(3 * quota, 12 - quota))
        assert quota >= 1
        rows = extras[tmp_path / "run" / "round-1"][fold]
        assert rows.target.tolist() == ledger["target"].tolist()
        assert rows.positive.tolist() == malignant.tolist()
    every = pd.read_csv(tmp_path / "run" / "ledger.csv")
    assert every.equals(pd.concat(ledgers(tmp_path / "run"), ignore_index=True))


def test_calibration_for_a_fold_knows_none_of_its_labels(round_0: Path) -> None:
    oof = pd.read_csv(round_0 / "oof.csv")
    for fold in FOLDS:
        flipped = oof.copy()
        flipped.loc[oof["fold"] == fold, "target"] = 1 - oof["target"]
        assert calibration_for(fold, flipped) == calibration_for(fold, oof)
        others = [other for other in FOLDS if other != fold]
        assert all(calibration_for(other, flipped) != calibration_for(other, oof) for other in others)


def test_a_folds_labels_and_scores_do_not_reach_its_students(
    words: list[str], round_0: Path, students: Callable[[Sequence[str]], Extras], tmp_path: Path
) -> None:
    students(["better", "better"])
    assert main(words) == 0
    altered = tmp_path / "altered"
    shutil.copytree(round_0, altered)
    oof = pd.read_csv(altered / "oof.csv")
    mine = oof["fold"] == 1
    oof.loc[mine, "target"] = 1 - oof["target"]
    oof.loc[mine, "p_malignant"] = 0.5
    oof.to_csv(altered / "oof.csv", index=False, float_format="%.17g")
    assert main([*words, f"run_dir={tmp_path / 'again'}", f"round_0={altered}"]) == 0
    same = [
        ledger.drop(columns="teacher").equals(other.drop(columns="teacher"))
        for ledger, other in zip(ledgers(tmp_path / "run"), ledgers(tmp_path / "again"), strict=True)
    ]
    assert same == [False, True, False]


@pytest.mark.parametrize("flip", [False, True])
def test_the_truth_is_reported_on_and_never_learned_from(
    flip: bool,
    words: list[str],
    students: Callable[[Sequence[str]], Extras],
    lesion_jpegs: dict[str, bytes],
    tmp_path: Path,
) -> None:
    students(["better", "better"])
    assert main(words) == 0
    table = pd.DataFrame({"isic_id": list(lesion_jpegs)[30:]})  # six of them are labelled
    table["truth"] = (np.arange(18) % 3 == 0).astype(int)
    if flip:
        table["truth"] = 1 - table["truth"]
    table.to_csv(tmp_path / "pool.csv", index=False)
    told = [*words, f"run_dir={tmp_path / 'told'}", f"pool.table={tmp_path / 'pool.csv'}", "pool.truth=truth"]
    assert main(told) == 0
    assert (tmp_path / "told" / "ledger.csv").read_bytes() == (tmp_path / "run" / "ledger.csv").read_bytes()
    report = pd.read_csv(tmp_path / "told" / "rounds_report.csv").set_index("round")
    truth = table.set_index("isic_id")["truth"]
    taken = pd.concat(ledgers(tmp_path / "told"))
    right = taken["label"].to_numpy() == taken["isic_id"].map(truth).to_numpy()
    malignant = taken["label"].to_numpy() == 1
    assert report.loc[1, "malignant_precision"] == pytest.approx(right[malignant].mean())
    assert report.loc[1, "benign_precision"] == pytest.approx(right[~malignant].mean())
    pool = [pd.read_csv(tmp_path / "told" / "round-0" / f"fold-{fold}" / "pool.csv") for fold in FOLDS]
    assert [scored["isic_id"].tolist() for scored in pool] == [list(lesion_jpegs)[36:]] * 3
    score, target = np.mean([scored["p_malignant"] for scored in pool], axis=0), truth[pool[0]["isic_id"]].to_numpy()
    wins = (score[target == 1][:, None] > score[target == 0]).mean()
    assert report.loc[0, "pool_auc"] == pytest.approx(wins)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("qualities", "rounds_trained", "kept"),
    [
        (["worse"], 1, 0),
        (["same"], 1, 0),
        (["better", "same"], 2, 1),
        (["better", "worse"], 2, 1),
        (["better", "best", "same"], 3, 2),
    ],
)
def test_a_round_is_kept_if_it_gains_and_else_it_is_the_last(
    qualities: list[str],
    rounds_trained: int,
    kept: int,
    words: list[str],
    round_0: Path,
    students: Callable[[Sequence[str]], Extras],
    tmp_path: Path,
) -> None:
    run_dir = tmp_path / "run"
    extras = students(qualities)
    assert main([*words, "rounds=4"]) == 0
    assert list(extras) == [run_dir / f"round-{number}" for number in range(1, rounds_trained + 1)]
    ensemble = read_ensemble(run_dir)
    assert ensemble.models == [run_dir / f"round-{kept}" / f"fold-{fold}" / "model" for fold in FOLDS]
    if kept == 0:
        for fold, model in enumerate(ensemble.models):
            there = round_0 / f"fold-{fold}" / "model"
            assert [(model / path.name).read_bytes() == path.read_bytes() for path in there.iterdir()] == [True, True]
    assert (ensemble.prior, ensemble.image_size) == (8 / 36, 32)
    report = pd.read_csv(run_dir / "rounds_report.csv")
    assert report["round"].tolist() == list(range(rounds_trained + 1))
    assert report["kept"].tolist() == [number <= kept for number in report["round"]]
    assert np.allclose(report["gain"][1:], np.diff(report["pauc"])), "the teacher is always the round before"
    assert json.loads((run_dir / "models.json").read_text())["round"] == kept
    if rounds_trained > 1:
        for fold, ledger in enumerate(ledgers(run_dir, 2)):
            assert {*ledger["teacher"]} == {str(run_dir / "round-1" / f"fold-{fold}" / "model")}


@pytest.mark.usefixtures("trusted")
def test_an_image_that_cannot_be_read_is_never_a_pseudo_label(
    words: list[str],
    students: Callable[[Sequence[str]], Extras],
    lesion_jpegs: dict[str, bytes],
    write_hdf5: Callable[[Path, Mapping[str, bytes]], Path],
    tmp_path: Path,
) -> None:
    students(["better"])
    unlabelled = list(lesion_jpegs)[36:]
    images = {name: lesion_jpegs[name] for name in unlabelled}
    images[unlabelled[4]] = images[unlabelled[4]][:100]
    pool = write_hdf5(tmp_path / "pool.hdf5", images)
    assert main([*words, f"pool.images={pool}", "selection.negatives_per_positive=100"]) == 0
    for ledger in ledgers(tmp_path / "run"):
        assert sorted(ledger["isic_id"]) == unlabelled[:4] + unlabelled[5:], "all others are taken"


def test_a_fold_whose_teacher_ranks_the_wrong_way_is_taught_nothing(
    words: list[str], students: Callable[[Sequence[str]], Extras], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extras = students(["better"])
    monkeypatch.setattr(pseudolabel.rounds, "calibration_for", lambda fold, oof: Platt(-1.0 if fold == 0 else 1.0, 0.0))
    assert main(words) == 0
    taught = extras[tmp_path / "run" / "round-1"]
    assert [len(taught[fold].indices) > 0 for fold in FOLDS] == [False, True, True]
    assert {*pd.read_csv(tmp_path / "run" / "ledger.csv")["fold"]} == {1, 2}


def test_scores_of_a_pool_are_not_taken_over_by_another_configuration(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No weights are in the folder yet: only what round 0, which lies elsewhere, said of the pool, and nothing taken of it."""
    monkeypatch.setattr(pseudolabel.rounds, "calibration_for", lambda fold, oof: Platt(-1.0, 0.0))
    assert main(words) == 0
    for fold in FOLDS:
        shutil.rmtree(tmp_path / "run" / "round-0" / f"fold-{fold}" / "model")
    capsys.readouterr()
    said = one_line_of_error([*words, "selection.positive_share=0.5"], capsys)
    assert "holds a run with selection.positive_share=1.0, this one has selection.positive_share=0.5" in said
    assert main([*words, "rounds=2"]) == 0, "more rounds change none that is there"


@pytest.mark.usefixtures("trusted")
def test_a_copy_of_a_labelled_image_is_not_in_the_pool(
    words: list[str],
    students: Callable[[Sequence[str]], Extras],
    lesion_jpegs: dict[str, bytes],
    write_hdf5: Callable[[Path, Mapping[str, bytes]], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    students(["better"])
    ids = list(lesion_jpegs)
    images = {name: lesion_jpegs[name] for name in ids[36:]} | {"X_1": lesion_jpegs[ids[3]], "X_2": b""}
    pool = write_hdf5(tmp_path / "pool.hdf5", images)
    assert main([*words, f"pool.images={pool}", "selection.negatives_per_positive=100"]) == 0
    assert "36 labelled images, 13 unlabelled, 1 copies of labelled ones left out" in capsys.readouterr().out
    scored = pd.read_csv(tmp_path / "run" / "round-0" / "fold-0" / "pool.csv")
    assert scored["isic_id"].tolist() == [*ids[36:], "X_2"]
    assert all(sorted(ledger["isic_id"]) == ids[36:] for ledger in ledgers(tmp_path / "run"))


@pytest.mark.usefixtures("trusted")
def test_a_student_takes_as_many_steps_as_its_teacher(words: list[str], finetuned: Path, tmp_path: Path) -> None:
    """Its pseudo-malignant lesions draw benign ones, too: its epochs are longer, and fewer."""
    assert main(words) == 0
    for fold in FOLDS:
        teacher, student = (
            read_metrics(run / f"fold-{fold}" / "metrics.jsonl") for run in (finetuned, tmp_path / "run" / "round-1")
        )
        assert teacher[-1]["step"] == student[-1]["step"] > 0
        assert student[-1]["epoch"] < teacher[-1]["epoch"] == 2
        assert max(row["lr"] for row in student if "lr" in row) == max(row["lr"] for row in teacher if "lr" in row)


def test_without_anything_to_teach_round_0_stands(
    words: list[str],
    round_0: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(pseudolabel.rounds, "calibration_for", lambda fold, oof: Platt(-1.0, 0.0))
    monkeypatch.setattr(pseudolabel.rounds, "train_folds", lambda *_: pytest.fail("there is nothing to train on"))
    assert main(words) == 0
    assert "there is nothing to add" in capsys.readouterr().out
    assert json.loads((tmp_path / "run" / "models.json").read_text())["round"] == 0
    assert read_ensemble(tmp_path / "run").models[0] == tmp_path / "run" / "round-0" / "fold-0" / "model"


def test_wrong_input_is_one_line(
    words: list[str], round_0: Path, labelled_files: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = pd.read_csv(labelled_files.folds)
    folds.assign(fold=(folds["fold"] + 1) % 3).to_csv(tmp_path / "folds.csv", index=False)
    pd.DataFrame({"isic_id": labelled_files.ids}).to_csv(tmp_path / "labelled.csv", index=False)
    pd.DataFrame({"isic_id": ["X1", "X2"]}).to_csv(tmp_path / "strangers.csv", index=False)
    same = pd.DataFrame({"isic_id": [f"ISIC_{row:07d}" for row in range(30, 48)], "truth": 0})
    same.to_csv(tmp_path / "same.csv", index=False)
    for number, (wrong, message) in enumerate(
        [
            (f"data.folds={tmp_path / 'folds.csv'}", f"round_0={round_0} was trained on other folds than"),
            (f"round_0={tmp_path}", "a finished fine-tuning run"),
            ("image_size=48", "was trained at image_size=32, this run at 48"),
            ("data.clean=[hair]", "was trained at data.clean=[], this run at ['hair']"),
            ("data.clean=[hiar]", "data.clean: no cleaning is called hiar; did you mean hair?"),
            ("folds=[1]", "name 2 or more; a fold's teacher is calibrated on the other folds"),
            (f"pool.table={tmp_path / 'labelled.csv'}", "every image is labelled"),
            (f"pool.table={tmp_path / 'strangers.csv'}", "2 of 2 ids of"),
            ("pool.truth=truth", "pool.truth=truth is a column of pool.table, which is not set"),
            (
                f"pool={{images: {labelled_files.images}, table: {tmp_path / 'same.csv'}, truth: truth}}",
                "truth is the same",
            ),
        ]
    ):
        assert message in one_line_of_error([*words, wrong, f"run_dir={tmp_path / str(number)}"], capsys)


def test_round_0_is_the_fine_tuning_run(
    words: list[str], finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudolabel.rounds, "calibration_for", lambda fold, oof: Platt(-1.0, 0.0))
    assert main([*words, "round_0=null"]) == 0
    for fold in FOLDS:
        ours, theirs = weights(tmp_path / "run" / "round-0", fold), weights(finetuned, fold)
        assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []
    assert (tmp_path / "run" / "round-0" / "oof.csv").read_bytes() == (finetuned / "oof.csv").read_bytes()


def test_killed_in_round_1_it_goes_on_to_the_same_bits(
    words: list[str], finetuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "run", tmp_path / "parts"
    assert main(words) == 0
    changed = [
        name for name, value in weights(finetuned, 0).items() if not value.equal(weights(whole / "round-1", 0)[name])
    ]
    assert changed, "pseudo-labels taught it something"
    train_fold, begun = finetune.training.train_fold, []

    def killed_the_second_time(*arguments: Any) -> None:
        begun.append(arguments[4])
        if len(begun) == 2:
            raise Killed
        train_fold(*arguments)

    words = [*words, f"run_dir={parts}"]
    monkeypatch.setattr(finetune.training, "train_fold", killed_the_second_time)
    with pytest.raises(Killed):
        main(words)
    assert begun == [0, 1]
    assert not (parts / "models.json").exists()
    monkeypatch.setattr(pseudolabel.rounds, "write_ledger", only(parts / "ledger.csv", pseudolabel.rounds.write_ledger))
    assert main(words) == 0
    assert begun == [0, 1, 1, 2]
    for name in ("round-1/oof.csv", "rounds_report.csv", "ledger.csv", "models.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name
    for fold in FOLDS:
        ours, theirs = weights(parts / "round-1", fold), weights(whole / "round-1", fold)
        assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def only(path: Path, function: Callable[..., None]) -> Callable[..., None]:
    """`function`, which may be given no path but `path`."""

    def checked(given: Path, *arguments: Any) -> None:
        assert given == path, "pseudo-labels that were written are not made again"
        function(given, *arguments)

    return checked


def weights(run_dir: Path, fold: int) -> dict[str, Tensor]:
    return load_file(run_dir / f"fold-{fold}" / "model" / "model.safetensors")
