"""`ssl_isic/pretrain.py` with FSDP on CPUs, and with a way to die; launched by test_sharding.py, run by hand:

    ACCELERATE_USE_CPU=true ACCELERATE_USE_FSDP=true FSDP_VERSION=2 torchrun --nproc_per_node 2 sharded_pretrain.py WORDS

Accelerate takes up FSDP only where the processes came up as those of GPUs (AcceleratorState in its state.py); here they
are told so on gloo. All that follows is Accelerate's and torch's own: sharding, clipping, optimizer, checkpoints.
DIE_AT=STEP kills the first rank, without a word, when that step begins. COMPILE_WITH=BACKEND is torch.compile's, where the
machine has no compiler for its own.
"""

import os
import signal
import sys
from functools import partialmethod

from accelerate import PartialState
from accelerate.utils import DistributedType
from torch import Tensor, nn

from ssl_isic.data.loading import Batch
from ssl_isic.methods.dino import DINO
from ssl_isic.methods.simclr import SimCLR
from ssl_isic.pretrain import main
from ssl_isic.task import Task


def die_at(step: int, task_type: type[Task]) -> None:
    original = task_type.forward

    def forward(self: Task, batch: Batch, now: int) -> dict[str, Tensor]:
        if now == step and PartialState().process_index == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(self, batch, now)

    task_type.forward = forward  # type: ignore[method-assign]


if __name__ == "__main__":
    if "ACCELERATE_USE_FSDP" in os.environ:
        PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
    if "COMPILE_WITH" in os.environ:
        nn.Module.compile = partialmethod(nn.Module.compile, backend=os.environ["COMPILE_WITH"])  # type: ignore[method-assign,assignment]
    if "DIE_AT" in os.environ:
        for task_type in (DINO, SimCLR):
            die_at(int(os.environ["DIE_AT"]), task_type)
    code = main(sys.argv[1:])
    if code == 0:
        state = PartialState()
        print(f"rank {state.process_index} of {state.num_processes}: {state.distributed_type.value} on {state.backend}")
    sys.exit(code)
