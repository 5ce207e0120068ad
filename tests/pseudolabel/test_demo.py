"""The demo in small: every stage runs, and what it says it made is there."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from finetune.submission import check_submission
from pseudolabel.demo import main


@pytest.mark.slow
def test_the_demo_makes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train_rows=150", "test_rows=60", "prevalence=0.12", "model=test_resnet", "image_size=32", "workers=0"]
    epochs = ["pretrain_epochs=1", "finetune_epochs=2", "rounds=1"]
    assert main([f"out={tmp_path}", *words, *epochs]) == 0
    scores = check_submission(tmp_path / "submission.csv", tmp_path / "data" / "sample_submission.csv")
    assert len(scores) == 60
    results = pd.read_csv(tmp_path / "results.csv")
    assert results["model"].tolist()[:3] == ["twelve colour numbers", "random start", "pretrained (round 0)"]
    for picture in ("views.png", "losses.png"):
        with Image.open(tmp_path / picture) as image:
            assert min(image.size) > 300
    shown = capsys.readouterr().out
    assert all(str(tmp_path / name) in shown for name in ("submission.csv", "views.png", "losses.png"))
