"""Measure the error rates of gates for ``tunegate gate error-rate``: ``python -m
tunegate_trainer.roles.error_rate``.

``$TUNEGATE_ROOT`` has the files of the pod of a final gate that has ended. This module writes what it does to
stdout, one line per evaluation, and a :class:`GateErrorRates` to ``error-rates.json``.
"""

import argparse
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from tunegate_api.contract.process import Role
from tunegate_api.contract.results import GateErrorRates, golden_set
from tunegate_api.contract.workspace import RESULT
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.evaluate.error_rate.measure import measure_error_rates
from tunegate_trainer.models.base_model import verified_base
from tunegate_trainer.process.command import Show, run_command
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError
from tunegate_trainer.process.files import write_model

FILE = "error-rates.json"


def main() -> int:
    """Measure the gates, and return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("gates", nargs="+")
    parser.add_argument("--repeats", type=int, required=True)
    options = parser.parse_args()

    def work(root: Path, show: Show) -> None:
        def report(activity: str, end: datetime | None) -> None:
            show(activity if end is None else f"{activity}, until {end:%H:%M} UTC")

        repeats = dict.fromkeys(options.gates, options.repeats)
        write_model(root / FILE, measure(Context(role=Role.GATE, root=root), repeats, report))

    return run_command(work, level=logging.ERROR)


def measure(
    context: Context, repeats: Mapping[str, int], report: Callable[[str, datetime | None], None]
) -> GateErrorRates:
    """Return the outcomes for each gate in ``repeats``. Raises :class:`TrainerError` if the job's folder has
    no result of a final gate, or if its base model was changed."""
    try:
        written = (context.workspace / context.paths.gate / RESULT).read_bytes()
        judged = GateRoleResult.model_validate_json(written)
    except (FileNotFoundError, ValidationError) as error:
        raise SourceNotFoundError(
            f"the result of the final gate cannot be read: gate/{RESULT} is missing or damaged in the job's "
            "folder on the volume",
            "run the job again",
        ) from error
    verified_base(context.workspace, context.plan)
    found = measure_error_rates(context, judged, repeats, report=report, check=lambda: None)
    sets = context.report.results.sets
    return GateErrorRates(
        sets={name: sets[golden_set(name)] for name in found.outcomes},
        outcomes=found.outcomes,
        problems=found.problems,
    )


if __name__ == "__main__":
    sys.exit(main())
