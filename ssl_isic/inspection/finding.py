"""A finding, and all that there are, by names that scripts can rely on."""

from typing import NamedTuple

WRONG = {
    "unreadable": "more of a source's images than max_unreadable do not decode",
    "rows-without-image": "rows of a table whose image is not in its source",
    "not-a-label": "a target that is neither 0, 1 nor empty",
    "one-class": "labels of one class only",
    "labels-contradict": "images with the same pixels, or the same id, that have different targets or diagnoses",
    "group-across-folds": "a group of the folds file, a patient or a lesion in two folds",
    "duplicate-across-folds": "images with the same bytes or pixels in two folds",
    "near-duplicate-across-folds": "near-duplicates by perceptual hash in two folds",
    "fold-of-one-class": "a fold without positives or without negatives, or one fold only",
    "folds-without-image": "rows of the folds file whose image is in no source",
}
"""What would make a result wrong, by its name: any of it is exit code 1."""
NOTED = {
    "some-unreadable": "images that do not decode, no more than max_unreadable of a source",
    "suspect": "images that decode against the decoder's warnings: part of the picture may be grey",
    "images-without-row": "images of a source with a table that have no row in it",
    "duplicates": "images with the same bytes or pixels",
    "near-duplicates": "images that look alike, by perceptual hash or by the backbone",
    "overlap": "images of one source that another has too, or nearly",
    "no-overlap": "two sources that share no image",
    "alike-apart": "alike images under two patients or lesions: a split by those columns puts them on two sides",
    "near-labels-differ": "near-duplicates that have different targets",
    "lesion-labels-differ": "a lesion whose photographs have different targets",
    "lesion-of-two-patients": "a lesion that belongs to two patients",
    "photographs": "lesions with two photographs or more",
    "gaps-tell": "a column whose gaps alone tell the target with an AUC of 0.75 or more",
    "colour-tells-clinic": "twelve colour numbers that name the clinic better than always naming the commonest",
    "rows-without-fold": "labelled images that the folds file leaves out",
}
"""What is worth knowing, by its name."""


class Finding(NamedTuple):
    """One thing found. `section` is where the page has more of it."""

    name: str
    text: str
    section: str

    @property
    def wrong(self) -> bool:
        """Whether it would make a result wrong."""
        return self.name in WRONG
