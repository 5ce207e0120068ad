"""Every source of `configs/sources`, from small files in its real layout to a pool that trains."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ssl_isic import prepare, pretrain
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import open_store
from ssl_isic.run_folder import read_metrics

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "sources"
BARCELONA = "Department of Dermatology, Hospital Clínic de Barcelona"
VIENNA = "ViDIR Group, Department of Dermatology, Medical University of Vienna"

Jpegs = Mapping[str, bytes]


@dataclass(frozen=True)
class Layout:
    """A source as it is downloaded."""

    images: list[Path]
    tables: list[Path]
    expected: dict[str, dict[str, str]]
    """The table that should come out, by id; a column that is not named is empty."""
    bytes_kept: dict[str, bytes]
    """Images whose bytes should stay."""


def zip_of(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def text(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def png(jpeg: bytes, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(decode_rgb(jpeg)).save(buffer, kind)
    return buffer.getvalue()


def isic2024(folder: Path, jpegs: Jpegs) -> Layout:
    one, two, three = list(jpegs)[:3]
    with h5py.File(folder / "train-image.hdf5", "w") as file:
        for name in (one, two, three):
            file.create_dataset(name, data=np.bytes_(jpegs[name]))
    table = text(
        folder / "train-metadata.csv",
        "isic_id,target,patient_id,age_approx,sex,anatom_site_general,tbp_lv_A,attribution,lesion_id,iddx_full,iddx_1,iddx_2,"
        "iddx_3,iddx_4,iddx_5",
        f"{one},1,IP_1,60,male,posterior torso,17.03,Clinic A,IL_1,x,Malignant,"
        "Malignant melanocytic proliferations (Melanoma),Melanoma in situ,,",
        f'{two},0,IP_1,NA,,,1e-06,"Clinic, B",,Benign,Benign,,,,',
        f"{three},0,IP_2,5.0,female,head/neck,2,Clinic A,IL_2,x,Benign,Benign melanocytic proliferations,Nevus,"
        '"Nevus, Atypical, Dysplastic, or Clark",',
    )
    expected = {
        one: {
            "target": "1",
            "diagnosis": "MEL",
            "patient_id": "IP_1",
            "lesion_id": "IL_1",
            "attribution": "Clinic A",
            "age_approx": "60",
            "sex": "male",
            "anatom_site_general": "posterior torso",
            "tbp_lv_A": "17.03",
        },
        two: {"target": "0", "patient_id": "IP_1", "attribution": "Clinic, B", "tbp_lv_A": "1e-06", "iddx_1": "Benign"},
        three: {"diagnosis": "NV", "lesion_id": "IL_2", "age_approx": "5.0", "anatom_site_general": "head/neck"},
    }
    return Layout([folder / "train-image.hdf5"], [table], expected, {one: jpegs[one], two: jpegs[two]})


def isic_archive(folder: Path, jpegs: Jpegs) -> Layout:
    names = list(jpegs)[3:8]
    (folder / "isic").mkdir()
    for name in names:
        (folder / "isic" / f"{name}.jpg").write_bytes(jpegs[name])
    (folder / "isic" / "licenses").mkdir()
    (folder / "isic" / "licenses" / "CC-0.txt").write_text("licence")
    (folder / "isic" / "attribution.txt").write_text("Clinic A")
    table = text(
        folder / "isic" / "metadata.csv",
        "isic_id,attribution,copyright_license,age_approx,anatom_site_general,benign_malignant,diagnosis,diagnosis_1,"
        "diagnosis_2,diagnosis_3,diagnosis_4,diagnosis_5,image_type,lesion_id,patient_id,sex",
        f"{names[0]},Clinic A,CC-0,45,anterior torso,,,Benign,Benign melanocytic proliferations,Nevus,"
        '"Nevus, Spitz",,dermoscopic,IL_1,IP_1,male',
        f"{names[1]},Clinic A,CC-0,50,,,,Indeterminate,Indeterminate epidermal proliferations,"
        "Solar or actinic keratosis,,,dermoscopic,IL_2,,female",
        f"{names[2]},Clinic A,CC-0,,,,,Malignant,Malignant epidermal proliferations,Keratoacanthoma,,,dermoscopic,,,",
        f"{names[3]},Clinic A,CC-BY,30,palms/soles,malignant,melanoma,,,,,,dermoscopic,,IP_2,female",
        f"{names[4]},Clinic A,CC-BY,30,,,,Benign,Benign adnexal epithelial proliferations - Sebaceous,Nevus sebaceus,,,"
        "dermoscopic,,IP_2,female",
    )
    expected = {
        names[0]: {"target": "0", "diagnosis": "NV", "lesion_id": "IL_1", "patient_id": "IP_1", "sex": "male"},
        names[1]: {"target": "0", "diagnosis": "AK", "patient_id": "", "anatom_site_general": ""},
        names[2]: {"target": "1", "diagnosis": "", "diagnosis_3": "Keratoacanthoma"},
        names[3]: {
            "target": "1",
            "diagnosis": "MEL",
            "anatom_site_general": "palms/soles",
            "copyright_license": "CC-BY",
        },
        names[4]: {"target": "0", "diagnosis": ""},
    }
    return Layout([folder / "isic"], [table], expected, {name: jpegs[name] for name in names})


def isic2016(folder: Path, jpegs: Jpegs) -> Layout:
    names = list(jpegs)[8:12]
    parts = {"Training": names[:2], "Test": names[2:]}
    zips = [
        zip_of(
            folder / f"ISBI2016_ISIC_Part3_{part}_Data.zip",
            {f"ISBI2016_ISIC_Part3_{part}_Data/{name}.jpg": jpegs[name] for name in inside},
        )
        for part, inside in parts.items()
    ]
    train = text(folder / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv", f"{names[0]},benign", f"{names[1]},malignant")
    test = text(folder / "ISBI2016_ISIC_Part3_Test_GroundTruth.csv", f"{names[2]},0.0", f"{names[3]},1.0")
    expected = {name: {"target": target, "sex": ""} for name, target in zip(names, "0101", strict=True)}
    return Layout(zips, [train, test], expected, {name: jpegs[name] for name in names})


def isic2017(folder: Path, jpegs: Jpegs) -> Layout:
    names = list(jpegs)[12:16]
    inside = {f"ISIC-2017_Training_Data/{name}.jpg": jpegs[name] for name in names}
    inside[f"ISIC-2017_Training_Data/{names[0]}_superpixels.png"] = png(jpegs[names[0]])
    inside["__MACOSX/ISIC-2017_Training_Data/._a.jpg"] = b"macOS"
    lines = ["image_id,age_approximate,sex", f"{names[0]},55,female", f"{names[1]},unknown,unknown"]
    inside["ISIC-2017_Training_Data/ISIC-2017_Training_Data_metadata.csv"] = "\r\n".join(lines).encode()
    packed = zip_of(folder / "ISIC-2017_Training_Data.zip", inside)
    table = text(
        folder / "ISIC-2017_Training_Part3_GroundTruth.csv",
        "image_id,melanoma,seborrheic_keratosis",
        f"{names[0]},0.0,0.0",
        f"{names[1]},1.0,0.0",
        f"{names[2]},0.0,1.0",
    )
    expected = {
        names[0]: {"target": "0", "diagnosis": "NV", "age_approx": "55", "sex": "female"},
        names[1]: {"target": "1", "diagnosis": "MEL", "age_approx": "", "sex": ""},
        names[2]: {"target": "0", "diagnosis": "BKL"},
    }
    return Layout([packed], [table, packed], expected, {names[3]: jpegs[names[3]]})


def isic2018(folder: Path, jpegs: Jpegs) -> Layout:
    names = list(jpegs)[16:19]
    images = zip_of(
        folder / "ISIC2018_Task3_Training_Input.zip",
        {f"ISIC2018_Task3_Training_Input/{name}.jpg": jpegs[name] for name in names}
        | {"ISIC2018_Task3_Training_Input/LICENSE.txt": b"CC-BY-NC"},
    )
    truth = [
        "image,MEL,NV,BCC,AKIEC,BKL,DF,VASC",
        f"{names[0]},0.0,1.0,0.0,0.0,0.0,0.0,0.0",
        f"{names[1]},0.0,0.0,0.0,1.0,0.0,0.0,0.0",
        f"{names[2]},1.0,0.0,0.0,0.0,0.0,0.0,0.0",
    ]
    packed = zip_of(
        folder / "ISIC2018_Task3_Training_GroundTruth.zip",
        {
            "ISIC2018_Task3_Training_GroundTruth/LICENSE.txt": b"CC-BY-NC",
            "ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv": "\n".join(truth).encode(),
        },
    )
    groups = text(
        folder / "ISIC2018_Task3_Training_LesionGroupings.csv",
        "image,lesion_id,diagnosis_confirm_type",
        f"{names[0]},HAM_0000550,serial imaging showing no change",
        f"{names[1]},HAM_0003577,histopathology",
        f"{names[2]},HAM_0003577,histopathology",
    )
    expected = {
        names[0]: {"target": "0", "diagnosis": "NV", "lesion_id": "HAM_0000550"},
        names[1]: {"target": "1", "diagnosis": "AK", "diagnosis_confirm_type": "histopathology"},
        names[2]: {"target": "1", "diagnosis": "MEL", "lesion_id": "HAM_0003577"},
    }
    return Layout([images], [packed, groups], expected, {name: jpegs[name] for name in names})


def isic2019(folder: Path, jpegs: Jpegs) -> Layout:
    names = list(jpegs)[19:23]
    raw = [f"{names[0]}_downsampled", *names[1:]]
    images = zip_of(
        folder / "ISIC_2019_Training_Input.zip",
        {f"ISIC_2019_Training_Input/{name}.jpg": jpegs[ours] for name, ours in zip(raw, names, strict=True)},
    )
    truth = text(
        folder / "ISIC_2019_Training_GroundTruth.csv",
        "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK",
        f"{raw[0]},0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0",
        f"{raw[1]},0.0,0.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0",
        f"{raw[2]},0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0",
        f"{raw[3]},0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0",
    )
    metadata = text(
        folder / "ISIC_2019_Training_Metadata.csv",
        "image,age_approx,anatom_site_general,lesion_id,sex",
        f"{raw[0]},55.0,anterior torso,MSK4_0001222,female",
        f"{raw[1]},,,BCN_0003884,male",
        f"{raw[2]},60.0,upper extremity,HAM_0000550,",
        f"{raw[3]},,head/neck,,male",
    )
    expected = {
        names[0]: {"target": "0", "diagnosis": "NV", "attribution": "Memorial Sloan Kettering Cancer Center"},
        names[1]: {"target": "0", "diagnosis": "AK", "attribution": BARCELONA, "lesion_id": "BCN_0003884"},
        names[2]: {"target": "1", "diagnosis": "SCC", "attribution": VIENNA, "sex": "", "age_approx": "60.0"},
        names[3]: {"target": "", "diagnosis": "", "attribution": "", "lesion_id": "", "sex": "male"},
    }
    return Layout([images], [truth, metadata], expected, {name: jpegs[name] for name in names})


def isic2020(folder: Path, jpegs: Jpegs) -> Layout:
    names = list(jpegs)[23:26]
    images = zip_of(folder / "ISIC_2020_Training_JPEG.zip", {f"train/{name}.jpg": jpegs[name] for name in names})
    table = text(
        folder / "ISIC_2020_Training_GroundTruth.csv",
        "image_name,patient_id,sex,age_approx,anatom_site_general_challenge,diagnosis,benign_malignant,target",
        f"{names[0]},IP_7279968,male,45,head/neck,unknown,benign,0",
        f"{names[1]},IP_3075186,female,45.0,torso,melanoma,malignant,1",
        f"{names[2]},IP_3075186,,,,lentigo NOS,benign,0",
    )
    expected = {
        names[0]: {"target": "0", "diagnosis": "", "patient_id": "IP_7279968", "source_diagnosis": "unknown"},
        names[1]: {"target": "1", "diagnosis": "MEL", "anatom_site_general": "torso", "age_approx": "45.0"},
        names[2]: {"target": "0", "diagnosis": "", "sex": "", "source_diagnosis": "lentigo NOS"},
    }
    return Layout([images], [table], expected, {name: jpegs[name] for name in names})


def ham10000(folder: Path, jpegs: Jpegs) -> Layout:
    names = list(jpegs)[26:30]
    zips = [
        zip_of(folder / f"HAM10000_images_part_{part}.zip", {f"{name}.jpg": jpegs[name] for name in inside})
        for part, inside in ((1, names[:2]), (2, names[2:]))
    ]
    table = text(
        folder / "HAM10000_metadata",  # Dataverse serves it with tabs, and without a suffix
        "\t".join(
            f'"{name}"' for name in ["lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization", "dataset"]
        ),
        f'"HAM_1"\t"{names[0]}"\t"bkl"\t"histo"\t80.0\t"male"\t"scalp"\t"vidir_modern"',
        f'"HAM_1"\t"{names[1]}"\t"akiec"\t"histo"\t80.0\t"male"\t"unknown"\t"vidir_modern"',
        f'"HAM_2"\t"{names[2]}"\t"vasc"\t"consensus"\t\t"unknown"\t"acral"\t"rosendahl"',
        f'"HAM_3"\t"{names[3]}"\t"mel"\t"histo"\t35.0\t"female"\t"trunk"\t""',
    )
    expected = {
        names[0]: {"target": "0", "diagnosis": "BKL", "lesion_id": "HAM_1", "anatom_site_general": "head/neck"},
        names[1]: {"target": "1", "diagnosis": "AK", "anatom_site_general": "", "attribution": "vidir_modern"},
        names[2]: {"diagnosis": "VASC", "age_approx": "", "sex": "", "anatom_site_general": "palms/soles"},
        names[3]: {"target": "1", "diagnosis": "MEL", "attribution": "HAM10000", "dx_type": "histo"},
    }
    return Layout(zips, [table], expected, {name: jpegs[name] for name in names})


def pad_ufes_20(folder: Path, jpegs: Jpegs) -> Layout:
    pngs = {f"PAT_{k}_{k + 700}_{k + 14}": png(jpeg) for k, jpeg in enumerate(list(jpegs.values())[30:33])}
    names = list(pngs)
    zips = [
        zip_of(folder / f"imgs_part_{k + 1}.zip", {f"imgs_part_{k + 1}/{name}.png": pngs[name]})
        for k, name in enumerate(names)
    ]
    table = text(
        folder / "metadata.csv",
        "patient_id,lesion_id,smoke,age,gender,fitspatrick,region,diagnostic,img_id,biopsed",
        f"PAT_0,700,,8,,,ARM,NEV,{names[0]}.png,False",
        f"PAT_1,701,False,55,FEMALE,3.0,NECK,BCC,{names[1]}.png,True",
        f"PAT_2,702,,77,MALE,,FACE,ACK,{names[2]}.png,False",
    )
    expected = {
        f"PAD_{names[0]}": {"target": "0", "diagnosis": "NV", "patient_id": "PAD_PAT_0", "lesion_id": "PAD_700"},
        f"PAD_{names[1]}": {"target": "1", "diagnosis": "BCC", "sex": "female", "anatom_site_general": "head/neck"},
        f"PAD_{names[2]}": {"target": "0", "diagnosis": "AK", "sex": "male", "fitspatrick": "", "age_approx": "77"},
    }
    return Layout(zips, [table], expected, {f"PAD_{name}": data for name, data in pngs.items()})


def ph2(folder: Path, jpegs: Jpegs) -> Layout:
    images = folder / "PH2Dataset" / "PH2 Dataset images"
    for name, jpeg in zip(("IMD003", "IMD146", "IMD405"), list(jpegs.values())[33:36], strict=True):
        for part, kind in (("Dermoscopic_Image", ""), ("lesion", "_lesion"), ("roi", "_R1_Label3")):
            (images / name / f"{name}_{part}").mkdir(parents=True)
            (images / name / f"{name}_{part}" / f"{name}{kind}.bmp").write_bytes(png(jpeg, "BMP"))
    table = text(
        folder / "PH2Dataset" / "PH2_dataset.txt",
        "||   Name || Histological Diagnosis || Clinical Diagnosis || Asymmetry | Pigment Network | Dots/Globules | Streaks | "
        "Regression Areas | Blue-Whitish Veil ||           Colors ||",
        "|| IMD003 ||                        ||                  0 ||         0 |               T |             A |       A | "
        "               A |                 A ||                4 ||",
        "|| IMD146 ||         Compound nevus ||                  1 ||         1 |               T |             A |       P | "
        "               A |                 A ||          2  3  4 ||",
        "|| IMD405 ||   Melanoma in situ     ||                  2 ||         2 |              AT |            AT |       P | "
        "               P |                 P ||       1  4  5  6 ||",
        "",
        "Legends:",
        "Clinical Diagnosis:   0 - Common Nevus; 1 - Atypical Nevus; 2 - Melanoma.",
    )
    expected = {
        "PH2_IMD003": {"target": "0", "diagnosis": "NV", "Histological Diagnosis": ""},
        "PH2_IMD146": {"target": "0", "diagnosis": "NV", "Clinical Diagnosis": "1"},
        "PH2_IMD405": {"target": "1", "diagnosis": "MEL", "attribution": "Hospital Pedro Hispano, Matosinhos"},
    }
    return Layout([images], [table], expected, {})


def dermamnist(folder: Path, jpegs: Jpegs) -> Layout:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 28, 28, 3), dtype=np.uint8)
    labels = np.array([[5], [5], [4], [0], [5], [1]], dtype=np.uint8)
    cuts = {"train": slice(0, 3), "val": slice(3, 4), "test": slice(4, 6)}
    arrays = {f"{split}_images": pixels[cut] for split, cut in cuts.items()}
    arrays |= {f"{split}_labels": labels[cut] for split, cut in cuts.items()}
    np.savez_compressed(folder / "dermamnist.npz", **arrays)
    places = ["train,0", "train,1", "train,2", "val,0", "test,0", "test,1"]
    listed = [f"{place},ISIC_{k:07d}" for k, place in enumerate(places)]
    which = text(folder / "dermamnist.csv", "split,index,image_id", *listed)
    dx = ["nv", "nv", "mel", "akiec", "nv"]  # HAM10000's table here ends before the last image
    table = text(
        folder / "HAM10000_metadata.csv",
        "lesion_id,image_id,dx,dx_type,age,sex,localization",
        *(f"HAM_{k // 2},ISIC_{k:07d},{name},histo,50.0,male,back" for k, name in enumerate(dx)),
        "HAM_9,ISIC_0099999,nv,histo,50.0,male,back",
    )
    expected = {
        "DERMAMNIST_train_0": {"diagnosis": "NV", "lesion_id": "HAM_0", "split": "train", "image_id": "ISIC_0000000"},
        "DERMAMNIST_train_2": {"diagnosis": "MEL", "target": "1", "lesion_id": "HAM_1"},
        "DERMAMNIST_val_0": {"diagnosis": "AK", "target": "1", "lesion_id": "HAM_1", "split": "val"},
        "DERMAMNIST_test_1": {"diagnosis": "BCC", "target": "1", "lesion_id": "", "sex": ""},
    }
    return Layout([folder / "dermamnist.npz"], [which, table], expected, {})


SOURCES: dict[str, Callable[[Path, Jpegs], Layout]] = {
    "isic2024": isic2024,
    "isic-archive": isic_archive,
    "isic2016": isic2016,
    "isic2017": isic2017,
    "isic2018": isic2018,
    "isic2019": isic2019,
    "isic2020": isic2020,
    "ham10000": ham10000,
    "pad-ufes-20": pad_ufes_20,
    "ph2": ph2,
    "dermamnist": dermamnist,
}


@dataclass(frozen=True)
class Prepared:
    """A source on its way in, and what became of it."""

    layout: Layout
    out: Path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, lesion_jpegs: Jpegs) -> dict[str, Prepared]:
    """Every source, prepared."""
    folder = tmp_path_factory.mktemp("sources")
    done = {}
    for name, write in SOURCES.items():
        (folder / name).mkdir()
        layout = write(folder / name, lesion_jpegs)
        out = folder / "pools" / name
        images, tables = (json.dumps([str(path) for path in paths]) for paths in (layout.images, layout.tables))
        words = [f"images={images}", f"tables={tables}", f"out={out}", "workers=0"]
        assert prepare.main(["--config", str(CONFIGS / f"{name}.yaml"), *words]) == 0
        done[name] = Prepared(layout, out)
    return done


def test_every_config_is_tested() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(SOURCES)
    for path in CONFIGS.glob("*.yaml"):
        command = f"#   ssl-isic prepare --config configs/sources/{path.name} "
        assert command in path.read_text(encoding="utf-8"), "each says how it is used"


@pytest.mark.parametrize("source", SOURCES)
def test_columns_and_classes_become_ours(prepared: dict[str, Prepared], source: str) -> None:
    layout, out = prepared[source].layout, prepared[source].out
    table = pd.read_csv(f"{out}.csv", dtype=str, keep_default_na=False).set_index("isic_id")
    for name, expected in layout.expected.items():
        row = table.loc[name]
        assert {column: row.get(column, "") for column in expected} == expected


@pytest.mark.parametrize("source", SOURCES)
def test_images_keep_their_bytes(prepared: dict[str, Prepared], source: str) -> None:
    store = open_store(Path(f"{prepared[source].out}.hdf5"))
    found = {name.decode(): store.read(k) for k, name in enumerate(store.ids)}
    layout = prepared[source].layout
    assert set(layout.expected) <= set(found)
    for name, data in layout.bytes_kept.items():
        assert found[name] == data


def test_bitmaps_and_arrays_become_png_of_the_same_pixels(prepared: dict[str, Prepared]) -> None:
    layout, out = prepared["ph2"].layout, prepared["ph2"].out
    store = open_store(Path(f"{out}.hdf5"))
    assert store.ids.tolist() == [b"PH2_IMD003", b"PH2_IMD146", b"PH2_IMD405"], "masks are no images of the source"
    original = layout.images[0] / "IMD146" / "IMD146_Dermoscopic_Image" / "IMD146.bmp"
    assert np.array_equal(decode_rgb(store.read(1)), np.asarray(Image.open(original)))
    derma = prepared["dermamnist"]
    store = open_store(Path(f"{derma.out}.hdf5"))
    with np.load(derma.layout.images[0]) as file:
        assert store.ids[2] == b"DERMAMNIST_train_0"
        assert np.array_equal(decode_rgb(store.read(2)), file["train_images"][0])


def test_all_sources_make_one_pool_that_trains(prepared: dict[str, Prepared], tmp_path: Path) -> None:
    words = [f"data.sources.{name}={source.out}.hdf5" for name, source in prepared.items()]
    words += [f"data.tables.{name}={source.out}.csv" for name, source in prepared.items()]
    words += ["method.name=simclr", "method.not_negative=lesion", "backbone.model=test_resnet", "data.workers=0"]
    words += ["views.size=32", "loop.batch_size=16", "loop.epochs=1", "loop.log_every=1", "monitor.images=0"]
    assert pretrain.main([f"run_dir={tmp_path / 'run'}", *words]) == 0
    assert (tmp_path / "run" / "backbone" / "model.safetensors").exists()
    losses = [row["loss"] for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
