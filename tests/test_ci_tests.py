"""CI repeats the tests that failed, and refuses skips that are not listed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tools" / "ci_tests.py"
PASSES_WHEN_REPEATED = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("n", range({count}))
def test_flaky(n):
    seen = Path(f"seen-{{n}}")
    was_there = seen.exists()
    seen.touch()
    assert was_there
"""


class Project:
    """A folder with tests, in which the script runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / ".ci").mkdir()

    def write(self, text: str) -> None:
        (self.folder / "test_it.py").write_text(text)

    def ci(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, SCRIPT, *arguments],
            cwd=self.folder,
            # Importing all installed plugins takes most of the second in which pytest starts.
            env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def suite(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.ci("run", "suite", sys.executable, "-m", "pytest", *options)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.mark.parametrize(
    "options",
    [(), ("-p", "xdist.plugin", "--numprocesses", "2")],
    ids=["one process", "two processes"],
)
def test_test_that_passes_when_repeated_is_listed_as_flaky(project: Project, options: tuple[str]) -> None:
    project.write(PASSES_WHEN_REPEATED.format(count=1))
    assert project.suite(*options).returncode == 0
    again = project.ci("again")
    assert (again.returncode, again.stdout[-70:].split("FLAKY")[-1]) == (
        0,
        ": passed only when repeated alone\n  test_it.py::test_flaky[0]\n",
    )


def test_more_than_three_flaky_tests_fail(project: Project) -> None:
    project.write(PASSES_WHEN_REPEATED.format(count=2))
    assert project.suite().returncode == 0
    assert project.ci("again").returncode == 0
    (project.folder / "seen-0").unlink()
    (project.folder / "seen-1").unlink()
    more = project.suite()
    assert (more.returncode, more.stdout.splitlines()[-1]) == (1, "2 tests failed; at most 1 are repeated")


def test_test_that_fails_again_fails(project: Project) -> None:
    project.write("def test_broken():\n    assert False\n\ndef test_good():\n    pass\n")
    assert project.suite().returncode == 0
    again = project.ci("again")
    assert again.returncode == 1
    assert again.stdout.endswith("FAILED AGAIN:\n  test_it.py::test_broken\n")


@pytest.mark.parametrize("mistake", ["import missing_module", "def test_a(missing_fixture): pass"])
def test_tests_that_cannot_run_fail(project: Project, mistake: str) -> None:
    project.write(mistake)
    assert project.suite().returncode or project.ci("again").returncode


def test_suite_without_results_fails(project: Project) -> None:
    assert project.ci("run", "suite", "false").returncode == 1
    assert project.ci("run", "suite", "true").returncode == 1


SKIPPED = "import pytest\n\n@pytest.mark.parametrize('n', [1])\ndef test_it(n):\n    pytest.{how}('no GPU')\n"


@pytest.mark.parametrize("how", ["skip", "xfail"])
def test_skip_that_is_not_listed_fails(project: Project, how: str) -> None:
    project.write(SKIPPED.format(how=how))
    (project.folder / ".ci" / "skips.txt").write_text("test_other.py::* of another file\n")
    done = project.suite()
    assert done.returncode == 1
    assert "not listed in .ci/skips.txt: test_it.py::test_it[1]: no GPU" in done.stdout


def test_skip_that_is_listed_with_a_reason_passes(project: Project) -> None:
    project.write(SKIPPED.format(how="skip"))
    (project.folder / ".ci" / "skips.txt").write_text("test_it.py::test_it[*] without a GPU\n")
    assert project.suite().returncode == 0
    (project.folder / ".ci" / "skips.txt").write_text("test_it.py::test_it[*]\n")
    assert project.suite().returncode == 1, "no reason"
