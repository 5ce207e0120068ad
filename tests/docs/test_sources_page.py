"""docs/sources.md names every source, and what it shows of a configuration is one."""

import re
from pathlib import Path

import yaml

from ssl_isic.data.preparing.settings import PrepareConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")


def test_every_source_has_its_row() -> None:
    listed = re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in (ROOT / "configs" / "sources").glob("*.yaml"))


def test_the_example_is_a_configuration() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    config = PrepareConfig.model_validate({**yaml.safe_load(example), "images": "a.zip", "out": "pool"})
    assert config.id.id_of("IMG_12") == "CLINIC_IMG_12"
    assert config.columns.diagnosis is not None
    assert config.columns.diagnosis.values["melanoma*"] == "MEL"
