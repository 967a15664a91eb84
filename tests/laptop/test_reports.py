"""Reports in outboxes reach the report store, even if the store was full at first."""

import json
import subprocess
import sys
from pathlib import Path

from tunegate_api.contract.workspace import Workspace
from tunegate_client.laptop.jobs import OWNER_ANNOTATION
from tunegate_client.laptop.reports import Outboxes
from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.reports import ReportStore

STORE_BYTES = 10_000


def pod_of(job_uid: str) -> Object:
    volume = {"name": "work", "persistentVolumeClaim": {"claimName": "work"}}
    return {"metadata": {"annotations": {OWNER_ANNOTATION: job_uid}}, "spec": {"volumes": [volume]}}


def leave(volume: Path, job_uid: str, size: int) -> None:
    outbox = volume / Workspace(job_uid).outbox
    outbox.mkdir(parents=True)
    report = {"jobUid": job_uid, "role": "train", "sequence": 1, "results": "x" * size}
    (outbox / "train.json").write_text(json.dumps(report))


def test_report_refused_by_a_full_store_is_read_again(tmp_path: Path, caplog) -> None:
    store = ReportStore(max_bytes=STORE_BYTES)
    outboxes = Outboxes(lambda _claim: tmp_path)
    outboxes.watch(lambda report: store.put(report) and None)
    for job in ("first", "second"):
        leave(tmp_path, job, STORE_BYTES * 3 // 4)
    for _ in range(2):
        outboxes.poll([pod_of("first"), pod_of("second")])
    assert store.latest("second") == []
    assert caplog.text.count("second/outbox/train.json") == 1, "logged once, however often it is read"
    store.forget("first")
    outboxes.poll([])  # its pod has ended
    assert [report["jobUid"] for report in store.latest("second")] == ["second"]


def test_outbox_that_a_cleanup_pod_removes_meanwhile_is_empty(tmp_path: Path) -> None:
    outbox = tmp_path / Workspace("orders").outbox
    outbox.parent.mkdir(parents=True)
    make_and_remove = "import os, sys\nwhile True: os.mkdir(sys.argv[1]); os.rmdir(sys.argv[1])"
    other = subprocess.Popen([sys.executable, "-S", "-c", make_and_remove, str(outbox)])
    outboxes = Outboxes(lambda _claim: tmp_path)
    try:
        for _ in range(3_000):
            outboxes.poll([pod_of("orders")])
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
