"""The tests of a promptfoo configuration: inline, in files, in CSV files, and in scenarios."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import yaml

from tunegate_api.verdict.outcomes import MAX_CASES
from tunegate_client.imports.imported import NotCarriedError
from tunegate_client.imports.javascript import load_yaml, read_text, trimmed
from tunegate_client.imports.nunjucks import has_template
from tunegate_client.imports.promptfoo_assertions import comma_separated
from tunegate_client.imports.promptfoo_types import IN_CSV

Fields = Mapping[str, Any]

_TYPES = "|".join(map(re.escape, sorted(IN_CSV)))
_ASSERTION = re.compile(rf"(not-)?({_TYPES})(?:\([0-9]+(?:\.[0-9]+)?\))?(?::(.*))?\Z", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\Z", re.ASCII)
_SPECIAL = (
    "__description",
    "__metadata",
    "__metric",
    "__prefix",
    "__providerOutput",
    "__suffix",
    "__threshold",
)
_SPECIAL_STARTS = ("__config:", "__expected", "__metadata:")
_CODE_OPTIONS = ("transform", "postprocess", "transformVars", "storeOutputAs")
_TEXT_FILES = {".txt", ".md", ".json"}


@dataclass(frozen=True)
class Test:
    """A test with the fields of its default test."""

    fields: Fields
    fault: NotCarriedError | None = None


def read_tests(config: Fields, folder: Path) -> list[Test]:
    """Return the tests of a configuration, whose files are in ``folder``.

    Raises :class:`NotCarriedError` if the default test cannot be read.
    """
    default = config.get("defaultTest") or {}
    if isinstance(default, str):
        default = _read(folder / default.removeprefix("file://"), "defaultTest")
    default = _checked(default, "defaultTest")
    tests = [*_tests(config.get("tests"), folder), *_scenarios(config.get("scenarios"), default, folder)]
    if not tests and not config.get("scenarios"):
        tests = [Test({})]
    return [Test(_with_default(test.fields, default), test.fault) for test in tests]


def _tests(tests: Any, folder: Path) -> Iterator[Test]:
    if tests is None:
        return
    for test in tests if isinstance(tests, list) else [tests]:
        try:
            if isinstance(test, str):
                yield from (Test(_checked(fields, "tests")) for fields in _file_of_tests(test, folder))
            else:
                yield Test(_checked(test, "tests"))
        except NotCarriedError as error:
            yield Test({}, error)


def _file_of_tests(name: str, folder: Path) -> list[Fields]:
    """Return the tests of a file."""
    path = folder / name.removeprefix("file://")
    if any(character in name for character in "*?[]{}") or "://" in name.removeprefix("file://"):
        raise NotCarriedError("tests", f"{name} is no single file")
    if path.suffix == ".csv":
        return csv_tests(_text(path, "tests"))
    if path.suffix not in {".json", ".jsonl", ".yaml", ".yml"}:
        raise NotCarriedError("tests", f"{name} is not CSV, JSON, JSON Lines or YAML")
    found = _read(path, "tests")
    tests = found if isinstance(found, list) else [found]
    if "file://" in json.dumps(tests, default=str):
        raise NotCarriedError("tests", f"{name} refers to other files")
    return tests


def _scenarios(scenarios: Any, default: Fields, folder: Path) -> Iterator[Test]:
    for scenario in scenarios if isinstance(scenarios, list) else []:
        if not isinstance(scenario, Mapping) or not isinstance(scenario.get("config"), list):
            yield Test({}, NotCarriedError("scenarios", "a scenario must have a list config, not a file"))
            continue
        for data in scenario["config"]:
            for test in list(_tests(scenario.get("tests"), folder)) or [Test({})]:
                try:
                    yield Test(_of_scenario(default, _checked(data, "scenarios"), test.fields), test.fault)
                except NotCarriedError as error:
                    yield Test({}, error)


def _of_scenario(default: Fields, data: Fields, test: Fields) -> Fields:
    merged = {
        name: {**(default.get(name) or {}), **(data.get(name) or {}), **(test.get(name) or {})}
        for name in ("vars", "options", "metadata")
    }
    asserts = [*(data.get("assert") or []), *(test.get("assert") or [])]
    return {**default, **data, **test, **merged, "assert": asserts}


def _with_default(test: Fields, default: Fields) -> Fields:
    options = {**(default.get("options") or {}), **(test.get("options") or {})}
    for name in ("prefix", "suffix"):
        options[name] = options.get(name) or (default.get("options") or {}).get(name) or ""
    is_alone = (test.get("options") or {}).get("disableDefaultAsserts") is True
    return {
        **{name: default.get(name) for name in ("threshold", "prompts", "assertScoringFunction")},
        **{name: value for name, value in test.items() if value is not None},
        "assert": [*([] if is_alone else default.get("assert") or []), *(test.get("assert") or [])],
        "metadata": {**(default.get("metadata") or {}), **(test.get("metadata") or {})},
        "options": options,
        "vars": {**(default.get("vars") or {}), **(test.get("vars") or {})},
    }


def _checked(test: Any, kind: str) -> Fields:
    """Return the fields of a test. Raises :class:`NotCarriedError` if they have wrong types."""
    if not isinstance(test, Mapping) or "path" in test:
        raise NotCarriedError(kind, "a test must be a mapping or the name of a file")
    for name in ("metadata", "options", "vars"):
        if test.get(name) is not None and not isinstance(test[name], Mapping):
            raise NotCarriedError(kind, f"{name} must be inline and a mapping")
    if test.get("assert") is not None and not isinstance(test["assert"], list):
        raise NotCarriedError(kind, "assert must be a list")
    options = test.get("options") or {}
    if not all(isinstance(options.get(name) or "", str) for name in ("prefix", "suffix")):
        raise NotCarriedError(kind, "options.prefix and options.suffix must be texts")
    return test


def faults_of(test: Fields) -> Iterator[NotCarriedError]:
    """Yield what a test has, apart from assertions, that cannot be carried over."""
    for option in _CODE_OPTIONS:
        if test["options"].get(option) is not None:
            yield NotCarriedError(f"options.{option}", "runs code, or depends on other tests")
    if test.get("assertScoringFunction") is not None:
        yield NotCarriedError("assertScoringFunction", "runs code")
    if test.get("providerOutput") is not None:
        yield NotCarriedError("providerOutput", "the test judges a fixed text instead of a model")
    if test.get("prompts") is not None:
        yield NotCarriedError("prompts of a test", "the test is only for some of the prompts")


def variable_sets(test: Fields, folder: Path) -> list[dict[str, Any]]:
    """Return the variables of each case of a test: one for each combination of listed texts.

    Raises :class:`NotCarriedError`.
    """
    is_expanded = not test["options"].get("disableVarExpansion")
    choices = [
        value if is_expanded and isinstance(value, list) and value and isinstance(value[0], str) else [value]
        for value in test["vars"].values()
    ]
    names = list(test["vars"])
    if prod(map(len, choices)) > MAX_CASES:
        raise NotCarriedError("vars", f"the lists have more than {MAX_CASES} combinations")
    return [
        {name: _variable(name, value, folder) for name, value in zip(names, values, strict=True)}
        for values in product(*choices)
    ]


def _variable(name: str, value: Any, folder: Path) -> Any:
    if not isinstance(value, str):
        return value
    if value.startswith("package:"):
        raise NotCarriedError("vars", f"{name} runs code of a package")
    if value.startswith("file://"):
        path = folder / value.removeprefix("file://")
        if path.suffix not in _TEXT_FILES or any(character in value for character in "*?[]{}"):
            raise NotCarriedError("vars", f"{name} is no single file of text")
        value = trimmed(_text(path, "vars"))
    if has_template(value):
        raise NotCarriedError("vars", f"{name} has a template in its value")
    return value.removesuffix("\n")


def _text(path: Path, kind: str) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        raise NotCarriedError(kind, f"{path.name} cannot be read: {error}") from error


def _read(path: Path, kind: str) -> Any:
    text = _text(path, kind)
    try:
        if path.suffix == ".jsonl":
            return [json.loads(line) for line in text.split("\n") if trimmed(line)]
        return json.loads(text) if path.suffix == ".json" else load_yaml(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise NotCarriedError(kind, f"{path.name} is invalid: {' '.join(str(error).split())}") from error


def csv_tests(text: str) -> list[Fields]:
    """Return the tests of a CSV file: its columns are variables, except those that begin with ``__``."""
    unquoted = re.sub(r'"(?:[^"]|"")*"', "", text)
    if len(set(re.findall(r"\r\n|\r|\n", unquoted))) > 1:
        raise NotCarriedError("tests", "the CSV file has different line ends: save it with one kind")
    try:
        rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))
    except csv.Error as error:
        raise NotCarriedError("tests", f"the CSV file is invalid: {error}") from error
    header = [trimmed(name) for name in rows[0]] if rows else []
    if len(set(header)) != len(header):
        raise NotCarriedError("tests", "the CSV file has two columns with the same name")
    if any(len(row) != len(header) for row in rows):
        raise NotCarriedError(
            "tests", "the CSV file has rows with different numbers of columns, or empty lines"
        )
    return [_csv_test(dict(zip(header, row, strict=True)), number) for number, row in enumerate(rows[1:], 1)]


def _csv_test(row: Mapping[str, str], number: int) -> Fields:
    assertions = [
        assertion_of_text(trimmed(value))
        for name, value in row.items()
        if name.startswith("__expected") and trimmed(value)
    ]
    variables = {
        name: value
        for name, value in row.items()
        if name not in _SPECIAL and not name.startswith(_SPECIAL_STARTS)
    }
    return {
        "vars": variables,
        "assert": assertions,
        "options": {name: row[f"__{name}"] for name in ("prefix", "suffix") if f"__{name}" in row},
        "description": row.get("__description") or f"Row #{number}",
        "providerOutput": row.get("__providerOutput") or None,
        "threshold": _threshold(row),
        "metadata": dict(_metadata(row.items())),
    }


def _threshold(row: Mapping[str, str]) -> float | None:
    text = trimmed(row.get("__threshold", ""))
    return float(text) if _NUMBER.match(text) else None


def _metadata(columns: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for name, value in columns:
        if name.startswith("__metadata:") and not name.endswith("[]") and trimmed(value):
            yield name.removeprefix("__metadata:"), value


def assertion_of_text(text: str) -> Fields:
    """Return the assertion that the text of an ``__expected`` column stands for."""
    for prefix, kind in (
        ("javascript:", "javascript"),
        ("fn:", "javascript"),
        ("eval:", "javascript"),
        ("grade:", "llm-rubric"),
        ("llm-rubric:", "llm-rubric"),
        ("python:", "python"),
    ):
        if text.startswith(prefix):
            return {"type": kind, "value": text.removeprefix(prefix)}
    if text.startswith("file://") and (text.endswith(".py") or ".py:" in text):
        return {"type": "python", "value": text}
    if text.startswith("file://") and text.endswith((".js", ".cjs", ".mjs", ".ts", ".cts", ".mts")):
        return {"type": "javascript", "value": text}
    match = _ASSERTION.match(text)
    if not match:
        return {"type": "equals", "value": text}
    value: Any = match[3]
    if match[2].endswith(("contains-all", "contains-any")):
        value = comma_separated(value) if value else value
    elif value is not None and match[2] not in {"contains-json", "is-json"}:
        value = trimmed(value)
    return {"type": (match[1] or "") + match[2], "value": value}
