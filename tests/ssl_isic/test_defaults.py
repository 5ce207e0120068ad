"""Defaults that follow from the data: each rule by hand, and that a key which is set is never touched."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssl_isic import pretrain
from ssl_isic.config import validate
from ssl_isic.data.images import ImagePool
from ssl_isic.data.views import ViewsConfig
from ssl_isic.defaults import fill_defaults, median_side
from ssl_isic.errors import InputError
from ssl_isic.methods.dino import DINOConfig
from ssl_isic.methods.method import DataFacts, crop_defaults
from ssl_isic.methods.simclr import SimCLRConfig
from ssl_isic.methods.vicreg import VICRegConfig
from ssl_isic.pretraining import PretrainConfig

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]
CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def facts(**changed: Any) -> DataFacts:
    known = {"images": 19_000, "image_px": 131.0, "batch_size": 256, "views": ViewsConfig(), "total_steps": 50_000}
    return DataFacts(**{**known, "is_like_vit": False, "optimizer": None, **changed})


def values(rules: list[Any]) -> dict[str, Any]:
    return {rule.key: rule.value for rule in rules}


def config_of(images: Path, **tree: Any) -> PretrainConfig:
    data = {"sources": {"train": images}}
    return validate(PretrainConfig, {"run_dir": "runs/x", "data": data, **tree}, source="test")


@pytest.mark.parametrize(
    ("batch", "known", "name", "lr"),
    [
        (64, {}, "sgd", 0.075),
        (512, {}, "sgd", 0.6),
        (128, {"pretrained": True}, "adamw", 1e-3),
        (512, {"optimizer": "adamw"}, "adamw", 2e-3),
        (4096, {}, "lars", 4.8),  # 0.075 sqrt(4096), the paper's
        (4096, {"optimizer": "adamw"}, "adamw", 1e-3 * 32**0.5),
        (4096, {"pretrained": True}, "adamw", 1e-3 * 32**0.5),
        (4096, {"is_like_vit": True}, "adamw", 1e-3),
        (32, {"is_like_vit": True}, "adamw", 5e-4),
        (512, {"optimizer": "sgd", "is_like_vit": True}, "sgd", 0.6),
    ],
)
def test_simclrs_optimizer_and_head_follow_from_batch_network_and_start(
    batch: int, known: dict[str, Any], name: str, lr: float
) -> None:
    rules = values(SimCLRConfig().defaults(facts(batch_size=batch, **known)))
    assert rules["optim.name"] == name
    assert rules["optim.lr"] == pytest.approx(lr)
    assert rules["optim.lr_batch_size"] is None
    assert rules["optim.weight_decay"] == {"adamw": 0.01, "sgd": 1e-4, "lars": 1e-6}[name]
    assert rules["method.head_layers"] == (2 if name == "sgd" else 3)


@pytest.mark.parametrize(
    ("model", "views", "size", "local"),
    [
        ("vit_small_patch16_224", {}, 96, 48),
        ("vit_small_patch16_224", {"size": 224}, 224, 96),  # DINO's
        ("vit_small_patch14_dinov2", {}, 98, 42),
        ("vit_small_patch14_dinov2", {"size": 224}, 224, 98),  # DINOv2's
        ("vit_small_patch14_dinov2", {"size": 224, "local_size": 56}, 224, 56),
        ("resnet18", {"size": 64}, 64, 32),
        ("test_vit", {"size": 16}, 16, 16),
    ],
)
def test_views_have_whole_patches_and_local_ones_are_three_sevenths(
    model: str, views: dict[str, int], size: int, local: int, lesions: Path
) -> None:
    tree = {"views": views, "backbone": {"model": model}, "loop": {"batch_size": 8}}
    filled = fill_defaults(config_of(lesions, **tree, method={"name": "dino"}))
    assert (filled.config.views.size, filled.config.views.local_size) == (size, local)
    assert ("views.local_size" in filled.rules) == ("local_size" not in views)
    assert ("views.size" in filled.rules) == (size == 98)
    single = fill_defaults(config_of(lesions, **tree, method={"name": "simclr"}))
    assert "views.local_size" not in single.rules


def test_what_attracts_in_simclr_does_not_repel(lesions: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("isic_id,lesion_id\n")
    data = {"sources": {"train": lesions}, "tables": {"train": table}, "second_view": "lesion"}
    loop = {"batch_size": 16}
    filled = fill_defaults(config_of(lesions, data=data, loop=loop))
    assert filled.config.method.not_negative == "lesion"  # type: ignore[union-attr]
    assert "method.not_negative" in filled.rules
    by_hand = fill_defaults(
        config_of(lesions, data=data, loop=loop, method={"name": "simclr", "not_negative": "patient"})
    )
    assert by_hand.config.method.not_negative == "patient"  # type: ignore[union-attr]
    assert fill_defaults(config_of(lesions, loop=loop)).config.method.not_negative == "itself"  # type: ignore[union-attr]


def test_lars_goes_with_a_net_from_random_weights_is_not_clipped_and_ends_where_its_authors_end() -> None:
    large = facts(batch_size=2048)
    for config, lr, end in ((SimCLRConfig(), 0.075 * 2048**0.5, 0.0), (VICRegConfig(), 1.6, 1.6e-3)):
        rules = values(config.defaults(large))
        assert (rules["optim.name"], rules["loop.clip_norm"]) == ("lars", None)
        assert (rules["optim.lr"], rules["optim.end_lr"]) == (pytest.approx(lr), pytest.approx(end))
        for other in (facts(batch_size=2048, pretrained=True), facts(batch_size=2048, is_like_vit=True), facts()):
            rules = values(config.defaults(other))
            assert rules["optim.name"] != "lars"
            assert rules.keys().isdisjoint({"loop.clip_norm", "optim.end_lr"})
        assert values(config.defaults(facts(optimizer="lars")))["optim.name"] == "lars"


@pytest.mark.parametrize(
    ("images", "prototypes"), [(400_000, 32768), (19_000, 2048), (10_000, 1024), (1_281_167, 65536)]
)
def test_dinos_head_follows_from_the_number_of_images(images: int, prototypes: int) -> None:
    assert values(DINOConfig().defaults(facts(images=images)))["method.prototypes"] == prototypes


@pytest.mark.parametrize(("is_like_vit", "lr"), [(False, 1e-3 * 2**0.5), (True, 5e-4)])
def test_dinos_head_has_batch_norm_and_a_higher_rate_for_a_convolutional_net(is_like_vit: bool, lr: float) -> None:
    rules = values(DINOConfig().defaults(facts(is_like_vit=is_like_vit)))
    assert rules["method.head_batch_norm"] is not is_like_vit
    assert rules["optim.lr"] == pytest.approx(lr)  # of 256 images: 1e-3 x sqrt(2), or the paper's
    assert rules.get("backbone.drop_path") == (0.1 if is_like_vit else None)


def test_small_images_are_not_cropped_to_a_blur() -> None:
    """At 96 px, half a px of the image for each: 48 of 80 px a side, 0.36 of the area; of 300 px the preset's 0.08."""
    paper = ViewsConfig(preset="paper", size=96, local_size=48)
    small, large = (values(crop_defaults(facts(views=paper, image_px=px), "simclr")) for px in (80.0, 300.0))
    assert small["views.global_scale"] == (0.36, 1.0)
    assert large["views.global_scale"] == (0.08, 1.0)
    tiny = values(crop_defaults(facts(views=paper, image_px=20.0), "simclr"))
    assert tiny["views.global_scale"] == (0.8, 1.0)
    own = ViewsConfig(preset="my.yaml", size=96, local_size=48)
    assert crop_defaults(facts(views=own, image_px=80.0), "simclr") == [], "what the user wrote stands"


