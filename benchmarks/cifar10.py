"""SimCLR on CIFAR-10, where published figures exist: kNN and linear accuracy after 200 epochs of batches of 512.

    accelerate launch --num_processes 1 benchmarks/cifar10.py archive=cifar10-jpg.tar.xz
    python benchmarks/cifar10.py archive=cifar10-jpg.tar.xz images=2000 epochs=2 batch_size=128      # a trial on a CPU

The settings are those of lightly's CIFAR-10 benchmark: ResNet-18 with a first convolution of 3 x 3 and no pooling behind it,
SGD, a head of two layers, temperature 0.5; kNN with k = 200 and temperature 0.1. Not the same: biases and norms do not decay
here, and the last epoch counts, where its table (0.848) has the best one. The archive holds `train/CLASS/*.jpg` and
`test/CLASS/*.jpg`; where images were compressed again, published figures are only approached. A run that was stopped goes on.
"""

import sys
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import torch
from accelerate import Accelerator, PartialState
from lightly.utils.benchmarking.knn import knn_predict
from numpy.typing import NDArray
from pydantic import Field
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from timm.models import build_model_with_cfg, register_model
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from ssl_isic.config import Config, read_config
from ssl_isic.data.images import ImagePool
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.errors import InputError, command
from ssl_isic.evaluation.forward import forward_images
from ssl_isic.evaluation.source import BackboneSource, Embedder, open_backbone
from ssl_isic.pretrain import main as pretrain

SIZE = 32
NEIGHBOURS, TEMPERATURE = 200, 0.1
RESAMPLES = 1000
HERE = Path(__file__).resolve().parent


class CifarResNet(ResNet):
    """timm's ResNet for images of 32 px: they keep their size up to the second stage."""

    def __init__(self, *layout: Any, **settings: Any) -> None:
        super().__init__(*layout, **settings)
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.maxpool = nn.Identity()


@register_model
def cifar_resnet18(pretrained: bool = False, **settings: Any) -> ResNet:
    """ResNet-18 by a name that timm knows."""
    layout = {"block": BasicBlock, "layers": (2, 2, 2, 2)}
    model: ResNet = build_model_with_cfg(CifarResNet, "resnet18", pretrained, **layout, **settings)
    return model


class Cifar10Config(Config):
    """Pretrain on CIFAR-10's training images, score on its test images."""

    archive: Path
    """Tar of train/CLASS/*.jpg and test/CLASS/*.jpg."""
    out: Path = Path("runs/cifar10")
    """Folder for everything."""
    epochs: float = Field(200.0, gt=0)
    """Passes over the training images."""
    batch_size: int = Field(512, ge=2)
    """Images of a step."""
    images: int | None = Field(None, ge=10 * NEIGHBOURS)
    """As many training images, drawn at random and the same for every seed; null takes all 50,000."""
    workers: int = Field(2, ge=0)
    """Loading processes."""
    seed: int = Field(0, ge=0)
    """Seed of the pretraining."""
    words: list[str] = []
    """Further keys of `ssl-isic pretrain`."""


class Split(NamedTuple):
    """Features (N, D) of unit length and classes (N,)."""

    features: Tensor
    classes: Tensor


