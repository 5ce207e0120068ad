import hashlib
from pathlib import Path

import cv2
import h5py
import numpy as np
import pandas as pd
import pytest
import simplejpeg
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ssl_isic.data.synthetic import SyntheticFiles, write_synthetic
from ssl_isic.errors import InputError

# The header of Kaggle's train-metadata.csv, and of its test-metadata.csv, copied from the competition's files.
KAGGLE_TRAIN = """isic_id,target,patient_id,age_approx,sex,anatom_site_general,clin_size_long_diam_mm,image_type,tbp_tile_type,
tbp_lv_A,tbp_lv_Aext,tbp_lv_B,tbp_lv_Bext,tbp_lv_C,tbp_lv_Cext,tbp_lv_H,tbp_lv_Hext,tbp_lv_L,tbp_lv_Lext,tbp_lv_areaMM2,
tbp_lv_area_perim_ratio,tbp_lv_color_std_mean,tbp_lv_deltaA,tbp_lv_deltaB,tbp_lv_deltaL,tbp_lv_deltaLB,tbp_lv_deltaLBnorm,
tbp_lv_eccentricity,tbp_lv_location,tbp_lv_location_simple,tbp_lv_minorAxisMM,tbp_lv_nevi_confidence,tbp_lv_norm_border,
tbp_lv_norm_color,tbp_lv_perimeterMM,tbp_lv_radial_color_std_max,tbp_lv_stdL,tbp_lv_stdLExt,tbp_lv_symm_2axis,
tbp_lv_symm_2axis_angle,tbp_lv_x,tbp_lv_y,tbp_lv_z,attribution,copyright_license,lesion_id,iddx_full,iddx_1,iddx_2,iddx_3,
iddx_4,iddx_5,mel_mitotic_index,mel_thick_mm,tbp_lv_dnn_lesion_confidence""".replace("\n", "").split(",")
KAGGLE_TEST = """isic_id,patient_id,age_approx,sex,anatom_site_general,clin_size_long_diam_mm,image_type,tbp_tile_type,
tbp_lv_A,tbp_lv_Aext,tbp_lv_B,tbp_lv_Bext,tbp_lv_C,tbp_lv_Cext,tbp_lv_H,tbp_lv_Hext,tbp_lv_L,tbp_lv_Lext,tbp_lv_areaMM2,
tbp_lv_area_perim_ratio,tbp_lv_color_std_mean,tbp_lv_deltaA,tbp_lv_deltaB,tbp_lv_deltaL,tbp_lv_deltaLB,tbp_lv_deltaLBnorm,
tbp_lv_eccentricity,tbp_lv_location,tbp_lv_location_simple,tbp_lv_minorAxisMM,tbp_lv_nevi_confidence,tbp_lv_norm_border,
tbp_lv_norm_color,tbp_lv_perimeterMM,tbp_lv_radial_color_std_max,tbp_lv_stdL,tbp_lv_stdLExt,tbp_lv_symm_2axis,
tbp_lv_symm_2axis_angle,tbp_lv_x,tbp_lv_y,tbp_lv_z,attribution,copyright_license""".replace("\n", "").split(",")

TRAIN_ROWS, TEST_ROWS, PREVALENCE = 640, 200, 0.2


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SyntheticFiles:
    folder = tmp_path_factory.mktemp("synthetic")
    return write_synthetic(folder, train_rows=TRAIN_ROWS, test_rows=TEST_ROWS, prevalence=PREVALENCE, seed=3)


@pytest.fixture(scope="module")
def train(files: SyntheticFiles) -> pd.DataFrame:
    return pd.read_csv(files.train_table)


@pytest.fixture(scope="module")
def test(files: SyntheticFiles) -> pd.DataFrame:
    return pd.read_csv(files.test_table)


def read_images(path: Path) -> dict[str, NDArray[np.uint8]]:
    with h5py.File(path) as file:
        return {name: simplejpeg.decode_jpeg(bytes(file[name][()])) for name in file}


