"""The report sender: no report is lost while the operator is unreachable, and pods do not wait forever."""

import errno
import io
import json
import time
import urllib.request
from concurrent.futures import Future
from contextlib import nullcontext
from datetime import UTC, datetime
from email.message import Message
from http.client import BadStatusLine, IncompleteRead
from pathlib import Path
from urllib.error import HTTPError

import pytest

from support.job_folder import UID, JobFolder
from support.report_address import TOKEN, Engine, serving
from support.waiting import eventually
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Role, Termination
from tunegate_api.contract.report import REPORT_CA_VARIABLE, REPORT_URL_VARIABLE, Report, Usage, report_path
from tunegate_api.v1alpha2.finetunejob_status import Progress
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.engine.reports import JobTooLargeError
from tunegate_operator.reporting.connections import Limits
from tunegate_trainer.main import main
from tunegate_trainer.process import report_sender as module
from tunegate_trainer.process.files import write_model
from tunegate_trainer.process.report_sender import ACKNOWLEDGED, ReportAddress, ReportSender

JOB = "job-uid"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """Shorten the pauses between retries."""
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.2)
    monkeypatch.setattr(module, "CLOSING_PAUSE", 0.1)
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 0.3)


@pytest.fixture
def engine():
    engine = Engine()
    engine.jobs.add(JOB)
    return engine


@pytest.fixture
def outbox(tmp_path):
    folder = tmp_path / "outbox"
    folder.mkdir()
    return folder


@pytest.fixture
def start_sender(engine, outbox, tmp_path):
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")

    def start() -> ReportSender:
        url = engine.url + report_path(JOB)
        return ReportSender(ReportAddress(url, engine.authority.certificate.decode(), token), outbox)

    return start


def write(outbox, sequence: int, role: Role = Role.TRAIN, **changes) -> None:
    report = Report(job_uid=JOB, role=role, attempt=1, sequence=sequence, time=NOW, **changes)
    write_model(outbox / report.file_name, report)


