"""The review of a job by one person: the sample, and the ConfigMap with the scores of the reviewer."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from tunegate_api.contract.plan import Plan
from tunegate_api.judging.review import SCORES_SUFFIX, ReviewScores, RowScore
from tunegate_api.judging.review_sample import ReviewRow, sample_digest
from tunegate_api.meta import first_problem
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_client.places.client import Client, ClientError, status_of
from tunegate_operator.engine.cluster import Object
from tunegate_operator.names import PLAN_KEY, REVIEW_LABEL, SCORES_KEY, scores_name


@dataclass(frozen=True)
class OpenReview:
    """The sample of a job that awaits its review, and the scores in the ConfigMap of one reviewer."""

    job: str
    sample: str
    """Digest of the sample."""
    rows: Sequence[ReviewRow]
    """All rows of the sample. Those that a judge model or other people scored are last."""
    reviewer: str
    scores: Mapping[str, RowScore]
    """The scores that the reviewer has given so far."""
    others: Mapping[str, Mapping[str, RowScore]] = field(default_factory=dict)
    """The scores of other reviewers, from a file that has the scores of several people."""
    judged: frozenset[str] = frozenset()
    """The ids of the rows for which the score of a judge model counts if no person scores them."""
    by_others: frozenset[str] = frozenset()
    """The ids of the rows that other people had scored when the sample was read."""

    @property
    def needed(self) -> list[str]:
        """The ids of the rows that need a score of the reviewer, because nobody else scored them."""
        return [row.id for row in self.rows if row.id not in self.judged | self.by_others]

    @property
    def reviewers(self) -> list[str]:
        """The names of the people with scores."""
        return [*([self.reviewer] if self.scores else []), *self.others]

    @property
    def for_people(self) -> int:
        """The number of rows that people must score, because no judge model did."""
        return len(self.rows) - len(self.judged)

    @property
    def scored(self) -> int:
        """The number of these rows that at least one person has scored."""
        return len(self.by_others.union(self.scores, *self.others.values()) - self.judged)

    @property
    def counts_text(self) -> str:
        """How many rows people and a judge model scored."""
        judge = f"; the judge scored {len(self.judged)}" if self.judged else ""
        return f"{self.scored} of {self.for_people} rows are scored{judge}"

    @property
    def already_text(self) -> str:
        """How many rows a judge model and other people scored, as ``the judge scored 8``; empty for none."""
        by_others = len(self.by_others - self.judged)
        return ", ".join(
            f"{who} scored {count}"
            for who, count in (("the judge", len(self.judged)), ("others", by_others))
            if count
        )

    def config_map(self) -> Object:
        """Return the ConfigMap that records the scores."""
        data = {_key(name): self._document(name, scores) for name, scores in self.others.items()}
        if self.scores or not data:
            data[SCORES_KEY] = self._document(self.reviewer, self.scores)
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": scores_name(self.job, self.reviewer),
                "labels": {REVIEW_LABEL: self.job},
            },
            "data": data,
        }

    def _document(self, reviewer: str, scores: Mapping[str, RowScore]) -> str:
        document = ReviewScores(sample=self.sample, reviewer=reviewer, scores=dict(scores))
        content = document.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def open_review(client: Client, name: str, reviewer: str) -> OpenReview:
    """Read the sample of a job and the scores that the reviewer gave earlier.

    Raises ClientError if the job does not await a review, or if its sample is not the one in its plan.
    """
    job = client.get("FineTuneJob", name)
    status = status_of(job)
    expected = status.data.review if status.data else None
    if status.phase is not Phase.AWAITING_REVIEW or expected is None:
        raise ClientError(
            f"FineTuneJob {name} in {client.place} does not await a review: it is in phase {status.phase}"
        )
    rows = _parse_sample(client.read_review_sample(job), name)
    if sample_digest(rows) != expected.sample:
        raise ClientError(
            f"the review sample of FineTuneJob {name} was changed on its volume: its digest is not the one "
            "in the plan; delete the job and create it again"
        )
    judged, known = _judged_ids(client, status), frozenset(row.id for row in rows)
    earlier = _parse_scores(client.read_config_map(scores_name(name, reviewer)), expected.sample, known)
    own = earlier.pop(reviewer, {})
    found = _ids_by_others(client, name, reviewer, expected.sample, known)
    others = frozenset(found).union(*earlier.values())
    rows.sort(key=lambda row: row.id in judged | others)
    return OpenReview(name, expected.sample, rows, reviewer, own, earlier, judged & known, others)


def _ids_by_others(
    client: Client, name: str, reviewer: str, sample: str, known: frozenset[str]
) -> Iterator[str]:
    """Yield the ids of the rows with scores in the ConfigMaps of other people. Scores that the operator
    ignores do not count."""
    for config_map in client.read_score_maps(name):
        if config_map["metadata"]["name"] != scores_name(name, reviewer):
            for document in _documents(config_map, sample):
                if known.issuperset(document.scores):
                    yield from document.scores


def _judged_ids(client: Client, status: FineTuneJobStatus) -> frozenset[str]:
    """Return the ids of the rows for which the score of a judge model counts if no person scores them. Empty
    if the plan, which has these ids, cannot be read."""
    judge = status.data.review.judge if status.data and status.data.review else None
    if judge is None or judge.calibration != "Passed" or status.plan is None:
        return frozenset()
    text = (client.read_config_map(status.plan.config_map) or {}).get("data", {}).get(PLAN_KEY, "")
    try:
        sample = Plan.model_validate_json(text).data.review
    except ValidationError:
        return frozenset()
    found = sample.judge if sample else None
    return frozenset({*found.good, *(row.id for row in found.bad)} if found else ())


def split_lines(text: str) -> list[str]:
    """Return the lines of JSON Lines. str.splitlines would also split at characters such as U+2028 inside a
    JSON string."""
    return text.removeprefix("\ufeff").split("\n")


def _parse_sample(text: str, name: str) -> list[ReviewRow]:
    try:
        return [ReviewRow.model_validate_json(line) for line in split_lines(text) if line]
    except ValidationError as error:
        raise ClientError(
            f"the review sample of FineTuneJob {name} cannot be read: {first_problem(error)}"
        ) from error


def _parse_scores(
    config_map: Object | None, sample: str, known: frozenset[str]
) -> dict[str, dict[str, RowScore]]:
    """Return the scores in a ConfigMap by reviewer, without those that are unusable or about another
    sample."""
    return {
        document.reviewer: {id: score for id, score in document.scores.items() if id in known}
        for document in _documents(config_map or {}, sample)
    }


def _documents(config_map: Object, sample: str) -> Iterator[ReviewScores]:
    """Yield the scores in a ConfigMap, without those that are unusable or about another sample."""
    for key, text in (config_map.get("data") or {}).items():
        if not key.endswith(SCORES_SUFFIX):
            continue
        try:
            document = ReviewScores.model_validate_json(text)
        except ValidationError:
            continue
        if document.sample == sample:
            yield document


def _key(reviewer: str) -> str:
    """Return the key for the scores of another reviewer in a ConfigMap."""
    return f"{hashlib.sha256(reviewer.encode()).hexdigest()[:10]}.json"
