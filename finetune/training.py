"""The fine-tuning stage: one classifier a fold, each scored on the fold that it never saw."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from accelerate import Accelerator
from accelerate.utils import set_seed
from numpy.typing import NDArray
from pydantic import Field

from finetune.classifier import Classifier, HeadConfig
from finetune.ensemble import fold_folder, write_ensemble
from finetune.labelled import Labelled, LabelledConfig, TrainingRows, read_labelled, rows_outside
from finetune.losses import FocalConfig, LossConfig
from finetune.mixing import MixingConfig
from finetune.predict import predict, write_predictions
from finetune.reports import NegativesShown, write_reports
from finetune.sampling import BalancedOrder
from ssl_isic.backbones import BackboneConfig, save_backbone, start_hashes
from ssl_isic.config import Config, Seed, Side
from ssl_isic.data.images import ImagePool
from ssl_isic.data.kept_views import keep_views
from ssl_isic.data.loading import Order, ShuffledOrder, TrainingImages, steps_per_epoch
from ssl_isic.data.shown import shown_by
from ssl_isic.data.source_stamps import content_hash
from ssl_isic.data.views import TrainViewConfig, train_view
from ssl_isic.errors import InputError
from ssl_isic.evaluation.source import BackboneSource
from ssl_isic.loop import LoopConfig, build_accelerator, check_alike, fit, start_trackers, total_steps
from ssl_isic.metrics import classification_metrics
from ssl_isic.optim import OptimConfig
from ssl_isic.refusals import refused_on_all
from ssl_isic.run_folder import open_run, write_provenance
from ssl_isic.run_lock import training_in
from ssl_isic.saved_weights import folder_settings, on_this_machine
from ssl_isic.sharding import check_whole

LABELLED = "labelled"


class SamplingConfig(Config):
    """Which rows an epoch draws."""

    negatives_per_positive: float | None = Field(3.0, gt=0)
    """Negatives an epoch for each positive, going through all of them in turn; null draws every row once an epoch."""


class FinetuneConfig(Config):
    """Train a malignancy classifier on patient-grouped folds."""

    may_change: ClassVar[tuple[str, ...]] = ("evaluate_every", "folds")
    """Keys that change no fold that is there, and may be others when a run goes on."""
    run_dir: Path
    """Folder of this run; fold K is in run_dir/fold-K."""
    seed: Seed = 0
    """Seed of everything random."""
    data: LabelledConfig
    """The labelled images."""
    folds: list[int] | Literal["all"] = "all"
    """Folds to hold out, one model each; `[0]` trains one."""
    image_size: Side = 96
    """Side of the input, px."""
    views: TrainViewConfig = TrainViewConfig()
    """The augmented view."""
    backbone: BackboneConfig = BackboneConfig()
    """The network and where it starts."""
    head: HeadConfig = HeadConfig()
    """The last layer."""
    loss: LossConfig = FocalConfig()
    """The loss."""
    mixing: MixingConfig = MixingConfig()
    """MixUp and CutMix."""
    sampling: SamplingConfig = SamplingConfig()
    """Which rows are drawn."""
    optim: OptimConfig = OptimConfig(lr=1e-3, lr_batch_size=None, weight_decay=0.01)
    """The optimizer; its learning rate is the head's."""
    loop: LoopConfig = LoopConfig(epochs=15, batch_size=64)
    """Length, batch and cadence."""
    evaluate_every: float = Field(1.0, ge=0)
    """Epochs between evaluations on the held-out fold; 0 evaluates only at the end."""


def finetune(config: FinetuneConfig) -> Path:
    """Run, or resume, the folds; returns the run's folder. Every rank calls this."""
    pool = ImagePool({LABELLED: config.data.images})
    labelled = read_labelled(config.data, pool, LABELLED)
    folds_to_train(config, labelled)  # refuses wrong folds before the folder is made a run of them
    with started_run(config, labelled, {"data.images": content_hash(pool.stores[0])}) as accelerator:
        pool.cache(config.data, show=accelerator.is_main_process)
        train_folds(config, labelled, pool, {}, config.run_dir, accelerator)
        accelerator.end_training()
    return config.run_dir


