"""Find weak cases for ``tunegate golden lint``: ``python -m tunegate_trainer.roles.lint``.

This module reads the JSON Lines of a valid golden set from stdin, and writes a
:class:`~tunegate_api.cases.golden_findings.LintedGolden` to stdout.
"""

import sys

from tunegate_api.cases.golden import parse_golden
from tunegate_trainer.evaluate.golden_lint import lint


def main() -> int:
    """Write the result. Raises :class:`~tunegate_api.cases.golden.GoldenError` if the set is invalid."""
    found = lint(parse_golden(sys.stdin.buffer.read().decode()))
    sys.stdout.write(found.model_dump_json(by_alias=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
