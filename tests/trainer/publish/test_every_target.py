"""Conformance tests for every publish target in the table of targets, and for a target that is added to the
table."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.job_folder import GATE, UID, JobFolder
from support.published_version import gate_evidence
from tunegate_api.contract.digests import FileManifest
from tunegate_api.contract.published import PublishedVersion
from tunegate_api.contract.request import GateRequest
from tunegate_trainer.artifacts.history import version_name
from tunegate_trainer.fetch.address import Address
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import UserError
from tunegate_trainer.process.files import seal
from tunegate_trainer.process.interruption import Superseded
from tunegate_trainer.publish.targets import TARGETS, open_compared, open_target
from tunegate_trainer.publish.targets.target import Target, Version
from tunegate_trainer.roles.publish import run


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    (tmp_path / "volumes" / "models").mkdir(parents=True)
    return JobFolder(tmp_path).write_request().write_data()


@pytest.fixture(params=sorted(TARGETS))
def target(request: pytest.FixtureRequest, job: JobFolder) -> Target:
    """An empty target of each scheme in the table. A new scheme needs an address here."""
    addresses = {"pvc": "pvc://models/extractor", "file": f"file://{job.root}/published/extractor"}
    return open_target(job.root, addresses[request.param])


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer.claim(tmp_path / "writer")


@pytest.fixture
def make_version(job: JobFolder) -> Callable[..., Version]:
    """Make a version with evidence that it passed all cases of the job's gate."""

    def make(name: str, weights: bytes = b"weights") -> Version:
        artifact = job.root / "artifacts" / name / weights.decode()
        artifact.mkdir(parents=True)
        (artifact / "model.safetensors").write_bytes(weights)

        def describe(folder: Path) -> None:
            gate = gate_evidence(GATE, job.golden_sha256, "p" * 20)
            verdict = {"job": name, "time": datetime.now(UTC).isoformat(), "gates": [gate]}
            (folder / "evidence").mkdir()
            text = json.dumps({**verdict, "artifactDigest": manifest.digest})
            (folder / "evidence" / "verdict.json").write_text(text)

        manifest: FileManifest = seal(artifact)
        return Version(name, artifact, manifest, describe, lambda _: True)

    return make


def test_empty_target_contains_no_version(target):
    assert not target.contains("one")
    assert target.read_stable() == 0


def test_uploaded_version_is_visible_only_after_it_is_marked_stable(target, make_version, writer):
    version = make_version("one")
    target.upload(version, writer)
    assert not target.contains("one")
    assert target.set_stable(version, 0, writer)
    assert target.contains("one")
    assert target.read_stable() == 1


def test_second_version_with_the_same_publication_number_is_refused(target, make_version, writer):
    one, two = make_version("one"), make_version("two")
    for version in (one, two):
        target.upload(version, writer)
    assert target.set_stable(one, 0, writer)
    assert not target.set_stable(two, 0, writer)
    assert not target.contains("two")
    assert target.set_stable(two, target.read_stable(), writer)
    assert target.read_stable() == 2


def test_recorded_version_is_not_recorded_again(target, make_version, writer):
    version = make_version("one")
    for after in (0, None):
        target.upload(version, writer)
        assert target.set_stable(version, after, writer)
    assert target.read_stable() == 1


def test_published_version_is_never_replaced_by_another_artifact(target, make_version, writer):
    target.upload(make_version("one"), writer)
    with pytest.raises(UserError, match="one is already published with digest"):
        target.upload(make_version("one", b"others"), writer)


def test_failed_upload_leaves_the_version_name_free(target, make_version, writer):
    def fail(_: Path) -> None:
        raise UserError("no evidence")

    broken = replace(make_version("one"), describe=fail)
    with pytest.raises(UserError, match="no evidence"):
        target.upload(broken, writer)
    target.upload(make_version("one", b"others"), writer)  # the name is free


def test_name_of_a_withdrawn_version_can_be_used_again(target, make_version, writer):
    version = make_version("one")
    target.upload(version, writer)
    target.withdraw(version, writer)
    target.upload(make_version("one", b"others"), writer)
    assert not target.contains("one")


def test_superseded_process_records_nothing(target, make_version, writer, tmp_path):
    version = make_version("one")
    target.upload(version, writer)
    Writer.claim(tmp_path / "writer")
    with pytest.raises(Superseded):
        target.set_stable(version, 0, writer)
    assert not target.contains("one")


def test_newest_version_with_evidence_of_the_gate_is_found(target, make_version, writer, job):
    gates = job.request.final_gates
    for number, name in enumerate(("one", "two")):
        version = make_version(name)
        target.upload(version, writer)
        assert target.set_stable(version, number, writer)
    assert target.newest_versions(gates, "none")[GATE][0].job == "two"
    assert target.newest_versions(gates, "two")[GATE][0].job == "one"


@dataclass
class Memory:
    """A target that these tests add: it keeps versions in memory."""

    name: str = "memory"
    uploaded: dict[str, dict[str, bytes]] = field(default_factory=dict)
    recorded: list[str] = field(default_factory=list)

    def contains(self, version: str) -> bool:
        return version in self.recorded

    def upload(self, version: Version, writer: Writer) -> None:
        writer.check()
        files = version.manifest.files
        self.uploaded[version.name] = {name: (version.artifact / name).read_bytes() for name in files}

    def set_stable(self, version: Version, after: int | None, writer: Writer) -> bool:
        writer.check()
        if after is not None and after != len(self.recorded):
            return False
        self.recorded += [version.name] if after is not None else []
        return True

    def read_stable(self) -> int:
        return len(self.recorded)

    def newest_versions(self, gates: list[GateRequest], own: str) -> dict[str, PublishedVersion]:
        del gates, own
        return {}

    def withdraw(self, version: Version, writer: Writer) -> None:
        writer.check()
        del self.uploaded[version.name]


def test_target_added_with_one_line_is_published_to(job, monkeypatch):
    job.spec = {"publish": [{"uri": "mlflow://registry/extractor"}]}
    job.write_request()
    outcomes: dict[str, Any] = {"base": ("p" * 10 + "f" * 10, "p" * 10), "final": ("p" * 20, "p" * 10)}
    memory, digest = Memory(), job.write_gate(**outcomes)

    def open_memory(_: Path, address: Address) -> Memory:
        assert address.rest == "registry/extractor"
        return memory

    monkeypatch.setitem(TARGETS, "mlflow", open_memory)
    assert open_compared(job.context()) == [memory]
    run(job.context(digest=digest))
    version = version_name(job.name, UID)
    assert memory.recorded == [version]
    assert memory.uploaded[version]["adapter_model.safetensors"] == b"weights"
    (published,) = job.context().report.published
    assert published.uri == f"mlflow://registry/extractor/{version}"


def test_publish_address_with_an_unknown_scheme_is_refused(job):
    with pytest.raises(UserError) as raised:
        open_target(job.root, "mlflow://registry/extractor")
    assert str(raised.value) == (
        "spec.publish: mlflow://registry/extractor: publishing to mlflow:// is not supported"
    )
    assert raised.value.hint == "publish to pvc://CLAIM/PATH"
