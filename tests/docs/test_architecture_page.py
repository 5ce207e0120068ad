"""docs/architecture.md names what may change when a run goes on."""

from pathlib import Path

import pytest

from finetune.training import FinetuneConfig
from pseudolabel.rounds import PseudolabelConfig
from ssl_isic.run_folder import MAY_CHANGE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"


@pytest.mark.parametrize("key", [*MAY_CHANGE, *FinetuneConfig.may_change, *PseudolabelConfig.may_change])
def test_a_key_that_may_change_is_named(key: str) -> None:
    assert f"`{key}`" in PAGE.read_text(encoding="utf-8")
