"""A run keeps its views, and does not go on with others."""

from pathlib import Path

import pytest
import yaml

from ssl_isic.data.kept_views import FILE, keep_views
from ssl_isic.data.views import ViewsConfig, dino_views, simclr_views
from ssl_isic.errors import InputError


def own(folder: Path, degrees: float) -> ViewsConfig:
    path = folder / "own.yaml"
    steps = [{"name": "random_resized_crop"}, {"name": "rotate", "degrees": degrees}]
    path.write_text(yaml.safe_dump({"default": {"first": steps}}))
    return ViewsConfig(preset=str(path), size=32)


def test_what_is_kept_is_every_step(tmp_path: Path) -> None:
    keep_views(tmp_path, dino_views(ViewsConfig(preset="paper", size=64, local_size=32), 1))
    tree = yaml.safe_load((tmp_path / FILE).read_text())
    assert list(tree) == ["view_1", "view_2", "view_3"]
    assert tree["view_2"][-1] == {"p": 0.2, "name": "solarize", "threshold": 0.5}
    assert [steps[0]["size"] for steps in tree.values()] == [64, 64, 32]


def test_a_run_goes_on_with_the_same_views_only(tmp_path: Path) -> None:
    keep_views(tmp_path, simclr_views(own(tmp_path, 9)))
    keep_views(tmp_path, simclr_views(own(tmp_path, 10)))  # nothing was trained with the others
    (tmp_path / "model.safetensors").touch()
    keep_views(tmp_path, simclr_views(own(tmp_path, 10)))
    with pytest.raises(InputError, match=r"views\.yaml says that view_1 of this run was another"):
        keep_views(tmp_path, simclr_views(own(tmp_path, 11)))
    (tmp_path / FILE).unlink()
    keep_views(tmp_path, dino_views(ViewsConfig(preset="paper"), 1))
    with pytest.raises(InputError, match="view_3"):
        keep_views(tmp_path, dino_views(ViewsConfig(preset="paper"), 0))
