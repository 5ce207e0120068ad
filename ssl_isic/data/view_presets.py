"""Presets of views: YAML files of steps, those in `ssl_isic/data/presets/` by their name, a user's own by its path."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ssl_isic.config import Config, load_yaml, validate
from ssl_isic.data.steps import AnyStep
from ssl_isic.data.steps.crop import Sizing
from ssl_isic.errors import InputError

Kind = Literal["simclr", "dino", "dinov2", "mae", "finetune"]
"""Whose views a section of a preset holds."""
FOLDER = Path(__file__).parent / "presets"
PAPER = "paper"
"""Not a file: the preset that is named like the method."""


class MethodViews(Config):
    """The views of one method, each a list of steps."""

    first: list[AnyStep] = Field(min_length=1)
    """The first global view, or the only one."""
    second: list[AnyStep] | None = Field(None, min_length=1)
    """The second global view; null takes the first's steps."""
    local: list[AnyStep] | None = Field(None, min_length=1)
    """The local crops; null where the method has none."""


class Preset(Config):
    """A file of views: a section for each method that has its own, and one for the others."""

    default: MethodViews | None = None
    """For a method without a section."""
    simclr: MethodViews | None = None
    """For SimCLR and VICReg."""
    dino: MethodViews | None = None
    """For DINO and LeJEPA."""
    dinov2: MethodViews | None = None
    """For DINOv2."""
    mae: MethodViews | None = None
    """For MAE."""
    finetune: MethodViews | None = None
    """For fine-tuning and pseudo-labels."""


def preset_names() -> list[str]:
    """The presets that come with the package, `paper` among them."""
    return sorted([PAPER, *(path.stem for path in FOLDER.glob("*.yaml"))])


def views_of(preset: str, kind: Kind) -> MethodViews:
    """The views of `kind` in a preset, named, or a file that ends in .yaml.

    Raises:
        InputError: there is no such preset; a key or value in it is wrong; it has no views for `kind`; the views of one of
            its lists would not be of one size.
    """
    path = _path_of(preset, kind)
    found = validate(Preset, load_yaml(path), source=str(path))
    views: MethodViews | None = getattr(found, kind) or found.default
    if views is None:
        raise InputError(f"{path} has no views for {kind}: add a section {kind}, or default for all methods")
    for name in MethodViews.model_fields:
        steps: list[AnyStep] | None = getattr(views, name)
        sizes = [step.size for step in steps or [] if isinstance(step, Sizing)]
        if steps is not None and sizes[-1:] != [None]:
            raise InputError(
                f"{path}: {name} for {kind} needs random_resized_crop or resize, the last of them without size: "
                "its views would not have the size that is asked for"
            )
    return views


def is_own(preset: str) -> bool:
    """Whether a preset is a file of the user's."""
    return preset.endswith((".yaml", ".yml"))


def _path_of(preset: str, kind: Kind) -> Path:
    if is_own(preset):
        if not Path(preset).is_file():
            raise InputError(f"no such file: {preset}; check views.preset")
        return Path(preset)
    if preset not in preset_names():
        raise InputError(
            f"no preset of views is called {preset!r}; there are {', '.join(preset_names())}, or name a file that ends in .yaml"
        )
    if preset == PAPER and kind == "finetune":
        raise InputError(f"views.preset={PAPER}: no paper has a preset for fine-tuning; take finetune")
    return FOLDER / f"{kind if preset == PAPER else preset}.yaml"
