"""Contact sheets of neighbours: what a backbone takes for alike."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssl_isic.data.images import ImagePool, decode_rgb
from ssl_isic.data.views import Image, eval_view
from ssl_isic.evaluation.lesions import Lesions
from ssl_isic.evaluation.neighbours import Features, nearest
from ssl_isic.pictures import contact_sheet

SHEET_NEIGHBOURS = 8
QUERIES_A_CLASS = 5
TILE_PX, FRAME_PX = 96, 6
MALIGNANT_RGB, BENIGN_RGB = (194, 87, 26), (43, 92, 138)


def query_rows(target: NDArray[np.float64], seed: int, each: int = QUERIES_A_CLASS) -> NDArray[np.intp]:
    """Up to `each` random malignant rows, then as many benign ones: the same for every backbone."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(target == label))[:each] for label in (1, 0)])


def neighbour_sheet(
    features_ND: Features, lesions: Lesions, pool: ImagePool, queries: NDArray[np.intp], path: Path, title: str
) -> None:
    """Write a PNG: a row a query lesion, then its nearest lesions of other groups; frames are orange where malignant."""
    found = nearest(features_ND, queries, SHEET_NEIGHBOURS, lesions.groups)
    rows = []
    for query, neighbours in zip(queries.tolist(), found, strict=True):
        there = neighbours[neighbours >= 0].tolist()
        alike = sum(lesions.target[row] == lesions.target[query] for row in there)
        kind = "malignant" if lesions.target[query] else "benign"
        pictures = [_framed(pool, lesions, row) for row in (query, *there)]
        rows.append((f"{kind} {lesions.ids[query]}: {alike} of {len(there)} alike", pictures))
    heads = ["query", *(str(place + 1) for place in range(max(len(pictures) for _, pictures in rows) - 1))]
    contact_sheet(rows, path, columns=heads, title=title, tile_px=TILE_PX)


def _framed(pool: ImagePool, lesions: Lesions, row: int) -> Image:
    """The image at the size of a tile, in a frame of its label's colour."""
    inner = TILE_PX - 2 * FRAME_PX
    picture = eval_view(inner)(image=decode_rgb(pool.read(int(lesions.indices[row]))))["image"]
    colour = MALIGNANT_RGB if lesions.target[row] else BENIGN_RGB
    framed = np.full((TILE_PX, TILE_PX, 3), colour, np.uint8)
    framed[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX] = picture
    return framed
