"""The Python code in docs/python.md works."""

import re
from pathlib import Path

import pytest

import tunegate as tg
from support.command import stand_in_environment

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_code_in_the_docs_runs_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in stand_in_environment().items():
        monkeypatch.setenv(name, value)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    found: dict[str, object] = {}
    exec("\n".join(blocks), found)  # noqa: S102 - the code of our own docs
    result = found["result"]
    assert isinstance(result, tg.Result)
    assert result.passed
    assert "kind: FineTuneJob" in capsys.readouterr().out
