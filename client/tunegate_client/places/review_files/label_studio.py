"""A review sample as tasks for Label Studio, and the annotations in its JSON export.

The formats: https://labelstud.io/guide/tasks and https://labelstud.io/guide/export
"""

import json
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, TypeAdapter, ValidationError

from tunegate_api.judging.review import RowScore
from tunegate_api.meta import first_problem
from tunegate_client.places.client import ClientError
from tunegate_client.places.review import OpenReview
from tunegate_client.places.review_files.given import GivenScores
from tunegate_client.places.review_session import answer_text, prompt_text

LABELING_CONFIG = """\
<View>
  <Style>[class*='htx-'] { white-space: pre-wrap; overflow-wrap: anywhere; }</Style>
  <Header value="Prompt"/>
  <Text name="prompt" value="$prompt"/>
  <Header value="Answer"/>
  <Text name="answer" value="$answer"/>
  <Choices name="good" toName="answer" choice="single-radio" required="true" showInline="true">
    <Choice value="good" hotkey="y"/>
    <Choice value="bad" hotkey="n"/>
  </Choices>
  <TextArea name="note" toName="answer" placeholder="What is wrong" maxSubmissions="1"/>
</View>
"""
"""The labeling interface of a project for these tasks."""
_GOOD, _BAD = "good", "bad"


class _Person(BaseModel):
    id: int | None = None
    email: str = ""


def _as_person(value: object) -> object:
    """Return a person as an object. Label Studio exports an id or an object."""
    return {"id": value} if isinstance(value, int) else value or {}


class Annotation(BaseModel):
    """What one person entered for a task."""

    completed_by: Annotated[_Person, BeforeValidator(_as_person)] = _Person()
    was_cancelled: bool = False
    result: list[dict[str, Any]] = []

    @property
    def reviewer(self) -> str:
        """The name of the annotator; empty if there is none."""
        person = self.completed_by
        return person.email or (f"annotator {person.id}" if person.id is not None else "")

    def values(self, control: str, key: str) -> list[str]:
        """Return what the annotator entered into a control of the labeling interface."""
        found = [entry.get("value") for entry in self.result if entry.get("from_name") == control]
        parts = [value[key] for value in found if isinstance(value, dict) and key in value]
        return [str(one) for part in parts for one in (part if isinstance(part, list) else [part])]


class Task(BaseModel):
    """A task with the annotations of all people."""

    id: int | None = None
    data: dict[str, Any]
    annotations: list[Annotation]


_TASKS = TypeAdapter(list[Task])


def tasks_text(review: OpenReview) -> str:
    """Return the rows of a sample as a list of tasks. The scores that the reviewer gave are not in it."""
    tasks = [
        {
            "data": {
                "sample": review.sample,
                "id": row.id,
                "row": row.row,
                "prompt": prompt_text(row),
                "answer": answer_text(row),
            }
        }
        for row in review.rows
    ]
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"


def parse_tasks(text: str, refuse: Callable[[str], ClientError]) -> list[Task]:
    """Return the tasks in an export. ``refuse`` returns the error for a text that is no export."""
    try:
        return _TASKS.validate_json(text)
    except ValidationError as error:
        raise refuse(f"not an export of Label Studio in the format JSON: {first_problem(error)}") from error


def read_annotations(text: str, given: GivenScores) -> None:
    """Read the scores in an export. Skipped tasks and annotations without a choice are not scores. Raises
    ClientError if the export cannot be used at all."""
    for number, task in enumerate(parse_tasks(text, given.refuse), start=1):
        place = f"task {task.id if task.id is not None else number}"
        sample = str(task.data.get("sample"))
        if sample != given.sample:
            raise given.refuse(
                f"{place} is about the sample {sample[:12]}…, not {given.sample[:12]}…: the data of the job "
                "has changed, so export the sample again with --export"
            )
        for annotation in task.annotations:
            _read_annotation(annotation, place, task.data.get("id"), given)


def _read_annotation(annotation: Annotation, place: str, id: object, given: GivenScores) -> None:
    chosen = annotation.values("good", "choices")
    if annotation.was_cancelled or not chosen:
        return
    if chosen not in ([_GOOD], [_BAD]):
        given.add_problem(f"{place}: the choice {', '.join(chosen)[:64]!r} is neither {_GOOD} nor {_BAD}")
        return
    note = "\n".join(annotation.values("note", "text"))
    given.add(place, id, RowScore(good=chosen == [_GOOD], note=note), annotation.reviewer)
