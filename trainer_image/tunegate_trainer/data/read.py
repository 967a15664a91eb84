"""Read the rows or pairs of a data source."""

from collections.abc import Callable, Iterable
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tunegate_api.v1alpha2.data import Columns, DataSource
from tunegate_trainer.data.folder import DataFolder
from tunegate_trainer.data.parse import ParsedRows
from tunegate_trainer.data.records import read_records
from tunegate_trainer.data.records.record import Record
from tunegate_trainer.data.usable import Limit, SourceRows
from tunegate_trainer.fetch.sources import open_source
from tunegate_trainer.process.context import Context
from tunegate_trainer.tokens.rows import RowT


def read_source(
    context: Context,
    folder: DataFolder,
    tokenizer: PreTrainedTokenizerBase,
    source: DataSource,
    *,
    longest: Limit,
    parse: Callable[[Iterable[Record], Columns, str | None, Path], ParsedRows[RowT]],
) -> SourceRows[RowT]:
    """Read a source, whose records ``parse`` parses. Its rows are not tokenized yet."""
    with open_source(context, source, source.field) as opened:
        records = read_records(opened.path, source.field)
        group_by = context.request.spec.data.held_out.group_by
        parsed = parse(records, source.columns, group_by, folder.scratch)
    examples = folder.examples_file(source.name)
    return SourceRows(source, opened.sha256, parsed, tokenizer, longest, examples, records.format.NAME)
