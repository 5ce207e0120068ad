"""Pseudo-label rounds: predict the unlabelled pool, calibrate, take the most certain by quota, retrain, keep what helps.

The student of fold k learns only from the teacher of fold k, the one model that never saw a label of fold k; it is judged
on fold k's labels, which no round ever trains it on.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from accelerate import Accelerator
from numpy.typing import NDArray
from pydantic import Field

from finetune.calibrate import Platt, fit_platt, shift_prior
from finetune.ensemble import fold_folder, mean_probability, predict_folder, read_ensemble, write_ensemble
from finetune.labelled import Labelled, TrainingRows, read_labelled
from finetune.predict import write_predictions
from finetune.training import LABELLED, FinetuneConfig, folds_to_train, started_run, train_folds
from pseudolabel.ledger import ledger_rows, read_ledger, training_rows, write_ledger
from pseudolabel.selection import SelectionConfig, select
from pseudolabel.unlabelled import UNLABELLED, Unlabelled, UnlabelledConfig, read_unlabelled
from ssl_isic.data.images import ImagePool
from ssl_isic.data.source_stamps import content_hash
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_folder, atomic_write, sha256_of
from ssl_isic.metrics import bootstrap, paired_bootstrap, partial_auc, roc_auc


class PseudolabelConfig(FinetuneConfig):
    """Teach the classifier on unlabelled images, round by round."""

    may_change: ClassVar[tuple[str, ...]] = ("evaluate_every", "rounds")
    run_dir: Path
    """Folder of this run; fold K of round R is in run_dir/round-R/fold-K, and models.json names the round that is kept."""
    pool: UnlabelledConfig
    """The unlabelled images."""
    selection: SelectionConfig = SelectionConfig()
    """Which pseudo-labels are taken."""
    rounds: int = Field(3, ge=1)
    """Rounds at most, after round 0. A student takes as many steps as its teacher did."""
    min_gain: float = Field(0.0, ge=0)
    """A round is kept if it gains more out-of-fold pAUC than this on the round before; else it is dropped, and is the last."""
    round_0: Path | None = None
    """A finished fine-tuning run on the same folds to start from; null trains it."""


@dataclass(frozen=True)
class Round:
    """A round: its number, where its models and `oof.csv` are, and where we write about it."""

    number: int
    models: Path
    folder: Path


def run_rounds(config: PseudolabelConfig) -> Path:
    """Run, or resume, the rounds; returns the run's folder. Every rank calls this."""
    images = ImagePool({LABELLED: config.data.images, UNLABELLED: config.pool.images})
    labelled = read_labelled(config.data, images, LABELLED)
    unlabelled = read_unlabelled(config.pool, labelled, images)
    if len(folds_to_train(config, labelled)) < 2:
        raise InputError(f"folds={config.folds}: name 2 or more; a fold's teacher is calibrated on the other folds")
    labelled_images, unlabelled_images = (content_hash(store) for store in images.stores)
    inputs = {"data.images": labelled_images, "pool.images": unlabelled_images, "pool.table": unlabelled.rows_hash()}
    if config.round_0 is not None:
        inputs["round_0"] = f"sha256 of oof.csv {sha256_of(_oof_of(config.round_0))}"
    with started_run(config, labelled, inputs) as accelerator:
        images.cache(config.data, show=accelerator.is_main_process)
        left_out = f", {unlabelled.copies} copies of labelled ones left out" if unlabelled.copies else ""
        accelerator.print(f"{len(labelled.ids)} labelled images, {len(unlabelled.ids)} unlabelled{left_out}")
        stage = _Stage(config, labelled, unlabelled, images, accelerator)
        kept = stage.round_0()
        report = [stage.report(kept, None)]
        for number in range(1, config.rounds + 1):
            student = stage.student(kept, number)
            if student is None:
                accelerator.print("the calibrated teachers are certain of no malignant lesion: there is nothing to add")
                break
            report.append(stage.report(student, kept))
            gain = report[-1]["gain"]
            if gain <= config.min_gain:
                break
            kept = student
        if accelerator.is_main_process:
            _conclude(config, labelled, kept, report)
        accelerator.wait_for_everyone()
        accelerator.end_training()
    return config.run_dir


