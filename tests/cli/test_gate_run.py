"""The result of ``tunegate gate run``: verdicts, exit codes and JUnit XML, from measured outcomes."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml
from click.testing import CliRunner
from rich.console import Console

from support.command import manifests
from tunegate_api.contract.gate_run import GateRun, MeasuredCase, MeasuredModel
from tunegate_api.contract.request import GateRequest, Request
from tunegate_api.contract.results import Evaluation, Results, Subject
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.finetunejob import FineTuneJobSpec
from tunegate_api.verdict.outcomes import CaseSet, VerdictState
from tunegate_client.cli import exit_codes
from tunegate_client.cli.gate_report import ModelResult, model_result
from tunegate_client.cli.gate_view import gate_view
from tunegate_client.cli.junit import junit_of_error, junit_text
from tunegate_client.cli.main import main

DIGEST = "a" * 64
ADVISORY = "case-0"


GOLDEN_SET = {"name": "golden", "source": {"configMap": "cases"}, "sha256": DIGEST}
INLINE_SET = {
    "name": "golden",
    "source": {
        "inline": [
            {"id": f"case-{i}", "prompt": f"order {i}", "expect": [{"type": "equals", "value": "yes"}]}
            for i in range(20)
        ]
    },
}
AT_LEAST_80 = {"rules": [{"name": "all", "minPassRate": "80%"}]}
SAFETY_SET = {"name": "safety", "kind": "Safety", "source": {"builtin": "refusals-v1"}}


def measured(
    outcomes: str,
    before: str | None = None,
    output: str = "no",
    golden: Mapping[str, Any] | None = None,
    **spec: Any,
) -> ModelResult:
    """Return the result of a gate about a model with these outcomes; ``before`` are those of the base model.
    ``golden`` are fields of the golden set, and ``spec`` replaces fields of the gate."""
    job = manifests(Path("/model"))[-1]["spec"]
    fields = {
        "sets": [GOLDEN_SET | dict(golden or {})],
        "compareWith": [],
        **spec,
    }
    gate = GateRequest(name="golden", spec=EvalGateSpec.model_validate(fields), golden_sha256=DIGEST)
    ids = [f"case-{i}" for i in range(len(outcomes))]
    evaluations = [
        Evaluation(subject=subject, stage="sft", step=0, outcomes={"golden/golden": letters}, seconds=1.5)
        for subject, letters in ((Subject.BASE, before), (Subject.FINAL, outcomes))
        if letters is not None
    ]
    cases = [
        MeasuredCase(
            id=i,
            prompt="order",
            expected='"yes"',
            output=output,
            outcome=o,
            explanation="" if o == "p" else "differs",
        )
        for i, o in zip(ids, outcomes, strict=True)
    ]
    run = GateRun(
        request=Request(
            name="gate", namespace="default", uid="u", spec=FineTuneJobSpec.model_validate(job), gates=[gate]
        ),
        results=Results(sets={"golden/golden": CaseSet(sha256=DIGEST, ids=ids)}, evaluations=evaluations),
        cases={"golden/golden": cases},
        model=MeasuredModel(uri="file:///model", digest="b" * 64),
        base=MeasuredModel(uri="file:///base", digest="c" * 64) if before else None,
        device="cpu",
        dtype="float32",
    )
    return model_result(run)


def junit_cases(result: ModelResult) -> dict[str, ET.Element]:
    """Return the test cases of the JUnit file by name."""
    suites = parsed(junit_text(result))
    return {case.attrib["name"]: case for case in suites.iter("testcase")}


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text.encode())  # noqa: S314 - our own output


def kind(case: ET.Element) -> str:
    """Return how a test case ended."""
    return next((tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None), "passed")


@pytest.mark.parametrize(
    ("outcomes", "before", "verdict", "code"),
    [
        ("p" * 20, "p" * 20, VerdictState.PASSED, 0),
        ("p" * 18 + "ff", "p" * 20, VerdictState.FAILED, 1),
        ("p" * 20, "p" * 10 + "t" * 10, VerdictState.PASSED, 0),
        ("p" * 10 + "f" * 10, "p" * 10 + "t" * 10, VerdictState.INCONCLUSIVE, 5),
        ("p" * 19 + "e", "p" * 20, VerdictState.ERROR, 5),
        ("p" * 20, None, VerdictState.ERROR, 5),
    ],
)
def test_only_a_passed_verdict_ends_with_exit_code_0(
    outcomes: str, before: str | None, verdict: VerdictState, code: int
) -> None:
    result = measured(
        outcomes,
        before,
        compareWith=[{"type": "BaseModel"}],
        golden={"rules": [{"name": "all", "maxNewFailures": "100%"}]},
    )
    assert result.verdict is verdict
    assert exit_codes.of_verdict(result.verdict) == code


def test_missing_evaluation_of_the_golden_set_is_an_error() -> None:
    assert measured("").verdict is VerdictState.ERROR


def test_junit_names_each_failed_case_with_prompt_expectation_and_output() -> None:
    found = junit_cases(measured("p" * 18 + "fe", output="x" * 3000))
    assert [kind(found[f"case-{i}"]) for i in (17, 18, 19)] == ["passed", "failure", "error"]
    failure = found["case-18"].find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "differs"
    assert failure.text == f'prompt: order\nexpected: "yes"\noutput: {"x" * 2000}…'


def test_junit_has_a_test_for_each_rule_of_the_gate() -> None:
    result = measured(
        "p" * 18 + "ff",
        "p" * 20,
        compareWith=[{"type": "BaseModel"}, {"type": "LastPublished"}],
        golden={
            "rules": [
                {"name": "all", "minPassRate": "80%"},
                {"name": "critical", "cases": ["case-1", "case-19"], "minPassRate": "100%"},
            ]
        },
    )
    found = junit_cases(result)
    rules = {name: kind(case) for name, case in found.items() if not name.startswith("case-")}
    assert rules == {
        "minPassRate": "passed",
        "critical": "passed",
        "critical (2)": "failure",
        "BaseModel": "failure",
        "LastPublished": "skipped",
    }
    assert found["minPassRate"].findtext("system-out") == "golden 18/20 = 0.90, required 0.80"


def test_junit_counts_agree_with_its_tests_and_digests_are_properties() -> None:
    suite = parsed(junit_text(measured("p" * 18 + "fe", "p" * 20))).find("testsuite")
    assert suite is not None
    counts = {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "22", "failures": "1", "errors": "2", "skipped": "0"}
    found = {one.attrib["name"]: one.attrib["value"] for one in suite.iter("property")}
    assert found["goldenSha256"] == DIGEST
    assert (found["modelDigest"], found["baseDigest"]) == ("b" * 64, "c" * 64)


def test_advisory_cases_and_dry_runs_are_skipped_in_junit() -> None:
    advisory = junit_cases(measured("f" + "p" * 19, golden={"advisory": [ADVISORY]}))
    assert [name for name, case in advisory.items() if kind(case) != "passed"] == [ADVISORY]
    assert kind(advisory[ADVISORY]) == "skipped"
    result = measured("f" * 20, golden=AT_LEAST_80, enforcement="DryRun")
    assert (result.verdict, result.gates[0].verdict) == (VerdictState.PASSED, VerdictState.FAILED)
    assert {kind(case) for case in junit_cases(result).values()} == {"skipped"}


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\ud800", "\ufffe", "\uffff"])
def test_characters_that_xml_cannot_contain_are_escaped(character: str) -> None:
    text = junit_text(measured("f" * 20, output=f"<a> & {character} end\n]]>"))
    failure = next(parsed(text).iter("failure"))
    escaped = f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    assert f"output: <a> & {escaped} end\n]]>" in str(failure.text)


def test_junit_of_an_unmeasurable_model_has_an_error_per_gate() -> None:
    suites = parsed(junit_of_error(["a", "b"], "no such model"))
    assert [(suite.attrib["name"], suite.attrib["errors"]) for suite in suites] == [("a", "1"), ("b", "1")]
    assert {error.attrib["message"] for error in suites.iter("error")} == {"no such model"}


def test_table_shows_rules_skipped_baselines_and_failed_cases() -> None:
    result = measured(
        "p" * 5 + "f" * 15,
        compareWith=[{"type": "LastPublished"}],
        golden=AT_LEAST_80,
    )
    console = Console(width=160, file=io.StringIO())
    console.print(gate_view(result))
    text = console.file.getvalue()
    assert "✗ minPassRate: golden 5/20 = 0.25, required 0.80" in text
    assert "- LastPublished: skipped, no published version: name its address with --published" in text
    assert "case case-5  differs" in text
    assert "and 5 more cases: see -o json or --junit" in text


def test_table_notes_that_no_gate_is_enforced() -> None:
    console = Console(width=160, file=io.StringIO())
    console.print(gate_view(measured("f" * 20, enforcement="DryRun")))
    assert "no gate is enforced: all gates are in a dry run" in console.file.getvalue()


def gate(name: str = "golden", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "tunegate.dev/v1alpha2",
        "kind": "EvalGate",
        "metadata": {"name": name},
        "spec": {"sets": [INLINE_SET], **spec},
    }


def run_gates(folder: Path, gates: list[dict[str, Any]], *options: str) -> tuple[int, str]:
    """Run the command with a model that is an empty folder. Return its exit code and its output."""
    path, model = folder / "gates.yaml", folder / "model"
    path.write_text(yaml.safe_dump_all(gates))
    model.mkdir(exist_ok=True)
    result = CliRunner().invoke(main, ["gate", "run", str(path), "--model", str(model), *options])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("spec", "options", "error"),
    [
        ({}, (), "Error: --base is required: EvalGate golden compares with BaseModel\n"),
        (
            {"compareWith": [], "sets": [INLINE_SET, SAFETY_SET]},
            (),
            "Error: --base is required: EvalGate golden has a safety set\n",
        ),
        ({}, ("--base", "missing"), "Error: missing does not exist\n"),
        ({}, ("--base", "hf://org/name"), "Error: --base: the content of an hf:// repository can change"),
        (
            {},
            ("--base", "ftp://host/name"),
            "must begin with hf://, s3://, oci://, pvc://, file:// or package://",
        ),
        ({}, ("--gate", "other"), "Error: no EvalGate other in these manifests, only golden\n"),
        ({}, ("--batch-size", "0"), "Invalid value for '--batch-size': 0 is not in the range 1<=x<=4096"),
        ({"sets": [GOLDEN_SET | {"sealed": "2"}]}, (), "gates.yaml:"),
        (
            {"sets": [{"name": "golden", "source": {"configMap": "cases"}, "sha256": DIGEST}]},
            (),
            "no ConfigMap cases in these files",
        ),
    ],
)
def test_wrong_options_and_manifests_end_with_exit_code_2(
    tmp_path: Path, spec: dict[str, Any], options: tuple[str, ...], error: str
) -> None:
    code, output = run_gates(tmp_path, [gate(**spec)], *options)
    assert code == exit_codes.USAGE
    assert error in output


def test_adapter_without_its_base_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "adapter_config.json").write_text("{}")
    code, output = run_gates(tmp_path, [gate(compareWith=[], sets=[INLINE_SET | AT_LEAST_80])])
    assert code == exit_codes.USAGE
    assert f"Error: --base is required: {tmp_path / 'model'} is an adapter\n" in output


def test_more_gates_than_a_job_can_have_must_be_chosen(tmp_path: Path) -> None:
    code, output = run_gates(
        tmp_path, [gate(f"gate-{i}", compareWith=[{"type": "LastPublished"}]) for i in range(9)]
    )
    assert code == exit_codes.USAGE
    assert "9 EvalGates, but at most 8 can judge a model: choose with --gate" in output


def test_junit_file_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    gates = [gate(compareWith=[{"type": "LastPublished"}])]
    code, output = run_gates(tmp_path, gates, "--junit", str(tmp_path / "file" / "out.xml"))
    assert code == exit_codes.USAGE
    assert "cannot be written" in output


def test_runs_folder_that_cannot_be_created_exits_with_5(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    gates = [gate(compareWith=[{"type": "LastPublished"}])]
    options = ("--junit", str(tmp_path / "out.xml"), "--runs", str(tmp_path / "file" / "runs"))
    code, output = run_gates(tmp_path, gates, *options)
    assert code == exit_codes.NOT_MEASURED
    assert "Not a directory" in output
    assert "Not a directory" in (tmp_path / "out.xml").read_text()


def test_manifests_without_a_gate_are_refused(tmp_path: Path) -> None:
    code, output = run_gates(tmp_path, manifests(Path("/model"))[:2])
    assert code == exit_codes.USAGE
    assert "no EvalGate in these manifests" in output
