"""Measure how well a classifier distinguishes two samples of texts.

This is a classifier two-sample test (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests"): if
both samples come from the same distribution, no classifier can distinguish texts that it has not seen, and
the area under the ROC curve (AUC) is 0.5.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash  # type: ignore[import-untyped]
from scipy import sparse  # type: ignore[import-untyped]
from sklearn.feature_extraction.text import (  # type: ignore[import-untyped]
    CountVectorizer,
    HashingVectorizer,
    TfidfTransformer,
)
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]

from tunegate_trainer.checks.inputs import words_of
from tunegate_trainer.data.split import join_groups, normalize, text_key

Floats = NDArray[np.float64]

FOLDS = 5
_FORM = ("long inputs", "line breaks", "capital letters", "digits")
_FORM_WEIGHT = 0.3
"""Standard deviation of the features in ``_FORM``. A row of word weights has the norm 1, so that a larger
value would let the form outweigh the words."""
_ENDS = 300
"""Number of characters at the start and at the end of a text whose parts of words are counted. Memory and
time are proportional to it."""
_HASHES = 2**20
"""Number of hash values of parts of words. Memory for a part itself would be unlimited for texts without
repeated words."""
_RARE = 0.1
"""Texts are compared by words that at most this share of the texts has. Other words belong to a template."""
_MOST_EQUAL = 0.05
"""Larger groups of near-equal texts, as a share of all texts, are the rows of a template, not copies."""
_BANDS, _BAND = 8, 4
"""Texts with a Jaccard similarity of about (1 / _BANDS) ** (1 / _BAND) = 0.6 or more are near-equal."""
_Z = 1.959964
"""The normal quantile of a two-sided 95 % confidence interval."""


@dataclass(frozen=True)
class Separation:
    """How well a classifier distinguishes the texts of two samples."""

    auc: float
    low: float
    """The lower bound of the 95 % confidence interval of the AUC."""
    high: float
    first: list[str]
    """What the first sample has more of: words in double quotes, and properties such as ``line breaks``. The
    entry that contributes most to the classifier's decision is first."""
    second: list[str]
    scores: Floats
    """The classifier's score of each text of the second sample. It is higher if the text is less like the
    first sample. The classifier has not seen the text."""
    unlike: int
    """How many texts of the second sample have a higher score than 95 % of the texts of the first sample."""
    groups: list[str]
    """The group of each text of the second sample. Near-equal texts are in the same group."""


def separate(first: Sequence[str], second: Sequence[str], most_words: int = 10) -> Separation:
    """Train and test a classifier by cross-validation, with near-equal texts in the same fold.

    The classifier is a logistic regression on the weights (TF-IDF) of parts of words, and on the form of the
    texts. Parts distinguish small samples better than words, because more texts have them. Those in the
    middle of a long text are not counted. A second model, of words, only says what distinguishes the samples.
    Both samples have the same total weight. The result depends only on the texts and their order.
    """
    texts = [*first, *second]
    labels = np.repeat([0, 1], [len(first), len(second)])
    counts, words = _words(texts)
    parts = _parts(texts)
    groups = _near_equal(texts, counts)
    form = _standardized(np.array([_form(text) for text in texts]))
    folds = _folds(groups, labels)
    scores = np.zeros(len(texts))
    for fold in range(FOLDS):
        tested = folds == fold
        scores[tested] = _scores(parts, form, labels, tested)
    auc, error = cross_validated_auc(scores, labels, folds)
    known = _known(counts)
    features = _features(counts[:, known], form, counts[:, known])
    names = [_quoted(words[i]) for i in np.flatnonzero(known)]
    of_first, of_second = _telling(features, labels, [*names, *_FORM])
    return Separation(
        auc=auc,
        low=max(0.0, auc - _Z * error),
        high=min(1.0, auc + _Z * error),
        first=of_first[:most_words],
        second=of_second[:most_words],
        scores=scores[labels == 1],
        unlike=_unlike(scores, labels, folds),
        groups=groups[len(first) :],
    )


