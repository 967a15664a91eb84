"""Reading records from files of each format, and bad rows with their place and the reason."""

import csv
import json
import tracemalloc
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from tunegate_trainer.data.records import FORMATS, json_array, json_lines, read_records
from tunegate_trainer.data.records.record import MAX_ROW_SIZE, Record
from tunegate_trainer.process.errors import BadDataError

Rows = list[dict[str, Any]]
ROWS: Rows = [{"prompt": "a, b", "completion": "ü\nline"}, {"prompt": "c", "completion": '"d"'}]


def write_lines(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_array(path: Path, rows: Rows) -> None:
    path.write_text("\ufeff" + json.dumps(rows))


def write_csv(path: Path, rows: Rows, delimiter: str = ",") -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path: Path, rows: Rows) -> None:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_ipc(path: Path, rows: Rows, open_writer: Callable[..., Any] = pyarrow.ipc.new_stream) -> None:
    table = pyarrow.Table.from_pylist(rows)
    with open_writer(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)


WRITERS: dict[str, Callable[[Path, Rows], object]] = {
    "a.jsonl": write_lines,
    "a.ndjson": lambda path, rows: path.write_text("\n".join(map(json.dumps, rows))),
    "lines.json": lambda path, rows: path.write_text("\n\n".join(map(json.dumps, rows))),
    "no-ending": write_lines,
    "array.json": write_array,
    "indented.json": lambda path, rows: path.write_text(json.dumps(rows, indent=2)),
    "a.csv": write_csv,
    "semicolon.CSV": partial(write_csv, delimiter=";"),
    "tab.csv": partial(write_csv, delimiter="\t"),
    "a.tsv": partial(write_csv, delimiter="\t"),
    "a.parquet": write_parquet,
    "parquet": write_parquet,
    "file.arrow": partial(write_ipc, open_writer=pyarrow.ipc.new_file),
    "stream.arrow": write_ipc,
    "stream": write_ipc,
}
"""Functions that write rows, by the name of the file. The last names have no ending of a format."""


def read(path: Path, content: bytes | str) -> list[Record]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_records(path, "data.sources[train]"))


def problems(records: Iterable[Record]) -> list[str]:
    return [f"{record.place}: {record.problem}" for record in records if record.fields is None]


@pytest.mark.parametrize("name", WRITERS)
def test_rows_of_every_format_are_the_same(tmp_path, name):
    WRITERS[name](tmp_path / name, ROWS)
    assert [record.fields for record in read_records(tmp_path / name, "data.sources[train]")] == ROWS


def test_every_format_is_recognized(tmp_path):
    found = set()
    for name, write in WRITERS.items():
        write(tmp_path / name, ROWS)
        found.add(read_records(tmp_path / name, "data.sources[train]").format)
    assert found == set(FORMATS)


def test_records_can_be_read_more_than_once(tmp_path):
    write_csv(tmp_path / "a.csv", ROWS)
    records = read_records(tmp_path / "a.csv", "data.sources[train]")
    assert list(records) == list(records)


@pytest.mark.parametrize("name", ["a.jsonl", "array.json", "a.csv", "a.parquet", "stream.arrow"])
def test_file_is_never_in_memory_as_a_whole(tmp_path, monkeypatch, name):
    monkeypatch.setattr(json_array, "_BLOCK", 1 << 12)
    rows = [{"text": "x" * 1000, "id": str(i)} for i in range(4000)]
    WRITERS[name](tmp_path / name, rows)
    size = sum(len(row["text"]) for row in rows)
    records = iter(read_records(tmp_path / name, "data.sources[train]"))
    next(records)
    tracemalloc.start()
    try:
        assert sum(1 for _ in records) == len(rows) - 1
        assert tracemalloc.get_traced_memory()[1] < size * 0.75
    finally:
        tracemalloc.stop()


# JSON Lines


def test_line_that_is_not_utf_8_is_a_bad_row(tmp_path):
    records = read(tmp_path / "a.jsonl", '{"a": 1}\n{"a": "ü"}\n{"a": "'.encode() + b'\xfc"}\n{"a": 2}\n')
    assert problems(records) == ["line 3: the row is not UTF-8: save the file as UTF-8"]
    assert len(records) == 4