@contextmanager
def started_run(config: FinetuneConfig, labelled: Labelled, inputs: Mapping[str, str]) -> Iterator[Accelerator]:
    """Make the run's folder, say where its data came from, and print what the user should know about them.

    `inputs` are hashes, by key, of what is read besides the table, the folds and the weights of the start.
    Until the context ends no other process trains in the folder.
    """
    accelerator = build_accelerator(config.loop, config.run_dir)
    config = config.model_copy(update={"loop": config.loop.as_launched(accelerator)})
    check_whole(accelerator, "fine-tuning")
    views = train_view(config.views, config.image_size)  # refuses a wrong preset before the folder is made a run of it
    inputs = labelled.hashes() | start_hashes(config.backbone) | dict(inputs)
    check_alike(accelerator, inputs)
    with training_in(config.run_dir, accelerator):
        with refused_on_all(accelerator):
            if accelerator.is_main_process:
                open_run(config.run_dir, config, inputs, config.may_change)
                keep_views(config.run_dir, views)
                write_provenance(config.run_dir, config.seed, accelerator.num_processes, inputs)
        start_trackers(accelerator, config.run_dir, config)
        for note in [*labelled.notes, *_notes_on_the_start(config)]:
            accelerator.print(note)
        yield accelerator


def _notes_on_the_start(config: FinetuneConfig) -> list[str]:
    """What to know where the weights that it starts from are a classifier's, or have learned from images cleaned otherwise."""
    weights, notes = config.backbone.weights, list[str]()
    if weights is None or not on_this_machine(weights).is_dir():
        return notes
    if folder_settings(weights).get("pretrained_cfg", {}).get("num_classes") == 1:
        notes.append(
            f"{weights} is a classifier: if it has been trained on images of {config.data.table}, it has seen the labels "
            "that its folds are scored by, and the scores are too good"
        )
    learned = BackboneSource(model=config.backbone.model, weights=weights).cleaning()
    if learned != config.data.clean:
        notes.append(
            f"the backbone has learned from images with clean={learned}; this run has data.clean={config.data.clean}"
        )
    return notes


def train_folds(
    config: FinetuneConfig,
    labelled: Labelled,
    pool: ImagePool,
    extra: dict[int, TrainingRows],
    run_dir: Path,
    accelerator: Accelerator,
) -> None:
    """Train one model a fold in `run_dir`, on labels and the fold's `extra` rows, and write `oof.csv` and the reports.

    A fold that is finished is not trained again.
    """
    folds = folds_to_train(config, labelled)
    for fold in folds:
        if not fold_folder(run_dir, fold).joinpath("valid.csv").exists():
            train_fold(config, labelled, pool, extra.get(fold), fold, run_dir, accelerator)
        accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        models = [f"fold-{fold}/model" for fold in folds]
        write_ensemble(run_dir, models, labelled.prevalence, config.image_size, config.data)
        write_reports(run_dir, folds, labelled, _negatives_shown(config, labelled, folds[0], extra.get(folds[0])))
    accelerator.wait_for_everyone()


def train_fold(
    config: FinetuneConfig,
    labelled: Labelled,
    pool: ImagePool,
    extra: TrainingRows | None,
    fold: int,
    run_dir: Path,
    accelerator: Accelerator,
) -> None:
    """Train on the labels of the other folds and on `extra`, score fold `fold`, and write `model/` and `valid.csv`.

    `extra` rows take the place of some labels and add no steps. Resumes from the newest checkpoint.
    """
    folder = fold_folder(run_dir, fold)
    set_seed(config.seed + fold)
    rows, order = _rows_and_order(config, labelled, fold, extra)
    config = _with_the_steps_of_labels_alone(config, labelled, fold, order)
    first = order.epoch(0)
    prior = float(np.average(rows.target[first], weights=rows.weight[first]))
    classifier = Classifier(config.head, config.loss, config.backbone, config.image_size, prior, config.mixing)
    columns = {"target": rows.target, "weight": rows.weight}
    views = train_view(config.views, config.image_size)
    shown, cleaning = shown_by(views, config.data.decode), config.data.clean
    dataset = TrainingImages(pool, rows.indices, views, config.seed + fold, columns, shown=shown, cleaning=cleaning)
    steps = steps_per_epoch(order, config.loop.batch_size)
    held = _HeldOut(config, labelled, pool, np.flatnonzero(labelled.fold == fold), accelerator)
    fit(
        classifier,
        dataset,
        order,
        accelerator=accelerator,
        config=config.loop,
        loader=config.data,
        optim=config.optim,
        run_dir=folder,
        seed=config.seed + fold,
        evaluate=lambda _: held.metrics(classifier),
        evaluate_every=max(1, round(config.evaluate_every * steps)) if config.evaluate_every else 0,
        title=f"{run_dir.name} fold {fold}",
    )
    p_malignant = held.last if held.last is not None else held.probabilities(classifier.eval())
    if accelerator.is_main_process:
        save_backbone(classifier.exported(), folder / "model", config.image_size, config.data.clean)
        held.write(folder / "valid.csv", p_malignant)
        shutil.rmtree(folder / "checkpoints")  # a finished fold is never resumed


