"""The scores of a review sample in JSON Lines, for scripts."""

import json
from typing import Any

from pydantic import ValidationError

from tunegate_api.judging.review import Score, WholeText
from tunegate_api.meta import first_problem
from tunegate_operator.clients.review import split_lines
from tunegate_operator.clients.review_files.given import GivenScores


class _Line(Score):
    id: Any = None
    reviewer: WholeText = ""

    @property
    def score(self) -> Score:
        return Score(good=self.good, note=self.note)


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
