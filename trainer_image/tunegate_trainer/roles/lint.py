"""Find weak cases for ``tunegate golden lint``: ``python -m tunegate_trainer.roles.lint``.

This module reads ``golden.jsonl`` below ``$TUNEGATE_ROOT``, a valid golden set, and writes a
:class:`~tunegate_api.cases.golden_findings.LintedGolden` to ``lint.json``.
"""

import sys
from pathlib import Path

from tunegate_api.cases.case_lines import parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_trainer.evaluate.golden_lint import lint
from tunegate_trainer.process.command import Show, run_command
from tunegate_trainer.process.files import write_atomic

GOLDEN, FILE = "golden.jsonl", "lint.json"


def main() -> int:
    """Write the result, and return the exit code."""

    def work(root: Path, _: Show) -> None:
        found = lint(parse_cases((root / GOLDEN).read_bytes().decode(), GoldenCase))
        write_atomic(root / FILE, found.model_dump_json(by_alias=True))

    return run_command(work)


if __name__ == "__main__":
    sys.exit(main())
