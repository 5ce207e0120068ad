"""Defaults that follow from the data: what a pretraining configuration leaves open is filled in, with the rule that did it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ssl_isic.backbones import is_like_vision_transformer, is_vision_transformer, patch_px
from ssl_isic.config import validate
from ssl_isic.data.decoding import ImageDecodeError, decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.errors import InputError
from ssl_isic.loop import total_steps
from ssl_isic.methods.method import DataFacts, Default
from ssl_isic.pool import Pool
from ssl_isic.pretraining import PretrainConfig, divide
from ssl_isic.sharding import sharding_plugin

SIZES_LOOKED_AT = 200
FULL_POOL = 400_000
FEWEST_EPOCHS, MOST_EPOCHS = 100, 800
MOST_LOOKS = 100
LOCAL_SIDE = 96 / 224  # of a global view's: DINO's authors'
PATCH_OF_OTHERS = 16  # px, for networks without patches
DIGITS = 5  # of a value that a rule makes; the rules are no finer, and it is read by people


class Filled(NamedTuple):
    """A complete configuration, and the rule behind each value that the user did not set, by key."""

    config: PretrainConfig
    rules: dict[str, str]


def fill_defaults(config: PretrainConfig) -> Filled:
    """Set what `config` leaves open and the data decide. A key that the user set, in the file or in a word, stays.

    Raises:
        InputError: a source that cannot be read; too few images to hold some out; an optimizer for which the method has no
            learning rate.
    """
    pool = Pool(config.data, ImagePool(config.data.sources, config.data.shards), config.monitor.target)
    _, trained_on = divide(config, pool)
    order = pool.order(trained_on, config.seed)
    filled = _with(config, _common(config, len(trained_on)), {})
    facts = DataFacts(
        images=len(trained_on),
        image_px=median_side(pool.images),
        batch_size=filled.config.loop.batch_size,
        views=filled.config.views,
        total_steps=total_steps(filled.config.loop, order),
        is_like_vit=is_like_vision_transformer(config.backbone),
        pretrained=config.backbone.weights is not None,
        optimizer=config.optim.name if _is_set(config, "optim.name") else None,
        lr=config.optim.lr if _is_set(config, "optim.lr") else None,
        second_view=config.data.second_view,
    )
    rules = config.method.defaults(facts)
    _check_optimizer(config, facts, rules)
    return _with(filled.config, [rule for rule in rules if not _is_set(config, rule.key)], filled.rules)


def median_side(pool: ImagePool) -> float:
    """Median over a sample of the pool of the geometric mean of width and height, px."""
    spread = np.unique(np.linspace(0, len(pool) - 1, SIZES_LOOKED_AT).astype(np.int64))
    others = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(len(pool)), spread))
    rows = pool.from_few_shards(np.concatenate([spread, others]), len(spread))
    sides = []
    for row in rows.tolist():
        try:
            height, width, _ = decode_rgb(pool.read(row)).shape
        except ImageDecodeError:
            continue
        sides.append((height * width) ** 0.5)
    if not sides:
        raise InputError(f"none of {len(rows)} images looked at decodes; are the files of data.sources damaged?")
    return float(np.median(sides))


def _common(config: PretrainConfig, images: int) -> list[Default]:
    """The rules that all methods share."""
    wanted = FEWEST_EPOCHS * (FULL_POOL / images) ** 0.5
    epochs = float(min(max(round(wanted), FEWEST_EPOCHS), MOST_EPOCHS))
    if _is_set(config, "loop.epochs"):
        epochs = config.loop.epochs
    rules = [
        Default(
            "loop.epochs",
            epochs,
            f"{FEWEST_EPOCHS} at {FULL_POOL:,} images and more, else growing as 1 / sqrt(images), {MOST_EPOCHS} at most",
        ),
        Default("optim.warmup_epochs", min(10.0, epochs / 10), "10 epochs, a tenth of the run at most"),
    ]
    every = round(epochs / MOST_LOOKS)
    if every > 1:
        rules.append(
            Default("monitor.every_epochs", float(every), f"about {MOST_LOOKS} looks a run: each takes seconds")
        )
    rules += _view_sides(config)
    if config.backbone.weights is not None:
        gentle = "an epoch, a tenth of the run at most: a new head would shake the weights that are there"
        rules.append(Default("optim.heads_first_epochs", min(1.0, epochs / 10), gentle))
    if not is_vision_transformer(config.backbone) and sharding_plugin() is None:
        rules.append(Default("loop.channels_last", True, "no plain vision transformer: its convolutions are faster so"))
    return [rule for rule in rules if not _is_set(config, rule.key)]


def _view_sides(config: PretrainConfig) -> list[Default]:
    """Sides of the views that the network's patches divide, and of local crops as the authors' are to global ones."""
    of_network = patch_px(config.backbone)
    patch = of_network if of_network and of_network > 1 else PATCH_OF_OTHERS
    size, rules = config.views.size, []
    if not _is_set(config, "views.size") and size % patch:
        size = max(1, round(size / patch)) * patch
        rules.append(Default("views.size", size, f"{config.views.size} px, in whole patches of {patch} px"))
    if config.method.has_local_crops:
        whole = f"in whole patches of {patch} px" if patch == of_network else f"a multiple of {patch}"
        local = max(1, round(LOCAL_SIDE * size / patch)) * patch
        rules.append(Default("views.local_size", local, f"three sevenths of views.size (DINO: 96 of 224), {whole}"))
    return rules


def _check_optimizer(config: PretrainConfig, facts: DataFacts, rules: list[Default]) -> None:
    batch = config.optim.lr_batch_size if _is_set(config, "optim.lr_batch_size") else None
    has_batch = any(rule.key == "optim.lr_batch_size" and rule.value is None for rule in rules)
    if batch is not None and has_batch and facts.lr is None:
        raise InputError(
            f"optim.lr_batch_size={batch}: the learning rate of {config.method.name} would be scaled twice, since its rule has "
            "the batch in it; set optim.lr too, or leave it out"
        )
    made_for = {rule.value for rule in rules if rule.key == "optim.name"}
    if facts.optimizer and made_for - {facts.optimizer} and not _is_set(config, "optim.lr"):
        raise InputError(
            f"optim.name={facts.optimizer}: {config.method.name} has no learning rate for it; set optim.lr too"
        )


def _is_set(config: PretrainConfig, key: str) -> bool:
    section, _, leaf = key.partition(".")
    return leaf in getattr(config, section).model_fields_set


def _with(config: PretrainConfig, rules: list[Default], known: Mapping[str, str]) -> Filled:
    tree: dict[str, Any] = config.model_dump()
    for rule in rules:
        section, _, leaf = rule.key.partition(".")
        tree[section][leaf] = float(f"{rule.value:.{DIGITS}g}") if isinstance(rule.value, float) else rule.value
    return Filled(
        validate(PretrainConfig, tree, source="defaults"), {**known, **{rule.key: rule.rule for rule in rules}}
    )