@command
def main(argv: Sequence[str]) -> None:
    """Pretrain, or go on, then print the table."""
    config = read_config(Cifar10Config, argv, prog="benchmarks/cifar10.py")
    if PartialState().num_processes > 1:
        raise InputError("what is published is of one GPU; launch with --num_processes 1")
    with PartialState().main_process_first():
        files = {split: unpacked(config, split) for split in ("train", "test")}
    run_dir = config.out / f"simclr-{config.seed}"
    words = [f"run_dir={run_dir}", f"seed={config.seed}", f"data.sources.cifar10={files['train']}"]
    words += [f"data.workers={config.workers}", "backbone.model=cifar_resnet18"]
    words += [f"views.preset={HERE / 'cifar10-views.yaml'}", f"views.size={SIZE}"]
    words += ["method.name=simclr", "method.temperature=0.5", "method.head_layers=2", "method.hidden_size=512"]
    words += ["optim.name=sgd", "optim.lr=0.06", "optim.lr_batch_size=128", "optim.weight_decay=5e-4", "optim.end_lr=0"]
    words += ["optim.warmup_epochs=0", "loop.clip_norm=null"]
    words += [f"loop.epochs={config.epochs}", f"loop.batch_size={config.batch_size}", "monitor.images=0"]
    if code := pretrain([*words, *config.words]):
        sys.exit(code)
    accelerator = Accelerator()
    weights = run_dir / "backbone" / "model.safetensors"
    starts = {
        "random": BackboneSource(model="cifar_resnet18"),
        "SimCLR": BackboneSource(model="cifar_resnet18", weights=str(weights)),
    }
    rows = [
        row(name, *(embedded(start, file, config.workers, accelerator) for file in files.values()))
        for name, start in starts.items()
    ]
    accelerator.print("| start | kNN accuracy | linear accuracy |\n| --- | --- | --- |")
    accelerator.print("\n".join(rows))


def unpacked(config: Cifar10Config, split: str) -> Path:
    """The archive's images of `split` as HDF5, CLASS-NAME for an id."""
    images = config.images if split == "train" else None
    path = config.out / (f"{split}-{images}.hdf5" if images else f"{split}.hdf5")
    if not path.exists():
        if not config.archive.is_file() or not tarfile.is_tarfile(config.archive):
            raise InputError(
                f"archive: {config.archive} is no tar file; give one of train/CLASS/*.jpg and test/CLASS/*.jpg"
            )
        config.out.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        with tarfile.open(config.archive) as archive, h5py.File(part, "w") as file:
            names = wanted(archive.getnames(), split, images)
            for member in archive.getmembers():  # in the archive's order: to go back is to decompress it all again
                jpeg = archive.extractfile(member) if member.name in names else None
                if jpeg is not None:
                    name = "-".join(Path(member.name).with_suffix("").parts[-2:])
                    file.create_dataset(name, data=np.void(jpeg.read()))
        part.rename(path)
    return path


def wanted(names: Iterable[str], split: str, images: int | None) -> set[str]:
    """Names of `images` of the images of `split`, or of all; InputError when there are none."""
    found = sorted(name for name in names if Path(name).parts[-3:-2] == (split,) and name.endswith(".jpg"))
    if not found:
        raise InputError(f"archive: it has no {split}/CLASS/*.jpg; give one that has")
    order = np.random.default_rng(0).permutation(len(found))
    return {found[position] for position in order[:images]}


def embedded(source: BackboneSource, images: Path, workers: int, accelerator: Accelerator) -> Split:
    """What `source` makes of all images of a file."""
    pool = ImagePool({"cifar10": images})
    embedder = Embedder(open_backbone(source, SIZE)).to(accelerator.device)
    blocks = forward_images(
        embedder,
        pool,
        np.arange(len(pool)),
        image_size=SIZE,
        batch_size=512,
        loader=LoaderConfig(workers=workers),
        accelerator=accelerator,
        title=images.stem,
    )
    features = torch.from_numpy(np.concatenate([block.values for block in blocks]))
    _, classes = np.unique([pool.id_of(row).partition("-")[0] for row in range(len(pool))], return_inverse=True)
    return Split(nn.functional.normalize(features), torch.from_numpy(classes))


def row(name: str, train: Split, test: Split) -> str:
    """One row of the table."""
    kinds = len(train.classes.unique())
    nearest = knn_predict(test.features, train.features.T, train.classes, kinds, NEIGHBOURS, TEMPERATURE)[:, 0]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    probe.fit(train.features.numpy(), train.classes.numpy())
    linear = probe.predict(test.features.numpy()) == test.classes.numpy()
    return f"| {name} | {accuracy((nearest == test.classes).numpy())} | {accuracy(linear)} |"


def accuracy(right: NDArray[np.bool_]) -> str:
    """Share of what is right, with a bootstrap interval of 95 % over images."""
    rng = np.random.default_rng(0)
    means = [rng.choice(right, len(right)).mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{right.mean():.4f} [{low:.4f}, {high:.4f}]"


if __name__ == "__main__":
    sys.exit(main())
