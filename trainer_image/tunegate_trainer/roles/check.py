"""Check data for ``tunegate check`` and ``tunegate init``: ``python -m tunegate_trainer.roles.check``.

This module reads the same files below ``$TUNEGATE_ROOT`` as :mod:`tunegate_trainer.roles.forecast`, and
writes ``check.json``. With ``--any-model``, the model of the manifest is not used, and rows are measured in
words instead of tokens. With ``--any-goal``, the number of rows is not checked. With ``--describe``, the
result also describes the rows, and columns that the manifest does not set are guessed. ``--report FILE``
keeps what a job would write to ``data/report.json``.
"""

import argparse
import shutil
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedTokenizerBase

from tunegate_api.contract.forecast import CheckedData, CheckFinding, DescribedData
from tunegate_api.contract.process import Role
from tunegate_api.file_uri import file_uri
from tunegate_api.v1alpha2 import FineTuneJob
from tunegate_api.v1alpha2.data import Columns, DataSource
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_trainer.checks import CHECKS, few_rows, unreviewed_rows
from tunegate_trainer.checks.checked_rows import read_data
from tunegate_trainer.checks.finding import DATA_REPORT, CheckContext, Finding
from tunegate_trainer.checks.runner import CheckRunner
from tunegate_trainer.data.columns import guess_columns
from tunegate_trainer.data.description import describe as describe_rows
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.records import read_records
from tunegate_trainer.data.shapes import ROW_SHAPES, openai_chat, recognize, sharegpt
from tunegate_trainer.data.usable import SourceRows
from tunegate_trainer.evaluate.stored_sets import store_sets
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.models.resolve import configuration_folder, model_length
from tunegate_trainer.planning.manifests import make_request, read_manifests, without_gates
from tunegate_trainer.planning.prepare import check_context, length_limits
from tunegate_trainer.process.command import run_command
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import TrainerError
from tunegate_trainer.process.files import write_model
from tunegate_trainer.tokens.model_tokenizer import load_model_tokenizer
from tunegate_trainer.tokens.plain import plain_tokenizer

FILE = "check.json"
_NO_REPORT = "the file that `tunegate check --report FILE` writes"
"""The file with all rows that the checks found, if it was not kept."""
_LONGEST = 1_000_000
"""The maximum length of a row in words if the model is not known."""
_TRIED_ROWS = 100
"""Number of rows that are read before columns are guessed."""

FoundT = TypeVar("FoundT", CheckFinding, Failure)


