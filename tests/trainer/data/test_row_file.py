"""Rows in a temporary file: what is added is read, and the file is removed with the object."""

import gc
import os

import pytest

from tunegate_api.messages import Message
from tunegate_trainer.data import row_file
from tunegate_trainer.data.row_file import RowFile
from tunegate_trainer.tokens.rows import Row

ROWS = [
    Row(id=str(i), prompt=[Message(role="user", content="größe " * (i + 1))], completion=str(i))
    for i in range(50)
]


@pytest.mark.parametrize("buffer", [1, 200, 1 << 20])
def test_rows_are_read_as_they_were_added_in_any_order(monkeypatch, buffer):
    monkeypatch.setattr(row_file, "_BUFFER", buffer)
    file: RowFile[Row] = RowFile()
    for i, row in enumerate(ROWS):
        assert file.add(row) == i
        assert file[i // 2] == ROWS[i // 2]
    assert len(file) == len(ROWS)
    assert [file[i] for i in reversed(range(50))] == ROWS[::-1]
    with pytest.raises(IndexError):
        file[50]


def test_file_of_rows_leaves_nothing_in_its_folder(tmp_path):
    gc.collect()
    before = set(os.listdir("/proc/self/fd"))
    file: RowFile[Row] = RowFile(tmp_path)
    file.add(ROWS[1])
    assert file[0] == ROWS[1]
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/proc/self/fd")) > before
    del file
    gc.collect()
    assert set(os.listdir("/proc/self/fd")) == before
