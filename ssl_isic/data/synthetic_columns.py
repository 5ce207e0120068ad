"""The metadata columns of the synthetic files: Kaggle's names and order, filled from what was painted.

Columns that describe the picture are measured on the painting; the rest is drawn at random. The columns that only the
train file has (`TRAIN_ONLY`) tell the answer, as Kaggle's do.
"""

import math

import numpy as np

from ssl_isic.data.columns import TRAIN_ONLY
from ssl_isic.data.lesion_painter import Lesion, Measured
from ssl_isic.data.synthetic_patients import Patient

Cell = str | float | int | None

TRAIN_COLUMNS = (
    *(
        "isic_id",
        "target",
        "patient_id",
        "age_approx",
        "sex",
        "anatom_site_general",
        "clin_size_long_diam_mm",
        "image_type",
    ),
    *("tbp_tile_type", "tbp_lv_A", "tbp_lv_Aext", "tbp_lv_B", "tbp_lv_Bext", "tbp_lv_C", "tbp_lv_Cext", "tbp_lv_H"),
    *("tbp_lv_Hext", "tbp_lv_L", "tbp_lv_Lext", "tbp_lv_areaMM2", "tbp_lv_area_perim_ratio", "tbp_lv_color_std_mean"),
    *("tbp_lv_deltaA", "tbp_lv_deltaB", "tbp_lv_deltaL", "tbp_lv_deltaLB", "tbp_lv_deltaLBnorm", "tbp_lv_eccentricity"),
    *(
        "tbp_lv_location",
        "tbp_lv_location_simple",
        "tbp_lv_minorAxisMM",
        "tbp_lv_nevi_confidence",
        "tbp_lv_norm_border",
    ),
    *("tbp_lv_norm_color", "tbp_lv_perimeterMM", "tbp_lv_radial_color_std_max", "tbp_lv_stdL", "tbp_lv_stdLExt"),
    *("tbp_lv_symm_2axis", "tbp_lv_symm_2axis_angle", "tbp_lv_x", "tbp_lv_y", "tbp_lv_z", "attribution"),
    *("copyright_license", "lesion_id", "iddx_full", "iddx_1", "iddx_2", "iddx_3", "iddx_4", "iddx_5"),
    *("mel_mitotic_index", "mel_thick_mm", "tbp_lv_dnn_lesion_confidence"),
)
TEST_COLUMNS = tuple(name for name in TRAIN_COLUMNS if name not in TRAIN_ONLY)

# Site of the body; its part as the camera names it; subdivisions; share of lesions; height above the floor in mm.
_SITES: tuple[tuple[str, str, tuple[str, ...], float, float], ...] = (
    ("posterior torso", "Torso Back", (" Top Third", " Middle Third", " Bottom Third"), 0.32, 1220),
    ("anterior torso", "Torso Front", (" Top Half", " Bottom Half"), 0.21, 1180),
    ("upper extremity", "Left Arm", ("", " - Upper", " - Lower"), 0.09, 1130),
    ("upper extremity", "Right Arm", ("", " - Upper", " - Lower"), 0.09, 1130),
    ("lower extremity", "Left Leg", ("", " - Upper", " - Lower"), 0.13, 560),
    ("lower extremity", "Right Leg", ("", " - Upper", " - Lower"), 0.13, 560),
    ("head/neck", "Head & Neck", ("",), 0.03, 1560),
)
_SITE_SHARES = np.array([site[3] for site in _SITES])

_FOLLICULAR = "Malignant adnexal epithelial proliferations - Follicular"
_EPIDERMAL = "Malignant epidermal proliferations"
_MELANOCYTIC = "Malignant melanocytic proliferations (Melanoma)"
_BASAL = "Basal cell carcinoma"
_DIAGNOSES: dict[str, tuple[tuple[str, ...], ...]] = {
    "red": (
        (_FOLLICULAR, _BASAL, f"{_BASAL}, Nodular"),
        (_FOLLICULAR, _BASAL, f"{_BASAL}, Superficial"),
        (_FOLLICULAR, _BASAL),
        (_EPIDERMAL, "Squamous cell carcinoma in situ"),
        (_EPIDERMAL, "Squamous cell carcinoma, Invasive"),
    ),
    "pigmented": (
        (_MELANOCYTIC, "Melanoma in situ"),
        (_MELANOCYTIC, "Melanoma Invasive"),
        (_MELANOCYTIC, "Melanoma Invasive", "Melanoma Invasive, Associated with a nevus"),
        (_FOLLICULAR, _BASAL),
    ),
}


def train_row(
    isic_id: str,
    patient: Patient,
    lesion: Lesion,
    measured: Measured,
    kind: str,
    target: int,
    rng: np.random.Generator,
) -> dict[str, Cell]:
    """One lesion's value for each of `TRAIN_COLUMNS`; None is an empty cell. In mm, degrees and Lab units."""
    return (
        _person(isic_id, patient, rng)
        | _colour(measured, lesion, rng)
        | _shape(measured, lesion, rng)
        | _diagnosis(kind, target, rng)
        | {"target": target}
    )


