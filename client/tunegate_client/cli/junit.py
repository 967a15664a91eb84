"""Write the result of `tunegate gate run` as JUnit XML, which CI systems show as tests.

The format has no specification; this is the part that Jenkins, GitLab and GitHub Actions have in common. An
advisory case, and a case or rule of a gate in a dry run, is `skipped` if it did not pass, because it never
blocks a model.
"""

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from tunegate_api.meta import printable, shorten
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_client.cli.gate_report import JudgedCase, JudgedGate, JudgedRule, ModelResult

_LONGEST = 2000
"""Maximum length of a prompt, an expectation or an output, in characters."""
_NO_CHARACTERS = {0xFFFE: r"\ufffe", 0xFFFF: r"\uffff"}
"""Characters that XML cannot contain and that are no control characters."""
_RESULTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}
"""Maps each attribute of a suite to the results that it counts."""


def junit_text(result: ModelResult) -> str:
    """Return the XML document with a test suite for each gate."""
    return _document([_suite(result, gate) for gate in result.gates], result.seconds)


def junit_of_error(gates: Sequence[str], message: str) -> str:
    """Return the XML document for gates that could not judge the model. ``message`` is the reason."""
    return _document(
        [_suite_of(name, [_case(f"{name}.rules", "measured", "error", message)]) for name in gates]
    )


def _suite(result: ModelResult, gate: JudgedGate) -> ET.Element:
    rules = [_finding(gate, finding) for finding in gate.findings]
    skipped = [_case(f"{gate.name}.rules", name, "skipped", why) for name, why in gate.skipped.items()]
    properties = {
        "verdict": str(gate.verdict),
        "golden": f"{gate.passed}/{gate.total}",
        "goldenSha256": gate.golden_sha256,
        "safetySha256": gate.safety_sha256,
        "model": result.model.uri,
        "modelDigest": result.model.digest,
        "base": result.base.uri if result.base else None,
        "baseDigest": result.base.digest if result.base else None,
        "device": result.device,
        "dtype": result.dtype,
        "quantization": result.quantization,
        "tunegate": result.tunegate,
    }
    name = f"{gate.name} (dry run)" if gate.dry_run else gate.name
    cases = [_golden_case(gate, case) for case in gate.cases]
    return _suite_of(name, [*cases, *_with_unique_names(rules), *skipped], properties)


def _golden_case(gate: JudgedGate, case: JudgedCase) -> ET.Element:
    if case.passed:
        return _case(f"{gate.name}.golden", case.id)
    kind = "error" if case.has_error else "failure"
    if case.advisory or gate.dry_run:
        kind = "skipped"
    message = f"advisory: {case.explanation}" if case.advisory else case.explanation
    texts = {"prompt": case.prompt, "expected": case.expected, "output": case.output}
    details = "\n".join(f"{name}: {shorten(text, _LONGEST)}" for name, text in texts.items())
    return _case(f"{gate.name}.golden", case.id, kind, message, details)


def _finding(gate: JudgedGate, finding: JudgedRule) -> ET.Element:
    if finding.state is VerdictState.PASSED:
        case = _case(f"{gate.name}.rules", finding.rule)
        ET.SubElement(case, "system-out").text = _valid(finding.message)
        return case
    kind = "failure" if finding.state is VerdictState.FAILED else "error"
    state = f"dry run, {finding.state}" if gate.dry_run else str(finding.state)
    return _case(
        f"{gate.name}.rules",
        finding.rule,
        "skipped" if gate.dry_run else kind,
        f"{state}: {finding.message}",
    )


def _with_unique_names(cases: Sequence[ET.Element]) -> Sequence[ET.Element]:
    """Number the second and later cases of a name: a gate has the rule mustPass once for each tag or id."""
    seen: dict[str, int] = {}
    for case in cases:
        name = case.attrib["name"]
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            case.set("name", f"{name} ({seen[name]})")
    return cases


def _case(group: str, name: str, kind: str | None = None, message: str = "", details: str = "") -> ET.Element:
    case = ET.Element("testcase", classname=_valid(group), name=_valid(name))
    if kind:
        ET.SubElement(case, kind, message=_valid(message)).text = _valid(details) or None
    return case


def _suite_of(
    name: str, cases: Sequence[ET.Element], properties: Mapping[str, str | None] | None = None
) -> ET.Element:
    suite = ET.Element("testsuite", name=_valid(name), tests=str(len(cases)))
    for attribute, kind in _RESULTS.items():
        suite.set(attribute, str(sum(case.find(kind) is not None for case in cases)))
    if properties:
        listed = ET.SubElement(suite, "properties")
        for key, value in properties.items():
            if value is not None:
                ET.SubElement(listed, "property", name=key, value=_valid(value))
    suite.extend(cases)
    return suite


def _document(suites: Sequence[ET.Element], seconds: float = 0) -> str:
    root = ET.Element("testsuites", name="tunegate gate run", time=f"{seconds:.3f}")
    root.extend(suites)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _valid(text: str) -> str:
    """Replace characters that XML cannot contain by their escapes, such as ``\\x00``."""
    return printable(text).translate(_NO_CHARACTERS)
