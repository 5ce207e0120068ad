"""Weights shared out over processes: what is supported of Accelerate's FSDP, and how to have whole weights again.

Under FSDP2 each rank holds a share of every weight, gradient and moment, all cut alike, so that the optimizer and a teacher
move share by share. Shares stay in float32; the precision of the computation is autocast's business, as without FSDP.
"""

import copy

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, broadcast, parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy
from torch.distributed.fsdp.wrap import size_based_auto_wrap_policy
from torch.distributed.tensor import DTensor

from ssl_isic.errors import InputError
from ssl_isic.task import Task


def sharding_plugin() -> FullyShardedDataParallelPlugin | None:
    """FSDP as the launcher set it up, or None where it did not.

    Raises:
        InputError: a setting that pretraining cannot follow.
    """
    if not parse_flag_from_env("ACCELERATE_USE_FSDP"):
        return None
    plugin = FullyShardedDataParallelPlugin()
    by_size = plugin.auto_wrap_policy is size_based_auto_wrap_policy
    offloads = isinstance(plugin.cpu_offload, CPUOffloadPolicy)
    wants = [
        (plugin.fsdp_version != 2, "fsdp_version", "2", "version 1 flattens weights"),
        (by_size, "fsdp_auto_wrap_policy", "TRANSFORMER_BASED_WRAP or NO_WRAP", "methods call parts of large modules"),
        (plugin.activation_checkpointing, "fsdp_activation_checkpointing", "false", "use backbone.grad_checkpointing"),
        (plugin.cpu_ram_efficient_loading, "fsdp_cpu_ram_efficient_loading", "false", "it does not know buffers"),
        (offloads, "fsdp_offload_params", "false", "it has not been tried"),
    ]
    for wrong, key, right, why in wants:
        if wrong:
            raise InputError(f"FSDP: set {key}: {right} in Accelerate's fsdp_config ({why})")
    # Accelerate's own would round losses and the teacher's input
    plugin.mixed_precision_policy = MixedPrecisionPolicy()
    return plugin


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether weights are shared out over ranks."""
    return bool(accelerator.distributed_type == DistributedType.FSDP)


def check_launched(accelerator: Accelerator, *, channels_last: bool, compiled: bool) -> None:
    """InputError when FSDP was asked for, but is not what Accelerate does, or does not go with the loop's settings."""
    if not is_sharded(accelerator):
        raise InputError(
            f"FSDP: Accelerate has it for processes on GPUs only, here it would train whole weights on "
            f"{accelerator.device}; choose another file of configs/accelerate/"
        )
    wants = {
        "loop.mixed_precision=bf16 or no": accelerator.mixed_precision not in ("bf16", "no"),
        "loop.channels_last=false": channels_last,
        "loop.compile=false": compiled,
    }
    for want, wrong in wants.items():
        if wrong:
            raise InputError(f"FSDP: set {want}, or launch without FSDP")


def check_whole(accelerator: Accelerator, stage: str) -> None:
    """InputError for a stage that does not train shared weights."""
    if is_sharded(accelerator):
        raise InputError(f"FSDP is for pretraining; launch {stage} with configs/accelerate/one-node.yaml, say")


def check_layers(task: Task, accelerator: Accelerator) -> None:
    """InputError when the layers that the launcher wants to share out one by one are not in `task`."""
    if not is_sharded(accelerator):
        return
    there = {type(module).__name__ for module in task.modules()}
    for name in accelerator.state.fsdp_plugin.transformer_cls_names_to_wrap or []:
        if name not in there:
            raise InputError(
                f"FSDP: fsdp_transformer_layer_cls_to_wrap={name} is no layer of a {type(task.exported()).__name__}; "
                "name the class of its blocks (Block of a ViT, Bottleneck of a ResNet), or set "
                "fsdp_auto_wrap_policy: NO_WRAP"
            )


def start_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give every weight the moments that its first step would begin with.

    A checkpoint of shares is read into the moments of all weights; those of weights that stand still at first would lack.
    """
    for group in optimizer.param_groups:
        names = ("exp_avg", "exp_avg_sq") if "betas" in group else ("momentum_buffer",)
        for parameter in group["params"]:
            optimizer.state[parameter] = {name: torch.zeros_like(parameter) for name in names}
            if "betas" in group:
                device = parameter.device if group["fused"] else torch.device("cpu")
                optimizer.state[parameter]["step"] = torch.zeros((), device=device)


def share_buffers(task: Task, accelerator: Accelerator) -> None:
    """Give all ranks the first one's buffers (batch norm's statistics), so that what is looked at and saved is one network."""
    if accelerator.num_processes > 1:
        for buffer in task.buffers():
            broadcast(buffer)


def whole(value: Tensor) -> Tensor:
    """All of a tensor of which ranks hold shares. Every rank calls this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


class WholeNetwork:
    """The network that a task exports, on every rank: itself, or a copy where the task's weights are shared out."""

    def __init__(self, task: Task, accelerator: Accelerator) -> None:
        """To be called before Accelerate prepares `task`."""
        self._task, self._accelerator = task, accelerator
        self._copy = copy.deepcopy(task.exported()).to(accelerator.device) if is_sharded(accelerator) else None

    def current(self) -> nn.Module:
        """The network with the weights of now and the first rank's buffers, in the task's mode. Every rank calls this."""
        share_buffers(self._task, self._accelerator)
        if self._copy is None:
            return self._task.exported()
        state = self._task.exported().state_dict()
        self._copy.load_state_dict({name: whole(value) for name, value in state.items()})
        return self._copy.train(self._task.training)