def main() -> int:
    """Write the result. Return 0 even if the data would be refused, because the result contains the error."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--any-model", action="store_true")
    parser.add_argument("--any-goal", action="store_true")
    parser.add_argument("--describe", action="store_true")
    parser.add_argument("--report", type=Path)
    options = vars(parser.parse_args())
    return run_command(lambda root, _: write_model(root / FILE, check(root, **options)))


def check(
    root: Path,
    *,
    any_model: bool = False,
    any_goal: bool = False,
    describe: bool = False,
    report: Path | None = None,
) -> CheckedData:
    """Run the data checks for the job whose manifests are below ``root``, and return what they found.
    ``report`` is the file for all rows that they found; None if it is not needed."""
    job, gates = read_manifests(root)
    context, checks = Context(role=Role.DATA, root=root), CHECKS
    if any_goal:
        checks = CHECKS.without(few_rows.NAME, unreviewed_rows.NAME)
    if not gates:
        job = without_gates(job)
    folder, runner, failure = DataFolder(root / "checked"), None, None
    describer, first = _Describer(), _FirstRow()
    if describe:
        checks = replace(checks, source=(describer, *checks.source))
    try:
        context.request = make_request(root, job, gates)
        with ExitStack() as opened:
            if describe:
                source = job.spec.data.train
                train = opened.enter_context(open_source(context, source, source.field))
                first = _first_row(train.path, source)
                job = _with_train(job, train.path, first.columns)
                context.request = make_request(root, job, gates)
            tokenizer, longest = _tokenizer(context, job, any_model=any_model)
            store_sets(context)
            runner = CheckRunner(check_context(context, tokenizer), folder.note)
            read_data(context, folder, length_limits(job.spec.stages, longest), checks, runner)
    except TrainerError as error:
        failure = error.failure
    finally:
        folder.write_report()
    if report:
        shutil.copyfile(folder.path / "report.json", report)
    found: dict[str, Any] = folder.report
    where = str(report or _NO_REPORT)
    return CheckedData(
        rows=found.get("rows"),
        shape=found.get("shape"),
        results=[one for one in runner.results if one.name != _Describer.NAME] if runner else [],
        findings=[
            _naming(CheckFinding.model_validate(one), where, "message", "remedy")
            for one in found.get("checks", ())
        ],
        failure=_naming(failure, where, "message", "hint") if failure else None,
        fields=first.fields,
        guessed_columns=first.columns,
        described=describer.described,
    )


def _naming(found: FoundT, report: str, *fields: str) -> FoundT:
    """Return a finding or failure whose text fields name ``report``, because there is no volume."""
    texts = {field: getattr(found, field).replace(DATA_REPORT, report) for field in fields}
    return found.model_copy(update=texts)


@dataclass
class _Describer:
    """Describes the rows of use Train. It has the interface of a check of a source, because the rows of a
    source are available there, also if the data is refused later."""

    NAME: str = "describer"
    described: DescribedData | None = None

    def run(self, rows: SourceRows[Any], context: CheckContext) -> list[Finding]:
        if rows.field == context.request.spec.data.train.field and rows.parsed.rows:
            self.described = describe_rows(labelled.row for labelled in rows.parsed.rows)
        return []


@dataclass(frozen=True)
class _FirstRow:
    """The fields of the first row that can be read, and the columns that are guessed from them."""

    fields: list[str] | None = None
    """None if no row can be read."""
    columns: Columns | None = None
    """None if the row needs no columns, or if there is no good guess."""


def _first_row(path: Path, source: DataSource) -> _FirstRow:
    """Read the first rows, and guess columns if none of these rows can be used without."""
    records = read_records(path, source.field)
    rows = islice((record.fields for record in records if record.fields is not None), _TRIED_ROWS)
    first = next(rows, None)
    if first is None:
        return _FirstRow()
    if source.columns != Columns() or any(map(_is_usable, chain([first], rows))):
        return _FirstRow(list(first))
    return _FirstRow(list(first), guess_columns(first))


def _is_usable(fields: dict[str, Any]) -> bool:
    """Return whether a row needs no columns. A chat never does, even if it has a fault."""
    shape = recognize(ROW_SHAPES, fields, Columns())
    if shape in (openai_chat.SHAPE, sharegpt.ROWS):
        return True
    try:
        return shape is not None and bool(shape.read(fields, Columns()))
    except (RecursionError, TypeError, ValueError):
        return False


def _with_train(job: FineTuneJob, path: Path, columns: Columns | None) -> FineTuneJob:
    """Return the job with training rows at a path, so that they are not downloaded again, and with
    ``columns`` if they were guessed."""
    data = job.spec.data
    local = {"uri": file_uri(path), "config_map": None, "key": None, "secret_name": None}
    train = data.train.model_copy(update={**local, "columns": columns or data.train.columns})
    sources = [train if source is data.train else source for source in data.sources]
    data = data.model_copy(update={"sources": sources})
    return job.model_copy(update={"spec": job.spec.model_copy(update={"data": data})})


def _tokenizer(context: Context, job: FineTuneJob, *, any_model: bool) -> tuple[PreTrainedTokenizerBase, int]:
    """Return the tokenizer of the job's model and its maximum length. For any model, return a tokenizer of
    words."""
    if any_model:
        return plain_tokenizer(), _LONGEST
    model = job.spec.model
    folder = configuration_folder(context, model)
    return load_model_tokenizer(folder, model.chat_template_args or {}), model_length(folder)


if __name__ == "__main__":
    sys.exit(main())
