"""What a pod that reports is answered, over real TLS."""

import errno
import json
import os
import socket
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.report_address import TOKEN, Engine, serving
from support.waiting import eventually
from tunegate_api.contract import Report, Role, report_path
from tunegate_operator.engine.cluster import ClusterError
from tunegate_operator.reporting import server
from tunegate_operator.reporting.certificates import make_authority
from tunegate_operator.reporting.senders import UnknownPodError

JOB = "job-uid"


def report(**changes: Any) -> dict[str, Any]:
    made = Report(job_uid=JOB, role=Role.DATA, attempt=1, sequence=1, time=datetime(2026, 1, 1, tzinfo=UTC))
    wire: dict[str, Any] = made.model_dump(mode="json", by_alias=True, exclude_none=True)
    return wire | changes


@pytest.fixture
def engine():
    engine = Engine()
    engine.jobs.add(JOB)
    with serving(engine):
        yield engine


def post(engine: Engine, body: Any, *, token: str | None = TOKEN, job: str = JOB) -> tuple[int, str]:
    """Status and message of the answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(engine.url + report_path(job), data, headers, method="POST")  # noqa: S310 - ours
    tls = ssl.create_default_context(cadata=engine.authority.certificate.decode())
    try:
        with urllib.request.urlopen(request, timeout=10, context=tls) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())["message"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["message"]


def test_a_report_is_handed_on_and_acknowledged(engine):
    assert post(engine, report()) == (200, "acknowledged")
    assert engine.taken == [report(results={"sets": {}, "evaluations": []}, published=[])]


def test_a_report_that_is_not_in_status_in_time_must_come_again(engine, monkeypatch):
    monkeypatch.setattr(server, "ACKNOWLEDGE_SECONDS", 0.2)
    engine.acknowledge = None
    code, message = post(engine, report())
    assert (code, message) == (503, "the report is not in status yet")


def test_a_job_that_goes_away_meanwhile_is_said_to_be_gone(engine):
    engine.acknowledge = lambda promise: promise.cancel()
    assert post(engine, report())[0] == 404


def serial_number(engine: Engine) -> str:
    """Of the certificate that a connection is shown."""
    tls = ssl.create_default_context(cadata=engine.authority.certificate.decode())
    with (
        socket.create_connection(("localhost", engine.port), timeout=10) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        return str((connection.getpeercert() or {})["serialNumber"])


def test_its_certificate_is_another_one_before_it_expires(monkeypatch, caplog):
    def no_room(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(server, "ROTATION_SECONDS", 0.05)
    engine, ago = Engine(), [timedelta(days=5)]
    engine.jobs.add(JOB)
    with serving(engine, now=lambda: datetime.now(UTC) - ago[0]):
        first = serial_number(engine)
        with monkeypatch.context() as patch:
            patch.setattr(server.tempfile, "TemporaryDirectory", no_room)
            ago[0] = timedelta(0)
            eventually(lambda: "is not rotated: [Errno 28]" in caplog.text, seconds=10, what="it tried")
            assert serial_number(engine) == first
        eventually(lambda: serial_number(engine) != first, seconds=10, what="it is another one")
        assert post(engine, report()) == (200, "acknowledged")


def test_a_forged_report_is_refused_and_not_handed_on(engine):
    assert post(engine, report(), token="another") == (403, "the token is of a pod of another job")
    assert post(engine, report(), token=None)[0] == 401
    assert engine.taken == []


def test_an_unknown_job_is_said_to_be_unknown(engine):
    assert post(engine, report(), job="no-such") == (404, "there is no FineTuneJob with uid no-such")


@pytest.mark.parametrize("error", [UnknownPodError("not known yet"), ClusterError("unavailable")])
def test_what_may_pass_is_to_be_tried_again(engine, error):
    engine.senders.error = error
    assert post(engine, report()) == (503, str(error))
    engine.senders.error = None
    assert post(engine, report())[0] == 200


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"no json", "Invalid JSON"),
        (report(role="dance"), "role"),
        (report(jobUid="other"), "jobUid: other is not the job of this address"),
    ],
)
def test_what_is_no_report_is_refused_by_name(engine, body, named):
    code, message = post(engine, body)
    assert code == 422
    assert named in message
    assert engine.taken == []


def test_who_does_not_trust_the_authority_does_not_connect(engine):
    engine.authority = make_authority(datetime.now(UTC))
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        post(engine, report())