def test_columns_are_kaggles(train: pd.DataFrame, test: pd.DataFrame) -> None:
    assert len(KAGGLE_TRAIN) == 55
    assert len(KAGGLE_TEST) == 44
    assert train.columns.tolist() == KAGGLE_TRAIN
    assert test.columns.tolist() == KAGGLE_TEST


def test_ids_are_sorted_unique_and_the_same_in_every_file(
    files: SyntheticFiles, train: pd.DataFrame, test: pd.DataFrame
) -> None:
    for images, table in ((files.train_images, train), (files.test_images, test)):
        with h5py.File(images) as file:
            assert list(file) == table.isic_id.tolist() == sorted(set(table.isic_id))
        assert table.isic_id.str.fullmatch(r"ISIC_\d{7}").all()
    assert not set(train.isic_id) & set(test.isic_id)
    for path in (files.sample_submission, files.test_truth):
        submission = pd.read_csv(path)
        assert submission.columns.tolist() == ["isic_id", "target"]
        assert submission.isic_id.tolist() == test.isic_id.tolist()
    assert (pd.read_csv(files.sample_submission).target == 0.3).all()


def test_images_are_stored_as_kaggle_stores_them(files: SyntheticFiles) -> None:
    with h5py.File(files.train_images) as file:
        for name in file:
            assert file[name].shape == ()
            assert file[name].dtype.kind == "S"
            assert file[name][()].endswith(b"\xff\xd9")  # nothing of the JPEG was lost to the fixed length


def test_images_are_square_and_vary_in_size(files: SyntheticFiles) -> None:
    shapes = [image.shape for image in read_images(files.train_images).values()]
    assert all(height == width and channels == 3 for height, width, channels in shapes)
    sides = [shape[0] for shape in shapes]
    assert min(sides) >= 61
    assert max(sides) <= 160
    assert 95 < np.median(sides) < 125
    assert np.std(sides) > 8


@pytest.mark.parametrize("prevalence", [0.0, 0.03, 0.5, 1.0])
def test_prevalence_is_exact(tmp_path: Path, prevalence: float) -> None:
    files = write_synthetic(tmp_path, train_rows=50, test_rows=21, prevalence=prevalence)
    assert pd.read_csv(files.train_table).target.sum() == round(prevalence * 50)
    assert pd.read_csv(files.test_truth).target.sum() == round(prevalence * 21)


def test_patients_are_disjoint_and_their_lesions_many(train: pd.DataFrame, test: pd.DataFrame) -> None:
    assert not set(train.patient_id) & set(test.patient_id)
    sizes = train.patient_id.value_counts()
    assert sizes.mean() > 5
    assert sizes.mean() > sizes.median()  # a few have very many
    per_patient = train.groupby("patient_id")
    assert (per_patient.attribution.nunique() == 1).all()
    assert (per_patient.sex.nunique(dropna=False) == 1).all()
    assert (per_patient.age_approx.nunique(dropna=False) == 1).all()


def test_malignant_lesions_gather_in_a_quarter_of_the_patients(tmp_path: Path) -> None:
    files = write_synthetic(tmp_path, train_rows=600, test_rows=1, prevalence=0.03)
    train = pd.read_csv(files.train_table)
    affected = train.patient_id[train.target == 1].nunique()
    assert affected <= np.ceil(train.patient_id.nunique() / 4)
    assert affected > 600 * 0.03 / 3  # and not all in one


def test_some_clinics_are_only_in_the_test_file(train: pd.DataFrame, test: pd.DataFrame) -> None:
    assert set(test.attribution) - set(train.attribution) <= {"Synthetic Clinic Hazel", "Synthetic Clinic Iris"}
    assert not set(train.attribution) & {"Synthetic Clinic Hazel", "Synthetic Clinic Iris"}


def test_diagnosis_agrees_with_the_target(train: pd.DataFrame) -> None:
    assert train.iddx_1.eq(train.target.map({0: "Benign", 1: "Malignant"})).all()
    assert train.iddx_full.str.startswith(("Benign", "Malignant::")).all()
    assert train.lesion_id[train.target == 1].notna().all()
    assert (train.iddx_3[train.mel_thick_mm.notna()] == "Melanoma Invasive").all()


