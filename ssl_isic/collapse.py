"""The collapse guard: recognises, from what a method reports, a run whose network stops telling images apart."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

LEAST_STD = 0.02
LEAST_SCALE = 0.1
LEAST_SHARE_OF_ENTROPY = 0.45
ALIKE_SHARE_OF_ENTROPY = 0.9995
MOST_VARIANCE_PENALTY = 0.9
GUARD_EVERY = 20
"""Steps whose means the guard looks at, however often rows are logged."""
PATIENCE_STEPS = 20
FIRST_STEP = 40


def collapse_sign(row: Mapping[str, float], prototypes: int | None, images: int) -> str | None:
    """What in the means of some steps says that images are no longer told apart, or None.

    - A standard deviation of unit-length features or projections (`..._std`, 1 is isotropic) under 0.02. MAE passes through
      0.09 on its way.
    - A standard deviation of LeJEPA's projections, which are drawn to a standard normal, under 0.1: they keep their directions
      while they shrink to a point.
    - VICReg's penalty for a small variance over 0.9, where 0.99 is a batch whose projections are all one.
    - The mean of the teacher's distributions over `prototypes` has under 0.45 of the entropy that it could have with
      `images` distributions of the entropy that they have: all images go to the same few prototypes.
    - The distributions themselves have over 0.9995 of ln K: every image goes to all prototypes alike.
    """
    for name in sorted(row):
        if name.endswith("_std") and row[name] < LEAST_STD:
            return f"{name} is {row[name]:.4f}: all images have nearly the same features"
    if (scale := row.get("projection_scale", 1.0)) < LEAST_SCALE:
        return f"projection_scale is {scale:.4f}, and 1 is what it should come to: all images have nearly the same projection"
    if (penalty := row.get("variance", 0.0)) > MOST_VARIANCE_PENALTY:
        return f"variance, the penalty, is {penalty:.3f} of 0.99: all images have nearly the same projection"
    if prototypes is None or "marginal_entropy" not in row:
        return None
    entropy, marginal = row["teacher_entropy"], row["marginal_entropy"]
    possible = min(math.log(prototypes), math.log(images) + entropy)
    if marginal < LEAST_SHARE_OF_ENTROPY * possible:
        return f"marginal_entropy is {marginal:.3f}: images share about {math.exp(marginal):.0f} of {prototypes} prototypes"
    if entropy > ALIKE_SHARE_OF_ENTROPY * math.log(prototypes):
        return (
            f"teacher_entropy is {entropy:.4f} of ln K = {math.log(prototypes):.4f}: the teacher tells no images apart"
        )
    return None


@dataclass
class CollapseGuard:
    """Looks at means of metrics, and speaks once when a sign has stayed for 20 steps after the first 40 and `quiet_steps`.

    `images` is how many distributions the teacher's mean is taken over: the global crops of a micro-batch of one rank.
    """

    action: Literal["stop", "warn"]
    prototypes: int | None
    images: int
    quiet_steps: int = 0
    """Steps more at first, in which a network that starts with features nearly the same learns to tell images apart."""
    since: int | None = None
    """The step of the first look with a sign, of those that all had one."""
    _has_spoken: bool = field(default=False, init=False)

    def look(self, step: int, row: Mapping[str, float]) -> str | None:
        """What was seen, when it is time to say so."""
        sign = collapse_sign(row, self.prototypes, self.images) if step >= FIRST_STEP + self.quiet_steps else None
        if sign is None:
            self.since, self._has_spoken = None, False
            return None
        self.since = step if self.since is None else self.since
        if step - self.since < PATIENCE_STEPS or self._has_spoken:
            return None
        self._has_spoken = True
        return f"collapse at step {step}: {sign}, since step {self.since}"
