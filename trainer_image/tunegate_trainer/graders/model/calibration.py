"""Read the rows that people scored, with which a judge is calibrated."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from tunegate_api.cases.case_lines import inline_text
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.plan import CalibrationCounts
from tunegate_api.contract.request import GateRequest
from tunegate_api.judging.judge_model import DEFAULT_MINIMUM, MAX_CALIBRATION_ROWS, rows_needed
from tunegate_api.judging.review_sample import ReviewRow, with_id
from tunegate_api.meta import Sha256, first_problem, summarize
from tunegate_api.v1alpha2.data import Columns, Source
from tunegate_api.v1alpha2.graders import RequiredAgreement
from tunegate_api.v1alpha2.sets import GateSet
from tunegate_api.v1alpha2.shares import share
from tunegate_trainer.data.fields import BadRowError, encodable, kind_of
from tunegate_trainer.data.records import read_records
from tunegate_trainer.data.records.record import Record, RecordPlace
from tunegate_trainer.data.review_sample import review_row
from tunegate_trainer.data.shapes import ROW_SHAPES, recognize
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.graders.agreement import agreed, unanswered
from tunegate_trainer.graders.journal import ServerAnswer
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import BadDataError

_MAX_PROBLEMS = 5
MAX_RUBRIC = 4096
"""Maximum length of the rubric of a row, in characters."""


@dataclass(frozen=True)
class CalibrationRows:
    """Rows that people scored, without repeated rows."""

    source_sha256: Sha256
    rows: tuple[ReviewRow, ...]
    good: dict[str, bool]
    """The score of people by the digest of the row."""
    rubrics: dict[str, str] = field(default_factory=dict)
    """The criteria of each row that has its own, by the digest of the row. Only judges of gates use them."""

    def counts(self, answers: Sequence[ServerAnswer | None]) -> CalibrationCounts:
        """Compare the answers of a judge about the rows, in their order, with the scores of people."""
        labels = [self.good[row.digest] for row in self.rows]
        return CalibrationCounts(
            source_sha256=self.source_sha256,
            bad=labels.count(False),
            bad_found=agreed(labels, answers, False),
            good=labels.count(True),
            good_accepted=agreed(labels, answers, True),
            unscored=unanswered(answers),
        )


def read_calibration(context: Context, gate: GateRequest, wanted: RequiredAgreement) -> CalibrationRows:
    """Read the calibration rows in an agreement set of a gate. A row has a prompt and an answer or one of the
    shapes of training rows, or is a line of the sample in data/review/sample.jsonl, and has the field
    ``good``.

    Raises :class:`BadDataError` for rows that cannot be read, for rows that were scored both as good and as
    bad, and for so few good or bad rows that no judge could pass.
    """
    rows: list[ReviewRow] = []
    good: dict[str, bool] = {}
    rubrics: dict[str, str] = {}
    problems: list[str] = []
    total = 0
    field = f"EvalGate {gate.name}: spec.sets[{wanted.set}].source"
    with _records(context, next(each for each in gate.spec.sets if each.name == wanted.set), field) as opened:
        for record in opened.records:
            total += 1
            if total > MAX_CALIBRATION_ROWS:
                raise BadDataError(
                    f"{field}: more than {MAX_CALIBRATION_ROWS} rows",
                    "keep a random sample of the rows, because the judge scores each of them",
                )
            try:
                row, score, rubric = _read(record)
                if good.setdefault(row.digest, score) is not score:
                    raise BadRowError("an equal row has the other score")
                if rubrics.setdefault(row.digest, rubric) != rubric:
                    raise BadRowError("an equal row has another rubric")
            except BadRowError as error:
                problems.append(f"{record.place}: {error}")
            else:
                rows.append(row)
    if problems:
        raise BadDataError(
            f"{field}: {summarize(problems, _MAX_PROBLEMS, separator='; ')}",
            "correct these rows: each needs a prompt, an answer, and good, which is true or false",
        )
    unique = tuple({row.digest: row for row in rows}.values())
    own = {digest: rubric for digest, rubric in rubrics.items() if rubric}
    found = CalibrationRows(opened.sha256, unique, good, own)
    _check_numbers(found, wanted, field)
    return found


@dataclass(frozen=True)
class _AgreementRecords:
    """The records of an agreement set, which can be read once, and the digest of the set."""

    records: Iterable[Record]
    sha256: Sha256


@contextmanager
def _records(context: Context, people: GateSet, field: str) -> Iterator[_AgreementRecords]:
    source = people.source
    if source.inline is not None:
        places = (RecordPlace(number, "row") for number in range(1, len(source.inline) + 1))
        records = [Record(place, dict(fields)) for place, fields in zip(places, source.inline, strict=True)]
        yield _AgreementRecords(records, sha256_text(inline_text(source.inline)))
        return
    file = Source(
        uri=source.uri,
        config_map=source.config_map,
        key=source.key,
        sha256=people.sha256,
        secret_name=source.secret_name,
    )
    with open_source(context, file, field) as opened:
        yield _AgreementRecords(read_records(opened.path, field), opened.sha256)


def _check_numbers(found: CalibrationRows, wanted: RequiredAgreement, field: str) -> None:
    """Raise :class:`BadDataError` if even a judge without any error could not pass."""
    good = sum(found.good.values())
    numbers = (
        ("bad", len(found.good) - good, "minRecall", wanted.min_recall or DEFAULT_MINIMUM),
        ("good", good, "minSpecificity", wanted.min_specificity or DEFAULT_MINIMUM),
    )
    problems = [
        f"{count} rows are {kind}, but {name} {minimum} needs at least {needed}"
        for kind, count, name, minimum in numbers
        if count < (needed := rows_needed(share(minimum)))
    ]
    if problems:
        raise BadDataError(
            f"{field}: too few rows for any judge to pass: {'; '.join(problems)}",
            "let people score more rows (100 are enough if 20 are scored as bad), or lower the minimum",
        )


def _read(record: Record) -> tuple[ReviewRow, bool, str]:
    """Return a row, the score of people, and the row's own rubric, which is empty if it has none. Raises
    :class:`BadRowError`."""
    if record.fields is None:
        raise BadRowError(record.problem or "the row is not an object")
    fields = dict(record.fields)
    score, rubric = _score(fields), fields.pop("rubric", None) or ""
    if not isinstance(rubric, str) or len(rubric) > MAX_RUBRIC:
        raise BadRowError(f"rubric must be a text of at most {MAX_RUBRIC} characters")
    encodable(json.dumps(fields, ensure_ascii=False, default=str), "the row")
    try:
        return _row(fields), score, rubric
    except ValidationError as error:
        raise BadRowError(first_problem(error)) from None
    except (RecursionError, TypeError) as error:  # raised by libraries for unusual content
        raise BadRowError(f"the row cannot be used: {type(error).__name__}") from None


def _score(fields: dict[str, Any]) -> bool:
    """Remove the field ``good``, and return its value. In CSV, it is a word."""
    kind = kind_of(fields, "good")
    value = fields.pop("good", None)
    words = {"true": True, "false": False}
    found = words.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise BadRowError(f"good must be true or false, but it is {kind}")
    return found


def _row(fields: dict[str, Any]) -> ReviewRow:
    if "answer" in fields:
        fields = {"completion" if name == "answer" else name: value for name, value in fields.items()}
    if isinstance(fields.get("prompt"), list):  # a line of the sample
        return with_id(ReviewRow.model_validate({"row": "", **fields}))
    shape = recognize(ROW_SHAPES, fields, Columns())
    if shape is None:
        names = ", ".join(sorted(fields)) or "no other fields"
        raise BadRowError(f"a row needs the fields prompt and answer, or messages; this row has: {names}")
    return review_row(shape.read(fields, Columns()))
