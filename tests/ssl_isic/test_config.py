"""A configuration either becomes exactly what its file and words say, or ends in one line that names the key."""

import itertools
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml

from finetune.training import FinetuneConfig
from ssl_isic import pretrain
from ssl_isic.config import Config, dump_yaml, read_config
from ssl_isic.defaults import fill_defaults
from ssl_isic.errors import InputError
from ssl_isic.methods.dino import DINOConfig
from ssl_isic.methods.simclr import SimCLRConfig
from ssl_isic.pretraining import PretrainConfig

REQUIRED = ["run_dir=runs/a", "data.sources.train=train.hdf5"]


def read(*words: str) -> PretrainConfig:
    return read_config(PretrainConfig, [*REQUIRED, *words], prog="ssl-isic pretrain")


def every_field(model: type[Config], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """(dotted key, description) of every leaf and branch, found without the code under test."""
    for name, field in model.model_fields.items():
        yield prefix + name, field.description
        found: list[type[Config]] = []
        queue = [field.annotation]
        while queue:
            here = queue.pop()
            if isinstance(here, type) and not get_args(here):
                if issubclass(here, Config):
                    found.append(here)
            elif typing.get_origin(here) is not dict:
                queue += get_args(here)
        for inner in found:
            yield from every_field(inner, f"{prefix}{name}.")


def test_words_override_the_file_and_the_file_overrides_defaults(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("seed: 3\noptim: {lr: 0.5, weight_decay: 0.1}\nviews: {size: 64}\n")
    config = read("--config", str(file), "optim.lr=1e-3", "views.global_scale=[0.3, 1]")
    assert (config.seed, config.optim.lr, config.optim.weight_decay) == (3, 1e-3, 0.1)
    assert (config.views.size, config.views.global_scale, config.views.local_size) == (64, (0.3, 1.0), 48)
    assert config.data.sources == {"train": Path("train.hdf5")}


def test_nothing_that_is_given_twice_is_dropped_without_a_word(tmp_path: Path) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text("seed: 3\n")
    two.write_text("loop:\n  epochs: 3\nseed: 1\nloop:\n  batch_size: 32\n")
    with pytest.raises(InputError, match=rf"--config is given twice, {one} and {two}: put both into one file"):
        read("--config", str(one), "--config", str(two))
    with pytest.raises(InputError, match=rf"{two} is not valid YAML: line 4: loop is given twice"):
        read("--config", str(two))


def test_a_source_without_a_name_is_told_how() -> None:
    with pytest.raises(InputError, match=r"data\.sources: give it a name: data\.sources\.NAME=a\.hdf5"):
        read_config(PretrainConfig, ["run_dir=r", "data.sources=a.hdf5"], prog="ssl-isic pretrain")


def test_what_is_wrong_is_blamed_on_the_file_or_on_the_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.yaml"
    for text, word, blamed in (
        ("seed: 3\n", "optim.lr=0", "the command line"),
        ("optim: {lr: 0}\n", "seed=1", str(file)),
    ):
        file.write_text(text)
        assert pretrain.main([*REQUIRED, "--config", str(file), word]) == 2
        assert capsys.readouterr().err.startswith(f"ssl-isic: {blamed}: optim.lr: ")


def test_a_word_can_fill_a_branch_that_the_file_leaves_empty(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("optim:\n")
    assert read("--config", str(file), "optim.lr=0.25").optim.lr == 0.25


FINETUNE = ["run_dir=r", "data.images=a", "data.table=b", "data.folds=c"]


def test_a_word_leaves_the_stages_own_defaults_beside_it(tmp_path: Path) -> None:
    words = ["loop.log_every=7", "optim.warmup_epochs=2"]
    config = read_config(FinetuneConfig, [*FINETUNE, *words], prog="p")
    plain = read_config(FinetuneConfig, FINETUNE, prog="p")
    assert config.loop == plain.loop.model_copy(update={"log_every": 7})
    assert config.optim == plain.optim.model_copy(update={"warmup_epochs": 2.0})
    assert (plain.loop.epochs, plain.loop.batch_size, plain.optim.lr) == (15, 64, 1e-3)
    other = read_config(FinetuneConfig, [*FINETUNE, "loss.name=bce"], prog="p")
    assert other.loss.name == "bce", "the default's keys are not another's"


def test_help_shows_the_stages_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_config(FinetuneConfig, ["--help"], prog="p")
    lines = capsys.readouterr().out.splitlines()
    assert {
        "  optim.lr  float = 0.001",
        "  optim.lr_batch_size  int|null = null",
        "  loop.epochs  float = 15.0",
    } <= set(lines)
    assert "  data.images  path = (required)" in lines


def test_a_configuration_does_not_change() -> None:
    config = read()
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["method.temperature=0.2"], SimCLRConfig(temperature=0.2)),
        (["method.name=simclr", "method.temperature=0.2"], SimCLRConfig(temperature=0.2)),
        (["method.name=dino", "method.local_crops=2"], DINOConfig(local_crops=2)),
        (["method.local_crops=2", "method.name=dino"], DINOConfig(local_crops=2)),
    ],
)
def test_the_name_chooses_the_member_of_a_union(words: list[str], expected: Config) -> None:
    assert read(*words).method == expected


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["optim.weigth_decay=1"], ["optim.weigth_decay", "did you mean weight_decay?"]),
        (["sede=1"], ["unknown key sede", "did you mean seed?"]),
        (["method.local_crop=2", "method.name=dino"], ["method.local_crop;", "did you mean local_crops?"]),
        (["method.local_crops=2"], ["method.local_crops"]),
        (["backbone.zzzz=1"], ["backbone.zzzz", "known here: model, weights"]),
        (["optim.lr=fast"], ["optim.lr", "number", "'fast'"]),
        (["optim.lr=-1"], ["optim.lr", "greater than 0", "-1"]),
        (["loop.batch_size=2.5"], ["loop.batch_size", "2.5"]),
        (["optim.name=adam"], ["optim.name", "'adamw'", "'adam'"]),
        (["method.name=moco"], ["method", "'simclr'", "'dino'", "moco"]),
        (["views=3"], ["views", "got 3"]),
        (["seed.low=3", "seed=1", "seed.low=3"], ["cannot set seed.low", "seed is 1"]),
        (["seed"], ["'seed'", "key=value"]),
        (["=3"], ["'=3'", "key=value"]),
        (["run_dir="], ["run_dir is empty", "run_dir=VALUE"]),
        (["loop.epochs=.inf"], ["loop.epochs", "finite"]),
        (["views.global_scale=[1"], ["views.global_scale=[1", "YAML"]),
        (["--seed", "3"], ["unknown option --seed", "key=value"]),
        (["--config", "/nowhere/a.yaml"], ["/nowhere/a.yaml", "No such file"]),
        (["--config"], ["--config", "one argument"]),
        (["--config", "/"], ["cannot read the config /", "directory"]),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_code_2(
    words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain.main([*REQUIRED, *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ssl-isic: ")
    assert captured.err.count("\n") == 1
    for part in parts:
        assert part in captured.err


@pytest.mark.parametrize(
    ("text", "part"),
    [("a: [1\nb: 2", "not valid YAML"), ("- 1\n- 2\n", "got a list"), ("just words", "got a str"), ("\x00", "YAML")],
)
def test_a_file_that_is_not_a_mapping_is_one_line(
    text: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    assert pretrain.main([*REQUIRED, "--config", str(file)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert str(file) in err
    assert part in err


@pytest.mark.parametrize("name", ["runs/try #2", "runs/a: b", "runs/it's", "runs/[1]", "runs/#3"])
def test_a_name_may_have_in_it_what_means_something_to_yaml(name: str) -> None:
    assert str(read(f"run_dir={name}").run_dir) == name
    assert str(read("data.sources={train: a.hdf5, test: 'b #1.hdf5'}").data.sources["test"]) == "b #1.hdf5"
    assert read("data.sources.train=a", "backbone={model: resnet34}  # the larger one").backbone.model == "resnet34"


def test_a_missing_key_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain.main(["run_dir=a", "data.workers=0"]) == 2
    assert "data.sources is required" in capsys.readouterr().err
    with pytest.raises(
        InputError, match=r"unknown key data\.images; data\.sources is required; set data\.sources\.NAME="
    ):
        read_config(PretrainConfig, ["run_dir=runs/a", "data.images=train.hdf5"], prog="ssl-isic pretrain")
    with pytest.raises(InputError, match="run_dir is required"):
        read_config(PretrainConfig, REQUIRED[1:], prog="p")


def test_print_config_is_read_back_as_the_same_configuration(
    tmp_path: Path, lesions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["method.name=dino", "method.ema=0.9", "views.local_scale=[0.1, 0.2]", "loop.trackers=[tensorboard]"]
    words += ["run_dir=runs/a", f"data.sources.train={lesions}", "loop.batch_size=8"]
    with pytest.raises(SystemExit) as stop:
        pretrain.main([*words, "--print-config"])
    assert stop.value.code == 0
    file = tmp_path / "resolved.yaml"
    file.write_text(capsys.readouterr().out)
    again = read_config(PretrainConfig, ["--config", str(file)], prog="p")
    assert again == fill_defaults(read_config(PretrainConfig, words, prog="p")).config
    assert yaml.safe_load(dump_yaml(again)) == again.model_dump(mode="json")


def test_every_key_has_one_line_of_meaning() -> None:
    fields = dict(every_field(PretrainConfig))
    tags = {"method.name"}
    undocumented = [key for key, text in fields.items() if not text and key not in tags]
    assert undocumented == []
    assert {"optim.lr", "method.ema", "method.temperature", "data.workers", "data.sources"} <= fields.keys()


def test_help_lists_every_key_with_type_default_and_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        pretrain.main(["--help"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    shown = {(line.split()[0], " ".join(after.split())) for line, after in itertools.pairwise(lines) if " = " in line}
    branches = {line.split()[0] for line in lines if ".*  " in line}
    for key, text in every_field(PretrainConfig):
        meaning = " ".join((text or "").split())
        assert key == "method.name" or f"{key}.*" in branches or (key, meaning) in shown, f"--help does not list {key}"
    assert "  optim.lr  float = 0.0005" in lines
    assert "  optim.name  adamw|sgd|lars = adamw" in lines
    assert "  run_dir  path = (required)" in lines
    assert "  views.global_scale  tuple[float, float]|null = null" in lines
    assert any("with method.name=dino: " in line for line in lines)
