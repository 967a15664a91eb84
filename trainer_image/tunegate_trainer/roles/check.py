"""Check data for ``tunegate check``: ``python -m tunegate_trainer.roles.check``.

This module reads the same files below ``$TUNEGATE_ROOT`` as :mod:`tunegate_trainer.roles.forecast`, and
writes ``check.json``. With ``--any-model``, the model of the manifest is not used, and rows are measured in
words instead of tokens. With ``--any-goal``, the number of rows is not checked.
"""

import argparse
import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract import ROOT_VARIABLE, Role
from tunegate_api.forecast import CheckedData, CheckFinding
from tunegate_api.v1alpha1 import EvalGate, FineTuneJob
from tunegate_trainer.checks import CHECKS, few_rows
from tunegate_trainer.checks.runner import CheckRunner
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.models.resolve import model_length
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrainerError
from tunegate_trainer.process.files import write_model
from tunegate_trainer.roles.data import check_context, load_model_tokenizer, read_data
from tunegate_trainer.roles.forecast import make_request, model_folder, without_gates
from tunegate_trainer.tokens.plain import plain_tokenizer

FILE = "check.json"
_LONGEST = 1_000_000
"""The maximum length of a row in words if the model is not known."""


def main() -> int:
    """Write the result. Return 0 even if the data would be refused, because the result contains the error."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    parser = argparse.ArgumentParser()
    parser.add_argument("--any-model", action="store_true")
    parser.add_argument("--any-goal", action="store_true")
    arguments = parser.parse_args()
    root = Path(os.environ[ROOT_VARIABLE])
    checked = check(root, any_model=arguments.any_model, any_goal=arguments.any_goal)
    write_model(root / FILE, checked)
    return 0


def check(root: Path, *, any_model: bool = False, any_goal: bool = False) -> CheckedData:
    """Run the data checks for the job whose manifests are below ``root``, and return what they found."""
    job = FineTuneJob.model_validate_json((root / "job.json").read_bytes())
    gates = [EvalGate.model_validate(gate) for gate in json.loads((root / "gates.json").read_bytes())]
    context, checks = Context(role=Role.DATA, root=root), CHECKS
    if any_goal:
        checks = replace(CHECKS, split=tuple(one for one in CHECKS.split if one.NAME != few_rows.NAME))
    if not gates:
        job = job.model_copy(update={"spec": without_gates(job.spec)})
    folder, runner, failure = DataFolder(root / "checked"), None, None
    try:
        context.request = make_request(root, job, gates)
        tokenizer, longest = _tokenizer(context, job, any_model=any_model)
        runner = CheckRunner(check_context(context, tokenizer), folder.note)
        read_data(context, folder, longest, checks, runner)
    except TrainerError as error:
        failure = error.failure
    report: dict[str, Any] = folder.report
    return CheckedData(
        rows=report.get("rows"),
        shape=report.get("shape"),
        results=runner.results if runner else [],
        findings=[CheckFinding.model_validate(one) for one in report.get("checks", ())],
        failure=failure,
    )


def _tokenizer(context: Context, job: FineTuneJob, *, any_model: bool) -> tuple[PreTrainedTokenizerBase, int]:
    """Return the tokenizer of the job's model and its maximum length. For any model, return a tokenizer of
    words."""
    if any_model:
        return plain_tokenizer(), _LONGEST
    model = job.spec.model
    folder = model_folder(context, job.spec)
    return load_model_tokenizer(folder, model.chat_template_args or {}), model_length(folder)


if __name__ == "__main__":
    sys.exit(main())
