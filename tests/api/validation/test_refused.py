"""A real API server refuses every invalid manifest of the table, and accepts the valid ones.

Its answers are recorded in ``__snapshots__``: for each rule, the answer to a manifest that breaks it.
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
from support.refusals import DryRunClient
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
        for manifest in yaml.load_all(file.read_text(encoding="utf-8"), yaml.CSafeLoader)
        if manifest and manifest["kind"] in GOOD
    ),
]

Answers = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def dry_run(server: ApiServer) -> Iterator[DryRunClient]:
    with server.client() as api:
        yield DryRunClient(api)


def of(table: dict[str, list[Any]]) -> pytest.MarkDecorator:
    """Parametrize a test with all cases of a table and their kind."""
    rows = [(kind, case) for kind, cases in table.items() for case in cases]
    names = [f"{kind}-{case.name}" for kind, case in rows]
    return pytest.mark.parametrize(("kind", "case"), rows, ids=names)


@pytest.fixture(scope="module")
def answers(dry_run: DryRunClient) -> Answers:
    """The server's answers to all cases, by kind and name."""
    found: Answers = {}
    for kind, cases in WRONG.items():
        found[kind] = {case.name: dry_run.create(wrong_manifest(kind, case)) for case in cases}
        found[f"{kind} edits"] = {case.name: dry_run.replace(*edit(kind, case)) for case in EDITS[kind]}
    return found


@of(WRONG)
def test_invalid_manifest_is_refused_with_field_and_remedy(answers: Answers, kind: str, case: Wrong) -> None:
    answer = answers[kind][case.name]
    assert [line for line in answer if line.startswith(f"{case.field}: ") and case.remedy in line], answer


@of(EDITS)
def test_edit_of_an_immutable_field_is_refused(answers: Answers, kind: str, case: Edit) -> None:
    answer = answers[f"{kind} edits"][case.name]
    assert [line for line in answer if line.startswith(f"{case.field}: ") and "is immutable" in line], answer


@of(ALLOWED_EDITS)
def test_edit_of_a_mutable_field_is_accepted(dry_run: DryRunClient, kind: str, case: Edit) -> None:
    assert dry_run.replace(*edit(kind, case)) == []


def test_server_answers_match_recorded_answers(answers: Answers, snapshot: SnapshotAssertion) -> None:
    assert answers == snapshot(extension_class=JSONSnapshotExtension)


@pytest.mark.parametrize(
    "manifest", [*MANIFESTS, *(make() for make in GOOD.values())], ids=lambda m: m["metadata"]["name"]
)
def test_valid_manifest_is_accepted_by_server_and_validator(
    dry_run: DryRunClient, manifest: dict[str, Any]
) -> None:
    assert dry_run.create(manifest) == []
    assert find_problems(manifest) == []


def test_null_field_is_treated_as_omitted(dry_run: DryRunClient) -> None:
    job = changed(finetunejob(), {"spec.model.startFrom": None, "spec.tracking": None})
    assert dry_run.create(job) == []
    assert find_problems(job) == []


def test_unknown_field_is_refused_unless_the_client_ignores_it(dry_run: DryRunClient) -> None:
    job = changed(finetunejob(), {"spec.resources.gpus": 1})
    assert dry_run.create(job) == [
        'FineTuneJob in version "v1alpha2" cannot be handled as a FineTuneJob: strict decoding error: '
        'unknown field "spec.resources.gpus"'
    ]
    assert dry_run.create(job, unknown="Ignore") == []


def changes_of(kind: str) -> list[tuple[str, Any]]:
    """Return all changes of the tables, without duplicates."""
    cases = [*WRONG[kind], *EDITS[kind], *ALLOWED_EDITS[kind]]
    pairs = [pair for case in cases for pair in case.changes.items()]
    return [pair for i, pair in enumerate(pairs) if pair not in pairs[:i]]


def top_level_fields(lines: list[str]) -> set[str]:
    """Return the top-level fields of the spec that the messages are about."""
    return {".".join(re.split(r"[.:\[]", line)[:2]) for line in lines}


@pytest.mark.parametrize("kind", GOOD)
@settings(max_examples=400, derandomize=True)
@given(data=st.data())
def test_server_and_validator_find_the_same_faulty_fields(
    dry_run: DryRunClient, kind: str, data: st.DataObject
) -> None:
    chosen = data.draw(st.lists(st.sampled_from(changes_of(kind)), min_size=2, max_size=5))
    manifest = GOOD[kind]()
    for path, value in chosen:
        with suppress(LookupError, TypeError):  # an earlier change removed its parent
            manifest = changed(manifest, {path: value})
    own = [str(p) for p in find_problems(manifest) if not p.message.startswith("not supported yet")]
    answer = dry_run.create(manifest, unknown="Ignore")
    rest = [line for line in answer if "some validation rules were not checked" not in line]
    if len(rest) < len(answer):
        assert top_level_fields(rest) <= top_level_fields(own), {"own": own, "server": answer}
    else:
        assert top_level_fields(rest) == top_level_fields(own), {"own": own, "server": answer}