def _person(isic_id: str, patient: Patient, rng: np.random.Generator) -> dict[str, Cell]:
    general, simple, parts, _, height_mm = _SITES[int(rng.choice(len(_SITES), p=_SITE_SHARES / _SITE_SHARES.sum()))]
    return {
        "isic_id": isic_id,
        "patient_id": patient.patient_id,
        "age_approx": "NA" if patient.age is None else patient.age,  # as Kaggle writes it
        "sex": patient.sex,
        "anatom_site_general": None if rng.random() < 0.015 else general,
        "image_type": "TBP tile: close-up",
        "tbp_tile_type": patient.clinic.tile_type,
        "tbp_lv_location": simple + parts[int(rng.integers(len(parts)))],
        "tbp_lv_location_simple": simple,
        "tbp_lv_x": float(rng.normal(0, 190)),
        "tbp_lv_y": float(rng.normal(height_mm, 130)),
        "tbp_lv_z": float(rng.normal(45, 85)),
        "attribution": patient.clinic.name,
        "copyright_license": "CC-0",
    }


def _colour(measured: Measured, lesion: Lesion, rng: np.random.Generator) -> dict[str, Cell]:
    L, a, b = (float(x) for x in np.array(measured.lab) + rng.normal(0, 0.3, 3))
    L_ext, a_ext, b_ext = (float(x) for x in np.array(measured.lab_outside) + rng.normal(0, 0.3, 3))
    contrast = math.hypot(L - L_ext, b - b_ext)
    return {
        "tbp_lv_A": a,
        "tbp_lv_Aext": a_ext,
        "tbp_lv_B": b,
        "tbp_lv_Bext": b_ext,
        "tbp_lv_C": math.hypot(a, b),
        "tbp_lv_Cext": math.hypot(a_ext, b_ext),
        "tbp_lv_H": math.degrees(math.atan2(b, a)),
        "tbp_lv_Hext": math.degrees(math.atan2(b_ext, a_ext)),
        "tbp_lv_L": L,
        "tbp_lv_Lext": L_ext,
        "tbp_lv_deltaA": a - a_ext,
        "tbp_lv_deltaB": b - b_ext,
        "tbp_lv_deltaL": L - L_ext,
        "tbp_lv_deltaLB": contrast,
        "tbp_lv_deltaLBnorm": contrast * 45 / max(L_ext, 20.0),
        "tbp_lv_color_std_mean": max(0.0, measured.colour_std - 0.6),
        "tbp_lv_radial_color_std_max": measured.radial_std,
        "tbp_lv_stdL": measured.lightness_std,
        "tbp_lv_stdLExt": measured.lightness_std_outside,
        "tbp_lv_norm_color": float(np.clip(2.2 * (measured.colour_std - 0.6) + 0.4 * len(lesion.patches), 0, 10)),
    }


def _shape(measured: Measured, lesion: Lesion, rng: np.random.Generator) -> dict[str, Cell]:
    ratio = measured.perimeter_mm**2 / measured.area_mm2
    return {
        "clin_size_long_diam_mm": round(max(1.0, lesion.major_mm * float(rng.normal(1.0, 0.06))), 2),
        "tbp_lv_areaMM2": measured.area_mm2,
        "tbp_lv_perimeterMM": measured.perimeter_mm,
        "tbp_lv_area_perim_ratio": ratio,
        "tbp_lv_eccentricity": lesion.eccentricity,
        "tbp_lv_minorAxisMM": lesion.major_mm * lesion.minor_to_major,
        "tbp_lv_norm_border": float(np.clip(0.6 + 5.5 * lesion.border + rng.normal(0, 0.7), 0, 10)),
        "tbp_lv_symm_2axis": float(np.clip(0.15 + 0.35 * lesion.asymmetry + rng.normal(0, 0.05), 0.05, 0.98)),
        "tbp_lv_symm_2axis_angle": 5 * (round(math.degrees(lesion.angle_rad) / 5) % 36),
    }


def _diagnosis(kind: str, target: int, rng: np.random.Generator) -> dict[str, Cell]:
    nevus_like = kind == "pigmented" and rng.random() < (0.35 if target else 0.6)
    common: dict[str, Cell] = {
        "tbp_lv_nevi_confidence": 100 * float(rng.beta(6, 0.8) if nevus_like else rng.beta(0.25, 4)),
        "tbp_lv_dnn_lesion_confidence": 100 * float(rng.beta(12, 0.35)),
        "lesion_id": f"IL_{int(rng.integers(10**7)):07d}" if target or rng.random() < 0.05 else None,
        "mel_mitotic_index": None,
        "mel_thick_mm": None,
    }
    path: tuple[str, ...] = ("Benign",)
    if target:
        choices = _DIAGNOSES[kind]
        path = ("Malignant", *choices[int(rng.integers(len(choices)))])
        if "Melanoma Invasive" in path:
            common["mel_thick_mm"] = round(float(rng.gamma(2, 0.3)) + 0.2, 1)
            common["mel_mitotic_index"] = "0/mm^2" if rng.random() < 0.7 else "1/mm^2"
    levels = {f"iddx_{i}": path[i - 1] if i <= len(path) else None for i in range(1, 6)}
    return common | levels | {"iddx_full": "::".join(path)}
