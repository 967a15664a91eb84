"""Write a published version with the evidence that the next version is compared with."""

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunegate_api.contract.request import GenerationSettings
from tunegate_trainer.artifacts.history import append, last_number
from tunegate_trainer.process.files import seal


def publish_version(
    target: Path,
    name: str,
    gate: str,
    golden_sha256: str,
    outcomes: str,
    *,
    dry_run: bool = False,
    generation: GenerationSettings | None = None,
) -> Path:
    """Write the published version ``name``, and record it as the last version. Returns its folder.

    ``generation`` are the settings of its outputs, by default those of a gate without settings.
    """
    folder = target / name
    (folder / "evidence").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    judged = gate_evidence(gate, golden_sha256, outcomes, dry_run=dry_run, generation=generation)
    verdict = {
        "job": name,
        "time": datetime.now(UTC).isoformat(),
        "artifactDigest": "a" * 64,
        "gates": [judged],
    }
    (folder / "evidence" / "verdict.json").write_text(json.dumps(verdict))
    seal(folder, "a" * 64)
    append(target, last_number(target) + 1, name, "a" * 64)
    return folder


def gate_evidence(
    gate: str,
    golden_sha256: str,
    outcomes: str,
    *,
    dry_run: bool = False,
    generation: GenerationSettings | None = None,
) -> dict[str, Any]:
    """Return the fields of a gate in evidence/verdict.json that a comparison needs."""
    return {
        "name": gate,
        "goldenSha256": golden_sha256,
        "outcomes": outcomes,
        "dryRun": dry_run,
        "generation": (generation or GenerationSettings()).to_wire(),
    }


def age(version: Path) -> None:
    """Set the times of a version's files to an hour ago, so that it does not count as recently changed."""
    for path in [version, *version.rglob("*")]:
        os.utime(path, (time.time() - 3600,) * 2)
