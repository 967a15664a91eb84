"""The recorded answers of a real API server are complete. test_refused.py compares them with its answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.structural_rules import fields
from support.wrong_manifests import EDITS, WRONG
from tunegate_api.schema.crd import crds

ANSWERS = Path(__file__).parent / "__snapshots__/test_refused/test_server_answers_match_recorded_answers.json"

answers: dict[str, dict[str, list[str]]] = json.loads(ANSWERS.read_text(encoding="utf-8"))


def schemas() -> list[dict[str, Any]]:
    return [crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds().values()]


def rules(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the messages of all CEL rules of a schema."""
    nodes = [schema, *(node for _, node in fields(schema))]
    for node in [*nodes, *(node["items"] for node in nodes if "items" in node)]:
        yield from (rule["message"] for rule in node.get("x-kubernetes-validations", []))


def test_every_crd_rule_is_violated_by_a_refused_manifest() -> None:
    answer_text = "\n".join(line for cases in answers.values() for lines in cases.values() for line in lines)
    messages = {message for schema in schemas() for message in rules(schema)}
    assert sorted(message for message in messages if message not in answer_text) == []


def test_recorded_answers_cover_exactly_the_refused_manifests_and_edits() -> None:
    cases = {kind: [case.name for case in table] for kind, table in WRONG.items()}
    edits = {f"{kind} edits": [case.name for case in table] for kind, table in EDITS.items()}
    assert {kind: sorted(found) for kind, found in answers.items()} == {
        kind: sorted(names) for kind, names in (cases | edits).items()
    }
    assert sum(len(names) for names in answers.values()) >= 40


def test_names_of_refused_manifests_and_edits_are_unique() -> None:
    for table in (*WRONG.values(), *EDITS.values()):
        names = [case.name for case in table]
        assert len(names) == len(set(names))
