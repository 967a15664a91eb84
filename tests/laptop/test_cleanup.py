"""On a laptop, a command cleans up its jobs whose ttlSecondsAfterFinished has passed, and does not wait for
other TTLs."""

from pathlib import Path


def remaining(command, kind: str) -> list[str]:
    """Return the names of the remaining objects of a kind."""
    return sorted(path.stem for path in (command.runs / ".cluster" / "objects" / kind).rglob("*.yaml"))


def test_run_does_not_wait_until_the_ttl_expires(quick):
    quick.write(Path("/nowhere"), ttlSecondsAfterFinished=86400)
    result = quick("run", "manifests", seconds=60)
    assert result.returncode == 0, result.stdout
    assert "cleanup" not in quick.status()
    assert len(remaining(quick, "Job")) == 4

    quick.write(Path("/nowhere"), ttlSecondsAfterFinished=0)
    result = quick("run", "manifests", seconds=60)
    assert result.returncode == 0, result.stdout
    assert quick.status()["cleanup"]["result"] == "Succeeded"
    assert remaining(quick, "Job") == []


def test_job_with_ttl_zero_is_cleaned_up_by_its_run(quick):
    quick.write(Path("/nowhere"), ttlSecondsAfterFinished=0)
    result = quick("run", "manifests", seconds=60)
    assert result.returncode == 0, result.stdout
    assert quick.status()["phase"] == "Succeeded"
    assert quick.status()["cleanup"]["result"] == "Succeeded"
    assert remaining(quick, "Job") == []
    assert len(remaining(quick, "ConfigMap")) == 6, (
        "two of the user, request, plan and results, and the gate's records"
    )
    assert quick.pods() == []
    assert (quick.runs / "orders" / "report.html").exists()