@pytest.mark.parametrize("sources", [["train"], ["train", "again"]])
def test_rules_count_the_images_that_are_trained_on(
    sources: list[str], tmp_path: Path, write_hdf5: WriteHdf5, lesion_jpegs: dict[str, bytes]
) -> None:
    """630 of 700: a tenth is held out to look at, and a second source of the same ids adds none."""
    jpeg = next(iter(lesion_jpegs.values()))
    images = write_hdf5(tmp_path / "many.hdf5", {f"ISIC_{k:07d}": jpeg for k in range(700)})
    tree = {"data": {"sources": dict.fromkeys(sources, images)}, "loop": {"batch_size": 8}, "method": {"name": "dino"}}
    filled = fill_defaults(validate(PretrainConfig, {"run_dir": "runs/x", **tree}, source="test")).config
    assert isinstance(filled.method, DINOConfig)
    assert filled.loop.epochs == 800
    assert filled.method.ema == pytest.approx(1 - 500 / (800 * (630 // 8)), abs=1e-5)


@pytest.mark.parametrize(("epochs", "warmup"), [(None, 10.0), (30.0, 3.0)])
def test_epochs_and_warmup(lesions: Path, epochs: float | None, warmup: float) -> None:
    loop = {"batch_size": 8} | ({} if epochs is None else {"epochs": epochs})
    filled = fill_defaults(config_of(lesions, loop=loop))
    assert filled.config.loop.epochs == (epochs or 800.0)
    assert filled.config.optim.warmup_epochs == warmup
    assert ("loop.epochs" in filled.rules) is (epochs is None)
    assert filled.config.monitor.every_epochs == (8.0 if epochs is None else 1.0)


@pytest.mark.parametrize(
    ("model", "sharded", "last"),
    [("test_resnet", "false", True), ("test_vit", "false", False), ("test_resnet", "true", False)],
)
def test_a_convolutional_net_has_its_channels_last_unless_it_is_sharded(
    lesions: Path, monkeypatch: pytest.MonkeyPatch, model: str, sharded: str, last: bool
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", sharded)
    monkeypatch.setenv("FSDP_VERSION", "2")
    filled = fill_defaults(config_of(lesions, loop={"batch_size": 8}, backbone={"model": model}))
    assert filled.config.loop.channels_last is last
    assert ("loop.channels_last" in filled.rules) is last


def test_a_key_that_is_set_wins_over_its_rule(lesions: Path) -> None:
    free = fill_defaults(config_of(lesions, loop={"batch_size": 8}))
    tree = {"optim": {"lr": 0.5, "weight_decay": 0.04}, "views": {"global_scale": [0.3, 0.9]}}
    kept = fill_defaults(config_of(lesions, loop={"batch_size": 8}, **tree))
    assert (kept.config.optim.lr, kept.config.optim.weight_decay) == (0.5, 0.04)
    assert kept.config.views.global_scale == (0.3, 0.9)
    assert free.rules.keys() - kept.rules.keys() == {"optim.lr", "optim.weight_decay", "views.global_scale"}
    assert free.config.optim.lr != 0.5


@pytest.mark.parametrize("method", ["simclr", "dino", "vicreg", "lejepa", "mae", "dinov2"])
def test_every_method_says_how_it_is_optimised(lesions: Path, method: str) -> None:
    tree = {"method": {"name": method}, "loop": {"batch_size": 8}, "backbone": {"model": "test_vit"}}
    filled = fill_defaults(config_of(lesions, **tree))
    assert {"optim.name", "optim.lr", "optim.weight_decay", "loop.epochs"} <= filled.rules.keys()
    assert all(rule and "\n" not in rule for rule in filled.rules.values())
    again = fill_defaults(validate(PretrainConfig, filled.config.model_dump(), source="resolved"))
    assert again.config == filled.config
    assert again.rules == {}


@pytest.mark.parametrize("file", sorted((CONFIGS / "pretrain").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_configuration_leaves_open_what_follows_from_the_data(lesions: Path, file: Path) -> None:
    tree = yaml.safe_load(file.read_text())
    named = {f"{section}.{key}" for section, keys in tree.items() for key in keys}
    small = {"method": {"name": tree["method"]["name"]}, "loop": {"batch_size": 8}}
    free = fill_defaults(config_of(lesions, backbone={"model": tree["backbone"]["model"]}, **small))
    assert named & free.rules.keys() <= ({"loop.epochs"} if file.stem.endswith("-2-cores") else set())
    tree["data"]["sources"], tree["loop"]["batch_size"] = {"train": lesions}, 8
    filled = fill_defaults(validate(PretrainConfig, {**tree, "run_dir": "runs/x"}, source=file.name))
    assert {"optim.name", "optim.lr", "optim.weight_decay", "optim.warmup_epochs"} <= filled.rules.keys()


@pytest.mark.parametrize("method", ["simclr", "dino", "dinov2", "vicreg", "lejepa"])
def test_a_rate_whose_rule_has_the_batch_in_it_is_not_scaled_by_the_batch_again(lesions: Path, method: str) -> None:
    tree = {"method": {"name": method}, "loop": {"batch_size": 8}, "backbone": {"model": "test_vit"}}
    with pytest.raises(InputError, match=rf"lr_batch_size=256: the learning rate of {method} would be scaled twice"):
        fill_defaults(config_of(lesions, **tree, optim={"lr_batch_size": 256}))
    both = fill_defaults(config_of(lesions, **tree, optim={"lr_batch_size": 256, "lr": 0.1})).config.optim
    assert both.peak_lr(8) == pytest.approx(0.1 * 8 / 256)
    assert fill_defaults(config_of(lesions, **tree, optim={"lr_batch_size": None})).config.optim.lr_batch_size is None


@pytest.mark.parametrize(
    ("method", "tree"), [("lejepa", {}), ("vicreg", {"optim": {"name": "lars"}, "backbone": {"model": "test_resnet"}})]
)
def test_the_last_rate_is_a_thousandth_of_the_rate_that_was_set(
    lesions: Path, method: str, tree: dict[str, Any]
) -> None:
    optim = {**tree.get("optim", {}), "lr": 0.5}
    asked = {"method": {"name": method}, "loop": {"batch_size": 8}, **tree, "optim": optim}
    assert fill_defaults(config_of(lesions, **asked)).config.optim.end_lr == pytest.approx(0.0005)


def test_an_optimizer_that_the_method_has_no_rate_for_wants_one(lesions: Path) -> None:
    tree = {"method": {"name": "dino"}, "loop": {"batch_size": 8}}
    with pytest.raises(InputError, match=r"optim.name=sgd.*set optim.lr"):
        fill_defaults(config_of(lesions, **tree, optim={"name": "sgd"}))
    assert fill_defaults(config_of(lesions, **tree, optim={"name": "sgd", "lr": 0.1})).config.optim.name == "sgd"


def test_print_config_shows_each_derived_value_with_its_rule(
    lesions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"run_dir={tmp_path}", f"data.sources.train={lesions}", "loop.batch_size=8", "optim.weight_decay=0.5"]
    with pytest.raises(SystemExit) as stop:
        pretrain.main([*words, "--print-config"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    lines = {line.strip().partition(":")[0]: line for line in text.splitlines()}
    assert lines["epochs"].startswith("  epochs: 800.0  # 100 at 400,000 images")
    assert "#" not in lines["weight_decay"]
    filled = fill_defaults(config_of(lesions, loop={"batch_size": 8}, optim={"weight_decay": 0.5}))
    assert text.count("#") == len(filled.rules)
    assert yaml.safe_load(text)["loop"] == filled.config.model_dump(mode="json")["loop"]


def test_what_a_rule_makes_is_written_with_five_digits(lesions: Path) -> None:
    filled = fill_defaults(config_of(lesions, loop={"batch_size": 16}, optim={"name": "adamw"}))
    assert filled.config.optim.lr == 3.5355e-4  # 1e-3 x sqrt(16 / 128)


def test_the_size_of_the_images_is_that_of_the_files(lesions: Path) -> None:
    assert 40 <= median_side(ImagePool({"train": lesions})) <= 64
