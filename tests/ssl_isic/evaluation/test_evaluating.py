"""`ssl-isic evaluate` from words to files, on tiny networks; killed and gone on; and each wrong input."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from ssl_isic.compare import main
from ssl_isic.embed import main as embed_main
from ssl_isic.evaluation import comparison, feature_map, kept, sheets
from ssl_isic.evaluation.colour import colour_features
from ssl_isic.evaluation.neighbours import knn_scores
from ssl_isic.evaluation.probe import linear_probe
from ssl_isic.evaluation.scores import standardised
from ssl_isic.metrics import roc_auc
from ssl_isic.overlap import main as overlap_main

WriteHdf5 = Callable[[Path, Mapping[str, bytes]], Path]
QUICK = ["workers=0", "image_size=32", "draws=1", "resamples=20", "map=pca"]


def words_for(files: Any, backbone: Path, out: Path) -> list[str]:
    """The 36 lesions in the folds of their file, by a folder, and by the same weights as a file."""
    return [
        f"backbones.folder={backbone}",
        f"backbones.file.weights={backbone / 'model.safetensors'}",
        "backbones.file.model=test_resnet",
        f"images={files.images}",
        f"table={files.table}",
        f"folds={files.folds}",
        "map_columns=[clinic]",
        "against=[file]",
        f"out={out}",
        *QUICK,
    ]


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, labelled_files: Any, backbone_folder: Path
) -> tuple[Path, list[str]]:
    """A finished evaluation, not to be written to, and its words."""
    out = tmp_path_factory.mktemp("evaluated") / "out"
    seen = out.with_name("overlap.csv")
    asked = [f"images={labelled_files.images}", f"table={labelled_files.table}", "workers=0", f"out={seen}"]
    assert overlap_main([f"pretrain.lesions={labelled_files.images}", *asked]) == 0
    words = [*words_for(labelled_files, backbone_folder, out), f"overlap={seen}"]
    assert main(words) == 0
    return out, words


def test_the_report_says_what_pretraining_has_seen(evaluated: tuple[Path, list[str]]) -> None:
    found = json.loads((evaluated[0] / "report.json").read_text())["overlap"]
    assert found["evaluation_images"] == 36
    assert found["sources"]["lesions"]["evaluation_images"] == 36, "all of them: pretraining was on the same file"
    assert found["sources"]["lesions"]["other_id"] == 0


def test_it_leaves_every_file(evaluated: tuple[Path, list[str]]) -> None:
    out, _ = evaluated
    pictures = ["few_shot.png", "map.png"]
    pictures += [f"{sheet}-{name}.png" for sheet in ("neighbours", "patches") for name in ("file", "folder")]
    texts = ["config.yaml", "differences.csv", "few_shot.csv", "report.csv", "report.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*pictures, *texts, "features"])
    for name in pictures:
        with Image.open(out / name) as image:
            image.verify()


def test_the_report_has_both_baselines_and_the_figures_of_the_parts(
    evaluated: tuple[Path, list[str]], labelled_files: Any, backbone_folder: Path, tmp_path: Path
) -> None:
    out, _ = evaluated
    report = pd.read_csv(out / "report.csv").set_index("name")
    random = [f"random test_resnet, seed {seed}" for seed in range(3)]
    assert list(report.index) == ["folder", "file", *random, "random test_resnet, 3 seeds", "12 colour numbers"]
    mean = report.loc["random test_resnet, 3 seeds"]
    assert mean["probe_auc"] == pytest.approx(report.loc[random, "probe_auc"].mean())
    assert mean["knn_auc_low"] == report.loc[random, "knn_auc"].min()

    target, groups = labelled_files.target.astype(float), np.array(labelled_files.groups)
    embed = [f"backbone={backbone_folder}", f"images={labelled_files.images}", f"table={labelled_files.table}"]
    assert embed_main([*embed, f"out={tmp_path / 'f.npy'}", "workers=0"]) == 0
    features = np.load(tmp_path / "f.npy")
    fold = labelled_files.fold
    knn = knn_scores(features, target, fold.astype(str))
    assert report.loc["folder", "knn_auc"] == pytest.approx(roc_auc(target, knn))
    assert not np.array_equal(knn, knn_scores(features, target, groups)), "the rest of a fold has no vote either"
    probe = linear_probe(features, target, groups, fold)
    assert report.loc["folder", "probe_auc"] == pytest.approx(roc_auc(target, probe))

    pool = kept.ImagePool({"images": labelled_files.images})
    colour = linear_probe(standardised(colour_features(pool, np.arange(36))), target, groups, fold)
    assert report.loc["12 colour numbers", "probe_auc"] == pytest.approx(roc_auc(target, colour), abs=0.01)
    for metric in ("knn_auc", "probe_auc"):
        lead = report.loc["folder", metric] - report.loc["12 colour numbers", metric]
        assert report.loc["folder", f"{metric}_minus_colour"] == pytest.approx(lead)
    assert pd.isna(report.loc["12 colour numbers", "probe_auc_minus_colour"])


def test_the_json_says_how_and_the_few_shot_file_has_every_draw(evaluated: tuple[Path, list[str]]) -> None:
    out, _ = evaluated
    report = json.loads((out / "report.json").read_text())
    assert (report["images"], report["positives"], report["groups"], report["folds"]) == (36, 8, 18, 3)
    assert report["knn"] == {"k": 20, "temperature": 0.07}
    assert len(report["rows"]) == 7
    shots = pd.read_csv(out / "few_shot.csv")
    assert shots.groupby("name").size().to_dict() == {
        "folder": 5,
        "file": 5,
        "random test_resnet": 15,
        "12 colour numbers": 5,
    }
    assert sorted(shots["share"].unique()) == [0.01, 0.05, 0.1, 0.25, 1.0]


def test_a_backbone_is_ahead_by_the_difference_of_their_figures(evaluated: tuple[Path, list[str]]) -> None:
    out, _ = evaluated
    report = pd.read_csv(out / "report.csv").set_index("name")
    (row,) = pd.read_csv(out / "differences.csv").to_dict("records")
    assert (row["name"], row["against"]) == ("folder", "file")
    for metric in ("knn_auc", "knn_pauc", "probe_auc", "probe_pauc"):
        ahead, low, high = (row[f"{metric}_ahead{end}"] for end in ("", "_low", "_high"))
        first, second = (report.loc[name, metric] for name in ("folder", "file"))
        assert ahead == pytest.approx(first - second)
        assert low < ahead < high  # the folder's pixels are normalised otherwise, so the two differ


def test_what_was_done_is_not_done_again(
    evaluated: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, words = evaluated
    before = (out / "report.csv").read_bytes(), (out / "few_shot.csv").read_bytes()
    embedded, scored = list[str](), list[int]()
    original_embedded, original_score = kept.embedded, comparison.score

    def note_embedded(*arguments: Any) -> Any:
        embedded.append(arguments[-1])
        return original_embedded(*arguments)

    def note_score(*arguments: Any) -> Any:
        scored.append(arguments[0].shape[1])
        return original_score(*arguments)

    monkeypatch.setattr(kept, "embedded", note_embedded)
    monkeypatch.setattr(comparison, "score", note_score)
    assert main(words) == 0
    assert (embedded, scored) == ([], [])

    shots = sorted((out / "features").glob("*.npy"), key=lambda path: np.load(path).shape[1])
    colour, one = shots[0], shots[1]
    for path in (one, *one.parent.glob(f"{one.stem}.scores-*"), *colour.parent.glob(f"{colour.stem}.scores-*")):
        path.unlink()  # as if killed before these were made
    (out / "report.csv").unlink()
    assert main(words) == 0
    assert len(embedded) == 1
    assert sorted(scored) == [12, np.load(one).shape[1]]
    assert ((out / "report.csv").read_bytes(), (out / "few_shot.csv").read_bytes()) == before
    assert "| 12 colour numbers " in capsys.readouterr().out


def test_features_are_kept_by_weights_ids_images_size_and_cleaning(
    evaluated: tuple[Path, list[str]], labelled_files: Any
) -> None:
    out, _ = evaluated
    # the folder and the file have other normalisations, so they are two; and three random ones, and colour
    assert len(list((out / "features").glob("*.npy"))) == 6
    accelerator = kept.Accelerator()
    pool = kept.ImagePool({"images": labelled_files.images})
    reading = kept.ReadingConfig(images=labelled_files.images, workers=0)
    random = kept.BackboneSource(model="test_resnet")

    def key(ids: list[str], size: int, clean: list[str] | None = None) -> str:
        indices = np.arange(len(ids))
        return kept.KeptFeatures(out, pool, ids, indices, size, reading, accelerator).key(random, clean or [])

    assert key(["a", "b"], 32) == key(["a", "b"], 32) == key(["a", "b"], 32, [])
    others = key(["b", "a"], 32), key(["a"], 32), key(["a", "b"], 64), key(["a", "b"], 32, ["hair"])
    assert len({key(["a", "b"], 32), *others}) == 5


def test_another_report_leaves_nothing_of_the_one_before_and_a_run_is_not_written_over(
    tmp_path: Path,
    labelled_files: Any,
    backbone_folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    words = words_for(labelled_files, backbone_folder, out)
    out.mkdir()
    for name in (
        "few_shot.csv",
        "few_shot.png",
        "differences.csv",
        "neighbours-gone.png",
        "patches-gone.png",
        "my.txt",
    ):
        (out / name).touch()
    shown, contact_sheet = list[str](), sheets.contact_sheet

    def noted(rows: Any, *given: Any, **named: Any) -> None:
        shown.extend(title.split()[1].rstrip(":") for title, _ in rows)
        contact_sheet(rows, *given, **named)

    monkeypatch.setattr(sheets, "contact_sheet", noted)
    asked = labelled_files.ids[5], labelled_files.ids[2]
    assert main([*words, "against=[]", "shares=[1]", f"queries=[{asked[0]}, {asked[1]}]"]) == 0
    assert shown == [*asked] * 4, "in both sheets of two backbones"
    there = {path.name for path in out.iterdir()}
    assert "few labels" not in capsys.readouterr().out
    pictures = {f"{sheet}-{name}.png" for sheet in ("neighbours", "patches") for name in ("file", "folder")}
    assert there == {*pictures, "map.png", "config.yaml", "report.csv", "report.json", "features", "my.txt"}
    report = json.loads((out / "report.json").read_text())
    assert report["folds_file"] == str(labelled_files.folds)
    assert {"ssl-isic", "timm", "torch"} <= report["versions"].keys()

    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("run_dir: run\nseed: 3\n")
    assert main([*words_for(labelled_files, backbone_folder, run)]) == 2
    assert f"out={run} holds a run or something else" in capsys.readouterr().err
    assert [path.name for path in run.iterdir()] == ["config.yaml"]


def test_features_of_images_that_were_rewritten_are_made_anew(tmp_path: Path, lesion_jpegs: dict[str, bytes]) -> None:
    first, second, *_ = lesion_jpegs.values()
    inside = tmp_path / "images" / "a" / "one.jpg"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(first)
    inside.with_name(".#one.jpg").symlink_to("nowhere")  # as an editor leaves
    reading = kept.ReadingConfig(images=tmp_path / "images", workers=0)

    def key() -> str:
        pool = kept.ImagePool({"images": reading.images})
        features = kept.KeptFeatures(tmp_path, pool, ["one"], np.zeros(1, int), 32, reading, kept.Accelerator())
        return features.key(kept.BackboneSource(model="test_resnet"), [])

    before = key()
    assert key() == before
    inside.write_bytes(second)
    assert key() != before


def test_baselines_see_images_cleaned_as_the_backbones_do(
    tmp_path: Path, labelled_files: Any, backbone_folder: Path
) -> None:
    cleaned = tmp_path / "cleaned"
    shutil.copytree(backbone_folder, cleaned)
    settings = json.loads((cleaned / "config.json").read_text())
    (cleaned / "config.json").write_text(json.dumps({**settings, "clean": ["clahe", "lab"]}))
    words = [f"backbones.plain={backbone_folder}", f"backbones.cleaned={cleaned}", f"out={tmp_path / 'out'}"]
    files = [f"images={labelled_files.images}", f"table={labelled_files.table}", f"folds={labelled_files.folds}"]
    assert main([*words, *files, *QUICK, "shares=[1]"]) == 0
    report = pd.read_csv(tmp_path / "out" / "report.csv").set_index("name")
    random = [f"random test_resnet{how}, 3 seeds" for how in ("", " (clahe + lab)")]
    colour = [f"12 colour numbers{how}" for how in ("", " (clahe + lab)")]
    assert {*random, *colour} <= set(report.index)
    assert len(report) == 2 + 2 * 4 + 2
    for found, baseline in zip(("plain", "cleaned"), colour, strict=True):
        lead = report.loc[found, "probe_auc"] - report.loc[baseline, "probe_auc"]
        assert report.loc[found, "probe_auc_minus_colour"] == pytest.approx(lead)
    for names in (random, colour):
        assert report.loc[names[0], "knn_auc"] != report.loc[names[1], "knn_auc"]


def test_the_map_shows_images_of_other_sources_by_the_same_features(
    tmp_path: Path,
    labelled_files: Any,
    backbone_folder: Path,
    lesion_jpegs: dict[str, bytes],
    write_hdf5: WriteHdf5,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = sorted(lesion_jpegs)[:6]
    damaged = {name: lesion_jpegs[name] for name in names} | {"ZZ": b"not an image"}
    clinic = write_hdf5(tmp_path / "clinic.hdf5", damaged)
    phone = tmp_path / "phone"
    phone.mkdir()
    (phone / "own.jpg").write_bytes(lesion_jpegs[names[0]])
    drawn = list[tuple[Any, Any, Any]]()

    def note(features: Any, colourings: Any, path: Path, **words: Any) -> None:
        drawn.append((features, colourings, words["title"]))

    monkeypatch.setattr(feature_map, "scatter_plots", note)
    words = [f"map_sources.clinic={clinic}", f"map_sources.phone={phone}", "shares=[1]"]
    words = [*words_for(labelled_files, backbone_folder, tmp_path / "out"), *words]
    assert main(words) == 0
    assert "map_sources: 1 images do not decode and are not on the map, the first is ZZ" in capsys.readouterr().out
    ((features, colourings, title),) = drawn
    assert title == "PCA of 36 of 36 images and 7 of other sources"
    assert list(colourings) == ["label", "clinic", "source"]
    assert colourings["source"].tolist() == ["lesions"] * 36 + ["clinic"] * 6 + ["phone"]
    assert colourings["label"][36:].tolist() == ["unlabelled"] * 7
    assert colourings["clinic"][36:].tolist() == ["unknown"] * 7
    assert (colourings["label"][:36] == "malignant").sum() == 8

    embed = [f"backbone={backbone_folder}", f"out={tmp_path / 'f.npy'}", "workers=0"]
    assert embed_main([*embed, f"images={labelled_files.images}", f"table={labelled_files.table}"]) == 0
    assert np.allclose(features["folder"][:36], np.load(tmp_path / "f.npy"), atol=1e-5)
    assert embed_main([*embed, f"images={clinic}"]) == 0
    assert np.allclose(features["folder"][36:42], np.load(tmp_path / "f.npy")[:6], atol=1e-5)
    assert np.allclose(features["folder"][42], features["folder"][36], atol=1e-5)
    assert features["file"].shape == features["folder"].shape
    assert not np.allclose(features["file"], features["folder"])

    monkeypatch.setattr(kept, "embedded", None)
    assert main(words) == 0  # a second time, nothing is embedded
    assert len(drawn) == 2


def test_images_of_other_sources_are_drawn_alike_from_each(
    tmp_path: Path, lesion_jpegs: dict[str, bytes], write_hdf5: WriteHdf5, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_map, "MAP_ROWS", 10)
    names = sorted(lesion_jpegs)
    one, other = (
        write_hdf5(tmp_path / f"{size}.hdf5", {name: lesion_jpegs[name] for name in names[:size]}) for size in (3, 20)
    )
    pool = kept.ImagePool({"images": one})
    reading = kept.ReadingConfig(images=one, workers=0)
    labelled = kept.KeptFeatures(tmp_path, pool, names[:3], np.arange(3), 32, reading, kept.Accelerator())

    def drawn(seed: int) -> feature_map.MapSources:
        return feature_map.draw_map_sources({"one": one, "other": other}, seed, labelled)

    sources = drawn(0)
    assert sources.names.tolist() == ["one"] * 3 + ["other"] * 5
    assert list(sources.kept.ids) == [sources.kept.pool.id_of(index) for index in sources.kept.indices]
    assert len(set(sources.kept.indices.tolist())) == 8
    assert np.array_equal(sources.kept.indices, drawn(0).kept.indices)
    assert not np.array_equal(sources.kept.indices, drawn(1).kept.indices)


def test_images_that_do_not_decode_are_left_out_for_all(
    tmp_path: Path,
    labelled_files: Any,
    lesion_jpegs: dict[str, bytes],
    write_hdf5: WriteHdf5,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = {name: lesion_jpegs[name] for name in labelled_files.ids}
    images[labelled_files.ids[1]] = b"not an image"
    store = write_hdf5(tmp_path / "images.hdf5", images)
    words = [f"images={store}", f"table={labelled_files.table}", "folds=2", f"out={tmp_path / 'out'}", *QUICK]
    assert main(["backbones={net: {model: test_resnet, seed: 9}}", *words]) == 0
    assert f"1 images do not decode and are left out, the first is {labelled_files.ids[1]}" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["images"], report["not_readable"]) == (35, [labelled_files.ids[1]])


def test_wrong_input_is_one_line_and_writes_nothing(
    tmp_path: Path,
    labelled_files: Any,
    backbone_folder: Path,
    lesion_jpegs: dict[str, bytes],
    write_hdf5: WriteHdf5,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    frame = pd.read_csv(labelled_files.table)

    def table(name: str, changed: pd.DataFrame) -> str:
        changed.to_csv(tmp_path / name, index=False)
        return f"table={tmp_path / name}"

    def refused(*words: str) -> str:
        capsys.readouterr()
        assert main([*words_for(labelled_files, backbone_folder, out), *words]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert not out.exists()
        return lines[0]

    file = backbone_folder / "model.safetensors"
    other = tmp_path / "vit.safetensors"
    save_file(timm.create_model("test_vit").state_dict(), other)
    some = write_hdf5(tmp_path / "some.hdf5", {name: lesion_jpegs[name] for name in labelled_files.ids[:30]})
    outlier = frame.assign(target=frame["target"].where(frame.index != 3, 2))

    assert "no such file: /nowhere.hdf5" in refused("images=/nowhere.hdf5")
    assert "map_sources: give it a name: map_sources.NAME=x.hdf5" in refused("map_sources=x.hdf5")
    assert "there is no file /nowhere.csv" in refused("table=/nowhere.csv")
    assert "has no column target" in refused(table("a.csv", frame.drop(columns="target")))
    assert "has no column patient_id" in refused(table("b.csv", frame.drop(columns="patient_id")))
    assert "has no column clinik; did you mean clinic?" in refused("map_columns=[clinik]")
    assert "target must be 0 or 1, got 2 in row 5" in refused(table("c.csv", outlier))
    assert "no such file: /nowhere.hdf5" in refused("map_sources.test=/nowhere.hdf5")
    assert "map_sources.lesions: the labelled images have this name" in refused(f"map_sources.lesions={some}")
    both = [table("d.csv", frame.assign(source="s")), "map_columns=[source]", f"map_sources.test={some}"]
    assert "with map_sources the map has a column source" in refused(*both)
    assert "9 folds need 9 groups with positives, there are 8; lower folds" in refused("folds=9")
    assert "cross-validation needs 2 or more folds" in refused("folds=1")
    assert f"queries: {labelled_files.table} has no ISIC_1; name" in refused("queries=[ISIC_1]")
    assert f"6 of 36 rows of {labelled_files.table} have no image in {some}" in refused(f"images={some}")
    assert "backbones.file.weights: " + f"{file} is not of a test_vit" in refused("backbones.file.model=test_vit")
    assert f"{other} is not of a test_resnet" in refused(f"backbones.file.weights={other}")
    assert "backbones.folder.weights: no such file or folder: /nowhere" in refused("backbones.folder=/nowhere")
    assert "'a/b' becomes part of a file's name" in refused(f"backbones.a/b={backbone_folder}")
    assert "backbones.none: it needs weights=FOLDER" in refused("backbones={none: {}}")
    assert "ascending, the last one 1" in refused("shares=[0.1, 0.5]")
    assert "against: there is no backbone imagenet; there are folder, file" in refused("against=[imagenet]")
    assert "unknown key backbones.file.wights; did you mean weights?" in refused("backbones.file.wights=x")
    assert "cannot write" in refused(f"out={labelled_files.table}/report")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'map=umap needs umap-learn: pip install "ssl-isic[umap]"' in refused("map=umap")
