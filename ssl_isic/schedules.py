"""Schedules: pure functions of the step. `step` counts optimizer steps from 0; `total` is how many the run takes."""

import math


def warmup_cosine(step: int, total: int, warmup: int, start: float, end: float) -> float:
    """Rise linearly from 0 to `start` over `warmup` steps, then fall to `end` on half a cosine.

    Source: Goyal et al. 2017 (warm-up), Loshchilov and Hutter 2017 (cosine), as in the SimCLR and DINO code.
    """
    if step < warmup:
        return start * (step + 1) / warmup
    return cosine(step - warmup, total - warmup, start, end)


def cosine(step: int, total: int, start: float, end: float) -> float:
    """Half a cosine from `start` at step 0 to `end` at the last step."""
    progress = min(1.0, step / max(1, total - 1))
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * progress))


def linear_then_constant(step: int, ramp: int, start: float, end: float) -> float:
    """Straight from `start` to `end` over `ramp` steps, `end` afterwards (DINO's teacher temperature)."""
    return end if step >= ramp else start + (end - start) * step / ramp


def is_due(step: int, every: int, total: int) -> bool:
    """Whether something done `every` so many steps is due after `step` steps; after the last step it always is.

    `every=0` means only after the last step.
    """
    return step >= total or (every > 0 and step % every == 0)
