"""The answers of the report server to pods, over real TLS connections."""

import asyncio
import errno
import gzip
import io
import json
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from support.clock import FakeClock
from support.report_address import TOKEN, Engine, FakeAuthenticator, serving
from support.waiting import eventually
from tunegate_api.contract.process import Role
from tunegate_api.contract.report import Report, report_path
from tunegate_operator.engine.cluster import ClusterError
from tunegate_operator.engine.reports import JobTooLargeError, StoreFullError
from tunegate_operator.names import Step
from tunegate_operator.reporting import body, server, turns
from tunegate_operator.reporting.certificates import make_authority
from tunegate_operator.reporting.connections import Limits
from tunegate_operator.reporting.senders import UnknownPodError
from tunegate_operator.reporting.steps import Sender

JOB = "job-uid"


class BlockedUnknownTokens(FakeAuthenticator):
    """An authenticator that blocks the TokenReview of every unknown token until the test ends."""

    def __init__(self) -> None:
        self.is_over = threading.Event()

    def authenticate(self, token: str, job_uid: str) -> Any:
        if token != TOKEN:
            self.is_over.wait(30)
        return super().authenticate(token, job_uid)


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


@contextmanager
def tls_connection(engine: Engine) -> Iterator[ssl.SSLSocket]:
    """Open a TLS connection."""
    tls = ssl.create_default_context(cadata=engine.authority.certificate.decode())
    with (
        socket.create_connection(("localhost", engine.port), timeout=10) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        yield connection


def head(token: str, length: int, job: str = JOB) -> bytes:
    lines = f"POST {report_path(job)} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {token}"
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def answer(connection: ssl.SSLSocket) -> bytes:
    """Return everything that the server sends until it closes the connection."""
    return b"".join(iter(lambda: connection.recv(4096), b""))


def post(engine: Engine, body: Any, *, token: str | None = TOKEN, job: str = JOB) -> tuple[int, str]:
    """Post a report. Returns the HTTP status code and the message of the answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = body if isinstance(body, bytes | io.BytesIO) else json.dumps(body).encode()
    request = urllib.request.Request(engine.url + report_path(job), data, headers, method="POST")  # noqa: S310 - ours
    tls = ssl.create_default_context(cadata=engine.authority.certificate.decode())
    try:
        with urllib.request.urlopen(request, timeout=10, context=tls) as answer:  # noqa: S310
            return answer.status, json.loads(answer.read())["message"]
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["message"]


def test_report_is_passed_to_the_engine_and_acknowledged(engine):
    assert post(engine, report()) == (200, "acknowledged")
    assert engine.taken == [report(results={"sets": {}, "evaluations": []}, published=[])]


def test_report_not_in_status_in_time_is_answered_503():
    engine = Engine()
    engine.jobs.add(JOB)
    engine.acknowledge = None
    with serving(engine, limits=Limits(acknowledgement=0.2)):
        assert post(engine, report()) == (503, "the report is not in status yet")


def test_report_on_a_job_deleted_meanwhile_is_answered_404(engine):
    engine.acknowledge = lambda promise: promise.cancel()
    assert post(engine, report())[0] == 404


def serial_number(engine: Engine) -> str:
    """Return the serial number of the certificate that the server presents."""
    with tls_connection(engine) as connection:
        return str((connection.getpeercert() or {})["serialNumber"])


def test_serving_certificate_is_rotated_before_it_expires(monkeypatch, caplog):
    def disk_full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(server, "ROTATION_SECONDS", 0.05)
    engine, clock = Engine(), FakeClock(datetime.now(UTC) - timedelta(days=5))
    engine.jobs.add(JOB)
    with serving(engine, clock=clock):
        first = serial_number(engine)
        with monkeypatch.context() as patch:
            patch.setattr(server.tempfile, "TemporaryDirectory", disk_full)
            clock.advance(timedelta(days=5).total_seconds())
            eventually(
                lambda: "was not rotated: [Errno 28]" in caplog.text, seconds=10, what="a rotation failed"
            )
            assert serial_number(engine) == first
        eventually(lambda: serial_number(engine) != first, seconds=10, what="the certificate is replaced")
        assert post(engine, report()) == (200, "acknowledged")


def test_report_with_a_wrong_token_is_refused(engine):
    assert post(engine, report(), token="another") == (403, "the token belongs to a pod of another job")
    assert post(engine, report(), token=None)[0] == 401
    assert engine.taken == []


def test_report_on_an_unknown_job_is_answered_404(engine):
    assert post(engine, report(), job="no-such") == (404, "there is no FineTuneJob with uid no-such")


@pytest.mark.parametrize("error", [UnknownPodError("not known yet"), ClusterError("unavailable")])
def test_temporary_error_is_answered_503(engine, error):
    engine.authenticator.error = error
    assert post(engine, report()) == (503, str(error))
    engine.authenticator.error = None
    assert post(engine, report())[0] == 200


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"no json", "Invalid JSON: "),
        (report(role="dance"), "role: Input should be 'data'"),
        ({}, "jobUid: Field required; role: Field required; attempt: Field required"),
        (report(results={"sets": {"a\nb": 1}}), "results.sets.a b: "),
        (report(jobUid="other"), "jobUid: other is not the job uid in the URL"),
    ],
)
def test_refusal_of_an_invalid_report_names_the_faulty_fields(engine, body, named):
    code, message = post(engine, body)
    assert code == 422
    assert message.startswith(named)
    assert "http" not in message
    assert "\n" not in message
    assert engine.taken == []


def test_report_of_an_unknown_stage_or_attempt_is_refused(engine):
    engine.authenticator.sender = Sender(Step(Role.DATA), 1, ("sft",), {})
    assert post(engine, report(attempt=2)) == (
        422,
        "attempt: 2 is higher than the latest attempt (1) of data",
    )
    code, message = post(engine, report(role="train", stage="forged"))
    assert (code, message) == (422, "stage: forged is not a training stage of this job")
    assert engine.taken == []
    assert post(engine, report())[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        b" " * (body.MAX_BYTES + 1),
        report(results={"x": [[]] * body.MAX_VALUES}),
        report(results={"evaluations": [{}] * (body.MAX_OBJECTS + 1)}),
        io.BytesIO(b" " * (body.MAX_BYTES + 1)),
    ],
    ids=["bytes", "values", "objects", "bytes of undeclared length"],
)
def test_report_above_a_limit_is_refused_with_advice(engine, body):
    code, message = post(engine, body)
    assert code == 413
    assert "retrying does not help: use smaller golden sets" in message
    assert engine.taken == []


def test_report_of_the_largest_size_is_accepted(engine):
    padded = json.dumps(report()).encode()
    assert post(engine, padded + b" " * (body.MAX_BYTES - len(padded))) == (200, "acknowledged")


@pytest.mark.parametrize(
    "results",
    [
        {"evaluations": [{}] * 8000},
        {"evaluations": [1] * 90_000},
        {"sets": {str(n): 1 for n in range(90_000)}},
        {"sets": {"golden/g": {"sha256": "0", "ids": [1] * 90_000}}},
    ],
    ids=["objects", "items", "entries", "ids"],
)
def test_refusal_of_a_long_list_has_a_short_message(engine, results):
    code, message = post(engine, report(results=results))
    assert code == 422
    assert len(message) < 5000


def test_many_validation_errors_are_counted_instead_of_listed(engine):
    sets = {str(n): {} for n in range(100)}
    assert post(engine, report(results={"sets": sets})) == (
        422,
        "the report has 200 validation errors, too many to list",
    )


def test_compressed_body_is_not_expanded(engine):
    assert post(engine, gzip.compress(json.dumps(report()).encode()))[0] == 422


@pytest.mark.parametrize(
    ("error", "code"), [(JobTooLargeError("too large"), 413), (StoreFullError("full"), 503)]
)
def test_report_that_does_not_fit_the_store_is_refused(engine, error, code):
    def refuse(_: object) -> None:
        raise error

    engine.acknowledge = refuse
    assert post(engine, report()) == (code, str(error))


def test_internal_error_is_answered_500_and_logged(engine, caplog):
    def fail(_: object) -> None:
        raise RuntimeError("a bug")

    engine.acknowledge = fail
    assert post(engine, report()) == (500, "internal error: see the operator's log")
    assert "RuntimeError: a bug" in caplog.text


def logged_refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "refused" in record.message]


def test_refused_reports_are_logged_once_per_minute_and_reason(caplog):
    engine, clock = Engine(), FakeClock(datetime.now(UTC))
    engine.jobs |= {JOB, "other"}
    with serving(engine, clock=clock):
        for token in ("one", "two", "three"):
            assert post(engine, report(), token=token)[0] == 403
        assert len(logged_refusals(caplog)) == 1
        assert post(engine, b"no json")[0] == 422
        assert post(engine, report(), token="one", job="other")[0] == 403
        assert len(logged_refusals(caplog)) == 3, "another reason, and another job"
        clock.advance(server.REFUSAL_LOG_SECONDS + 1)
        assert post(engine, report(), token="one")[0] == 403
        assert len(logged_refusals(caplog)) == 4


def test_refusal_is_one_short_line_for_any_input(engine, caplog):
    engine.authenticator.sender = Sender(Step(Role.DATA), 1, ("sft",), {})
    code, message = post(engine, report(role="train", stage="x\n" * 100_000))
    assert code == 422
    assert message.startswith("stage: x x x")
    assert len(message) <= server.MAX_MESSAGE
    (line,) = logged_refusals(caplog)
    assert "\n" not in line
    assert len(line) < server.MAX_MESSAGE + 100


def test_unknown_token_is_refused_before_the_body_is_sent(engine):
    with tls_connection(engine) as connection:
        connection.sendall(head("unknown", 1000))
        assert b" 403 " in answer(connection)


def test_refused_sender_that_never_sends_its_body_is_disconnected(engine):
    with serving(engine, linger=0.3), tls_connection(engine) as connection:
        connection.sendall(head("unknown", 1000))
        began = time.monotonic()
        assert b" 403 " in answer(connection)
        assert 0.2 < time.monotonic() - began < Limits().linger, "as the limit says, not as its default does"


def test_many_unknown_auth_tokens_do_not_delay_a_known_pod(engine):
    engine.authenticator = blocked = BlockedUnknownTokens()
    with serving(engine), ThreadPoolExecutor(40) as pods:
        refused = [pods.submit(post, engine, report(), token=f"unknown-{n}") for n in range(40)]
        assert post(engine, report()) == (200, "acknowledged")
        blocked.is_over.set()
        assert {each.result()[0] for each in refused} == {403}


def test_100_pods_with_one_address_can_report_at_once(engine):
    engine.jobs |= {f"job-{n}" for n in range(100)}
    with ThreadPoolExecutor(100) as pods:
        sent = [pods.submit(post, engine, report(jobUid=job), job=job) for job in sorted(engine.jobs)]
        assert {each.result() for each in sent} == {(200, "acknowledged")}


def test_body_that_arrives_too_slowly_is_answered_503(engine):
    with serving(engine, limits=Limits(body=0.3)), tls_connection(engine) as connection:
        connection.sendall(head(TOKEN, 1000) + b"{")
        received = answer(connection)
    assert b" 503 " in received
    assert b"was not read within 0 s" in received
    assert engine.taken == []


def test_slow_bodies_of_many_jobs_do_not_delay_another_report(engine):
    engine.jobs |= {f"slow-{n}" for n in range(40)}
    with serving(engine, limits=Limits(body=60)), ExitStack() as stack:
        for n in range(40):
            slow = stack.enter_context(tls_connection(engine))
            slow.sendall(head(TOKEN, 1000, f"slow-{n}") + b"{")
        assert post(engine, report()) == (200, "acknowledged")


def test_largest_body_is_dropped_when_all_bodies_exceed_the_limit(engine):
    engine.jobs |= {"large", "small"}
    with serving(engine, limits=Limits(body=60, held=300_000)), ExitStack() as stack:
        large, small = (stack.enter_context(tls_connection(engine)) for _ in range(2))
        large.sendall(head(TOKEN, 1_000_000, "large") + b" " * 200_000)
        small.sendall(head(TOKEN, 1_000_000, "small") + b" " * 150_000)
        assert b" 503 " in large.recv(4096)
        assert post(engine, report()) == (200, "acknowledged")
        small.settimeout(0.2)
        with pytest.raises(TimeoutError):
            small.recv(1)


def test_parsed_bodies_do_not_count_toward_the_memory_limit(engine):
    with serving(engine, limits=Limits(held=150_000)):
        for n in range(3):
            changed = json.dumps(report(sequence=n)).encode()
            assert post(engine, changed + b" " * 100_000) == (200, "acknowledged")
    assert len(engine.taken) == 3


def test_bodies_of_one_job_are_read_one_at_a_time(engine):
    first, second = (json.dumps(report(sequence=n)).encode() for n in (1, 2))
    with serving(engine), tls_connection(engine) as connection, ThreadPoolExecutor(1) as pod:
        connection.sendall(head(TOKEN, len(first)) + first[:1])
        eventually(
            lambda: engine.authenticator.requests == 1, seconds=10, what="the first report has its turn"
        )
        waiting = pod.submit(post, engine, second)
        with pytest.raises(TimeoutError):
            waiting.result(0.3)
        assert engine.taken == []
        connection.sendall(first[1:])
        assert b" 200 " in answer(connection)
        assert waiting.result(10) == (200, "acknowledged")
    assert [taken["sequence"] for taken in engine.taken] == [1, 2]


def test_next_report_is_delayed_by_last_reports_parsing_time(engine, monkeypatch):
    monkeypatch.setattr(turns, "PARSER_SHARE", 1_000_000)
    with serving(engine, limits=Limits(body=1)):
        assert post(engine, report())[0] == 200
        assert post(engine, report()) == (503, "the report was not read within 1 s")
        engine.jobs.add("other")
        assert post(engine, report(jobUid="other"), job="other")[0] == 200


def test_reports_are_parsed_outside_the_event_loop(engine):
    loops: list[bool] = []

    def note(promise: Future[None]) -> None:
        loops.append(asyncio._get_running_loop() is not None)
        promise.set_result(None)

    engine.acknowledge = note
    assert post(engine, report())[0] == 200
    assert loops == [False]


def test_connection_is_closed_after_one_report(engine):
    sent = json.dumps(report()).encode()
    with tls_connection(engine) as connection:
        connection.sendall(2 * (head(TOKEN, len(sent)) + sent))
        assert answer(connection).count(b"HTTP/1.1 200") == 1
    assert len(engine.taken) == 1


def test_client_that_does_not_trust_the_certificate_cannot_connect(engine):
    engine.authority = make_authority(datetime.now(UTC))
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        post(engine, report())
