"""The scores of a review sample in JSON Lines, for scripts."""

import json
from typing import Any

from pydantic import ValidationError

from tunegate_api.judging.review import RowScore, WholeText
from tunegate_api.meta import first_problem
from tunegate_client.places.review import OpenReview, split_lines
from tunegate_client.places.review_files.given import GivenScores


class _Line(RowScore):
    id: Any = None
    reviewer: WholeText = ""

    @property
    def score(self) -> RowScore:
        return RowScore(good=self.good, note=self.note)


def score_lines(review: OpenReview) -> str:
    """Return all scores of a review. Those of other people have the field ``reviewer``."""
    own = [_line_text(id, score) for id, score in review.scores.items()]
    others = [
        _line_text(id, score, reviewer=reviewer)
        for reviewer, scores in review.others.items()
        for id, score in scores.items()
    ]
    return "".join([*own, *others])


def read_score_lines(text: str, given: GivenScores) -> None:
    """Read the scores in JSON Lines: objects with ``id`` and ``good``, and optionally ``note`` and
    ``reviewer``."""
    for number, text_line in enumerate(split_lines(text), start=1):
        if not text_line.strip():
            continue
        place = f"line {number}"
        try:
            fields = json.loads(text_line)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            given.add_problem(f"{place}: not a JSON object")
            continue
        try:
            line = _Line.model_validate(fields)
        except ValidationError as error:
            given.add_problem(f"{place}: {first_problem(error)}")
        else:
            given.add(place, line.id, line.score, line.reviewer)


def _line_text(id: str, score: RowScore, **fields: str) -> str:
    return json.dumps({"id": id, **score.model_dump(), **fields}, ensure_ascii=False) + "\n"
