"""Trains each case for two steps and saves the first step's gradients and the last weights.

Launched by test_two_processes.py with one process and with two; run by hand:
    ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 two_process_gradients.py IMAGES FOLDER
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from numpy.typing import NDArray
from torch.optim.optimizer import register_optimizer_step_pre_hook

from finetune.classifier import Classifier, HeadConfig
from finetune.losses import FocalConfig
from ssl_isic.backbones import BackboneConfig
from ssl_isic.data.images import ImagePool
from ssl_isic.data.loading import ShuffledOrder, TrainingImages, steps_per_epoch
from ssl_isic.data.views import TrainViewConfig, ViewsConfig, train_view
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.loop import LoopConfig, fit, total_steps
from ssl_isic.methods.dino import DINOConfig
from ssl_isic.methods.dinov2 import DINOv2Config
from ssl_isic.methods.lejepa import LeJEPAConfig
from ssl_isic.methods.mae import MAEConfig
from ssl_isic.methods.method import MethodSettings, RunShape
from ssl_isic.methods.simclr import SimCLRConfig
from ssl_isic.methods.vicreg import VICRegConfig
from ssl_isic.optim import OptimConfig
from ssl_isic.task import Task

SEED = 5
Case = tuple[Task, TrainingImages, LoopConfig]


def pretraining_case(
    images: Path, method: MethodSettings, accumulate: int, columns: dict[str, NDArray[np.float64]] | None = None
) -> Case:
    """A method on a network without batch norm, which would see only one rank's images on CPU."""
    loop = LoopConfig(epochs=2 / 6, batch_size=8, accumulate=accumulate, clip_norm=None, log_every=1)
    pool = ImagePool({"train": images})
    views = method.build_views(ViewsConfig(size=32, local_size=16))
    dataset = TrainingImages(pool, np.arange(len(pool)), views, SEED, columns)
    order = ShuffledOrder(len(dataset), SEED)
    set_seed(SEED)
    run = RunShape(32, steps_per_epoch(order, loop.batch_size), total_steps(loop, order))
    return method.build(BackboneConfig(model="test_vit"), run), dataset, loop


def simclr(images: Path) -> Case:
    config = SimCLRConfig(hidden_size=32, projection_size=16, head_batch_norm=False)
    return pretraining_case(images, config, accumulate=1)


def simclr_of_patients(images: Path) -> Case:
    """DCL in chunks (GradCache), without negatives of the same patient, of which other ranks have some."""
    config = SimCLRConfig(
        loss="dcl", not_negative="patient", chunk=2, hidden_size=32, projection_size=16, head_batch_norm=False
    )
    patients = np.random.default_rng(SEED).integers(0, 6, len(ImagePool({"train": images}))).astype(np.float64)
    return pretraining_case(images, config, accumulate=1, columns={"patient": patients})


def dino(images: Path, accumulate: int = 1) -> Case:
    small = {"prototypes": 32, "hidden_size": 32, "bottleneck_size": 16}
    config = DINOConfig(local_crops=2, ema=0.5, freeze_last_layer_epochs=0, **small)
    return pretraining_case(images, config, accumulate)


def vicreg(images: Path) -> Case:
    config = VICRegConfig(hidden_size=32, projection_size=16, head_batch_norm=False)
    return pretraining_case(images, config, accumulate=1)


def lejepa(images: Path) -> Case:
    small = {"slices": 32, "hidden_size": 32, "projection_size": 16}
    return pretraining_case(images, LeJEPAConfig(local_crops=2, head_batch_norm=False, **small), accumulate=1)


def mae(images: Path) -> Case:
    return pretraining_case(images, MAEConfig(decoder_depth=1, decoder_width=32), accumulate=1)


def dinov2(images: Path, centering: Literal["sinkhorn", "center"], accumulate: int, koleo_weight: float = 0.0) -> Case:
    """Ranks hide different numbers of patches. KoLeo compares the images of one forward pass of one rank."""
    small = {"prototypes": 32, "hidden_size": 32, "bottleneck_size": 16}
    masks = {"mask_probability": 1.0, "mask_ratio": (0.5, 0.75)}
    config = DINOv2Config(
        local_crops=2,
        ema=0.5,
        freeze_last_layer_epochs=0,
        koleo_weight=koleo_weight,
        centering=centering,
        **small,
        **masks,
    )
    return pretraining_case(images, config, accumulate)


def classifier(images: Path) -> Case:
    loop = LoopConfig(epochs=2 / 6, batch_size=8, clip_norm=None, log_every=1)
    pool = ImagePool({"train": images})
    rng = np.random.default_rng(SEED)
    columns = {"target": rng.random(len(pool)), "weight": rng.random(len(pool))}
    dataset = TrainingImages(pool, np.arange(len(pool)), train_view(TrainViewConfig(), 32), SEED, columns)
    set_seed(SEED)
    head = HeadConfig(dropout=0.0, backbone_lr_scale=1.0)
    return Classifier(head, FocalConfig(alpha=0.5), BackboneConfig(model="test_vit"), 32, prior=0.25), dataset, loop


CASES: dict[str, Callable[[Path], Case]] = {
    "simclr": simclr,
    "simclr of patients": simclr_of_patients,
    "dino": dino,
    "vicreg": vicreg,
    "lejepa": lejepa,
    "classifier": classifier,
    "dino accumulated": lambda images: dino(images, accumulate=2),
    "mae": mae,
    "dinov2": lambda images: dinov2(images, "sinkhorn", accumulate=1),
    "dinov2 accumulated": lambda images: dinov2(images, "center", accumulate=2),
    # two passes of one process over the images that two processes have in one
    "dinov2 with koleo": lambda images: dinov2(images, "center", 2 // Accelerator().num_processes, koleo_weight=2.0),
}


def record_gradients(task: Task) -> dict[str, torch.Tensor]:
    """Filled with the gradients that the optimizer is given in the first step."""
    recorded: dict[str, torch.Tensor] = {}

    def record(*_: object) -> None:
        if not recorded:
            recorded.update({name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None})
            hook.remove()

    hook = register_optimizer_step_pre_hook(record)
    return recorded


def main(images: Path, folder: Path) -> None:
    accelerator = Accelerator(cpu=True)
    results: dict[str, Any] = {"world_size": accelerator.num_processes}
    for name, build in CASES.items():
        task, dataset, loop = build(images)
        gradients = record_gradients(task)
        fit(
            task,
            dataset,
            ShuffledOrder(len(dataset), SEED),
            accelerator=accelerator,
            config=loop,
            loader=LoaderConfig(workers=0),
            optim=OptimConfig(name="sgd", lr=0.1, lr_batch_size=None, warmup_epochs=0),
            run_dir=folder / name,
            seed=SEED,
        )
        results[name] = {"gradients": gradients, "weights": task.state_dict()}
    if accelerator.is_main_process:
        torch.save(results, folder / "results.pt")
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
