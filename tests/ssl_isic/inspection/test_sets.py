"""Sets of images against sets written out."""

import numpy as np

from ssl_isic.inspection.sets import ImageSets, alike, joined, numbered, shared_between


def written_out(sets: ImageSets) -> set[frozenset[int]]:
    return {frozenset(sets[number].tolist()) for number in range(len(sets))}


def test_alike_images_form_sets_and_lone_ones_none() -> None:
    sets = alike(np.array([3, 1, 3, 2, 1, 3]), np.array([10, 11, 12, 13, 14, 15]))
    assert written_out(sets) == {frozenset({10, 12, 15}), frozenset({11, 14})}
    assert sorted(sets.sizes.tolist()) == [2, 3]


def test_pairs_join_through_others() -> None:
    assert written_out(joined(9, np.array([[1, 2], [2, 5], [7, 8]]))) == {frozenset({1, 2, 5}), frozenset({7, 8})}
    assert len(joined(9, np.empty((0, 2), np.int64))) == 0


def test_links_join_what_they_came_from() -> None:
    sets = joined(9, np.array([[1, 2], [2, 5], [7, 8]]))
    assert sets.links.shape == (3, 2)
    assert written_out(joined(9, sets.links)) == written_out(sets)


def test_a_difference_needs_two_known_values() -> None:
    sets = ImageSets(np.array([0, 1, 2, 3, 4, 5, 6]), np.array([0, 2, 4, 7]))
    assert sets.differ(np.array([0, 1, -1, 1, 2, -1, 2])).tolist() == [True, False, False]
    assert sets.differ(np.full(7, -1)).tolist() == [False, False, False]
    assert written_out(sets.only(np.array([False, True, True]))) == {frozenset({2, 3}), frozenset({4, 5, 6})}
    assert sets.by(-sets.sizes)[0].tolist() == [4, 5, 6]


def test_no_sets_are_no_trouble() -> None:
    none = ImageSets(np.empty(0, np.int64), np.zeros(1, np.int64))
    assert none.differ(np.arange(3)).shape == (0,)
    assert none.links.shape == (0, 2)
    assert len(none.by(-none.sizes)) == 0
    assert shared_between(none, np.zeros(3, int), 2).tolist() == [[0, 0], [0, 0]]


def test_what_sources_share_by_hand() -> None:
    """Sets {0, 1 | 5}, {2 | 6, 7}, {3, 4}: images 0 to 4 are of source 0, 5 to 7 of source 1."""
    sets = ImageSets(np.array([0, 1, 5, 2, 6, 7, 3, 4]), np.array([0, 3, 6, 8]))
    source = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    assert shared_between(sets, source, 2).tolist() == [[4, 3], [3, 2]]


def test_digests_are_numbered_by_all_their_bytes() -> None:
    digests = np.zeros((4, 32), np.uint8)
    digests[1, 31], digests[3, 0] = 1, 1
    number = numbered(digests)
    assert number[0] == number[2]
    assert len(set(number.tolist())) == 3
