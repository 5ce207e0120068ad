"""What is drawn: which rows, in how many dimensions, in which colours. The pictures themselves were looked at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_isic.contact_sheets import Picture
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.views import eval_view
from ssl_isic.errors import InputError
from ssl_isic.evaluation import figures
from ssl_isic.evaluation.figures import check_map_method, few_shot_curves, map_rows, project, scatter_plots
from ssl_isic.evaluation.lesions import Lesions
from ssl_isic.evaluation.neighbours import nearest
from ssl_isic.evaluation.patches import component_colours, patch_maps
from ssl_isic.evaluation.sheets import BENIGN_RGB, MALIGNANT_RGB, neighbour_sheet, patch_sheet, query_rows
from ssl_isic.evaluation.source import BackboneSource, Embedder, open_backbone


@pytest.mark.parametrize(
    ("positives", "negatives", "most", "expected"),
    [(3, 90, 50, (3, 47)), (40, 60, 50, (25, 25)), (60, 10, 50, (40, 10)), (5, 5, 50, (5, 5))],
)
def test_a_map_keeps_the_rare_class(positives: int, negatives: int, most: int, expected: tuple[int, int]) -> None:
    target = np.random.default_rng(0).permutation(np.repeat([1.0, 0.0], [positives, negatives]))
    rows = map_rows(target, seed=3, most=most)
    assert np.array_equal(rows, np.unique(rows))
    assert (int(target[rows].sum()), int((1 - target[rows]).sum())) == expected
    assert np.array_equal(rows, map_rows(target, seed=3, most=most))


def test_pca_keeps_distances_in_a_plane() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(40, 2)) @ np.linalg.qr(rng.normal(size=(10, 2)))[0].T
    points = project(plane, "pca", seed=0)
    assert points.shape == (40, 2)
    distances = [np.linalg.norm(values[:, None] - values[None], axis=2) for values in (plane, points)]
    assert np.allclose(*distances)
    assert project(plane[:, :1], "pca", seed=0).shape == (40, 2)


def test_tsne_keeps_two_clouds_apart_and_is_a_function_of_the_seed() -> None:
    features = np.random.default_rng(0).normal(size=(40, 5)) + np.repeat([[0.0], [20.0]], 20, axis=0)
    points = project(features, "tsne", seed=0)
    assert np.array_equal(points, project(features, "tsne", seed=0))
    centres = points[:20].mean(axis=0), points[20:].mean(axis=0)
    spread = max(np.linalg.norm(points[:20] - centres[0], axis=1).max(), 0)
    assert np.linalg.norm(centres[0] - centres[1]) > spread


def test_umap_keeps_two_clouds_apart_and_is_a_function_of_the_seed() -> None:
    pytest.importorskip("umap", reason="umap-learn is an extra")
    features = np.random.default_rng(0).normal(size=(40, 5)) + np.repeat([[0.0], [20.0]], 20, axis=0)
    points = project(features, "umap", seed=0)
    assert np.array_equal(points, project(features, "umap", seed=0))
    centres = points[:20].mean(axis=0), points[20:].mean(axis=0)
    assert np.linalg.norm(centres[0] - centres[1]) > np.linalg.norm(points[:20] - centres[0], axis=1).max()


def test_a_map_needs_its_library_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    check_map_method("tsne")
    with pytest.raises(InputError, match=r'pip install "ssl-isic\[umap\]", or set map=tsne'):
        check_map_method("umap")


def test_a_map_has_a_panel_for_each_backbone_and_colouring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = list[tuple[str, list[str]]]()
    original = figures._scatter

    def scatter(axes: object, points: object, labels: np.typing.NDArray[np.str_], title: str) -> None:
        original(axes, points, labels, title)  # type: ignore[arg-type]
        drawn.append((title, axes.get_legend_handles_labels()[1]))  # type: ignore[attr-defined]

    monkeypatch.setattr(figures, "_scatter", scatter)
    features = {name: np.random.default_rng(0).normal(size=(30, 4)) for name in ("one", "two")}
    labels = np.repeat(["benign", "malignant"], [25, 5])
    clinics = np.array([f"clinic {min(number, 11)}" for number in range(30)])
    scatter_plots(
        features, {"label": labels, "clinic": clinics}, tmp_path / "map.png", method="pca", seed=0, title="PCA"
    )
    assert [title for title, _ in drawn] == ["one", "", "two", ""]
    assert drawn[0][1] == ["benign (25)", "malignant (5)"]
    assert drawn[1][1][0] == "clinic 11 (19)"
    assert drawn[1][1][-1] == "other (4)"
    assert len(drawn[1][1]) == 9
    with Image.open(tmp_path / "map.png") as image:
        assert image.width > image.height


def test_a_clinic_of_many_words_leaves_the_map_its_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    save = figures._save
    monkeypatch.setattr(figures, "_save", lambda figure, path: (save(figure, path), kept.append(figure)))
    features = {name: np.random.default_rng(0).normal(size=(30, 4)) for name in ("one", "two", "three")}
    long = "Department of Dermatology, University of Somewhere, with all of its hospitals, " * 3
    labels = {"clinic": np.repeat([long, "x" * 200], 15), "sex": np.repeat(["f", "m"], 15)}
    scatter_plots(features, labels, tmp_path / "map.png", method="pca", seed=0, title="PCA")
    for axes in kept[0].axes:
        inches = axes.get_window_extent().transformed(kept[0].dpi_scale_trans.inverted())
        assert inches.width > 3
        labels_shown = axes.get_legend_handles_labels()[1]
        assert all(len(label) < 110 and label.endswith("(15)") for label in labels_shown)


def test_curves_are_means_within_the_ends_of_their_intervals(tmp_path: Path) -> None:
    rows = [
        {"name": name, "kind": kind, "share": share, "auc": auc, "pauc": auc / 10, "train_groups": 10 * share}
        | {"train_positive_groups": share, "auc_low": auc - 0.1, "auc_high": auc + 0.1}
        | {"pauc_low": auc / 20, "pauc_high": auc / 5}
        for name, kind, aucs in (("simclr", "backbone", (0.5, 0.7, 0.9)), ("random net", "random", (0.4, 0.5, 0.6)))
        for share, auc in zip((0.1, 0.1, 1.0), aucs, strict=True)
    ]
    shares, low, mean, high = figures._band(rows[:3], "auc")
    assert shares.tolist() == [0.1, 1.0]
    assert np.concatenate([low, high]) == pytest.approx([0.4, 0.8, 0.8, 1.0])
    assert mean == pytest.approx([0.6, 0.9])
    few_shot_curves(rows, tmp_path / "curves.png", "few labels")
    with Image.open(tmp_path / "curves.png") as image:
        assert np.asarray(image.convert("RGB")).std() > 5


def forty_eight(pool: ImagePool) -> Lesions:
    """All of a pool of 48, each fifth malignant, two to a patient."""
    target = (np.arange(48) % 5 == 0).astype(float)
    groups = np.array([f"P{row // 2}" for row in range(48)])
    return Lesions([pool.id_of(row) for row in range(48)], np.arange(48), target, groups, np.zeros(48, int), {})


def test_a_sheet_shows_queries_and_their_neighbours_framed_by_label(
    tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ImagePool({"images": lesions})
    every = forty_eight(pool)
    target, groups = every.target, every.groups
    features = np.random.default_rng(0).normal(size=(48, 4))
    queries = query_rows(target, seed=1, each=3)
    assert target[queries].tolist() == [1, 1, 1, 0, 0, 0]

    sheets = list[list[tuple[str, list[Picture]]]]()
    monkeypatch.setattr("ssl_isic.evaluation.sheets.contact_sheet", lambda rows, path, **words: sheets.append(rows))
    neighbour_sheet(features, every, pool, queries, tmp_path / "sheet.png", "title")
    (rows,) = sheets
    found = nearest(features, queries, 8, groups)
    assert len(rows) == 6
    for query, neighbours, (label, pictures) in zip(queries, found, rows, strict=True):
        alike = sum(target[neighbours] == target[query])
        assert label.endswith(f"{every.ids[query]}: {alike} of 8 alike")
        for row, picture in zip([query, *neighbours], pictures, strict=True):
            assert tuple(picture[0, 0]) == (MALIGNANT_RGB if target[row] else BENIGN_RGB)
            expected = eval_view(84)(decode_rgb(pool.read(int(row))))
            assert np.array_equal(picture[6:-6, 6:-6], expected)


@pytest.mark.parametrize(("model", "heads"), [("test_vit", ["attention"]), ("test_resnet", [])])
def test_a_sheet_of_patches_shows_lesions_and_their_patches_beside_a_random_networks(
    tmp_path: Path, lesions: Path, monkeypatch: pytest.MonkeyPatch, model: str, heads: list[str]
) -> None:
    pool = ImagePool({"images": lesions})
    every, queries = forty_eight(pool), np.array([5, 10, 2])
    one, other = (Embedder(open_backbone(BackboneSource(model=model, seed=seed), 64)) for seed in (1, 0))
    sheets = list[tuple[list[tuple[str, list[Picture]]], dict[str, Any]]]()
    monkeypatch.setattr(
        "ssl_isic.evaluation.sheets.contact_sheet", lambda rows, path, **words: sheets.append((rows, words))
    )
    for _ in range(2):
        patch_sheet(one, other, 64, every, pool, queries, tmp_path / "sheet.png", "a $name$")
    (rows, words), (again, _) = sheets
    assert [head.partition(" (")[0] for head in words["columns"]] == ["lesion", "patches", *heads, "random"]
    assert words["title"].startswith("a $name$: 4 x 4 patches")

    views = [eval_view(64)(decode_rgb(pool.read(int(row)))) for row in queries]
    for row, (label, tiles), (_, repeated) in zip(range(3), rows, again, strict=True):
        assert label == f"{('malignant', 'malignant', 'benign')[row]} {every.ids[queries[row]]}"
        assert tuple(tiles[0][0, 0]) == (BENIGN_RGB if row == 2 else MALIGNANT_RGB)
        assert all(np.array_equal(*pair) for pair in zip(tiles, repeated, strict=True))
        for tile, embedder in ((tiles[1], one), (tiles[-1], other)):
            colours, _ = component_colours(patch_maps(embedder, views).features)
            assert np.array_equal(tile[6:-6, 6:-6], colours[row].repeat(33, axis=0).repeat(33, axis=1))
