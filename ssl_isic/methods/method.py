"""What a self-supervised method is: settings that name its views, build its task, and say which defaults follow from the data.

A method is one file with two classes: its settings (a `MethodSettings`) and its `Task`. Adding one is described in
docs/methods.md.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from ssl_isic.backbones import BackboneConfig
from ssl_isic.config import Config
from ssl_isic.data.groups import Group
from ssl_isic.data.view_presets import Kind, is_own
from ssl_isic.data.views import SeededViews, ViewsConfig, crop_scales
from ssl_isic.task import Task

MIN_ZOOM = 0.5  # px of the image for a px of the view


@dataclass(frozen=True)
class RunShape:
    """The sizes of a run that a task is built for."""

    image_size: int
    """Side of a global view, px."""
    steps_per_epoch: int
    """Optimizer steps of one pass over the images."""
    total_steps: int
    """Optimizer steps of the whole run."""


@dataclass(frozen=True)
class DataFacts:
    """What is known before training, from which defaults follow."""

    images: int
    """Images that are trained on."""
    image_px: float
    """Median side of an image, the geometric mean of width and height, px."""
    batch_size: int
    """Images of one optimizer step, over all ranks."""
    views: ViewsConfig
    """The views that the user asked for."""
    total_steps: int
    """Optimizer steps of the whole run."""
    is_like_vit: bool
    """Whether the backbone is a vision transformer, or has layer norm and no batch norm as one does: Swin, PVT, ConvNeXt."""
    optimizer: str | None
    """The optimizer that the user chose; None leaves it to the method."""
    lr: float | None = None
    """The learning rate that the user chose; None leaves it to the method."""
    second_view: Literal["itself", "lesion"] = "itself"
    """What an image is shown beside: itself, or another photograph of its lesion."""
    pretrained: bool = False
    """Whether the backbone starts from weights."""

    @property
    def epochs(self) -> float:
        """Passes of the whole run over the images."""
        return self.total_steps * self.batch_size / self.images


class Default(NamedTuple):
    """A value for a key that the user left open, and the rule that made it."""

    key: str
    value: float | str | tuple[float, float] | None
    rule: str


class MethodSettings(Config, ABC):
    """Settings of a method; each has a `name`, by which a configuration chooses it.

    What the stage asks besides of a method has an answer here that fits most.
    """

    has_local_crops: ClassVar[bool] = False
    """Whether it has views of `views.local_size`."""
    calls_blocks: ClassVar[bool] = False
    """Whether it calls the blocks of the backbone one by one, so that a compiled backbone is not what runs."""

    @abstractmethod
    def build_views(self, views: ViewsConfig) -> SeededViews:
        """The views of one image that the method learns from, global ones first."""

    @abstractmethod
    def build(self, backbone: BackboneConfig, run: RunShape) -> Task:
        """The task for one run."""

    @abstractmethod
    def defaults(self, facts: DataFacts) -> list[Default]:
        """Values of `method.*`, `backbone.*`, `optim.*`, `loop.*` and `views.*` that follow from the data, for keys that are
        not set."""

    def groups(self) -> Sequence[Group]:
        """Whose each image of a batch is, as far as the task asks."""
        return ()

    def prototype_count(self) -> int | None:
        """Prototypes to which a teacher assigns images, where the task reports its `teacher_entropy`."""
        return None


def optimizer_default(facts: DataFacts, lars_from: int, below: str = "adamw") -> Default:
    """The optimizer of a method whose authors use LARS, unless the user chose another that the method knows.

    `below` is that of a network with batch norm from random weights with fewer images a step than `lars_from`.
    """
    from_nothing = not facts.is_like_vit and not facts.pretrained
    name = ("lars" if facts.batch_size >= lars_from else below) if from_nothing else "adamw"
    if facts.optimizer in {"lars", "adamw", below}:
        name = facts.optimizer
    fewer = "" if below == "adamw" else f", {below.upper()} with fewer"
    rule = f"LARS for a network with batch norm from random weights with {lars_from} images a step and more{fewer}, else AdamW"
    return Default("optim.name", name, rule)


def unscaled_lr() -> Default:
    """For a method whose rule of the learning rate has the batch in it."""
    return Default(
        "optim.lr_batch_size", None, "the rule of optim.lr has the batch in it; one that is set is taken as it is"
    )


def lars_defaults(end_lr: float) -> list[Default]:
    """What goes with LARS, beside its learning rate."""
    return [
        Default("optim.end_lr", end_lr, "with LARS"),
        Default("loop.clip_norm", None, "LARS sizes the step of each layer by itself"),
    ]


def crop_defaults(facts: DataFacts, kind: Kind, *, local: bool = False) -> list[Default]:
    """The scales of the crops: those of the preset for `kind`, and no crop with under half of its view's px a side.

    `local` says whether the method has local crops. What a file of the user's says stands as it is.
    """
    if is_own(facts.views.preset):
        return []
    scales = crop_scales(facts.views.preset, kind)
    rule = f"the preset's, but {MIN_ZOOM:g} px or more for each px of the view; images are {facts.image_px:.0f} px"
    defaults = []
    if scales.whole:
        whole = _zoom_limited(scales.whole, facts.views.size, facts.image_px)
        defaults.append(Default("views.global_scale", whole, rule))
    if local and scales.local:
        small = _zoom_limited(scales.local, facts.views.local_size, facts.image_px)
        defaults.append(Default("views.local_scale", small, rule))
    return defaults


def _zoom_limited(scale: tuple[float, float], view_px: int, image_px: float) -> tuple[float, float]:
    smallest, largest = scale
    needed = (MIN_ZOOM * view_px / image_px) ** 2
    return max(smallest, min(round(needed, 3), 0.8 * largest)), largest