def cross_validated_auc(
    scores: Floats, labels: NDArray[np.int_], folds: NDArray[np.int_]
) -> tuple[float, float]:
    """Return the mean AUC of the folds, and its standard error.

    Scores of different folds come from different models, so they are compared only within a fold. The
    variance within a fold is that of DeLong, DeLong and Clarke-Pearson (1988), and the folds are combined as
    in LeDell, Petersen and van der Laan (2015). Folds without texts of both samples are left out.
    """
    aucs: list[float] = []
    variances: list[float] = []
    for fold in np.unique(folds):
        of_second = scores[(folds == fold) & (labels == 1)]
        of_first = scores[(folds == fold) & (labels == 0)]
        if len(of_second) and len(of_first):
            above = _share_below(of_first, of_second)
            below = 1 - _share_below(of_second, of_first)
            aucs.append(float(above.mean()))
            variances.append(float(above.var() / len(above) + below.var() / len(below)))
    return float(np.mean(aucs)), float(np.sqrt(sum(variances)) / len(aucs))


def _unlike(scores: Floats, labels: NDArray[np.int_], folds: NDArray[np.int_]) -> int:
    count = 0
    for fold in np.unique(folds):
        of_first = scores[(folds == fold) & (labels == 0)]
        if len(of_first):
            count += int((scores[(folds == fold) & (labels == 1)] > np.percentile(of_first, 95)).sum())
    return count


def _share_below(sample: Floats, values: Floats) -> Floats:
    """Return the share of ``sample`` below each value. Equal values count half."""
    ordered = np.sort(sample)
    count = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    shares: Floats = count / (2 * len(sample))
    return shares


def _quoted(word: str) -> str:
    """Return the name of a word. Words with digits have none, because they may be the numbers of a person."""
    if any(map(str.isdigit, word)):
        return ""
    return "quotation marks" if word == '"' else f'"{word}"'


def _words(texts: Sequence[str]) -> tuple[sparse.csr_matrix, list[str]]:
    """Return how often each text has each word, and these words."""
    vectorizer = CountVectorizer(tokenizer=words_of, token_pattern=None, lowercase=False, dtype=np.float32)
    try:
        counts = vectorizer.fit_transform(texts)
    except ValueError:  # the texts have no words
        return sparse.csr_matrix((len(texts), 0), dtype=np.float32), []
    return counts.tocsr(), vectorizer.get_feature_names_out().tolist()