def test_line_longer_than_the_limit_is_a_bad_row(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "MAX_ROW_SIZE", 20)
    records = read(tmp_path / "a.jsonl", '{"a": "' + "x" * 100 + '"}\n{"a": 1}\n')
    assert problems(records) == [f"line 1: the row is larger than {MAX_ROW_SIZE >> 20} MiB"]
    assert records[1].fields == {"a": 1}


# A JSON array


@pytest.mark.parametrize("block", [1, 2, 3, 7, 1 << 20])
def test_array_is_the_same_whatever_the_block_size(tmp_path, monkeypatch, block):
    monkeypatch.setattr(json_array, "_BLOCK", block)
    content = '[ {"a": "\\u00fc\\"]"}, {"b": [1.5e3, {"c": null}]} , 123, {"d": true}\n] \n'
    records = read(tmp_path / "a.json", content)
    assert [record.fields for record in records] == [
        {"a": 'ü"]'},
        {"b": [1500.0, {"c": None}]},
        None,
        {"d": True},
    ]
    assert problems(records) == ["row 3: a row must be a JSON object, but it is a number"]


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('[{"a": 1}, {"a": 2}', "expected ',' after row 2, but found the end of the file"),
        ('[{"a": 1} {"a": 2}]', "expected ',' after row 1, but found '{'"),
        ('[{"a": 1}] {"a": 2}', "there is more text after the end of the array"),
        ('[{"a": 1}, {"a": "b]', "row 2 is not JSON: Unterminated string starting at"),
        ('[{"a": 1}, ]', "row 2 is not JSON: Expecting value"),
        ('[{"a": 1}, {"a": "b\nc"}]' + " " * 30, "row 2 is not JSON: Invalid control character at"),
    ],
)
def test_damaged_array_is_an_error_with_the_row(tmp_path, monkeypatch, content, reason, block):
    monkeypatch.setattr(json_array, "_BLOCK", block)
    with pytest.raises(BadDataError) as raised:
        read(tmp_path / "a.json", content)
    assert str(raised.value) == f"data.sources[train]: the file cannot be read as JSON array: {reason}"


@pytest.mark.parametrize("block", [1, 1 << 20])
@pytest.mark.parametrize("more", ["", ', {"a": "' + "y" * 60 + '"}'])
def test_object_of_an_array_may_have_full_line_length(tmp_path, monkeypatch, block, more):
    monkeypatch.setattr(json_array, "_BLOCK", block)
    monkeypatch.setattr(json_array, "MAX_ROW_SIZE", 100)
    longest = '{"a": "' + "x" * 91 + '"}'
    assert len(read(tmp_path / "a.json", f"[{longest}{more}]")) == (2 if more else 1)
    with pytest.raises(BadDataError, match="row 1: the row is larger than 64 MiB"):
        read(tmp_path / "a.json", f"[{longest.replace('x', 'xx', 1)}{more}]")


def test_number_at_the_end_of_a_block_is_one_row(tmp_path, monkeypatch):
    monkeypatch.setattr(json_array, "_BLOCK", 1)
    assert len(read(tmp_path / "a.json", "[123, 456]")) == 2


def test_empty_array_has_no_rows(tmp_path):
    assert read(tmp_path / "a.json", " [ ] ") == []


def test_array_object_not_in_utf_8_is_a_bad_row(tmp_path):
    records = read(tmp_path / "a.json", b'[{"a": "\xfc"}, {"a": 1}]')
    assert problems(records) == ["row 1: the row is not UTF-8: save the file as UTF-8"]


# CSV


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("1,2,3", "the row has 3 fields, but the header line has 2 columns"),
        ("1", "the row has 1 fields, but the header line has 2 columns"),
        ('"a"b,2', "the row is not CSV: ',' expected after '\"'"),
        ('1,"2', "the row is not CSV: unexpected end of data"),
        (b"\xfc,2", "the row is not UTF-8: save the file as UTF-8"),
    ],
)
def test_bad_csv_row_is_reported_with_its_first_line(tmp_path, content, problem):
    content = content if isinstance(content, bytes) else content.encode()
    records = read(tmp_path / "a.csv", b'\xef\xbb\xbfa, b\r\n"x\ny",z\r\n\r\n' + content)
    assert records[0].fields == {"a": "x\ny", "b": "z"}
    assert [str(record.place) for record in records] == ["line 2", "line 5"]
    assert problems(records) == [f"line 5: {problem}"]


