"""What a real API server refuses: every wrong manifest of the table, and no good one.

Its words are kept in ``__snapshots__``, from which docs/api/refused.md is made.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

from support.api_server import ApiServer
from support.manifests import changed, finetunejob
from support.refusals import Asker
from support.wrong_manifests import ALLOWED_EDITS, EDITS, GOOD, WRONG, Edit, Wrong, edit, wrong_manifest
from tunegate_api.validation.problems import find_problems

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[3]
DATA = Path(__file__).parents[1] / "data"
FILES = [*sorted((ROOT / "examples").rglob("*.yaml")), *sorted(DATA.glob("*.yaml"))]
MANIFESTS = [
    *(make() for make in GOOD.values()),
    *(
        manifest
        for file in FILES
        for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8"))
        if manifest and manifest["kind"] in GOOD
    ),
]

Answers = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def asker(server: ApiServer) -> Iterator[Asker]:
    with server.client() as api:
        yield Asker(api)


def of(table: dict[str, list[Any]]) -> pytest.MarkDecorator:
    """One test for each case of a table, with its kind."""
    rows = [(kind, case) for kind, cases in table.items() for case in cases]
    names = [f"{kind}-{case.name}" for kind, case in rows]
    return pytest.mark.parametrize(("kind", "case"), rows, ids=names)


@pytest.fixture(scope="module")
def answers(asker: Asker) -> Answers:
    """What the server says of every case, by kind and name."""
    found: Answers = {}
    for kind, cases in WRONG.items():
        found[kind] = {case.name: asker.create(wrong_manifest(kind, case)) for case in cases}
        found[f"{kind} edits"] = {case.name: asker.replace(*edit(kind, case)) for case in EDITS[kind]}
    return found


@of(WRONG)
def test_a_wrong_manifest_is_refused_where_and_with_a_remedy(
    answers: Answers, kind: str, case: Wrong
) -> None:
    said = answers[kind][case.name]
    assert [line for line in said if line.startswith(f"{case.field}: ") and case.remedy in line], said


@of(EDITS)
def test_an_edit_of_what_is_immutable_is_refused(answers: Answers, kind: str, case: Edit) -> None:
    said = answers[f"{kind} edits"][case.name]
    assert [line for line in said if line.startswith(f"{case.field}: ") and "is immutable" in line], said


@of(ALLOWED_EDITS)
def test_an_edit_of_the_rest_is_taken(asker: Asker, kind: str, case: Edit) -> None:
    assert asker.replace(*edit(kind, case)) == []


def test_the_words_are_those_of_the_page(answers: Answers, snapshot: SnapshotAssertion) -> None:
    assert answers == snapshot(extension_class=JSONSnapshotExtension)


@pytest.mark.parametrize(
    "manifest", [*MANIFESTS, *(make() for make in GOOD.values())], ids=lambda m: m["metadata"]["name"]
)
def test_a_good_manifest_is_taken_by_both(asker: Asker, manifest: dict[str, Any]) -> None:
    assert asker.create(manifest) == []
    assert [p for p in find_problems(manifest) if not p.message.startswith("not supported yet")] == []


def test_null_is_what_was_left_out(asker: Asker) -> None:
    job = changed(finetunejob(), {"spec.model.startFrom": None, "spec.publish.0.secretName": None})
    assert asker.create(job) == []
    assert find_problems(job) == []


def test_an_unknown_field_is_refused_by_name_and_dropped_only_where_that_is_asked_for(asker: Asker) -> None:
    job = changed(finetunejob(), {"spec.resources.gpus": 1})
    assert asker.create(job) == [
        'FineTuneJob in version "v1alpha1" cannot be handled as a FineTuneJob: strict decoding error: '
        'unknown field "spec.resources.gpus"'
    ]
    assert asker.create(job, unknown="Ignore") == []


def changes_of(kind: str) -> list[tuple[str, Any]]:
    """Every change of the tables, each once."""
    cases = [*WRONG[kind], *EDITS[kind], *ALLOWED_EDITS[kind]]
    pairs = [pair for case in cases for pair in case.changes.items()]
    return [pair for i, pair in enumerate(pairs) if pair not in pairs[:i]]


def parts(lines: list[str]) -> set[str]:
    """Which fields of the spec are complained about."""
    return {".".join(re.split(r"[.:\[]", line)[:2]) for line in lines}


@pytest.mark.parametrize("kind", GOOD)
@settings(max_examples=400, derandomize=True)
@given(data=st.data())
def test_both_find_the_same_in_any_mix_of_changes(asker: Asker, kind: str, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(changes_of(kind)), min_size=2, max_size=5))
    manifest = GOOD[kind]()
    for path, value in chosen:
        with suppress(LookupError, TypeError):  # an earlier change took its place away
            manifest = changed(manifest, {path: value})
    told = [str(p) for p in find_problems(manifest) if not p.message.startswith("not supported yet")]
    said = asker.create(manifest, unknown="Ignore")
    rest = [line for line in said if "some validation rules were not checked" not in line]
    if len(rest) < len(said):
        assert parts(rest) <= parts(told), {"told": told, "said": said}
    else:
        assert parts(rest) == parts(told), {"told": told, "said": said}
