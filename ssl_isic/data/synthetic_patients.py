"""Who comes to the synthetic clinics, and what they have on their skin: the random draws behind `synthetic.py`.

A lesion's look hangs on one hidden number, its severity: benign lesions draw it from N(0, 1), malignant ones from
N(2.5, 1), so that even a judge who saw it would reach an AUC of 0.96 only. It moves size, border, asymmetry,
colours and hue together, each with noise of its own. The kind (pigmented or red) is a second, weaker hint.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from ssl_isic.data.lesion_painter import Camera, Lesion, Patch
from ssl_isic.data.skin_painter import Lab, Skin

MALIGNANT_SEVERITY = 2.5
LESIONS_PER_PATIENT = 12.0
AT_RISK_PATIENTS = 0.25
_LESIONS_LOG_SD = 0.9
_CROP_PX = (61, 160)


@dataclass(frozen=True)
class Clinic:
    name: str
    tile_type: str
    share: float  # of the patients of its file, up to a common factor
    camera: Camera


def _camera(cast_lab: Lab, gradient: float, blur_px: float, noise: float) -> Camera:
    return Camera(cast_lab, gradient, gradient_rad=0.0, blur_px=blur_px, noise=noise, glare=0.0, frame=0.0)


TRAIN_CLINICS = (
    Clinic("Synthetic Clinic Aster", "3D: XP", 0.30, _camera((0.0, 0.0, 0.0), 4, 0.70, 1.2)),
    Clinic("Synthetic Clinic Birch", "3D: white", 0.24, _camera((2.0, 1.5, -2.5), 3, 0.85, 1.5)),
    Clinic("Synthetic Clinic Cedar", "3D: XP", 0.17, _camera((-2.0, -1.0, 2.0), 6, 0.75, 1.8)),
    Clinic("Synthetic Clinic Dahlia", "3D: white", 0.12, _camera((1.0, -2.0, -1.0), 5, 1.00, 1.2)),
    Clinic("Synthetic Clinic Elm", "3D: XP", 0.08, _camera((-3.0, 1.0, 1.0), 8, 0.80, 2.2)),
    Clinic("Synthetic Clinic Fern", "3D: white", 0.06, _camera((3.0, 0.5, 2.5), 4, 0.65, 1.0)),
    Clinic("Synthetic Clinic Gorse", "3D: XP", 0.03, _camera((-1.0, 2.5, 3.5), 6, 0.95, 2.0)),
)
TEST_CLINICS = (
    *TRAIN_CLINICS,
    Clinic("Synthetic Clinic Hazel", "3D: white", 0.15, _camera((-3.5, 2.0, -3.0), 7, 1.05, 2.0)),
    Clinic("Synthetic Clinic Iris", "3D: XP", 0.10, _camera((3.0, -2.0, 4.0), 5, 0.70, 2.5)),
)


@dataclass(frozen=True)
class Patient:
    patient_id: str
    clinic: Clinic
    age: float | None
    sex: str | None
    skin: Skin
    crop_px: float  # of a typical crop of theirs


def lesions_per_patient(rows: int, rng: np.random.Generator) -> list[int]:
    """Skewed counts of about `LESIONS_PER_PATIENT` that sum to `rows`."""
    log_mean = math.log(LESIONS_PER_PATIENT) - _LESIONS_LOG_SD**2 / 2
    counts: list[int] = []
    while (missing := rows - sum(counts)) > 0:
        drawn = max(1, round(rng.lognormal(log_mean, _LESIONS_LOG_SD)))
        counts.append(min(drawn, missing, max(1, rows // 4)))
    return counts


def draw_patient(patient_id: str, clinics: tuple[Clinic, ...], *, at_risk: bool, rng: np.random.Generator) -> Patient:
    """A patient with skin, hair and habits of their own. Those at risk are somewhat older, fairer and more freckled."""
    shares = np.array([clinic.share for clinic in clinics])
    age = 5 * round((float(rng.normal(56, 14)) + 5 * at_risk) / 5)
    sex = "male" if rng.random() < 0.62 else "female"
    lightness = float(np.clip(rng.normal(61 + 1.0 * at_risk, 9.0), 30, 78))
    redness = float(np.clip(rng.normal(13.5, 3.0), 6, 23))
    yellow = float(np.clip(17.5 + 0.6 * (redness - 13.5) + rng.normal(0, 4.5), 9.5, 30))
    dark_hair = rng.random() < 0.8
    skin = Skin(
        lab=(lightness, redness, yellow),
        lines=float(np.clip(rng.lognormal(math.log(1.15), 0.4), 0.4, 3.0)),
        mottling=float(np.clip(rng.lognormal(math.log(1.0), 0.45), 0.3, 2.4)),
        freckles=int(rng.poisson(rng.gamma(0.5, 4.0 + 2.0 * at_risk))),
        hairs=int(rng.poisson(rng.gamma(0.35, 15.0 if sex == "male" else 7.0))),
        hair_lab=(24.0, 9.0, 14.0) if dark_hair else (min(86.0, lightness + 14.0), 6.0, 20.0),
    )
    return Patient(
        patient_id=patient_id,
        clinic=clinics[int(rng.choice(len(clinics), p=shares / shares.sum()))],
        age=float(np.clip(age, 15, 85)) if rng.random() < 0.98 else None,
        sex=sex if rng.random() < 0.97 else None,
        skin=skin,
        crop_px=float(rng.normal(110, 14)),
    )


def draw_site(patient: Patient, rng: np.random.Generator) -> tuple[Skin, Camera, int]:
    """The skin around one lesion of a patient, how it was photographed, and the crop's side in px."""
    lightness, redness, yellow = (float(x) for x in np.array(patient.skin.lab) + rng.normal(0, [4.0, 1.6, 2.2]))
    skin = replace(
        patient.skin,
        lab=(min(max(lightness, 24.0), 82.0), max(redness, 4.0), max(yellow, 4.0)),
        lines=patient.skin.lines * float(rng.lognormal(0, 0.25)),
        mottling=min(2.2, patient.skin.mottling * float(rng.lognormal(0, 0.3))),
        freckles=int(rng.poisson(patient.skin.freckles)),
        hairs=int(rng.poisson(patient.skin.hairs * rng.gamma(1.2, 1 / 1.2))),
    )
    lens = patient.clinic.camera
    camera = replace(
        lens,
        gradient=float(abs(rng.normal(0, 1.4))) * lens.gradient,
        gradient_rad=float(rng.uniform(0, 2 * math.pi)),
        blur_px=lens.blur_px * float(rng.lognormal(0, 0.2)),
        glare=float(rng.uniform(0.2, 0.8)) if rng.random() < 0.12 else 0.0,
        frame=float(rng.uniform(0.04, 0.2)) if rng.random() < 0.02 else 0.0,
    )
    crop_px = int(np.clip(round(rng.normal(patient.crop_px, 14)), *_CROP_PX))
    return skin, camera, crop_px