def set_report_address(root: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a process the address, certificate and token that a pod gets."""
    (root / "report").mkdir(exist_ok=True)
    (root / "report" / "token").write_text(TOKEN)
    monkeypatch.setenv(REPORT_CA_VARIABLE, engine.authority.certificate.decode())
    monkeypatch.setenv(REPORT_URL_VARIABLE, engine.url + report_path(UID))


def sequences(engine: Engine, role: Role = Role.TRAIN) -> list[int]:
    return [r["sequence"] for r in engine.taken if r["role"] == role]


def test_report_is_posted_once_and_acknowledgement_is_stored(engine, outbox, start_sender):
    with serving(engine):
        sender = start_sender()
        write(outbox, 1)
        sender.notify(urgent=True)
        eventually((outbox / ACKNOWLEDGED).exists, what="acknowledged")
        assert sender.close()
        assert start_sender().close()
    assert sequences(engine) == [1]


def test_next_pod_sends_reports_that_earlier_pod_left(engine, outbox, start_sender):
    write(outbox, 7, Role.DATA, outcome=Outcome.COMPLETED)
    write(outbox, 1)
    with serving(engine):
        assert start_sender().close()
    assert (sequences(engine, Role.DATA), sequences(engine)) == ([7], [1])


def test_reports_survive_an_unreachable_operator(engine, outbox, start_sender):
    with serving(engine):
        port = engine.port
    sender = start_sender()
    for sequence in (1, 2, 3):
        write(outbox, sequence)
        sender.notify(urgent=True)
    time.sleep(0.3)
    with serving(engine, port):
        assert sender.close()
    assert sequences(engine) == [3]


def test_unacknowledged_report_is_retried(engine, outbox, start_sender):
    tries = iter([False, False, True])

    def third_time(promise: Future[None]) -> None:
        if next(tries):
            promise.set_result(None)

    engine.acknowledge = third_time
    write(outbox, 1)
    with serving(engine, limits=Limits(acknowledgement=0.1)):
        assert start_sender().close()
    assert sequences(engine) == [1, 1, 1]


def test_ending_pod_times_out_waiting_for_acknowledgement(engine, outbox, start_sender, monkeypatch):
    monkeypatch.setattr(module, "CLOSING_SECONDS", 0.5)
    with serving(engine):
        pass  # afterwards nothing listens at this port
    write(outbox, 1)
    started = time.monotonic()
    assert not start_sender().close()
    assert 0.5 <= time.monotonic() - started < 5


def test_ending_pod_sends_a_report_written_during_a_slow_post(engine, outbox, start_sender, monkeypatch):
    posted: list[Future[None]] = []

    def acknowledge(promise: Future[None]) -> None:
        posted.append(promise)
        if len(posted) > 1:
            promise.set_result(None)

    engine.acknowledge = acknowledge
    write(outbox, 1)
    with serving(engine):
        sender = start_sender()
        eventually(lambda: posted, what="the first post waits for its acknowledgement")
        write(outbox, 2)
        sender.notify(urgent=True)
        notify = sender.notify

        def acknowledge_first(*, urgent: bool) -> None:  # called by close()
            notify(urgent=urgent)
            posted[0].set_result(None)

        monkeypatch.setattr(sender, "notify", acknowledge_first)
        assert sender.close()
    assert sequences(engine) == [1, 2]


def test_ending_pod_does_not_wait_if_reports_are_refused(engine, outbox, start_sender):
    engine.jobs.clear()  # the job was deleted
    write(outbox, 1)
    started = time.monotonic()
    with serving(engine):
        assert not start_sender().close()
    assert time.monotonic() - started < module.CLOSING_SECONDS / 4


def test_refused_report_is_retried_only_after_it_changes(engine, outbox, start_sender, caplog):
    def refuse_training(promise: Future[None]) -> None:
        if engine.taken[-1]["role"] == Role.TRAIN and engine.taken[-1]["sequence"] < 3:
            raise JobTooLargeError("the job's reports hold too much")
        promise.set_result(None)

    engine.acknowledge = refuse_training
    with serving(engine):
        sender = start_sender()
        for sequence in (1, 2, 3):
            for role in (Role.TRAIN, Role.DATA):
                write(outbox, sequence, role)
                sender.notify(urgent=True)
                eventually(lambda role=role, n=sequence: n in sequences(engine, role), what="it is sent")
        assert sender.close()
    assert sequences(engine) == [1, 2, 3]
    assert (
        caplog.text.count("the operator refused report train.json: 413: the job's reports hold too much") == 2
    )


def test_report_is_sent_as_compact_json(engine, outbox, start_sender, monkeypatch):
    sent = []
    real = urllib.request.Request

    def note(url, body, *arguments, **options):
        sent.append(body)
        return real(url, body, *arguments, **options)

    monkeypatch.setattr(urllib.request, "Request", note)
    write(outbox, 1)
    with serving(engine):
        assert start_sender().close()
    assert b"\n" in (outbox / "train.json").read_bytes()
    assert b"\n" not in sent[0]
    assert b" " not in sent[0]


def test_report_sender_ignores_proxy_settings(engine, outbox, start_sender, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens at the discard port
    monkeypatch.delenv("NO_PROXY", raising=False)
    write(outbox, 1)
    with serving(engine):
        assert start_sender().close()
    assert sequences(engine) == [1]


def test_progress_reports_are_batched_but_outcomes_sent_at_once(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PROGRESS_SECONDS", 3.0)
    job = JobFolder(tmp_path)
    job.write_request()
    engine.jobs.add(UID)
    context = job.context(Role.TRAIN)

    def train(step: int) -> None:
        progress = Progress(stage="sft", step=step, total_steps=9, percent=0, updated=NOW)
        context.send_report(progress=progress, usage=Usage(steps=step))

    with serving(engine):
        set_report_address(tmp_path, engine, monkeypatch)
        context.start_report_sender()
        for step in range(1, 6):
            train(step)
            time.sleep(0.02)
        eventually(lambda: sequences(engine)[-1:] == [5], what="the last of it")
        assert len(sequences(engine)) < 5, "on a busy machine, one post need not have all of it"
        train(6)
        started = time.monotonic()
        context.send_report(outcome=Outcome.COMPLETED)
        eventually(lambda: 7 in sequences(engine), what="the outcome")
        assert time.monotonic() - started < 2
        assert context.report_sender.close()


def test_damaged_acknowledgements_file_only_causes_a_resend(engine, outbox, start_sender):
    (outbox / ACKNOWLEDGED).write_text("{")
    write(outbox, 1)
    with serving(engine):
        assert start_sender().close()
    assert json.loads((outbox / ACKNOWLEDGED).read_text()) == {"train.json": 1}


def test_reporting_survives_a_temporary_volume_error(engine, outbox, start_sender, monkeypatch):
    write_file, read, failing = module.write_atomic, Path.read_bytes, ["write", "read"]

    def write_sometimes(path: Path, text: str) -> None:
        if "write" in failing:
            failing.remove("write")
            raise OSError(errno.EIO, "Input/output error")
        write_file(path, text)

    def read_sometimes(path: Path) -> bytes:
        if path.parent == outbox and path.suffix == ".json" and "read" in failing:
            failing.remove("read")
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(path)

    monkeypatch.setattr(module, "write_atomic", write_sometimes)
    with serving(engine):
        sender = start_sender()
        write(outbox, 1)
        monkeypatch.setattr(Path, "read_bytes", read_sometimes)
        sender.notify(urgent=True)
        eventually(lambda: sequences(engine) == [1] and not failing, what="both failed, and it arrived")
        write(outbox, 2)
        sender.notify(urgent=True)
        eventually(lambda: sequences(engine) == [1, 2], what="the next one arrives too")
        assert sender.close()


@pytest.mark.parametrize("damaged", [b"{", b"\xff", b"[]", b"{}", b'{"sequence": null}'])
def test_damaged_report_is_skipped_and_other_reports_are_sent(engine, outbox, start_sender, caplog, damaged):
    (outbox / "data.json").write_bytes(damaged)
    with serving(engine):
        sender = start_sender()
        for sequence in (1, 2):
            write(outbox, sequence)
            sender.notify(urgent=True)
            eventually(lambda last=sequence: last in sequences(engine), what="it arrives")
        assert sender.close()
    assert sequences(engine) == [1, 2]
    assert caplog.text.count("data.json is damaged and not sent") == 1


class LostConnection(io.BytesIO):
    """The body of an answer whose connection is lost."""

    def read(self, *_: object) -> bytes:
        raise IncompleteRead(b"")


def answer(body: io.BytesIO) -> HTTPError:
    return HTTPError("https://localhost", 502, "Bad Gateway", Message(), body)


@pytest.mark.parametrize(
    "make",
    [lambda: BadStatusLine("?"), lambda: answer(LostConnection()), lambda: answer(io.BytesIO(b'"busy"'))],
    ids=["not HTTP", "connection lost", "not a JSON object"],
)
def test_report_is_sent_again_after_an_unreadable_response(engine, outbox, start_sender, monkeypatch, make):
    post, failing = urllib.request.OpenerDirector.open, [make()]

    def post_later(*arguments, **options):
        if failing:
            raise failing.pop()
        return post(*arguments, **options)

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", post_later)
    write(outbox, 1)
    with serving(engine):
        assert start_sender().close()
    assert not failing
    assert sequences(engine) == [1]


def test_renewed_token_is_used(engine, outbox, start_sender, tmp_path):
    (tmp_path / "token").write_text("expired")
    write(outbox, 1)
    with serving(engine):
        sender = start_sender()
        time.sleep(0.2)
        assert engine.taken == []
        (tmp_path / "token").write_text(TOKEN)
        assert sender.close()
    assert sequences(engine) == [1]


def test_report_role_names_refused_reports(engine, tmp_path, monkeypatch):
    def refuse(_: Future[None]) -> None:
        raise JobTooLargeError("the job's reports hold too much")

    job = JobFolder(tmp_path)
    job.write_request()
    job.write_report(Role.GATE)
    engine.jobs.add(UID)
    engine.acknowledge = refuse
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    with serving(engine):
        set_report_address(tmp_path, engine, monkeypatch)
        main(["report"])
    termination = Termination.model_validate_json((tmp_path / "termination.json").read_bytes())
    assert termination.failure is not None
    assert termination.failure.message.endswith(
        "outbox on the volume: gate.json: 413: the job's reports hold too much"
    )


@pytest.mark.parametrize("is_reachable", [True, False], ids=["operator reachable", "operator unreachable"])
def test_report_role_sends_reports_in_the_outbox(engine, tmp_path, monkeypatch, is_reachable):
    job = JobFolder(tmp_path)
    job.write_request()
    job.write_report(Role.GATE)
    engine.jobs.add(UID)
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path))
    monkeypatch.setattr(module, "CLOSING_SECONDS", 0.5 if not is_reachable else 30)
    with serving(engine) if is_reachable else nullcontext():
        set_report_address(tmp_path, engine, monkeypatch)
        code = main(["report"])
    termination = Termination.model_validate_json((tmp_path / "termination.json").read_bytes())
    if is_reachable:
        assert (code, sequences(engine, Role.GATE)) == (ExitCode.OK, [1])
        assert sorted(path.name for path in (job.folder / "outbox").iterdir()) == [
            "acknowledged",
            "gate.json",
        ]
    else:
        assert not ExitCode(code).is_permanent
        assert code != ExitCode.OK
        assert termination.failure is not None
        assert termination.failure.reason == Reason.REPORT_MISSING