def test_csv_row_after_a_bad_one_is_read(tmp_path):
    records = read(tmp_path / "a.csv", 'a,b\n"1"x,2\n3,4\n')
    assert (records[0].fields, records[1].fields) == (None, {"a": "3", "b": "4"})


@pytest.mark.parametrize(("later", "lost"), [('last,"quoted, text"', 1002), ("last,no quote", 1003)])
def test_lines_that_a_stray_quote_takes_are_bad_rows(tmp_path, later, lost):
    rows = [f"{i},text" for i in range(1000)]
    records = read(tmp_path / "a.csv", "\n".join(["a,b", "first,row", 'broken,"no end', *rows, later, "x,y"]))
    assert len(records) == 1004
    found = problems(records)
    assert len(found) == lost
    assert found[1].endswith("the row in line 3 is not CSV; if it ends before this line, check its quotes")


def test_text_in_a_csv_field_may_be_long(tmp_path):
    (record,) = read(tmp_path / "a.csv", "a,b\n" + "x" * 200_000 + ",y\n")
    assert record.fields == {"a": "x" * 200_000, "b": "y"}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"a,b,a", "the header line repeats a column: a"),
        (b"\xfc,b", "the header line is not UTF-8: save the file as UTF-8"),
        (b'"a', "the header line is not CSV: unexpected end of data"),
    ],
)
def test_csv_file_with_a_bad_header_line_is_refused(tmp_path, header, reason):
    with pytest.raises(BadDataError, match=f"cannot be read as CSV: {reason}"):
        read(tmp_path / "a.csv", header)


# Parquet and Arrow


def test_missing_fields_of_nested_objects_are_left_out(tmp_path):
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "tool", "name": "f"}], "id": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    (record,) = read_records(tmp_path / "a.parquet", "data.sources[train]")
    assert record.fields == rows[0]


def test_rows_of_all_batches_are_numbered(tmp_path):
    rows = [{"a": str(i)} for i in range(2500)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=700)
    write_ipc(tmp_path / "a.arrow", rows, pyarrow.ipc.new_file)
    for name in ("a.parquet", "a.arrow"):
        records = list(read_records(tmp_path / name, "data.sources[train]"))
        assert [record.fields for record in records] == rows
        assert str(records[-1].place) == "row 2500"


def test_date_that_python_cannot_represent_is_read_as_text(tmp_path):
    days = pyarrow.array([1, 3_000_000], pyarrow.int32()).cast(pyarrow.date32())
    pyarrow.parquet.write_table(pyarrow.table({"a": ["x", "y"], "day": days}), tmp_path / "a.parquet")
    first, second = read_records(tmp_path / "a.parquet", "data.sources[train]")
    assert (first.fields["a"], str(first.fields["day"])) == ("x", "1970-01-02")
    assert second.fields == {"a": "y", "day": "10183-09-21"}


def test_arrow_text_not_in_utf_8_is_a_bad_row(tmp_path):
    values = pyarrow.array([b"a", b"\xfc", b"b"]).view(pyarrow.string())
    table = pyarrow.table({"text": values})
    with pyarrow.ipc.new_file(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    records = list(read_records(tmp_path / "a.arrow", "data.sources[train]"))
    assert problems(records) == ["row 2: the row is not UTF-8: save the file as UTF-8"]
    assert (records[0].fields, records[2].fields) == ({"text": "a"}, {"text": "b"})


@pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "stream.arrow"])
def test_damaged_arrow_or_parquet_file_is_refused(tmp_path, name):
    WRITERS[name](tmp_path / name, ROWS)
    content = (tmp_path / name).read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"text"):
        with pytest.raises(BadDataError, match=r"data\.sources\[train\]: the file cannot be read as "):
            read(tmp_path / name, damaged)


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "Zstandard"),
        (b"PK\x03\x04", "ZIP"),
        (b"\xff\xfe", "UTF-16"),
    ],
)
def test_file_in_an_unsupported_format_is_refused_with_a_hint(tmp_path, start, what):
    with pytest.raises(BadDataError, match=what) as raised:
        read(tmp_path / "a.jsonl", start + b"{}")
    assert raised.value.hint
