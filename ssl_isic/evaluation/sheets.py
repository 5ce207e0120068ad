"""Contact sheets: which lesions a backbone takes for alike, and what it makes of each part of a lesion."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray

from ssl_isic.contact_sheets import contact_sheet
from ssl_isic.data.cleaning import clean
from ssl_isic.data.decoding import decode_rgb
from ssl_isic.data.images import ImagePool
from ssl_isic.data.steps.step import Image
from ssl_isic.data.views import eval_view
from ssl_isic.evaluation.lesions import Lesions
from ssl_isic.evaluation.neighbours import Features, nearest
from ssl_isic.evaluation.patches import CLIPPED_PERCENT, component_colours, patch_maps
from ssl_isic.evaluation.source import Embedder

SHEET_NEIGHBOURS = 8
QUERIES_A_CLASS = 5
TILE_PX, FRAME_PX = 96, 6
PATCHES_TILE_PX = 144

RGB = tuple[int, int, int]
MALIGNANT_RGB, BENIGN_RGB, PAPER_RGB = (194, 87, 26), (43, 92, 138), (255, 255, 255)


def query_rows(target: NDArray[np.float64], seed: int, each: int = QUERIES_A_CLASS) -> NDArray[np.intp]:
    """Up to `each` random malignant rows, then as many benign ones: the same for every backbone."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(target == label))[:each] for label in (1, 0)])


def neighbour_sheet(
    features_ND: Features,
    lesions: Lesions,
    pool: ImagePool,
    queries: NDArray[np.intp],
    path: Path,
    title: str,
    cleaning: Sequence[str] = (),
) -> None:
    """Write a PNG: a row a query lesion, then its nearest lesions of other groups; frames are orange where malignant.

    Lesions are shown as the backbone was given them, after `cleaning`.
    """
    found = nearest(features_ND, queries, SHEET_NEIGHBOURS, lesions.groups)
    rows = []
    for query, neighbours in zip(queries.tolist(), found, strict=True):
        there = neighbours[neighbours >= 0].tolist()
        alike = sum(lesions.target[row] == lesions.target[query] for row in there)
        inner = TILE_PX - 2 * FRAME_PX
        pictures = [
            _framed(_seen(pool, lesions, row, inner, cleaning), _colour(lesions, row)) for row in (query, *there)
        ]
        rows.append((f"{_kind(lesions, query)} {lesions.ids[query]}: {alike} of {len(there)} alike", pictures))
    heads = ["query", *(str(place + 1) for place in range(max(len(pictures) for _, pictures in rows) - 1))]
    contact_sheet(rows, path, columns=heads, title=title, tile_px=TILE_PX)


def patch_sheet(
    embedder: Embedder,
    untrained: Embedder,
    image_size: int,
    lesions: Lesions,
    pool: ImagePool,
    queries: NDArray[np.intp],
    path: Path,
    title: str,
    cleaning: Sequence[str] = (),
) -> None:
    """Write a PNG: a row a query lesion, then its patches in the colours of their principal components.

    The head says what share of the variance these have. Next comes the attention of the class token, for a network that
    has any to show, brightest where it is most in this lesion; and last the patches as `untrained` has them, a network
    of the same architecture.
    """
    pictures = [_seen(pool, lesions, row, image_size, cleaning) for row in queries.tolist()]
    maps = patch_maps(embedder, pictures)
    patches, share = component_colours(maps.features)
    columns = {f"patches ({share:.0%})": patches}
    if maps.attention is not None:
        columns["attention"] = np.stack([_glow(of_one) for of_one in maps.attention])
    chance, share = component_colours(patch_maps(untrained, pictures).features)
    columns[f"random ({share:.0%})"] = chance
    inner = PATCHES_TILE_PX - 2 * FRAME_PX
    rows = []
    for place, row in enumerate(queries.tolist()):
        lesion = _framed(_seen(pool, lesions, row, inner, cleaning), _colour(lesions, row))
        tiles = [_framed(_enlarged(of_all[place], inner), PAPER_RGB) for of_all in columns.values()]
        rows.append((f"{_kind(lesions, row)} {lesions.ids[row]}", [lesion, *tiles]))
    _, height, width, _ = patches.shape
    heading = f"{title}: {height} x {width} patches, components as red, green, blue (% of variance)"
    contact_sheet(rows, path, columns=["lesion", *columns], title=heading, tile_px=PATCHES_TILE_PX)


def _kind(lesions: Lesions, row: int) -> str:
    return "malignant" if lesions.target[row] else "benign"


def _colour(lesions: Lesions, row: int) -> RGB:
    return MALIGNANT_RGB if lesions.target[row] else BENIGN_RGB


def _seen(pool: ImagePool, lesions: Lesions, row: int, size: int, cleaning: Sequence[str]) -> Image:
    """The image as a network of inputs of `size` px is given it."""
    return eval_view(size)(clean(decode_rgb(pool.read(int(lesions.indices[row]))), cleaning))


def _glow(attention: NDArray[np.float32]) -> Image:
    """Attention (h, w) from black to bright, uint8 (h, w, 3)."""
    brightest = np.percentile(attention, 100 - CLIPPED_PERCENT)
    glow: Image = matplotlib.colormaps["magma"]((attention / brightest).clip(0, 1), bytes=True)[..., :3]
    return np.ascontiguousarray(glow)


def _enlarged(patches: Image, size: int) -> Image:
    """Patches as they are, without a blend of one into the next."""
    enlarged: Image = cv2.resize(patches, (size, size), interpolation=cv2.INTER_NEAREST)
    return enlarged


def _framed(picture: Image, colour: RGB) -> Image:
    height, width, _ = picture.shape
    framed = np.full((height + 2 * FRAME_PX, width + 2 * FRAME_PX, 3), colour, np.uint8)
    framed[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX] = picture
    return framed
