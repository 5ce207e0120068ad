"""Pretrain a timm backbone with lightly-train (https://docs.lightly.ai/train), the peer of the benchmarks. No code of ours.

    python -m venv peer && peer/bin/pip install 'lightly-train[timm]==0.18.0'
    peer/bin/python benchmarks/peers/lightly_train_pretrain.py JPEG_FOLDER simclr.safetensors \\
        --model resnet18 --method simclr --epochs 4 --batch-size 128 --image-size 64 --workers 2

`OUT` holds timm's own keys, without a classifier: `backbone.weights=OUT` takes it. Logs and checkpoints go to a folder
beside it. The seed fixes the start; lightly-train draws its views anew in each run.

What is set: the network and its start, the sizes and the number of crops, epochs, batch, seed, workers, and the pixel
normalisation of the network's timm configuration, by which the weights are read and will be evaluated (lightly-train's own
default is ImageNet's, whatever the network). All else is lightly-train's default, version 0.18:

- SimCLR: SGD, momentum 0.9, learning rate 0.3 x batch / 256, weight decay 1e-4, head of 2 layers 2048 -> 128,
  temperature 0.1; crops of 0.08 to 1 of the image, flip, colour jitter 0.8, 0.8, 0.8, 0.2 in 80 %, grey in 20 %, blur in 50 %.
- DINO: SGD, momentum 0.9, learning rate 0.03 x batch / 256, weight decay 1e-4, clipping at 3; prototypes, teacher
  temperature and momentum follow from the number of images (1,024, 0.02 and 0.99 below 20,000), no batch norm in the head,
  prototypes stand still for 1,250 steps; global crops of 0.14 to 1, local ones of 0.05 to 0.14 of the image, jitter as
  SimCLR's at half strength with saturation 0.4, grey, blur, solarisation. The exported network is the teacher.
- Both: a warm-up over a tenth of the run, then a cosine; float32 on a CPU, bfloat16 on a GPU; JSON lines and TensorBoard logs
  every 50 steps, a checkpoint and an export every epoch.

With `--lesion-views` SimCLR's are ours instead, the preset `lesion`: what is left of a difference is not the views'.

lightly-train's own wrapper of timm models pools patch tokens in a ViT and cannot train a network with a convolution after
the last stage (EfficientNet); `TimmFeatures`, a wrapper by its documented interface, takes the features that timm gives.
"""

import argparse
import os
from pathlib import Path
from typing import Any

os.environ |= {
    "LIGHTLY_TRAIN_EVENTS_DISABLED": "1",  # usage statistics
    "LIGHTLY_DID_VERSION_CHECK": "True",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_OFFLINE": "1",
}

import lightly_train
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

LESION_VIEWS: dict[str, Any] = {
    "random_resize": {"min_scale": 0.4, "max_scale": 1.0},
    "random_flip": {"horizontal_prob": 0.5, "vertical_prob": 0.5},
    "random_rotation": {"prob": 0.5, "degrees": (90, 90)},  # with the flips, all symmetries of the square
    "color_jitter": {"prob": 0.8, "strength": 1.0, "brightness": 0.2, "contrast": 0.2, "saturation": 0.1, "hue": 0.02},
    "random_gray_scale": None,
    "gaussian_blur": {"prob": 0.2, "sigmas": (0.1, 1.0)},
}


class TimmFeatures(nn.Module):
    """A timm model without a classifier as lightly-train wants it: the pooled features that `model(images)` gives."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model

    def feature_dim(self) -> int:
        return int(getattr(self._model, "head_hidden_size", self._model.num_features))

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": self._model.forward_features(x)}

    def forward_pool(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"pooled_features": self._model.forward_head(x["features"], pre_logits=True)[:, :, None, None]}

    def get_model(self) -> nn.Module:
        return self._model


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Pretrain a timm backbone with lightly-train.")
    parser.add_argument("images", type=Path, help="folder of JPEG files")
    parser.add_argument("out", type=Path, help=".safetensors file to write, with timm's keys")
    parser.add_argument("--model", default="resnet18", help="timm architecture")
    parser.add_argument("--weights", type=Path, help=".safetensors file of timm weights to start from; default: random")
    parser.add_argument("--method", choices=["simclr", "dino"], default="simclr")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--image-size", type=int, default=64, help="side of a global view, px")
    parser.add_argument("--local-size", type=int, default=32, help="side of a local crop, px (DINO)")
    parser.add_argument("--local-crops", type=int, default=6, help="local crops an image (DINO)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lesion-views", action="store_true", help="SimCLR with our views in place of its own")
    parser.add_argument("--precision", choices=["no", "bf16"], help="default: lightly-train's")
    return parser


def build_model(name: str, weights: Path | None, image_size: int) -> nn.Module:
    """A timm model without a classifier, from `weights` or at random."""
    options: dict[str, Any] = {"num_classes": 0}
    if weights is not None:
        options |= {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": load_file(weights)}}
    try:  # a ViT refuses other sizes than its own unless told; a convolutional net does not know these words
        return timm.create_model(name, img_size=image_size, dynamic_img_size=True, **options)
    except TypeError:
        return timm.create_model(name, **options)


def pretrain_arguments(options: argparse.Namespace, model: nn.Module) -> dict[str, Any]:
    """The words of `lightly_train.pretrain`, which trains `model` in place."""
    pixels = model.pretrained_cfg
    transform: dict[str, Any] = {
        "image_size": (options.image_size, options.image_size),
        "normalize": {"mean": tuple(pixels["mean"]), "std": tuple(pixels["std"])},
    }
    if options.method == "dino":
        local = {"num_views": options.local_crops, "view_size": (options.local_size, options.local_size)}
        transform["local_view"] = local if options.local_crops else None
    if options.lesion_views:
        transform |= LESION_VIEWS
    precision = {None: {}, "no": {"precision": "32-true"}, "bf16": {"precision": "bf16-mixed"}}[options.precision]
    return {
        **precision,
        "out": options.out.with_name(f"{options.out.stem}-run"),
        "overwrite": True,
        "data": options.images,
        "model": TimmFeatures(model),
        "method": options.method,
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "num_workers": options.workers,
        "seed": options.seed,
        "transform_args": transform,
    }


def main() -> None:
    """Pretrain and write the weights."""
    options = arguments().parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("LIGHTLY_TRAIN_CACHE_DIR", str(options.out.resolve().with_name(f"{options.out.stem}-cache")))
    torch.manual_seed(options.seed)  # lightly-train seeds what it makes itself
    model = build_model(options.model, options.weights, options.image_size)
    lightly_train.pretrain(**pretrain_arguments(options, model))
    save_file({name: value.cpu().contiguous() for name, value in model.state_dict().items()}, options.out)
    print(f"{options.model} after {options.epochs} epochs of {options.method}: {options.out}")


if __name__ == "__main__":
    main()
