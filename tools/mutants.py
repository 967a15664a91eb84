"""Mutation tests of what decides: verdict.py, judgement.py, and the policies of Jobs and of a FineTuneJob.

mutmut wants one source folder, so a copy is laid out under build/mutants and tested there. Prints the
survivors, writes build/mutants.json, and fails below the share of killed mutants that is promised.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "mutants"
PROMISED = 0.90
POLICIES = {
    "children": (
        *("attempts", "child_jobs", "ended", "evictions", "failures", "multi_pod", "observed"),
        "waiting",
    ),
    "finetunejob": (
        *("absorb", "conditions", "deadlines", "decide", "draft", "events", "inputs", "judge"),
        *("last_report", "steps", "stops", "ttl"),
    ),
}
MUTATED = [
    "src/tunegate_api/judging/verdict.py",
    "src/tunegate_api/judging/judgement.py",
    *(f"src/tunegate_operator/{folder}/{name}.py" for folder, names in POLICIES.items() for name in names),
]
# These live lives with hundreds of turns: they would take most of the time and kill few.
LONG_TESTS = ("test_faults", "test_status_size")
TESTS = [
    *(f"tests/api/judging/test_{name}.py" for name in ("verdict", "verdict_texts", "judgement")),
    "tests/children",
    "tests/evalgate/test_child_jobs.py",
    *("tests/finetunejob", *(f"--ignore=tests/finetunejob/{name}.py" for name in LONG_TESTS)),
]
CONFIG = f"""
[tool.mutmut]
source_paths = ["src"]
only_mutate = {json.dumps(MUTATED)}
also_copy = ["tests", "docs"]
pytest_add_cli_args_test_selection = {json.dumps(TESTS)}
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "no:randomly"]

[tool.pytest.ini_options]
addopts = ["--import-mode=importlib"]
pythonpath = ["tests"]
timeout = 30
"""


def main() -> int:
    """Run mutmut. Returns the exit code."""
    lay_out()
    subprocess.run([sys.executable, "-m", "mutmut", "run"], cwd=WORK, check=True)
    results = read_results()
    counts = Counter(results.values())
    killed = counts["killed"] + counts["timeout"]
    share = killed / max(1, len(results))
    survivors = sorted(name for name, status in results.items() if status not in ("killed", "timeout"))
    for name in survivors:
        print(f"{results[name]:>12}  {name}")
    print(f"{killed} of {len(results)} mutants killed: {share:.1%}, promised {PROMISED:.0%}")
    report = {"mutants": len(results), "killed": killed, "survivors": survivors}
    (ROOT / "build" / "mutants.json").write_text(json.dumps(report, indent=1) + "\n")
    return 0 if share >= PROMISED else 1


def lay_out() -> None:
    """Copy packages and tests to where mutmut expects them."""
    shutil.rmtree(WORK, ignore_errors=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "crds" / "tunegate_api", WORK / "src" / "tunegate_api", ignore=ignore)
    shutil.copytree(
        ROOT / "operator" / "tunegate_operator", WORK / "src" / "tunegate_operator", ignore=ignore
    )
    for name in ("api", "children", "evalgate", "finetunejob", "support"):
        shutil.copytree(ROOT / "tests" / name, WORK / "tests" / name, ignore=ignore)
    shutil.copytree(ROOT / "docs", WORK / "docs")  # test_kstatus.py compares with a page
    (WORK / "pyproject.toml").write_text(CONFIG)


def read_results() -> dict[str, str]:
    """Mutant to what became of it: killed, survived, timeout, no tests, …"""
    shown = subprocess.run(
        [sys.executable, "-m", "mutmut", "results", "--all", "true"],
        cwd=WORK,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pairs = (line.strip().rsplit(": ", 1) for line in shown.splitlines() if ": " in line)
    return dict(pairs)


if __name__ == "__main__":
    sys.exit(main())
