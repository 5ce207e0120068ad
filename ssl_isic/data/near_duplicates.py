"""Which images show the same picture, encoded again, at another size, a little cropped, or mirrored.

Each image is looked at as a small grey copy. Its perceptual hash is the signs of 64 of the copy's low frequencies; two hashes
that differ in few bits make a candidate. Skin differs little from skin, and a black border or a dark corner is like another, so
candidates are then compared by their details: the copies less what is smooth, every part of them at the same contrast.
Shapes: N images; copies uint8 and details int8 (N, 32, 32); P pairs (P, 2) of images, the smaller number first, ascending.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from ssl_isic.config import Config
from ssl_isic.data.images import ImagePool
from ssl_isic.data.kept_rows import KeptRows
from ssl_isic.data.source_stamps import source_stamps
from ssl_isic.data.steps.step import Image
from ssl_isic.data.whole_images import EvaluationImages, evaluation_loader
from ssl_isic.data.workers import LoaderConfig

Copies = NDArray[np.uint8]
Details = NDArray[np.int8]
Hashes = NDArray[np.uint64]
Pairs = NDArray[np.int64]

DISTANCE = 7
"""Bits in which the hashes of one picture may differ; docs/folds.md says how this was chosen, and the next."""
CORRELATION = 0.75
"""Least correlation of the details of one picture."""
NO_HASH = np.uint64(0)
"""The hash of an image that does not decode or has no contrast; it is near none."""
NO_PAIRS: Pairs = np.empty((0, 2), np.int64)


class NearDuplicatesConfig(Config):
    """When two images show the same picture."""

    distance: int = Field(DISTANCE, ge=0, le=15)
    """Bits, of 64, in which their perceptual hashes differ at most."""
    correlation: float = Field(CORRELATION, gt=0, le=1)
    """Correlation of their details, at least."""
    flips: bool = False
    """Whether a mirror image or a quarter turn is the same picture too."""


_SIDE = 32
_LEAST_CONTRAST = 1.0  # standard deviation of a small copy, grey levels
_DETAIL_SIGMA = 1.25  # pixels of a small copy
_NOISE = 2.0  # contrast below which a detail counts for less, grey levels
_ZOOMS = (1.04, 1.08)  # of one of two copies, where the other is cropped
_DETAIL_SCALE = 32.0
_U, _V = np.mgrid[:_SIDE, :_SIDE]
_FREQUENCIES = (_U + _V >= 1) & (_U + _V <= 10) & ~((_U == 5) & (_V == 5))  # 64 of them, and of each its mirror
_WORDS, _WORD_BITS = 4, 16
_READ_BLOCK, _JOIN_BLOCK, _COMPARE_BLOCK = 256, 1 << 20, 1 << 14


@dataclass(frozen=True)
class NearDuplicates:
    """P pairs (P, 2) and the correlation of their details (P,)."""

    pairs: Pairs
    correlation: NDArray[np.float64]


def small_copy(image: Image) -> Copies:
    """The small grey copy (32, 32) of an image, uint8 (height, width, 3): each pixel the mean of its area."""
    return _grey(_small_view(image))


def small_copies(pool: ImagePool, indices: NDArray[np.int64], workers: int) -> Copies:
    """The small copies (N, 32, 32) of the pool's images `indices`, read by `workers` processes; a kilobyte an image.

    Black for an image that is not there (-1) or does not decode.
    """
    copies, done = np.empty((len(indices), _SIDE, _SIDE), np.uint8), 0
    for block in _read_small(pool, indices, 0, workers):
        copies[done : done + len(block)] = block
        done += len(block)
    return copies


@contextmanager
def kept_small_copies(
    pool: ImagePool, indices: NDArray[np.int64], workers: int, folder: Path | None
) -> Iterator[Copies]:
    """`small_copies`, kept in `folder` until the block has ended well: one that is killed goes on where it stopped.

    Without a folder they are in memory.
    """
    if folder is None:
        yield small_copies(pool, indices, workers)
        return
    plan = {"sources": source_stamps(pool), "images": hashlib.sha256(indices.tobytes()).hexdigest()}
    kept = KeptRows(folder, "copies", plan, len(indices), np.dtype(np.uint8), (_SIDE, _SIDE))
    if (done := kept.done()) < len(indices):
        with kept.appending() as file:
            for copies in _read_small(pool, indices, done, workers):
                file.append(copies)
    yield kept.read()
    kept.forget()


def _read_small(pool: ImagePool, indices: NDArray[np.int64], done: int, workers: int) -> Iterator[Copies]:
    """The small copies of `indices` from number `done` on, block by block."""
    images = EvaluationImages(pool, indices, _small_view, _SIDE)
    reading, rows = LoaderConfig(workers=workers), np.arange(done, len(indices))
    batches = evaluation_loader(images, rows, _READ_BLOCK, reading, pin_memory=False)
    with tqdm(total=len(indices), initial=done, desc="small copies", unit="image", unit_scale=True) as bar:
        for batch in batches:
            yield _grey(batch["images"].numpy())
            bar.update(len(batch["images"]))


def perceptual_hash(image: Image) -> np.uint64:
    """The hash of one image, uint8 (height, width, 3)."""
    return np.uint64(perceptual_hashes(small_copy(image)[None])[0])


def perceptual_hashes(copies: Copies) -> Hashes:
    """The hashes (N,) of small copies: a bit is the sign of one coefficient of their cosine transform (pHash)."""
    hashes = np.empty(len(copies), np.uint64)
    for start in range(0, len(copies), _COMPARE_BLOCK):
        block = copies[start : start + _COMPARE_BLOCK].astype(np.float32)
        signs = dctn(block, axes=(1, 2))[:, _FREQUENCIES] > 0
        flat = block.std(axis=(1, 2)) < _LEAST_CONTRAST
        hashes[start : start + len(block)] = np.where(flat, NO_HASH, _packed(signs))
    return hashes


def near_duplicates(copies: Copies, distance: int, correlation: float, flips: bool = False) -> NearDuplicates:
    """All pairs of images that show the same picture, or with `flips` also its mirror or its quarter turn.

    Args:
        copies: the images, small.
        distance: bits in which their hashes differ at most.
        correlation: of their details, at least.
    """
    candidates = close_pairs(perceptual_hashes(copies), distance, flips)
    alike = correlations(copies, candidates, flips)
    return NearDuplicates(candidates[alike >= correlation], alike[alike >= correlation])


def close_pairs(hashes: Hashes, distance: int, flips: bool = False) -> Pairs:
    """All pairs (P, 2) of `hashes` (N,) that differ in `distance` bits or fewer; with `flips` in any of 8 orientations.

    Exact, by multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012, section 3): cut into four words of 16 bits, two such
    hashes have a word that differs in few bits, and only images with such words are compared.
    """
    known = np.flatnonzero(hashes != NO_HASH)
    there = hashes[known]
    codes = [np.empty(0, np.int64)]
    for turned in _orientations(there) if flips else [there]:
        codes.extend(_codes_within(there, turned, distance))
    code = np.unique(np.concatenate(codes))
    pairs: Pairs = known[np.stack(np.divmod(code, max(1, len(there))), axis=1)]
    return pairs


def correlations(copies: Copies, pairs: Pairs, flips: bool = False) -> NDArray[np.float64]:
    """Correlation (P,) of the details of each pair of small copies.

    Of one picture as it is, and of it enlarged a little about its middle, whichever fits the other picture best, since one of
    them may be a crop; with `flips` in the best of 8 orientations too.
    """
    involved, place = np.unique(pairs, return_inverse=True)
    place = place.reshape(-1, 2)
    whole, *enlarged = (_details(_enlarged(copies[involved], zoom)) for zoom in (1.0, *_ZOOMS))
    found = np.empty(len(pairs))
    for start in range(0, len(pairs), _COMPARE_BLOCK):
        left, right = place[start : start + _COMPARE_BLOCK].T
        sides = [(whole[left], whole[right])]
        for larger in enlarged:
            sides += [(whole[left], larger[right]), (larger[left], whole[right])]
        found[start : start + len(left)] = np.max([_most_alike(*two, flips) for two in sides], axis=0)
    return found


def connected(size: int, pairs: Pairs) -> NDArray[np.int64]:
    """A number for each of `size` images (N,), the same for images that a chain of pairs connects."""
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _small_view(image: Image) -> Image:
    return np.asarray(cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _grey(colour: Image) -> Copies:
    return np.rint(colour.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)


def _details(copies: Copies) -> Details:
    """Copies less their blur, divided by the local contrast of what is left, with mean 0."""
    details = np.empty(copies.shape, np.int8)
    for row, copy in enumerate(copies):
        rest = copy - cv2.GaussianBlur(copy.astype(np.float32), (0, 0), _DETAIL_SIGMA)
        contrast = cv2.GaussianBlur(np.square(rest), (0, 0), _DETAIL_SIGMA) + _NOISE**2
        even = rest / np.sqrt(contrast)
        details[row] = np.rint((even - even.mean()) * _DETAIL_SCALE).clip(-127, 127)
    return details


def _enlarged(copies: Copies, zoom: float) -> Copies:
    """Copies (N, 32, 32) enlarged about their middle; as they are for a zoom of 1."""
    if zoom == 1:
        return copies
    shift = (_SIDE - 1) / 2 * (1 - zoom)
    about_the_middle = np.array([[zoom, 0, shift], [0, zoom, shift]])
    larger, size, mirrored = np.empty_like(copies), (_SIDE, _SIDE), cv2.BORDER_REFLECT_101
    for row, copy in enumerate(copies):
        larger[row] = cv2.warpAffine(copy, about_the_middle, size, flags=cv2.INTER_CUBIC, borderMode=mirrored)
    return larger


def _most_alike(left: Details, right: Details, flips: bool) -> NDArray[np.float64]:
    """Correlation (B,) of details (B, 32, 32) with those of others, with `flips` in the best of 8 orientations."""
    one, other = left.astype(np.float32), right.astype(np.float32)
    size = np.sqrt(np.square(one).sum(axis=(1, 2)) * np.square(other).sum(axis=(1, 2)))
    products = [np.einsum("bij,bij->b", one, turned) for turned in _turned(other, flips)]
    alike: NDArray[np.float64] = np.max(products, axis=0) / np.maximum(size, 1)
    return alike


def _turned(details: NDArray[np.float32], flips: bool) -> Iterator[NDArray[np.float32]]:
    """Details (B, 32, 32) as they are, or with `flips` in all eight orientations."""
    if not flips:
        yield details
        return
    for own in (details, details.transpose(0, 2, 1)):
        for rows in (1, -1):
            for columns in (1, -1):
                yield own[:, ::rows, ::columns]


def _packed(bits: NDArray[np.bool_]) -> Hashes:
    octets = np.ascontiguousarray(np.packbits(bits, axis=1, bitorder="little"))
    return octets.view("<u8")[:, 0].astype(np.uint64)


def _orientations(hashes: Hashes) -> Iterator[Hashes]:
    """The hashes of the images turned over and around, in all eight ways: a mirror turns the signs of odd frequencies."""
    u, v = _U[_FREQUENCIES], _V[_FREQUENCIES]
    transposed = np.lexsort((u, v))
    octets = hashes.astype("<u8").view(np.uint8).reshape(-1, 8)
    bits = np.unpackbits(octets, axis=1, bitorder="little").astype(bool)
    for own in (bits, bits[:, transposed]):
        for mirrored in (np.zeros(64, bool), u % 2 == 1, v % 2 == 1, (u + v) % 2 == 1):
            yield _packed(own ^ mirrored)


def _codes_within(left: Hashes, right: Hashes, distance: int) -> Iterator[NDArray[np.int64]]:
    """The pairs i < j of `left[i]` and `right[j]` within `distance`, as numbers i * N + j; some come more than once."""
    size = len(left)
    left_words, right_words = (hashes.astype("<u8").view("<u2").reshape(-1, _WORDS) for hashes in (left, right))
    for word in range(_WORDS):
        order = np.argsort(right_words[:, word], kind="stable")
        starts = np.searchsorted(right_words[order, word], np.arange((1 << _WORD_BITS) + 1))
        # were every word to differ in more bits than this, the hashes would differ in more than `distance`
        radius = distance // _WORDS - (word > distance % _WORDS)
        for mask in _masks(radius):
            wanted = (left_words[:, word] ^ mask).astype(np.int64)
            for i, at in _joined(starts[wanted], starts[wanted + 1]):
                j = order[at]
                near = (i < j) & (np.bitwise_count(left[i] ^ right[j]) <= distance)
                yield i[near] * size + j[near]


def _masks(radius: int) -> list[np.uint16]:
    """All 16-bit words with `radius` bits or fewer; none for a radius of -1."""
    bits = [bits for count in range(radius + 1) for bits in combinations(range(_WORD_BITS), count)]
    return [np.uint16(sum(1 << bit for bit in some)) for some in bits]


def _joined(first: NDArray[np.int64], end: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Each row i with each place from `first[i]` to `end[i]`, in blocks of about a million."""
    count = end - first
    cuts = np.searchsorted(np.cumsum(count), np.arange(0, count.sum(), _JOIN_BLOCK), side="right")
    for begin, stop in pairwise([*np.unique(cuts), len(count)]):
        part = count[begin:stop]
        rows = np.repeat(np.arange(begin, stop), part)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(part) - part, part)
        yield rows, first[rows] + within
