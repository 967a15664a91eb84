"""Run mutation tests of the code that computes verdicts, and the policies of child Jobs and of a FineTuneJob.

mutmut needs a single source folder, so the code is copied to build/mutants and tested there. The script
prints the survivors, writes build/mutants.json, and fails if fewer than ``REQUIRED_SHARE`` of the mutants are
killed.
"""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "mutants"
REQUIRED_SHARE = 0.90
POLICIES = {
    "children": (
        *("attempts", "child_jobs", "ended", "evictions", "failures", "multi_pod", "observed"),
        "waiting",
    ),
    "finetunejob": (
        *("absorb", "approval", "conditions", "deadlines", "decide", "draft", "events"),
        *("inputs", "judge", "last_report", "steps", "stops", "ttl"),
    ),
}
MUTATED = [
    *(
        f"src/tunegate_api/verdict/{name}.py"
        for name in ("core", "measured", "golden", "comparison", "paired", "tiers", "stop_rule")
    ),
    *(
        f"src/tunegate_api/verdict/rules/{name}.py"
        for name in ("drop", "measured_drop", "minimum", "new_failures", "non_inferior", "relative_drop")
    ),
    "src/tunegate_operator/decisions.py",
    "src/tunegate_api/judging/judgement.py",
    "src/tunegate_api/judging/approval.py",
    *(f"src/tunegate_operator/{folder}/{name}.py" for folder, names in POLICIES.items() for name in names),
]
# These tests reconcile hundreds of times: they would take most of the time and kill few mutants.
LONG_TESTS = ("test_faults", "test_status_size")
TESTS = [
    "tests/api/verdict",
    *(f"tests/api/judging/test_{name}.py" for name in ("judgement", "approval")),
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
    """Run mutmut on the policies. Return 1 if too few mutants are killed."""
    copy_sources()
    subprocess.run([sys.executable, "-m", "mutmut", "run"], cwd=WORK, check=True)
    results = read_results()
    counts = Counter(results.values())
    killed = counts["killed"] + counts["timeout"]
    share = killed / max(1, len(results))
    survivors = sorted(name for name, status in results.items() if status not in ("killed", "timeout"))
    for name in survivors:
        print(f"{results[name]:>12}  {name}")
    print(f"{killed} of {len(results)} mutants killed: {share:.1%}, required {REQUIRED_SHARE:.0%}")
    report = {"mutants": len(results), "killed": killed, "survivors": survivors}
    (ROOT / "build" / "mutants.json").write_text(json.dumps(report, indent=1) + "\n")
    return 0 if share >= REQUIRED_SHARE else 1


def copy_sources() -> None:
    """Copy packages and tests to the folders that mutmut expects."""
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
    """Return the result of each mutant: killed, survived, timeout, no tests, …"""
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
