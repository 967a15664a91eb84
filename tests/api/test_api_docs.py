"""The pages in docs/api: generated parts are current, examples work, and nothing in the API is missing."""

import re
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from support.structural_rules import fields
from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.expectations import Expectation
from tunegate_api.cases.golden import GoldenCase
from tunegate_api.schema.crd import crds
from tunegate_api.v1alpha2.evalgate_status import GateReason
from tunegate_api.v1alpha2.reasons import ConditionType, Phase, Reason
from tunegate_api.validation.problems import find_problems

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools" / "api_docs.py"
PAGES = {"FineTuneJob": ROOT / "docs/api/finetunejob.md", "EvalGate": ROOT / "docs/api/evalgate.md"}


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=False, encoding="utf-8"
    )


def page(kind: str) -> str:
    return PAGES[kind].read_text(encoding="utf-8")


def blocks(kind: str, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page(kind), re.MULTILINE | re.DOTALL)


def test_committed_api_pages_are_current() -> None:
    done = run(SCRIPT, "--check")
    assert done.returncode == 0, done.stdout


def test_outdated_page_fails_the_check_and_is_regenerated(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs" / "api", tmp_path / "docs" / "api")
    (tmp_path / "tools").mkdir()
    script = Path(shutil.copy(SCRIPT, tmp_path / "tools"))
    stale = tmp_path / "docs" / "api" / "evalgate.md"
    stale.write_text(page("EvalGate").replace("| `sets` |", "| `silver` |"), encoding="utf-8")

    checked = run(script, "--check")
    assert checked.returncode == 1
    assert "-| `silver` |" in checked.stdout
    assert "+| `sets` |" in checked.stdout
    assert "python tools/api_docs.py" in checked.stderr

    assert run(script).returncode == 0
    assert stale.read_text(encoding="utf-8") == page("EvalGate")


@pytest.mark.parametrize("kind", PAGES)
def test_every_api_field_is_on_its_docs_page(kind: str) -> None:
    crd = next(crd for crd in crds().values() if crd["spec"]["names"]["kind"] == kind)
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    names = {path.rsplit(".", 1)[-1] for part in ("spec", "status") for path, _ in fields(schema[part])}
    text = page(kind)
    assert [name for name in sorted(names) if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize(
    ("kind", "enum"),
    [
        ("FineTuneJob", Reason),
        ("FineTuneJob", Phase),
        ("FineTuneJob", ConditionType),
        ("EvalGate", GateReason),
    ],
)
def test_every_status_constant_is_documented(kind: str, enum: type[StrEnum]) -> None:
    text = page(kind)
    for member in enum:
        assert re.search(rf"^\| `{member.value}` \| \S.*\. \|$", text, re.MULTILINE), member


@pytest.mark.parametrize("kind", PAGES)
def test_example_manifests_on_the_pages_are_valid(kind: str) -> None:
    manifests = [yaml.safe_load(text) for text in blocks(kind, "yaml")]
    assert manifests
    assert [str(problem) for manifest in manifests for problem in find_problems(manifest)] == []


def test_example_cases_on_the_page_are_a_valid_golden_set() -> None:
    cases = parse_cases("".join(blocks("EvalGate", "json")), GoldenCase)
    assert [case.id for case in cases] == ["total-eur", "no-prompt-leak", "tickets", "total-is-a-number"]


def test_every_type_of_expectation_is_documented() -> None:
    section = page("EvalGate").partition("## The golden set")[2].partition("\n## ")[0]
    explained = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    union, _ = get_args(Expectation)
    types = [kind for one in get_args(union) for kind in get_args(one.model_fields["type"].annotation)]
    assert sorted(set(explained) - {"type"}) == sorted(types)