def _rows_and_order(
    config: FinetuneConfig, labelled: Labelled, fold: int, extra: TrainingRows | None
) -> tuple[TrainingRows, Order]:
    rows = rows_outside(labelled, fold)
    rows = rows if extra is None else rows.joined(extra)
    return rows, order_of(config, rows)


def _negatives_shown(
    config: FinetuneConfig, labelled: Labelled, fold: int, extra: TrainingRows | None
) -> NegativesShown | None:
    """What the model of `fold` has seen of the negatives; nothing where every row is drawn alike."""
    _, order = _rows_and_order(config, labelled, fold, extra)
    if not isinstance(order, BalancedOrder):
        return None
    steps = total_steps(_with_the_steps_of_labels_alone(config, labelled, fold, order).loop, order)
    return NegativesShown(order.distinct_negatives(steps), int((~order.positive).sum()))


def _with_the_steps_of_labels_alone(
    config: FinetuneConfig, labelled: Labelled, fold: int, order: Order
) -> FinetuneConfig:
    """`config` with as many epochs over `order` as come to the steps that the labels alone would take.

    With more steps, more rows would gain by longer training what their labels seem to.
    """
    of_labels = steps_per_epoch(_rows_and_order(config, labelled, fold, None)[1], config.loop.batch_size)
    share = of_labels / steps_per_epoch(order, config.loop.batch_size)
    optim = {name: share * getattr(config.optim, name) for name in ("warmup_epochs", "heads_first_epochs")}
    update = {
        "loop": config.loop.model_copy(update={"epochs": share * config.loop.epochs}),
        "optim": config.optim.model_copy(update=optim),
        "evaluate_every": share * config.evaluate_every,
    }
    return config.model_copy(update=update)


@dataclass
class _HeldOut:
    """The fold that a classifier is scored on: `rows` (M,) of the labelled images."""

    config: FinetuneConfig
    labelled: Labelled
    pool: ImagePool
    rows: NDArray[np.intp]
    accelerator: Accelerator
    last: NDArray[np.float64] | None = None
    """What was last looked at while training, which ends with a look."""

    def probabilities(self, classifier: Classifier) -> NDArray[np.float64]:
        """Probabilities (M,) of malignancy; every rank calls this and gets them all."""
        predicted = predict(
            classifier,
            self.pool,
            self.labelled.indices[self.rows],
            image_size=self.config.image_size,
            batch_size=self.config.loop.batch_size,
            loader=self.config.data,
            cleaning=self.config.data.clean,
            accelerator=self.accelerator,
        )
        return predicted.probabilities(self.labelled.prevalence)

    def metrics(self, classifier: Classifier) -> Iterable[tuple[str, float]]:
        """pAUC, AUC and average precision, each as (name, value)."""
        self.last = self.probabilities(classifier)
        scores = classification_metrics(self.labelled.target[self.rows], self.last)
        return [(f"valid/{name}", value) for name, value in scores.items()]

    def write(self, path: Path, p_malignant: NDArray[np.float64]) -> None:
        """Write `p_malignant` (M,) beside the ids, folds and targets."""
        write_predictions(
            path,
            [self.labelled.ids[row] for row in self.rows],
            fold=self.labelled.fold[self.rows],
            target=self.labelled.target[self.rows],
            p_malignant=p_malignant,
        )


def order_of(config: FinetuneConfig, rows: TrainingRows) -> Order:
    """The order in which `rows` are drawn."""
    ratio = config.sampling.negatives_per_positive
    if ratio is None:
        return ShuffledOrder(len(rows.indices), config.seed)
    return BalancedOrder(rows.positive, rows.weight, ratio, config.seed, config.loop.batch_size)


def folds_to_train(config: FinetuneConfig, labelled: Labelled) -> list[int]:
    """The folds to train. InputError for none, for one named twice, for one that is not in the folds file."""
    there = sorted({int(fold) for fold in labelled.fold})
    if config.folds == "all":
        return there
    if not config.folds or len(set(config.folds)) < len(config.folds):
        raise InputError(f"folds={config.folds}: name each fold to train once, or `all`; there are {there}")
    for fold in config.folds:
        if fold not in there:
            raise InputError(f"folds={config.folds}: {config.data.folds} has no fold {fold}; it has {there}")
    return list(config.folds)
