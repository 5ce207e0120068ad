"""Spectra whose numbers are known beforehand, and the papers' formulas in plain loops."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from ssl_isic.evaluation.spectrum import PAIR_ROWS, alignment, alpha_req, rankme, uniformity


def with_spectrum(singular: NDArray[np.float64], rows: int, seed: int = 0) -> NDArray[np.float64]:
    """Centred features (rows, D) with the given singular values (D,)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(rows, len(singular)))
    left = np.linalg.qr(noise - noise.mean(axis=0))[0]
    right = np.linalg.qr(rng.normal(size=(len(singular), len(singular))))[0]
    return left * singular @ right.T


def test_rankme_of_known_singular_values() -> None:
    # p = 1/2, 1/4, 1/4: entropy 1.5 ln 2
    assert rankme(np.diag([4.0, 2.0, 2.0])) == pytest.approx(2**1.5, rel=1e-5)
    assert rankme(np.eye(16)) == pytest.approx(16, rel=1e-4)
    assert rankme(np.outer(np.arange(1.0, 30), [1.0, -2.0, 3.0, 0.5])) == pytest.approx(1, rel=1e-4)
    assert rankme(with_spectrum(np.array([4.0, 2.0, 2.0]), rows=50)) == pytest.approx(2**1.5, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_rankme_normalises_before_it_adds_epsilon(scale: float) -> None:
    features = scale * np.random.default_rng(0).normal(size=(40, 8))
    p = np.linalg.svd(features, compute_uv=False)
    p = p / p.sum() + 1e-7
    assert rankme(features) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)), rel=1e-12)
    assert 7 < rankme(features) <= 8.001


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_alpha_req_finds_the_exponent_of_a_power_law(exponent: float) -> None:
    rank = np.arange(1, 65)
    features = with_spectrum(np.sqrt(rank**-exponent), rows=200) + 7.0  # centring takes the 7 away
    assert alpha_req(features) == pytest.approx(exponent, rel=1e-6)
    assert alpha_req(features, ranks=(1, 10)) == pytest.approx(exponent, rel=1e-6)


def test_alpha_req_fits_only_its_range_and_stops_where_the_spectrum_does() -> None:
    eigenvalues = np.concatenate([[1e6, 1e5, 1e4, 1e3], np.arange(5.0, 21) ** -1.5, np.zeros(12)])
    assert alpha_req(with_spectrum(np.sqrt(eigenvalues), rows=100)) == pytest.approx(1.5, rel=1e-5)
    with pytest.raises(ValueError, match=r"needs 3\+ eigenvalues there, 6 are not zero"):
        alpha_req(with_spectrum(np.array([3.0, 2, 2, 1, 1, 1, 0]), rows=40))


def test_alignment_is_the_mean_squared_distance_on_the_sphere() -> None:
    first = np.array([[2.0, 0], [0, 3], [1, 0]])
    assert alignment(first, 5 * first) == 0
    assert alignment(first, -first) == pytest.approx(4)
    assert alignment(first, np.array([[0.0, 1], [0, 1], [-4, 0]])) == pytest.approx((2 + 0 + 4) / 3)
    with pytest.raises(ValueError, match="the same images twice"):
        alignment(first, first[:2])


def test_uniformity_is_the_log_of_the_mean_over_pairs() -> None:
    assert uniformity([[1.0, 0], [2, 0]]) == pytest.approx(0)
    assert uniformity([[1.0, 0], [-1, 0]], t=3) == pytest.approx(-12)
    features = np.random.default_rng(0).normal(size=(30, 4))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    pairs = [math.exp(-2 * sum((unit[i] - unit[j]) ** 2)) for i in range(30) for j in range(i)]
    assert uniformity(features) == pytest.approx(math.log(sum(pairs) / len(pairs)), rel=1e-12)


def test_uniformity_over_several_tiles_is_that_of_all_pairs() -> None:
    features = np.random.default_rng(1).normal(size=(PAIR_ROWS + 50, 3))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    total = np.exp(-4 * (1 - unit @ unit.T)).sum() - len(unit)
    assert uniformity(features) == pytest.approx(math.log(total / (len(unit) * (len(unit) - 1))), rel=1e-10)


@pytest.mark.parametrize("measure", [rankme, alpha_req, uniformity])
def test_what_is_no_cloud_of_features_is_refused(measure: object) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match=r"shape \(N, D\)"):
        measure(np.zeros(3))
    with pytest.raises(ValueError, match="row 1 is not"):
        measure([[1.0, 2], [np.nan, 1], [1, 1]])


def test_what_has_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="all zero"):
        rankme(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="needs pairs"):
        uniformity([[1.0, 2.0]])
