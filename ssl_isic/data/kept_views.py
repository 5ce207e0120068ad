"""The views of a run, kept in its folder: a preset is a file that may change while the run's configuration stays the same."""

from pathlib import Path

import yaml

from ssl_isic.config import load_yaml
from ssl_isic.data.views import SeededViews
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write, holds_work

FILE = "views.yaml"


def keep_views(run_dir: Path, views: SeededViews) -> None:
    """Write every step of `views` to `views.yaml` in the run's folder, sizes and all; in place of a run without weights.

    Raises:
        InputError: the run began with other views.
    """
    tree = {
        f"view_{number}": [step.model_dump(mode="json") for step in v.steps] for number, v in enumerate(views.views, 1)
    }
    path = run_dir / FILE
    if path.exists() and holds_work(run_dir):
        changed = [name for name in {**tree, **load_yaml(path)} if load_yaml(path).get(name) != tree.get(name)]
        if changed:
            raise InputError(
                f"{path} says that {changed[0]} of this run was another: undo the change of the preset, or take another run_dir"
            )
        return
    with atomic_write(path) as temporary:
        temporary.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")
