"""Collect the scores in a file, and the mistakes in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tunegate_api.judging.review import RowScore
from tunegate_api.meta import summarize
from tunegate_api.v1alpha2.data_status import MAX_REVIEWER, MAX_REVIEWERS
from tunegate_client.places.client import ClientError
from tunegate_client.places.review import OpenReview

_MAX_PROBLEMS = 5


@dataclass
class GivenScores:
    """The scores in a file for the sample of a review."""

    _review: OpenReview
    _where: str
    """Names the file."""
    _by_reviewer: dict[str, dict[str, RowScore]] = field(default_factory=dict)
    _problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._known = {row.id for row in self._review.rows}

    @property
    def sample(self) -> str:
        """The digest of the sample."""
        return self._review.sample

    def add(self, place: str, id: object, score: RowScore, reviewer: str = "") -> None:
        """Add a score. ``reviewer`` is empty for the person who reads the file."""
        name = reviewer.strip()[:MAX_REVIEWER].strip() or self._review.reviewer
        scores = self._by_reviewer.setdefault(name, {})
        if not isinstance(id, str) or id not in self._known:
            self.add_problem(f"{place}: no row of the sample has the id {str(id)[:64]!r}")
        elif id in scores:
            self.add_problem(f"{place}: row {id} has two scores of {name}: delete one")
        else:
            scores[id] = score

    def add_problem(self, problem: str) -> None:
        self._problems.append(problem)

    def refuse(self, problem: str) -> ClientError:
        """Return the error for a file that cannot be used at all."""
        return ClientError(f"{self._where}: {problem}")

    def review(self) -> OpenReview:
        """Return the review with these scores. Raises ClientError with the first mistakes."""
        if self._problems:
            raise self.refuse(summarize(self._problems, _MAX_PROBLEMS, separator="; "))
        if not self._by_reviewer:
            raise self.refuse("it has no scores")
        others: Mapping[str, Mapping[str, RowScore]] = {
            name: {**self._review.others.get(name, {}), **scores}
            for name, scores in self._by_reviewer.items()
            if name != self._review.reviewer
        }
        own = self._by_reviewer.get(self._review.reviewer, {})
        reviewed = replace(
            self._review,
            scores={**self._review.scores, **own},
            others={**self._review.others, **others},
        )
        if len(reviewed.reviewers) > MAX_REVIEWERS:
            raise self.refuse(
                f"with the scores of {summarize(reviewed.reviewers, _MAX_PROBLEMS)}, there would be "
                f"{len(reviewed.reviewers)} reviewers, but at most {MAX_REVIEWERS} count"
            )
        return reviewed
