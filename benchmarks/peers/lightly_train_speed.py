"""One run of lightly-train with a clock in it, for benchmarks/pretrain.py. No code of ours.

    peer/bin/python benchmarks/peers/lightly_train_speed.py JPEG_FOLDER TIMES.json --steps 50 [--ready] [options]

The options are those of lightly_train_pretrain.py. TIMES.json holds the moment, in seconds, at which each step entered the
network (DINO: the teacher), and the most memory of a GPU that torch's tensors took. With --ready, one batch of noise is handed
to every step by the same training loop, in place of images.
"""

import json
import os
import time
from typing import Any

import lightly_train_pretrain as peer
import torch
from lightly_train._commands import train_helpers
from torch import Tensor, nn
from torch.utils.data import DataLoader


class ClockedFeatures(peer.TimmFeatures):
    """Features, and when they were asked for. DINO copies the network; each copy has its own list."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.started_s: list[float] = []

    def forward_features(self, x: Tensor) -> dict[str, Tensor]:
        self.started_s.append(time.perf_counter())
        return super().forward_features(x)


def ready_loader(batches: int, batch_size: int, sides: list[int]) -> DataLoader[Any]:
    """`batches` batches, all of them the same one: a view of noise for each of `sides`."""
    views = [torch.randn(batch_size, 3, side, side) for side in sides]
    return DataLoader([{"filename": [""] * batch_size, "views": views}] * batches, batch_size=None)


def main() -> None:
    """Train for a number of steps and write when each began."""
    parser = peer.arguments()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--ready", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("LIGHTLY_TRAIN_CACHE_DIR", str(options.out.resolve().with_name(f"{options.out.stem}-cache")))
    torch.manual_seed(options.seed)
    model = peer.build_model(options.model, options.weights, options.image_size)
    words = peer.pretrain_arguments(options, model)
    clock = ClockedFeatures(model)
    words |= {"model": clock, "trainer_args": {"max_steps": options.steps}}
    if options.ready:
        local = [options.local_size] * options.local_crops if options.method == "dino" else []
        loader = ready_loader(options.steps, options.batch_size, [options.image_size] * 2 + local)
        train_helpers.get_dataloader = lambda **_: loader  # no argument of lightly-train's takes one
    peer.lightly_train.pretrain(**words)
    device_bytes = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    options.out.write_text(json.dumps({"started_s": clock.started_s, "device_bytes": device_bytes}))


if __name__ == "__main__":
    main()
