"""What docs/methods.md writes: its table of defaults, and a method that is added as the page says, and trained."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from ssl_isic.data.views import ViewsConfig
from ssl_isic.methods.dino import DINOConfig
from ssl_isic.methods.dinov2 import DINOv2Config
from ssl_isic.methods.method import DataFacts

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_defaults_is_what_the_rules_make() -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    rows = re.findall(r"^\| ([\d,]+)[^|]* \| ([\d,]+) \| (\d+) \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) == 6
    for *sizes, written in rows:
        images, batch, epochs = (int(size.replace(",", "")) for size in sizes)
        facts = DataFacts(
            images, 131.0, batch, ViewsConfig(), epochs * (images // batch), is_like_vit=True, optimizer=None
        )
        dino, dinov2 = (
            {rule.key: rule.value for rule in settings.defaults(facts)} for settings in (DINOConfig(), DINOv2Config())
        )
        made = [
            dino["method.prototypes"],
            dino["method.ema"],
            dinov2["method.ema"],
            dino["optim.lr"],
            dinov2["optim.lr"],
        ]
        assert [float(value) for value in written.split(" | ")] == pytest.approx(made), images


@pytest.mark.slow
def test_the_method_on_the_page_trains_after_the_edits_on_the_page(tmp_path: Path, lesions: Path) -> None:
    page = (ROOT / "docs" / "methods.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (diff,) = re.findall(r"```diff\n(.*?)```", page, re.DOTALL)
    package = tmp_path / "ssl_isic"
    shutil.copytree(ROOT / "ssl_isic", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "methods" / "barlow_twins.py").write_text(code)
    union = package / "methods" / "__init__.py"
    added_import, removed, *added = [line[1:] for line in diff.splitlines()]
    text = union.read_text()
    assert text.count(f"{removed}\n") == 1, "the page shows the union as it is"
    text = text.replace(removed, "\n".join(added))
    union.write_text(
        text.replace("from ssl_isic.methods.dino import", f"{added_import}\nfrom ssl_isic.methods.dino import")
    )

    words = ["method.name=barlow_twins", "method.projection_size=16", "backbone.model=test_resnet", "views.size=32"]
    words += [f"run_dir={tmp_path / 'run'}", f"data.sources.train={lesions}", "data.workers=0"]
    words += ["loop.batch_size=8", "loop.epochs=1", "optim.weight_decay=0.1"]
    ran = subprocess.run(
        [sys.executable, "-m", "ssl_isic.cli", "pretrain", *words],
        env={**os.environ, "PYTHONPATH": str(tmp_path), "ACCELERATE_USE_CPU": "true"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert "optim.lr=0.0005: 5e-4 for 256 images" in ran.stdout
    assert load_file(tmp_path / "run" / "backbone" / "model.safetensors")
