"""The Python code in docs/python.md works."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_code_in_the_docs_runs_a_job(tmp_path: Path, stand_in: dict[str, str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    script = tmp_path / "page.py"
    script.write_text("\n".join([*blocks, "print('passed:', result.passed)"]))
    output = subprocess.check_output(
        [sys.executable, str(script)], cwd=tmp_path, env={**os.environ, **stand_in}, text=True, timeout=120
    )
    assert "kind: FineTuneJob" in output
    assert output.endswith("passed: True\n")
