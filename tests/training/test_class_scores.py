"""Scores of classes and numbers beside scikit-learn's and SciPy's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from paddock.training.scores.classes import class_scores, confusion, number_scores


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_class_scores_equal_scikit_learn(classes: int) -> None:
    random = np.random.default_rng(classes)
    for examples in (1, 2, 5, 200):
        truth, named = random.integers(classes, size=(2, examples)) // random.integers(1, 3)
        counts = confusion(truth, named, classes)
        found = class_scores(counts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # classes that nobody named
            assert found.macro_f1 == pytest.approx(metrics.f1_score(truth, named, average="macro"), abs=1e-12)
            each = metrics.f1_score(truth, named, average=None, labels=range(classes))
        assert found.accuracy == pytest.approx(metrics.accuracy_score(truth, named))
        expected = metrics.confusion_matrix(truth, named, labels=range(classes))
        assert np.array_equal(counts, expected) and found.confusion == tuple(map(tuple, expected.tolist()))
        assert found.majority == np.bincount(truth).max() / examples
        known = set(truth) | set(named)
        assert [f1 is not None for f1 in found.f1] == [number in known for number in range(classes)]
        assert [f1 or 0.0 for f1 in found.f1] == pytest.approx(each.tolist())


def test_accuracy_flatters_where_one_class_is_common() -> None:
    truth = np.array([0] * 95 + [1] * 5)
    found = class_scores(confusion(truth, np.zeros_like(truth), 2))
    assert found.accuracy == found.majority == 0.95 and found.macro_f1 < 0.5 and found.f1[1] == 0.0


def test_number_scores_equal_scipy() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(5, size=50).astype(np.float64)  # with ties
    told = (truth + random.normal(size=50)).round(1)
    found = number_scores(truth, told)
    assert found.pearson == pytest.approx(stats.pearsonr(truth, told).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(truth, told).statistic)
    assert found.mean_absolute_error == pytest.approx(metrics.mean_absolute_error(truth, told))
    still = number_scores(truth, np.ones(50))
    assert still.pearson is None and still.spearman is None
