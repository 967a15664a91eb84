"""Show the result of `tunegate gate run` on a terminal."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tunegate_api.meta import printable, shorten
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_client.cli.display import VERDICT_COLOURS
from tunegate_client.cli.gate_report import JudgedGate, ModelResult

_MARKS = {VerdictState.PASSED: "✓", VerdictState.FAILED: "✗"}
_SHOWN_CASES = 10
_LONGEST = 160
"""Maximum length of the reason why a case failed, in characters."""


def gate_view(result: ModelResult) -> RenderableType:
    """Render the verdict of each gate, its rules, and the cases that failed."""
    sections: list[RenderableType] = [_head(result)]
    for gate in result.gates:
        sections += ["", *_gate(gate)]
    sections += [Text(f"note      {printable(note)}", style="yellow") for note in result.notes]
    if not result.is_enforced:
        sections.append(Text("no gate is enforced: all gates are in a dry run", style="yellow"))
    verdict = str(result.verdict)
    return Panel(
        Group(*sections), title=f"[bold]{verdict}", border_style=VERDICT_COLOURS[verdict], padding=(0, 1)
    )


def _head(result: ModelResult) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    kind = "adapter" if result.model.is_adapter else "whole model"
    table.add_row("model", f"{result.model.uri} ({kind}, sha256 {result.model.digest[:12]}…)")
    if result.base:
        table.add_row("base", f"{result.base.uri} (sha256 {result.base.digest[:12]}…)")
    precision = f"{result.dtype}, base in {result.quantization}" if result.quantization else result.dtype
    table.add_row("measured", f"on {result.device} in {precision}, {result.seconds:.0f} s")
    return table


def _gate(gate: JudgedGate) -> Iterator[RenderableType]:
    verdict = str(gate.verdict)
    dry_run = "  (dry run)" if gate.dry_run else ""
    yield Text.assemble(
        (gate.name, "bold"), "  ", (verdict, f"bold {VERDICT_COLOURS[verdict]}"), f"{dry_run}"
    )
    for finding in gate.findings:
        mark = _MARKS.get(finding.state, "!")
        style = VERDICT_COLOURS[str(finding.state)]
        yield Text.assemble((f"  {mark} ", style), f"{finding.rule}: {finding.message}")
    for name, why in gate.skipped.items():
        yield Text(f"  - {name}: skipped, {why}", style="dim")
    failed = gate.failed_cases
    for case in failed[:_SHOWN_CASES]:
        reason = shorten(printable(case.explanation).replace("\n", " "), _LONGEST)
        yield Text.assemble(("  case ", "dim"), case.id, (f"  {reason}", "dim"))
    if len(failed) > _SHOWN_CASES:
        more = len(failed) - _SHOWN_CASES
        yield Text(f"  and {more} more cases: see -o json or --junit", style="dim")
