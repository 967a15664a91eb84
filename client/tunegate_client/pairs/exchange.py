"""Files with which people rank outside of Tunegate: a table for a spreadsheet, and tasks for Label Studio.
The ending of a file's name selects its format."""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tunegate_api.meta import first_problem
from tunegate_api.preference import Ranking
from tunegate_client.pairs.files import Known, Problems, read_text, unknown_id
from tunegate_client.pairs.session import shown
from tunegate_client.places.client import ClientError
from tunegate_client.places.review_files.label_studio import parse_tasks
from tunegate_client.places.review_files.table import BOM, from_cell, read_records, to_cell
from tunegate_client.places.review_session import chat_text

_PROMPT, _COMPLETION, _RANK, _RATER, _UNUSABLE = "prompt id", "completion id", "rank", "rater", "x"
Refuse = Callable[[str], ClientError]
Given = Iterator[tuple[str, dict[str, Any]]]
"""The fields of rankings, each with its place in the file."""


def write_completions(path: Path, known: Known, rater: str) -> None:
    """Write the prompts and their completions to a new file. Raises ClientError."""
    writers = {".csv": _table_text, ".json": _tasks_text}
    write = writers.get(path.suffix.lower())
    if write is None:
        raise ClientError(f"{path} must end with .csv for a spreadsheet, or .json for Label Studio")
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(write(known, rater))
    except FileExistsError as error:
        raise ClientError(f"{path} exists, and may have rankings: delete it, or use another name") from error
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror}") from error


def read_ranked(path: Path, known: Known, rater: str) -> list[Ranking]:
    """Read rankings from a table or an export of Label Studio. Those without a name are of ``rater``.

    Raises ClientError with the first mistakes, and where each is."""
    readers = {".csv": _read_table, ".json": _read_tasks}
    read = readers.get(path.suffix.lower())
    if read is None:
        raise ClientError(f"{path} must end with .csv for a table, or .json for an export of Label Studio")
    problems, found = Problems(path), dict[tuple[str, str], Ranking]()
    for place, fields in read(read_text(path), lambda problem: ClientError(f"{path}: {problem}"), problems):
        try:
            ranking = Ranking.model_validate({**fields, "rater": fields["rater"] or rater})
        except ValidationError as error:
            problems.add(place, first_problem(error))
            continue
        problem = unknown_id(ranking, known)
        if not problem and (ranking.id, ranking.rater) in found:
            problem = f"{ranking.rater} has ranked {ranking.id} twice"
        if problem:
            problems.add(place, problem)
        found[ranking.id, ranking.rater] = ranking
    problems.refuse()
    if not found:
        raise ClientError(f"{path} has no rankings")
    return list(found.values())


def _table_text(known: Known, rater: str) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([_PROMPT, _COMPLETION, "prompt", "completion", _RANK])
    for one in known.values():
        prompt = chat_text(one.prompt)
        for completion in shown(one, rater):
            writer.writerow(map(to_cell, [one.id, completion.id, prompt, completion.text, ""]))
    return BOM + text.getvalue()


def _read_table(text: str, refuse: Refuse, problems: Problems) -> Given:
    records = read_records(text, refuse)
    columns = [name.strip().lower() for name in next(records, [])]
    missing = [name for name in (_PROMPT, _COMPLETION, _RANK) if name not in columns]
    if missing:
        raise refuse(f"the first row of the table has no column {' and no column '.join(missing)}")
    ranked = defaultdict[tuple[str, str], dict[int, list[str]]](lambda: defaultdict(list))
    first = dict[tuple[str, str], str]()
    for number, cells in enumerate(records, start=2):
        cell = {name: from_cell(value.strip()) for name, value in zip(columns, cells, strict=False)}
        place, word = f"row {number} of the table", cell.get(_RANK, "").lower()
        key = cell.get(_PROMPT, ""), cell.get(_RATER, "")
        if word == _UNUSABLE or (word.isascii() and word.isdigit() and int(word) > 0):
            ranked[key][0 if word == _UNUSABLE else int(word)].append(cell.get(_COMPLETION, ""))
            first.setdefault(key, place)
        elif word:
            problems.add(place, f"the column {_RANK} has {word[:32]!r}: write 1 for the best, or {_UNUSABLE}")
    for (id, rater), groups in ranked.items():
        bad = groups.pop(0, [])
        order = [groups[rank] for rank in sorted(groups)]
        yield first[id, rater], {"id": id, "rater": rater, "ranking": order, "bad": bad}


def _tasks_text(known: Known, rater: str) -> str:
    tasks = [
        {
            "data": {
                "id": one.id,
                "prompt": chat_text(one.prompt),
                "completions": [
                    {"id": completion.id, "title": f"Answer {number}", "body": completion.text}
                    for number, completion in enumerate(shown(one, rater), start=1)
                ],
            }
        }
        for one in known.values()
    ]
    return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"


def _read_tasks(text: str, refuse: Refuse, problems: Problems) -> Given:
    """Yield the rankings in an export, made with the labeling interface in docs/preference-data.md. See
    https://labelstud.io/tags/ranker for the format."""
    del problems
    for number, task in enumerate(parse_tasks(text, refuse), start=1):
        place = f"task {task.id if task.id is not None else number}"
        for annotation in task.annotations:
            order, bad = list[str](), list[str]()
            for entry in annotation.result:
                value = entry.get("value")
                if entry.get("from_name") == "ranking" and isinstance(value, dict):
                    groups = value.get("ranker") or {}
                    order, bad = _ids(groups, "ranked"), _ids(groups, "unusable")
            if not annotation.was_cancelled and (order or bad):
                ranking = [[id] for id in order]
                name = annotation.reviewer
                yield place, {"id": task.data.get("id"), "rater": name, "ranking": ranking, "bad": bad}


def _ids(groups: Any, name: str) -> list[str]:
    found: Sequence[Any] = groups.get(name) or [] if isinstance(groups, dict) else []
    return [str(id) for id in found]