def test_measurements_obey_their_definitions(train: pd.DataFrame) -> None:
    lv = train.rename(columns=lambda name: name.removeprefix("tbp_lv_"))
    np.testing.assert_allclose(lv.C, np.hypot(lv.A, lv.B))
    np.testing.assert_allclose(lv.H, np.degrees(np.arctan2(lv.B, lv.A)))
    np.testing.assert_allclose(lv.deltaL, lv.L - lv.Lext)
    np.testing.assert_allclose(lv.area_perim_ratio, lv.perimeterMM**2 / lv.areaMM2)
    # No outline is rounder than a circle; a few pixels make a rough circle.
    assert (lv.area_perim_ratio[lv.areaMM2 > 3] > 0.95 * 4 * np.pi).all()


def test_table_describes_the_picture(files: SyntheticFiles, train: pd.DataFrame) -> None:
    images = read_images(files.train_images)
    edges = [cv2.cvtColor(images[name][:9].astype(np.float32) / 255, cv2.COLOR_RGB2Lab) for name in train.isic_id]
    seen = np.array([np.median(edge.reshape(-1, 3), axis=0) for edge in edges])
    assert np.corrcoef(seen[:, 0], train.tbp_lv_Lext)[0, 1] > 0.6
    assert np.corrcoef(seen[:, 1], train.tbp_lv_Aext)[0, 1] > 0.6
    assert np.corrcoef(seen[:, 2], train.tbp_lv_Bext)[0, 1] > 0.6


def digest(files: SyntheticFiles) -> str:
    total = hashlib.sha256()
    for table in (files.train_table, files.test_table, files.sample_submission, files.test_truth):
        total.update(table.read_bytes())
    for images in (files.train_images, files.test_images):
        with h5py.File(images) as file:
            for name in file:
                total.update(name.encode() + file[name][()])
    return total.hexdigest()


def test_the_seed_decides_every_byte(tmp_path: Path) -> None:
    first, again, other = (
        digest(write_synthetic(tmp_path / name, train_rows=30, test_rows=12, prevalence=0.1, seed=seed))
        for name, seed in (("first", 5), ("again", 5), ("other", 6))
    )
    assert first == again
    assert first != other


def test_nothing_else_is_left_in_the_folder(files: SyntheticFiles) -> None:
    written = {path.name for path in files.train_table.parent.iterdir()}
    assert written == {path.name for path in vars(files).values()}


def colour_numbers(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean and SD of L, a and b over the picture and over its middle ninth: (12,)."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    third = len(lab) // 3
    parts = (lab, lab[third:-third, third:-third])
    return np.concatenate([stat for part in parts for stat in (part.mean((0, 1)), part.std((0, 1)))]).astype(np.float64)


def test_malignancy_is_neither_trivial_nor_hopeless(files: SyntheticFiles, train: pd.DataFrame) -> None:
    images = read_images(files.train_images)
    features = np.array([colour_numbers(images[name]) for name in train.isic_id])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    scores = cross_val_predict(model, features, train.target, groups=train.patient_id, cv=folds, method="predict_proba")
    assert 0.65 < roc_auc_score(train.target, scores[:, 1]) < 0.9


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"train_rows": 0}, "train_rows"),
        ({"test_rows": -1}, "test_rows"),
        ({"prevalence": 1.2}, "prevalence"),
        ({"prevalence": float("nan")}, "prevalence"),
        ({"seed": -1}, "seed"),
        ({"train_rows": 6_000_000}, "ids"),
    ],
)
def test_wrong_numbers_are_named(tmp_path: Path, wrong: dict[str, int], named: str) -> None:
    with pytest.raises(InputError, match=named):
        write_synthetic(tmp_path, **wrong)


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    place = tmp_path / "taken"
    place.write_text("")
    with pytest.raises(InputError, match="taken is a file"):
        write_synthetic(place)
