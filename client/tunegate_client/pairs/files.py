"""Read and write the files of `tunegate pairs`. Errors name the file, the line and the field."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tunegate_api.meta import first_problem, summarize
from tunegate_api.preference import Candidates, Ranking
from tunegate_client.places.client import ClientError
from tunegate_client.places.review import split_lines

_MAX_PROBLEMS = 5
_SHOWN_IDS = 10
Line = TypeVar("Line", bound=BaseModel)
Known = dict[str, Candidates]
"""Candidates by the id of their prompt, in the order of the file."""


class Problems:
    """Collects the mistakes in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: list[str] = []

    def add(self, place: str, problem: str) -> None:
        self._found.append(f"{place}: {problem}")

    def refuse(self) -> None:
        """Raise ClientError with the first mistakes, if there are any."""
        if self._found:
            raise ClientError(f"{self._path}: {summarize(self._found, _MAX_PROBLEMS, separator='; ')}")


def read_lines(path: Path, kind: type[Line], problems: Problems) -> Iterator[tuple[str, Line]]:
    """Yield the valid lines of a file, each with its place. Raises ClientError if it cannot be read."""
    for number, line in enumerate(split_lines(read_text(path)), start=1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            yield place, kind.model_validate_json(line)
        except ValidationError as error:
            problems.add(place, first_problem(error))


def read_text(path: Path) -> str:
    """Return the text of a file. Raises ClientError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"{path} cannot be read: {error}; save it in the encoding UTF-8") from error


def read_candidates(path: Path) -> Known:
    """Read a candidates file. Raises ClientError with the first mistakes."""
    problems, found, places = Problems(path), Known(), dict[str, str]()
    for place, one in read_lines(path, Candidates, problems):
        if one.id in found:
            problems.add(place, f"id: {places[one.id]} has the prompt {one.id} too")
        found[one.id], places[one.id] = one, place
    problems.refuse()
    if not found:
        raise ClientError(f"{path} has no prompts")
    return found


def read_rankings(paths: Iterable[Path], known: Known) -> list[Ranking]:
    """Read the rankings of one or more people from files. Raises ClientError with the first mistakes."""
    found, places = list[Ranking](), dict[tuple[str, str], str]()
    for path in paths:
        problems = Problems(path)
        for place, ranking in read_lines(path, Ranking, problems):
            key = ranking.id, ranking.rater
            problem = unknown_id(ranking, known)
            if problem:
                problems.add(place, problem)
            elif key in places:
                problems.add(place, f"id: {ranking.rater} has ranked {ranking.id} already in {places[key]}")
            places.setdefault(key, f"{path}, {place}")
            found.append(ranking)
        problems.refuse()
    return found


def unknown_id(ranking: Ranking, known: Known) -> str:
    """Return why a ranking does not fit the candidates; empty if it does."""
    if ranking.id not in known:
        return f"id: no prompt of the candidates has the id {ranking.id}"
    ids = known[ranking.id].texts
    unknown = [id for id in ranking.ids if id not in ids]
    if not unknown:
        return ""
    field = "bad" if unknown[0] in ranking.bad else "ranking"
    return (
        f"{field}: prompt {ranking.id} has no completion {unknown[0]}, only {summarize([*ids], _SHOWN_IDS)}"
    )


def write_models(path: Path, lines: Sequence[BaseModel]) -> None:
    """Write models as JSON Lines, see :func:`write_lines`."""
    write_lines(path, [line.model_dump(mode="json", by_alias=True, exclude_defaults=True) for line in lines])


def write_lines(path: Path, lines: Sequence[Any]) -> None:
    """Replace a file by JSON Lines at once, so that it is never incomplete. Raises ClientError."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        fresh.write_text(
            "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
        )
        os.replace(fresh, path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise ClientError(f"{path} cannot be written: {error.strerror}") from error