# Each kind's pigment, as a difference from the skin: with no sign of malignancy, with every sign, and the SD of both.
_PIGMENT: dict[str, tuple[Lab, Lab, Lab]] = {
    "pigmented": ((-15.0, 5.0, 5.5), (-24.0, 4.5, -4.5), (5.5, 2.5, 3.0)),
    "red": ((-7.0, 7.0, 1.0), (-13.0, 12.0, -4.0), (4.0, 3.0, 2.0)),
}
_RED_SHARE = {False: 0.22, True: 0.40}
_PATCH_OFFSETS: tuple[tuple[float, Lab], ...] = (
    (0.40, (-15.0, -1.5, -6.0)),  # dark brown to black
    (0.24, (-5.0, -6.0, -10.0)),  # blue-grey veil
    (0.22, (3.0, 7.0, -1.0)),  # red
    (0.14, (17.0, -4.0, -5.0)),  # white regression
)


def draw_lesion(malignant: bool, rng: np.random.Generator) -> tuple[str, Lesion]:
    """A lesion and its kind, "pigmented" or "red"."""
    severity = float(rng.normal(MALIGNANT_SEVERITY if malignant else 0.0, 1.0))
    look = 1 / (1 + math.exp(-1.5 * (severity - 1.25)))  # 0: an even, round mole; 1: every sign of the ABCD rule
    kind = "red" if rng.random() < _RED_SHARE[malignant] else "pigmented"
    none, full, sd = (np.array(lab) for lab in _PIGMENT[kind])
    pigment = none + look * (full - none) + rng.normal(0, sd)
    pigment[0] = min(pigment[0], -2.0)
    weights = np.array([weight for weight, _ in _PATCH_OFFSETS])
    chosen = rng.permutation(len(weights))[: min(len(weights), rng.poisson(0.2 + 2.4 * look))]
    fade = 0.6 if kind == "red" else 1.0
    patches = tuple(
        Patch(
            _scaled(_PATCH_OFFSETS[i][1], fade), float(rng.uniform(0.4, 1.4) * weights[i]), float(rng.uniform(0.5, 1.0))
        )
        for i in chosen
    )
    size = math.log(3.2) + 0.72 * look + rng.normal(0, 0.32) + (0.12 if kind == "red" else 0.0)
    lesion = Lesion(
        diameter_mm=float(np.clip(math.exp(size), 1.2, 12.0)),
        eccentricity=float(np.clip(rng.normal(0.62, 0.15), 0.1, 0.93)),
        angle_rad=float(rng.uniform(0, math.pi)),
        border=float(np.clip(0.18 + 0.55 * look + rng.normal(0, 0.16), 0.02, 1.1)),
        asymmetry=float(np.clip(0.15 + 0.60 * look + rng.normal(0, 0.18), 0.0, 1.1)),
        softness_mm=float(rng.uniform(0.5, 1.3)) * (1.5 if kind == "red" else 1.0),
        pigment_lab=(float(pigment[0]), float(pigment[1]), float(pigment[2])),
        texture=float(np.clip(0.45 + 0.35 * look + rng.normal(0, 0.2), 0.05, 1.2)),
        patches=patches,
    )
    return kind, lesion


def _scaled(lab: Lab, factor: float) -> Lab:
    return (lab[0] * factor, lab[1] * factor, lab[2] * factor)