def _parts(texts: Sequence[str]) -> sparse.csr_matrix:
    """Return how often both ends of each text have each part of a word, of 3 to 5 characters, by its hash."""
    vectorizer = HashingVectorizer(
        analyzer="char_wb",
        ngram_range=(3, 5),
        n_features=_HASHES,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    return vectorizer.transform(
        text if len(text) <= 2 * _ENDS else f"{text[:_ENDS]}\n{text[-_ENDS:]}" for text in texts
    )


def _scores(
    parts: sparse.csr_matrix, form: Floats, labels: NDArray[np.int_], tested: NDArray[np.bool_]
) -> Floats:
    """Return the scores of the ``tested`` texts. The model, and the weights, depend only on the others."""
    learned = parts[~tested]
    known = _known(learned)
    learned = learned[:, known]
    unseen = _features(parts[tested][:, known], form[tested], learned)
    learned = _features(learned, form[~tested], learned)  # one copy in memory, not two
    scores: Floats = _fit(learned, labels[~tested]).decision_function(unseen)
    return scores


def _known(learned: sparse.csr_matrix) -> NDArray[np.bool_]:
    """Return which words, or parts of words, at least two of the texts have.

    Otherwise, texts that are in both samples could be recognized by the frequency of their words.
    """
    frequent: NDArray[np.bool_] = np.bincount(learned.indices, minlength=learned.shape[1]) > 1
    return frequent


def _features(counts: sparse.csr_matrix, form: Floats, learned: sparse.csr_matrix) -> sparse.csr_matrix:
    """Return the features of texts: a weight for each word or part of a word, and the form. The weights
    depend on the frequencies in the ``learned`` texts."""
    weights = counts
    if counts.shape[1]:
        weights = TfidfTransformer(sublinear_tf=True).fit(learned).transform(counts)
    return sparse.hstack([weights, sparse.csr_matrix(form)], format="csr", dtype=np.float32)


def _standardized(form: Floats) -> Floats:
    spread = form.std(axis=0)
    standardized: Floats = (form - form.mean(axis=0)) / np.where(spread > 0, spread, 1) * _FORM_WEIGHT
    return standardized


def _form(text: str) -> tuple[float, float, float, float]:
    length = max(1, len(text))
    capitals, digits = sum(map(str.isupper, text)), sum(map(str.isdigit, text))
    return float(np.log1p(length)), float(np.log1p(text.count("\n"))), capitals / length, digits / length


def _fit(features: sparse.csr_matrix, labels: NDArray[np.int_]) -> LogisticRegression:
    model = LogisticRegression(C=5.0, class_weight="balanced", solver="liblinear", random_state=0)
    return model.fit(features, labels)


def _telling(
    features: sparse.csr_matrix, labels: NDArray[np.int_], names: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the names of the features that distinguish the samples most: those that the first sample
    has more of, and those that the second has more of. Features without a name are left out.

    The contribution of a feature is its coefficient times the difference between its means in the samples.
    The contributions of all features add up to the difference between the mean scores.
    """
    difference = _means(features[labels == 1]) - _means(features[labels == 0])
    contribution = _fit(features, labels).coef_[0] * difference
    order = [i for i in np.argsort(-contribution, kind="stable") if contribution[i] > 0 and names[i]]
    return [names[i] for i in order if difference[i] < 0], [names[i] for i in order if difference[i] > 0]


def _means(features: sparse.csr_matrix) -> Floats:
    means: Floats = np.asarray(features.mean(axis=0)).ravel()
    return means


def _near_equal(texts: Sequence[str], counts: sparse.csr_matrix) -> list[str]:
    """Return the group of each text. Texts that have most of their rare words in common are in one group, and
    so are texts that differ only in case or white space.

    They are found by MinHash. Groups of more than ``_MOST_EQUAL`` of the texts are split up again.
    """
    exact = [normalize(text) for text in texts]
    rare = np.diff(counts.tocsc().indptr) <= max(2, _RARE * len(texts))
    keys: list[tuple[str, str]] = []
    for i, text in enumerate(exact):
        words = counts.indices[counts.indptr[i] : counts.indptr[i + 1]]
        words = words[rare[words]]
        keys.append((str(i), text))
        if len(words) > _BAND:
            minhash = RMinHash(num_perm=_BANDS * _BAND, seed=1)
            minhash.update([str(word) for word in words])
            digest = minhash.digest()
            bands = [digest[start : start + _BAND] for start in range(0, len(digest), _BAND)]
            keys += [(str(i), f"band {number}: {band}") for number, band in enumerate(bands)]
    joined = dict(zip((i for i, _ in keys), join_groups(keys), strict=True))
    groups = [joined[str(i)] for i in range(len(texts))]
    groups = _split_large(groups, exact)
    return _split_large(groups, [str(i) for i in range(len(texts))])


def _split_large(groups: Sequence[str], smaller: Sequence[str]) -> list[str]:
    """Return the ``smaller`` group of each text whose group has more than ``_MOST_EQUAL`` of the texts."""
    most = max(2, _MOST_EQUAL * len(groups))
    sizes = Counter(groups)
    return [other if sizes[group] > most else group for group, other in zip(groups, smaller, strict=True)]


def _folds(groups: Sequence[str], labels: NDArray[np.int_]) -> NDArray[np.int_]:
    """Return the fold of each text. A group is in one fold, and each fold has about as many texts of either
    sample as any other: groups are ordered by their sample and a hash, and dealt out in turn."""
    second: dict[str, int] = {}
    for group, label in zip(groups, labels.tolist(), strict=True):
        second[group] = second.get(group, 0) + label
    order = sorted(second, key=lambda group: (second[group], text_key(group)))
    fold_of = {group: number % FOLDS for number, group in enumerate(order)}
    return np.array([fold_of[group] for group in groups])
