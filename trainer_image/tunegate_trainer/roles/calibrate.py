"""Measure the error rates of gates for ``tunegate gate calibrate``: ``python -m
tunegate_trainer.roles.calibrate``.

``$TUNEGATE_ROOT`` has the files of the pod of a final gate that has ended. This module writes what it does to
stdout, one line per evaluation, and a :class:`GateCalibrations` to ``calibrate.json``. If it fails, the
reason is in ``failure.json``.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from tunegate_api.contract import ROOT_VARIABLE, ExitCode, Role
from tunegate_api.results import GateCalibrations, golden_set
from tunegate_api.workspace import RESULT
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.evaluate.calibration.measure import calibrate
from tunegate_trainer.models.base_model import verified_base
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import SourceNotFoundError, TrainerError
from tunegate_trainer.process.files import write_model

FILE = "calibrate.json"


def main() -> int:
    """Measure the gates, and return the exit code."""
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    parser = argparse.ArgumentParser()
    parser.add_argument("gates", nargs="+")
    parser.add_argument("--repeats", type=int, required=True)
    options = parser.parse_args()
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries may print, but stdout has only the progress
    root = Path(os.environ[ROOT_VARIABLE])

    def report(activity: str, end: datetime | None) -> None:
        print(activity if end is None else f"{activity}, until {end:%H:%M} UTC", file=output, flush=True)

    try:
        repeats = dict.fromkeys(options.gates, options.repeats)
        found = measure(Context(role=Role.GATE, root=root), repeats, report)
    except TrainerError as error:
        write_model(root / "failure.json", error.failure)
        return error.exit_code
    write_model(root / FILE, found)
    return ExitCode.OK


def measure(
    context: Context, repeats: Mapping[str, int], report: Callable[[str, datetime | None], None]
) -> GateCalibrations:
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
    found = calibrate(context, judged, repeats, report=report, check=lambda: None)
    sets = context.report.results.sets
    return GateCalibrations(
        sets={name: sets[golden_set(name)] for name in found.outcomes},
        outcomes=found.outcomes,
        problems=found.problems,
    )


if __name__ == "__main__":
    sys.exit(main())
