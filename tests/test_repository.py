"""The repository layout: the folder ``operator`` must not shadow the module of the standard library.
Test names are short, and class names are unique."""

import ast
import signal
import subprocess
import sys
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the root of the repository."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )


def test_operator_folder_is_not_a_package() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_no_test_folder_is_named_operator() -> None:
    assert [path for path in (ROOT / "tests").rglob("operator") if path.is_dir()] == []


def test_only_the_support_folder_of_tests_is_a_package() -> None:
    found = {
        path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").rglob("__init__.py")
    }
    assert found == {"support"}


def test_test_names_have_at_most_ten_words_and_70_characters() -> None:
    names = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
    too_long = {n for n in names if len(n) > 70 or len(n.removeprefix("test_").split("_")) > 10}
    assert not too_long


def test_class_name_is_used_once_in_the_product() -> None:
    folders = ("crds", "operator", "client", "trainer_image")
    names = Counter(
        node.name
        for path in chain.from_iterable((ROOT / folder).rglob("*.py") for folder in folders)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("isolation", ["-S", "-sE"])
def test_python_can_start_in_the_repository_root(isolation: str) -> None:
    """``-S`` starts without site-packages, whose imports could hide the problem."""
    done = run(isolation, "-c", "import collections, operator; print(operator.add(1, 2))")
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_pytest_can_start_in_the_repository_root() -> None:
    done = run("-m", "pytest", "--version")
    assert done.returncode == 0, done.stderr


def test_sigint_interrupts_tests() -> None:
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_sigint_interrupts_tests_in_a_background_job_of_a_script() -> None:
    """Such a job is started with SIGINT ignored, which its children inherit."""
    test = f"{__file__}::{test_sigint_interrupts_tests.__name__}"
    command = [sys.executable, "-m", "pytest", test]
    done = subprocess.run(
        ["bash", "-c", "trap '' INT; exec \"$@\"", "bash", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout


def test_kopf_can_start_in_the_repository_root() -> None:
    done = run("-m", "kopf", "--version")
    assert done.returncode == 0, done.stderr
