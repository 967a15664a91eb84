"""Write docs/api/refused.md: each invalid manifest of the tests, and the answer of the API server.

Tests with a real API server record the answers (``make test-cluster``), so this script needs no API server.
``--check`` writes nothing, and fails if the page is out of date.
"""

import json
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from tools.generated_page import write_or_check  # noqa: E402

from support.wrong_manifests import (  # type: ignore[import-not-found] # noqa: E402 - mypy knows no tests
    EDITS,
    WRONG,
    edit,
    wrong_manifest,
)

PAGE = ROOT / "docs" / "api" / "refused.md"
ANSWERS = (
    ROOT / "tests/api/validation/__snapshots__/test_refused/test_server_answers_match_recorded_answers.json"
)
INCOMPLETE = "<nil>: Invalid value: null: some validation rules were not checked"
IDENTITY = ("name", "method", "uri")
"""Fields that identify an entry of a list."""
SHOWN = 4
"""Maximum length of a list that is shown in full."""
MUTABLE_FIELDS = {
    "FineTuneJob": "Only `suspend`, the deadlines and the TTL can be added, changed or removed.",
    "EvalGate": "All fields except the golden set can be changed. A running job uses the gate as it read it.",
}

INTRODUCTION = """\
# What is refused

`kubectl apply` refuses a manifest that contradicts itself, before anything runs. The answer names each
field at fault and what to do. `tunegate validate` gives the same answers for a file, with line numbers and
without a cluster. It also checks references to other objects, and fields that are not supported yet.

This page lists every rule, with a manifest that breaks it and the answer of a real API server. The manifests
show only the relevant fields. A fault in a name, an address or a number is answered twice: in words, and
with the pattern from the schema. Two rules apply to every field:

- An unknown field is refused by its name: `unknown field "spec.resources.gpus"`. kubectl requests this
  check; with `--validate=ignore` the API server drops the field silently.
- Missing fields, fields of a wrong type and fields that are too long are reported first, with the line
  `some validation rules were not checked`: fix these, and the other rules are checked.

`tools/refused_page.py` generates this page from the table and the answers in the tests.

"""

Changes = Mapping[str, Any]
Path = tuple[str, ...]
Answers = dict[str, dict[str, list[str]]]


class _Dumper(yaml.SafeDumper):
    """Quotes strings that look like numbers. Kubernetes reads more of them as numbers than PyYAML."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    looks_like_a_number = re.fullmatch(r"[-+.\d][-+.\deE]*", text)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if looks_like_a_number else None)


_Dumper.add_representer(str, _text)


def page() -> str:
    """Return the whole page."""
    answers = json.loads(ANSWERS.read_text(encoding="utf-8"))
    return INTRODUCTION + "\n\n".join(_sections(answers)) + "\n"


def _sections(answers: Answers) -> Iterator[str]:
    for kind, cases in WRONG.items():
        yield f"## {kind}"
        for case in cases:
            snippet = _yaml(wrong_manifest(kind, case), case.changes)
            yield _section(case.name, snippet, _answer(answers, kind, case.name))
        yield f"## Changes of {kind}s"
        yield MUTABLE_FIELDS[kind]
        for change in EDITS[kind]:
            before, after = (_yaml(manifest, change.changes) for manifest in edit(kind, change))
            snippet = f"# before\n{before}# after\n{after}"
            yield _section(change.name, snippet, _answer(answers, f"{kind} edits", change.name))


def _answer(answers: Answers, kind: str, name: str) -> list[str]:
    if name not in answers.get(kind, {}):
        raise SystemExit(
            f'no answer is recorded for "{name}": run `pytest -m cluster tests/api --snapshot-update`'
        )
    return answers[kind][name]


def _section(name: str, snippet: str, answer: Sequence[str]) -> str:
    lines = [f"* {_shorten_runs(line)}" for line in answer if not line.startswith(INCOMPLETE)]
    return "\n".join(
        [f"### {name[0].upper()}{name[1:]}", "", "```yaml", f"{snippet}```", "", "```text", *lines, "```"]
    )


def _yaml(manifest: dict[str, Any], changes: Changes) -> str:
    """Return the fields at the paths ``changes`` as YAML, together with the scalar fields of the same
    mappings."""
    kept = _around(manifest, [tuple(path.split(".")) for path in changes])
    return _shorten_runs(yaml.dump(kept, Dumper=_Dumper, sort_keys=False, width=100))


def _around(node: Any, paths: Sequence[Path]) -> Any:
    """Return the parts of ``node`` at the paths. Other fields of the mapping that has the last field of a
    path are kept if they are scalars."""
    if () in paths:
        return _shortened(node)
    at_end = any(len(path) == 1 for path in paths)
    if isinstance(node, list):
        entries = {str(i): entry for i, entry in enumerate(node)}
        return list(_kept(entries, paths, at_end).values())
    return _kept(node, paths, at_end and "model" not in node)


def _kept(entries: Mapping[str, Any], paths: Sequence[Path], at_end: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in entries.items():
        inside = [path[1:] for path in paths if path[0] == name]
        if inside:
            kept[name] = _around(value, inside)
        elif isinstance(value, dict) and name.isdigit() and at_end:
            kept[name] = {key: value[key] for key in IDENTITY if key in value}
        elif name in IDENTITY or (at_end and not isinstance(value, (dict, list))):
            kept[name] = value
    return kept


def _shortened(value: Any) -> Any:
    """Return only the first entries of a long list or mapping."""
    if isinstance(value, list) and len(value) > SHOWN:
        return [*value[:2], f"and {len(value) - 2} more"]
    if isinstance(value, dict) and len(value) > 2 * SHOWN:
        return dict(list(value.items())[:2]) | {"and": f"{len(value) - 2} more"}
    return value


def _shorten_runs(text: str) -> str:
    """Shorten long runs of one character."""
    return re.sub(r"(.)\1{30,}", lambda run: f"{run[1] * 8}…", text)


def main(arguments: Sequence[str]) -> int:
    """Write the page. With ``--check``, print how the page differs instead, and return 1 if it differs."""
    return write_or_check(
        PAGE, page(), arguments, "The table or the answers changed: run `python tools/refused_page.py`."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
