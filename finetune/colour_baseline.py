"""Logistic regression on twelve colour numbers, fold by fold: what a backbone has to beat."""

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from finetune.labelled import Labelled
from ssl_isic.data.images import ImagePool
from ssl_isic.evaluation.colour import colour_features


def colour_baseline(labelled: Labelled, pool: ImagePool) -> NDArray[np.float64]:
    """Out-of-fold probabilities (N,) of the labelled images, each from a model that never saw its fold."""
    features = colour_features(pool, labelled.indices)
    scores = np.zeros(len(labelled.ids))
    for fold in np.unique(labelled.fold):
        held = labelled.fold == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(features[~held], labelled.target[~held])
        scores[held] = model.predict_proba(features[held])[:, 1]
    return scores
