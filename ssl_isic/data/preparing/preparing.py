"""`ssl-isic prepare`: a source as it was downloaded becomes OUT.hdf5, OUT.csv and OUT.json.

The bytes of the images stay as they are unless it is asked for otherwise. What was killed goes on from where it was.
"""

import glob
import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from ssl_isic.data.preparing.report import report_of
from ssl_isic.data.preparing.settings import PrepareConfig
from ssl_isic.data.preparing.source_images import SourceImages
from ssl_isic.data.preparing.source_tables import SourceTable, read_source_table
from ssl_isic.data.preparing.spool import NOTES_NAME, Plan, Spool, only_writer, write_hdf5
from ssl_isic.data.preparing.treatment import Treatment
from ssl_isic.data.preparing.workers import treated_images
from ssl_isic.data.source_stamps import files_stamp
from ssl_isic.errors import InputError
from ssl_isic.files import atomic_write, sha256_of, write_json

PART_IMAGES = 256
MAY_CHANGE = {"workers", "out", "max_unreadable"}


def prepare(config: PrepareConfig) -> dict[str, Any]:
    """Prepare a source, or go on with it; returns the report that OUT.json holds.

    Raises:
        InputError: what `SourceImages` and `read_source_table` refuse; no row is of an image; too many images do not
            decode; OUT holds something else.
    """
    images = SourceImages(config.images, config.id)
    table = read_source_table(config, images.table)
    ids = [name.decode() for name in images.ids.tolist()]
    _check_overlap(ids, table, config)
    if config.only_in_tables:
        images.take(np.flatnonzero(pd.Index(ids).isin(table.rows.index)))
        ids = [name.decode() for name in images.ids.tolist()]
    plan = _plan_of(config, images)
    finished = _finished(config, plan)
    if finished is not None:
        return finished
    folder = config.output(".unfinished")
    with only_writer(folder):
        spool = Spool(folder, plan)
        for left in config.out.parent.glob(f".part-*-{glob.escape(config.out.name)}.*"):  # of a writing that was killed
            left.unlink()
        _fill(spool, images, ids, config)
        return _write(config, plan, spool, images, ids, table)


def _check_overlap(ids: Sequence[str], table: SourceTable, config: PrepareConfig) -> None:
    if len(table.rows) and not table.rows.index.isin(ids).any():
        raise InputError(
            f"none of the {len(table.rows)} rows is of one of the {len(ids)} images: rows are called "
            f"{table.rows.index[0]}, images {ids[0]}; give the table of these images, or set id.columns or id.pattern"
        )


def _plan_of(config: PrepareConfig, images: SourceImages) -> Plan:
    inputs: dict[str, str] = {}
    for location in config.images:
        if isinstance(location, Path):
            inputs[str(location)] = f"sha256 of sizes and dates {files_stamp(location)}"
    inputs |= {str(path): f"sha256 {sha256_of(path)}" for path in config.tables}
    return Plan(
        images=len(images),
        ids_sha256=hashlib.sha256(images.ids.tobytes()).hexdigest(),
        inputs=inputs,
        settings=config.model_dump(mode="json", exclude=MAY_CHANGE),
    )


def _finished(config: PrepareConfig, plan: Plan) -> dict[str, Any] | None:
    """The report of an earlier run of the same plan whose files are whole; None where there is nothing yet.

    Raises:
        InputError: OUT is something else.
    """
    unfinished = (config.output(".unfinished") / NOTES_NAME).exists()
    there = [path for path in map(config.output, (".hdf5", ".csv", ".json")) if path.exists()]
    if not there or unfinished:
        return None
    path = config.output(".json")
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
        difference = plan.difference(Plan.model_validate(report["plan"]))
        files: dict[str, str] = report["files"]
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{there[0]} is there already, and not of a finished prepare; name another out") from None
    if difference:
        raise InputError(f"{config.out} holds a source prepared with {difference}; name another out")
    whole = all(
        (path.parent / name).is_file() and sha256_of(path.parent / name) == digest for name, digest in files.items()
    )
    return report if whole else None


def _fill(spool: Spool, images: SourceImages, ids: Sequence[str], config: PrepareConfig) -> None:
    treatment = Treatment(tuple(config.clean), config.longest_px, config.shortest_px, config.quality)
    workers = (config.workers if config.workers is not None else os.cpu_count() or 1) if images.parallel else 0
    _check_readable(spool, ids, config.max_unreadable)
    with (
        closing(treated_images(images, treatment, len(spool), workers)) as treated,
        tqdm(total=len(images), initial=len(spool), desc="images", unit="image", unit_scale=True) as bar,
    ):
        while part := list(islice(treated, PART_IMAGES)):
            spool.add(part)
            bar.update(len(part))
            if any(image.fault for image in part):
                _check_readable(spool, ids, config.max_unreadable)


def _check_readable(spool: Spool, ids: Sequence[str], max_unreadable: float) -> None:
    faults = [f"{name} ({fault})" for name, fault in zip(ids, spool.faults, strict=False) if fault]
    if len(faults) > int(max_unreadable * len(ids)) or len(faults) == len(ids):
        raise InputError(
            f"{len(faults)} of the first {len(spool)} images do not decode, more than max_unreadable="
            f"{max_unreadable:g} allows: {', '.join(faults[:3])}; is the download complete?"
        )


def _write(
    config: PrepareConfig, plan: Plan, spool: Spool, images: SourceImages, ids: Sequence[str], table: SourceTable
) -> dict[str, Any]:
    readable = [name for name, fault in zip(ids, spool.faults, strict=True) if not fault]
    rows = table.rows[table.rows.index.isin(readable)]
    write_hdf5(config.output(".hdf5"), images.ids, spool)
    if len(table.rows):
        with atomic_write(config.output(".csv")) as temporary:
            rows.to_csv(temporary, index_label="isic_id")
    written = [config.output(suffix) for suffix in (".hdf5", *([".csv"] if len(table.rows) else []))]
    report = report_of(ids, table, rows, images.skipped, {"changes": spool.changes, "faults": spool.faults})
    report["files"] = {path.name: sha256_of(path) for path in written}
    report["plan"] = plan.model_dump(mode="json")
    write_json(config.output(".json"), report)
    spool.remove()
    return report