@dataclass(frozen=True)
class _Stage:
    config: PseudolabelConfig
    labelled: Labelled
    unlabelled: Unlabelled
    images: ImagePool
    accelerator: Accelerator

    def round_0(self) -> Round:
        """The labelled model: the run that was given, or one trained here."""
        folder = self.config.run_dir / "round-0"
        if self.config.round_0 is None:
            train_folds(self.config, self.labelled, self.images, {}, folder, self.accelerator)
            return Round(0, folder, folder)
        given = self.config.round_0
        teacher = read_ensemble(given)
        for key, there, here in (
            ("image_size", teacher.image_size, self.config.image_size),
            ("data.clean", teacher.cleaning, self.config.data.clean),
            ("data.decode", teacher.decode, self.config.data.decode),
        ):
            if there != here:
                raise InputError(f"round_0={given} was trained at {key}={there}, this run at {here}; set the same")
        oof = read_oof(given)
        folds = folds_to_train(self.config, self.labelled)
        expected = {
            identifier: fold
            for identifier, fold in zip(self.labelled.ids, self.labelled.fold.tolist(), strict=True)
            if fold in folds
        }
        if dict(zip(oof["isic_id"], oof["fold"], strict=True)) != expected:
            raise InputError(
                f"round_0={given} was trained on other folds than {self.config.data.folds}; give the same folds"
            )
        return Round(0, given, folder)

    def student(self, teacher: Round, number: int) -> Round | None:
        """Train round `number` on labels and the teacher's pseudo-labels; None when there are none to take."""
        folder = self.config.run_dir / f"round-{number}"
        index_of = dict(zip(self.unlabelled.ids.tolist(), self.unlabelled.indices.tolist(), strict=True))
        extra: dict[int, TrainingRows] = {}
        for fold in folds_to_train(self.config, self.labelled):
            path = fold_folder(folder, fold) / "pseudo_labels.csv"
            if not path.exists():
                rows = self.pseudo_labels(teacher, fold, number)
                if self.accelerator.is_main_process:
                    write_ledger(path, rows)
            self.accelerator.wait_for_everyone()  # a slower rank may find the file there
            extra[fold] = training_rows(read_ledger(path), index_of)
        if not any(rows.positive.any() for rows in extra.values()):
            return None
        train_folds(self.config, self.labelled, self.images, extra, folder, self.accelerator)
        return Round(number, folder, folder)

    def pseudo_labels(self, teacher: Round, fold: int, number: int) -> pd.DataFrame:
        """The ledger rows of student `fold`, from the teacher that never saw that fold."""
        p_raw, readable = self.pool_scores(teacher, fold)
        platt = calibration_for(fold, read_oof(teacher.models))
        p = platt(p_raw)
        # a teacher that ranks malignant below benign has nothing to teach
        usable = readable if platt.slope > 0 else np.zeros_like(readable)
        selection = select(p, usable, self.config.selection, number)
        chosen, label = p[selection.rows], selection.label
        as_drawn = shift_prior(chosen, self.labelled.prevalence, self._sampled_prior())
        certainty = np.where(label == 1, as_drawn, 1 - as_drawn)
        target = as_drawn if self.config.selection.targets == "soft" else label.astype(np.float64)
        return ledger_rows(
            self.unlabelled.ids,
            selection,
            round_number=number,
            fold=fold,
            teacher=str(fold_folder(teacher.models, fold) / "model"),
            p_raw=p_raw,
            p_calibrated=p,
            target=target,
            weight=self.config.selection.weight * certainty,
        )

    def pool_scores(self, scored: Round, fold: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Raw probabilities (N,) of the pool by model `fold` of a round, and which images it could read (N,)."""
        path = fold_folder(scored.folder, fold) / "pool.csv"
        if not path.exists():
            p, readable = predict_folder(
                fold_folder(scored.models, fold) / "model",
                self.images,
                self.unlabelled.indices,
                prior=self.labelled.prevalence,
                image_size=self.config.image_size,
                batch_size=self.config.loop.batch_size,
                loader=self.config.data,
                cleaning=self.config.data.clean,
                accelerator=self.accelerator,
                title=f"round-{scored.number} fold {fold} on the pool",
            )
            if self.accelerator.is_main_process:
                write_predictions(path, self.unlabelled.ids.tolist(), p_malignant=p, readable=readable)
            self.accelerator.wait_for_everyone()
        table = pd.read_csv(path, dtype={"isic_id": str})
        return table["p_malignant"].to_numpy(np.float64), table["readable"].to_numpy(bool)

    def report(self, scored: Round, teacher: Round | None) -> dict[str, Any]:
        """What a round is worth: out-of-fold metrics, its gain over its teacher, and the truth of the pool where known."""
        target, score, patients = self._scored(scored)
        row: dict[str, Any] = {
            "round": scored.number,
            **bootstrap(partial_auc, target, score, patients).named("pauc"),
        }
        row.update(bootstrap(roc_auc, target, score, patients).named("auc"))
        if teacher is not None:
            _, before, _ = self._scored(teacher)
            row.update(paired_bootstrap(partial_auc, target, score, before, patients).named("gain"))
            row.update(paired_bootstrap(roc_auc, target, score, before, patients).named("auc_gain"))
            rows = [
                read_ledger(fold_folder(scored.folder, fold) / "pseudo_labels.csv")
                for fold in folds_to_train(self.config, self.labelled)
            ]
            taken = pd.concat(rows)
            row["pseudo_malignant"] = int((taken["label"] == 1).sum())
            row["pseudo_benign"] = int((taken["label"] == 0).sum())
            row.update(self._truth_of(taken))
        members = [self.pool_scores(scored, fold)[0] for fold in folds_to_train(self.config, self.labelled)]
        if self.unlabelled.truth is not None:
            pooled = mean_probability(members)
            truth, groups = self.unlabelled.truth, self.unlabelled.groups
            row.update(bootstrap(partial_auc, truth, pooled, groups).named("pool_pauc"))
            row.update(bootstrap(roc_auc, truth, pooled, groups).named("pool_auc"))
        shown = [f"{name} {row[name]:.4f}" for name in ("pauc", "auc", "pool_auc") if name in row]
        if "gain" in row:
            told = "" if row["gain_low"] > 0 or row["gain_high"] < 0 else ", not told from 0"
            shown.append(f"gain {row['gain']:+.4f} [{row['gain_low']:+.4f}, {row['gain_high']:+.4f}]{told}")
        self.accelerator.print(f"round {scored.number}: {', '.join(shown)}")
        return row

    def _truth_of(self, taken: pd.DataFrame) -> dict[str, float]:
        """Share of the pseudo-labels of each class that are true."""
        if self.unlabelled.truth is None:
            return {}
        truth = dict(zip(self.unlabelled.ids.tolist(), self.unlabelled.truth.tolist(), strict=True))
        right = taken["isic_id"].map(truth).to_numpy() == taken["label"].to_numpy()
        positive = taken["label"].to_numpy() == 1
        return {
            "malignant_precision": float(right[positive].mean()),
            "benign_precision": float(right[~positive].mean()) if (~positive).any() else float("nan"),
        }

    def _scored(self, scored: Round) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.str_]]:
        """Targets, out-of-fold scores and groups of the labelled rows, in the labelled table's order."""
        oof = read_oof(scored.models).set_index("isic_id")
        ids = [identifier for identifier in self.labelled.ids if identifier in oof.index]
        group_of = dict(zip(self.labelled.ids, self.labelled.groups.tolist(), strict=True))
        return (
            oof.loc[ids, "target"].to_numpy(np.float64),
            oof.loc[ids, "p_malignant"].to_numpy(np.float64),
            np.array([group_of[identifier] for identifier in ids]),
        )

    def _sampled_prior(self) -> float:
        """Share of positives among the samples that training draws."""
        ratio = self.config.sampling.negatives_per_positive
        return self.labelled.prevalence if ratio is None else 1 / (1 + ratio)


def calibration_for(fold: int, oof: pd.DataFrame) -> Platt:
    """Platt's line for the teacher of `fold`, from out-of-fold predictions on the labels of all other folds."""
    others = oof[oof["fold"] != fold]
    return fit_platt(others["p_malignant"].to_numpy(np.float64), others["target"].to_numpy(np.float64))


def read_oof(run_dir: Path) -> pd.DataFrame:
    """The out-of-fold predictions of a run."""
    return pd.read_csv(run_dir / "oof.csv", dtype={"isic_id": str})


def _oof_of(given: Path) -> Path:
    path = given / "oof.csv"
    if not path.is_file():
        raise InputError(f"round_0={given}: no such file {path}; give a finished fine-tuning run")
    return path


def _keep(model: Path, here: Path) -> None:
    """Copy the folder of a model that lies in another run: one run's folder is then all that a submission needs."""
    if model != here:
        with atomic_folder(here) as temporary:
            shutil.copytree(model, temporary, dirs_exist_ok=True)


def _conclude(config: PseudolabelConfig, labelled: Labelled, kept: Round, report: list[dict[str, Any]]) -> None:
    """Write which round's models are the run's, the report of the rounds, and the ledger of all of them."""
    folds = folds_to_train(config, labelled)
    for row in report:
        row["kept"] = row["round"] <= kept.number
    table = pd.DataFrame(report)
    with atomic_write(config.run_dir / "rounds_report.csv") as temporary:
        table.to_csv(temporary, index=False)
    numbers = [row["round"] for row in report if row["round"] > 0]
    ledgers = [
        read_ledger(fold_folder(config.run_dir / f"round-{number}", fold) / "pseudo_labels.csv")
        for number in numbers
        for fold in folds
    ]
    if ledgers:
        write_ledger(config.run_dir / "ledger.csv", pd.concat(ledgers))
    for fold in folds:
        _keep(fold_folder(kept.models, fold) / "model", fold_folder(kept.folder, fold) / "model")
    models = [(fold_folder(kept.folder, fold) / "model").relative_to(config.run_dir).as_posix() for fold in folds]
    write_ensemble(config.run_dir, models, labelled.prevalence, config.image_size, config.data, round=kept.number)
    columns = ("round", "pauc", "pauc_low", "pauc_high", "auc", "gain", "gain_low", "gain_high", "kept")
    shown = [name for name in columns if name in table]
    print(table[shown].to_string(index=False, float_format=lambda value: f"{value:.4f}"))
    print(f"round {kept.number} is kept; its models are named in {config.run_dir / 'models.json'}")
