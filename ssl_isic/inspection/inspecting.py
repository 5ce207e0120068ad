"""The inspect stage's configuration and work: a pool and its tables looked at, once, before anything is trained on them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from pydantic import Field

from ssl_isic.config import Config, Side, dump_yaml
from ssl_isic.data.images import ImagePool
from ssl_isic.data.near_duplicates import Copies, NearDuplicatesConfig, Pairs, near_duplicates
from ssl_isic.data.remote import Location
from ssl_isic.data.shard_store import ShardReading
from ssl_isic.data.workers import LoaderConfig
from ssl_isic.evaluation.source import BackboneSource, Embedder, open_backbone
from ssl_isic.files import atomic_write
from ssl_isic.inspection.annotations import ColumnsConfig, read_annotations
from ssl_isic.inspection.duplicates import distinct_pictures, find_duplicates
from ssl_isic.inspection.finding import Finding
from ssl_isic.inspection.findings import findings_of
from ssl_isic.inspection.fold_reading import read_folds_file
from ssl_isic.inspection.inspected import Inspected
from ssl_isic.inspection.likeness import cosine_pairs, kept_features
from ssl_isic.inspection.page.page import render
from ssl_isic.inspection.report import write_report, write_sets
from ssl_isic.inspection.scanning import scan
from ssl_isic.inspection.sets import Indices


class InspectedData(LoaderConfig):
    """The images and their tables."""

    sources: dict[str, Location] = Field(min_length=1)
    """Named HDF5 files, folders of images or shards, and URLs of shards: data.sources.NAME=PATH_OR_URL."""
    shards: ShardReading = ShardReading()
    """How sources in shards are read."""
    tables: dict[str, Path] = {}
    """CSV of a source, data.tables.NAME=PATH, with isic_id and any of the columns below."""


class InspectConfig(Config):
    """Look at images and their tables before anything is trained on them: one page, a JSON, and an exit code."""

    data: InspectedData
    """The images and their tables."""
    columns: ColumnsConfig = ColumnsConfig()
    """Names of the tables' columns; a list is tried in its order."""
    folds: Path | None = None
    """A folds.csv as `ssl-isic folds` writes it, to be checked for leaks."""
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    """When two images are near-duplicates by their perceptual hashes."""
    backbone: BackboneSource | None = None
    """Look for near-duplicates by this backbone's features too; backbone=FOLDER is short for backbone.weights=FOLDER."""
    image_size: Side | None = None
    """Side of the backbone's input, px; null takes the one that its weights were trained on."""
    batch_size: int = Field(256, ge=1)
    """Images of one forward pass."""
    cosine: float = Field(0.95, gt=0, le=1)
    """Least cosine of the centred features of near-duplicates; what is right depends on the backbone."""
    max_unreadable: float = Field(0.01, ge=0, le=1)
    """The share of a source's images that may fail to decode."""
    pictures: int = Field(24, ge=0)
    """Sets of images that each part of the page shows."""
    out: Path = Path("inspection")
    """Folder of report.html, report.json, duplicates.csv and the records of the scan, which a second run takes over."""


def inspect(config: InspectConfig) -> list[Finding]:
    """Scan, look, and write the page and its files; returns what was found, the worst first.

    Raises:
        InputError: anything wrong with the images, the tables, the folds or the backbone; a place that cannot be written to.
    """
    pool = ImagePool(config.data.sources, config.data.shards)
    embedder = None if config.backbone is None else Embedder(open_backbone(config.backbone, _image_size(config)))
    cleaning = [] if config.backbone is None else config.backbone.cleaning()
    rows = read_annotations(pool, config.data.tables, config.columns)
    folds = None if config.folds is None else read_folds_file(config.folds, pool)
    with atomic_write(config.out / "config.yaml") as temporary:
        temporary.write_text(dump_yaml(config), encoding="utf-8")
    records, copies = scan(pool, config.out / "scan", config.data.workers, config.data.start_method)
    distinct = np.sort(distinct_pictures(records))
    near = distinct[_near_pairs(config.near_duplicates, copies[distinct])]
    embedded = None if embedder is None else _embedded_pairs(config, pool, embedder, cleaning, distinct)
    duplicates = find_duplicates(pool, records, near, embedded)
    seen = Inspected(pool, records, rows, folds, duplicates.same_pixels, duplicates.sets)
    findings = findings_of(seen, config.max_unreadable)
    write_sets(seen, config.out / "duplicates.csv")
    write_report(seen, findings, config.out / "report.json")
    with atomic_write(config.out / "report.html") as temporary:
        temporary.write_text(render(seen, findings, config.pictures), encoding="utf-8")
    return findings


def _near_pairs(settings: NearDuplicatesConfig, copies: Copies) -> Pairs:
    return near_duplicates(copies, settings.distance, settings.correlation, settings.flips).pairs


def _image_size(config: InspectConfig) -> int:
    """The side of the backbone's input, px."""
    return config.image_size or (config.backbone.image_size() if config.backbone else 0)


def _embedded_pairs(
    config: InspectConfig, pool: ImagePool, embedder: Embedder, cleaning: Sequence[str], distinct: Indices
) -> Pairs:
    """The pairs (P, 2) of the images `distinct`, cleaned, that the backbone takes for alike."""
    folder = config.out / "scan"
    features = kept_features(pool, embedder, cleaning, _image_size(config), config.batch_size, config.data, folder)
    return cosine_pairs(features, distinct, config.cosine, Accelerator().device)
