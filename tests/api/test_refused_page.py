"""docs/api/refused.md is current and complete. The API server's answers are recorded by test_refused.py."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.structural_rules import fields
from support.wrong_manifests import EDITS, WRONG
from tunegate_api.schema.crd import crds

ROOT = Path(__file__).parents[2]
ANSWERS = (
    Path(__file__).parent
    / "validation/__snapshots__/test_refused/test_server_answers_match_recorded_answers.json"
)

answers: dict[str, dict[str, list[str]]] = json.loads(ANSWERS.read_text(encoding="utf-8"))


def check(root: Path) -> subprocess.CompletedProcess[str]:
    script = root / "tools" / "refused_page.py"
    return subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)


def schemas() -> list[dict[str, Any]]:
    return [crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for crd in crds().values()]


def rules(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the messages of all CEL rules of a schema."""
    nodes = [schema, *(node for _, node in fields(schema))]
    for node in [*nodes, *(node["items"] for node in nodes if "items" in node)]:
        yield from (rule["message"] for rule in node.get("x-kubernetes-validations", []))


def test_committed_page_of_refused_manifests_is_current() -> None:
    done = check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_outdated_page_of_refused_manifests_fails_the_check(tmp_path: Path) -> None:
    for folder in ("tools", "tests/support", "tests/api/validation/__snapshots__/test_refused", "docs/api"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    page = tmp_path / "docs/api/refused.md"
    text = page.read_text(encoding="utf-8").replace("startFrom: orders-v1", "startFrom: x", 1)
    page.write_text(text, encoding="utf-8")
    done = check(tmp_path)
    assert done.returncode == 1
    assert "-    startFrom: x" in done.stdout
    assert "+    startFrom: orders-v1" in done.stdout


def test_every_crd_rule_is_violated_by_a_refused_manifest_or_edit() -> None:
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
