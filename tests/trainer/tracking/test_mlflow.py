"""A job's runs at a real MLflow server, including failures of the job, the server and the network."""

import json
import os
import signal
from contextlib import closing
from threading import Timer

import pytest

from support.mlflow_server import ProxyMode, TrackerProxy, points, runs_of
from support.trainer_root import STAGE, gate_spec, golden_cases
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Termination
from tunegate_api.judging.approval import DECISION_VARIABLE
from tunegate_trainer.main import main
from tunegate_trainer.process.files import write_model
from tunegate_trainer.tracking import process

pytestmark = [pytest.mark.model, pytest.mark.slow]

TRAIN = ["train", "--stage", STAGE]


@pytest.fixture(autouse=True)
def _long_closing_time(monkeypatch):
    """Raise time limits: importing the client takes seconds, and a role that fails at once waits for it."""
    monkeypatch.setattr(process, "CLOSING_SECONDS", 240)


@pytest.fixture
def proxy(mlflow):
    with closing(TrackerProxy(mlflow)) as proxy:
        yield proxy


@pytest.fixture
def start(make_root, proxy, monkeypatch, request):
    """Return a function that makes a root whose job is tracked through the proxy, in an experiment of its
    own."""

    def make(secret=None, **changes):
        tracker = {"uri": proxy.url, "experiment": request.node.name, "secretName": secret}
        root = make_root(spec={"tracking": {"mlflow": tracker}}, **changes)
        monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
        write_model(root.data / "plan.json", root.context().plan)  # as the data role writes it
        return root

    return make


@pytest.fixture
def runs(mlflow, request):
    """The runs at the server, by name."""
    return lambda: runs_of(mlflow, request.node.name)


def trackers_behind(root):
    """Return the trackers that do not have all metrics according to the termination message."""
    return Termination.model_validate_json((root.path / "termination.json").read_bytes()).trackers_behind


def test_interrupted_training_resumes_the_same_mlflow_run(start, runs, mlflow, at_step):
    root = start()
    at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert main(TRAIN) == ExitCode.INTERRUPTED
    assert runs()["orders/sft"].info.status == "RUNNING"
    (root.workspace / root.paths.tracking / "mlflow.json").unlink()  # the run is then found by its tags
    assert main(TRAIN) == ExitCode.OK

    job, stage = runs()["orders"], runs()["orders/sft"]
    assert stage.data.tags["mlflow.parentRunId"] == job.info.run_id
    assert points(mlflow, stage, "train/loss") == list(enumerate(root.losses(), start=1))
    assert [step for step, _ in points(mlflow, stage, "golden/orders/rate")] == [0, 3, 6]
    assert stage.info.status == "FINISHED"


def test_unreachable_mlflow_delays_no_step_and_gets_the_metrics_later(start, runs, mlflow, proxy, caplog):
    from mlflow.tracking import MlflowClient

    root = start(checkpoint_steps=(3, 6, 9))
    proxy.mode = ProxyMode.SILENT
    assert main(TRAIN) == ExitCode.OK
    lines = [json.loads(line) for line in (root.stage_folder / "losses.jsonl").read_text().splitlines()]
    assert max(line["seconds"] for line in lines) < 5, "a step waited for the tracker"
    assert "mlflow is not up to date; the job's next pod sends the missing metrics" in caplog.text
    assert runs() == {}

    proxy.mode = ProxyMode.CLOSED
    assert main(["publish"]) == ExitCode.USER_ERROR, "it is the role that failed: it has no digest"
    assert runs() == {}

    proxy.mode = ProxyMode.FORWARD
    assert main(["gate", "--stage", STAGE, "--step", "9"]) == ExitCode.OK
    stage, job = runs()["orders/sft"], runs()["orders"]
    assert points(mlflow, stage, "train/loss") == list(enumerate(root.losses(), start=1))
    assert [step for step, _ in points(mlflow, stage, "dev/exact_match/passed")] == [0, 3, 6, 9]
    assert job.data.tags["tunegate.verdict"] == "Passed"
    assert job.data.metrics["golden/orders/rate"] == 1
    assert [file.path for file in MlflowClient(mlflow).list_artifacts(job.info.run_id)] == ["report.html"]


def test_follow_up_pod_sends_remaining_metrics_to_mlflow(start, runs, mlflow, proxy):
    root = start()
    proxy.mode = ProxyMode.CLOSED
    assert main(TRAIN) == ExitCode.OK
    assert main(["gate", "--stage", STAGE, "--step", "6"]) == ExitCode.OK
    assert trackers_behind(root) == ["mlflow"]
    assert runs() == {}

    later = Timer(
        12, lambda: setattr(proxy, "mode", ProxyMode.FORWARD)
    )  # by then the client is imported and has failed
    later.start()
    assert main(["track"]) == ExitCode.OK
    later.join()
    assert trackers_behind(root) == []
    job, stage = runs()["orders"], runs()["orders/sft"]
    assert points(mlflow, stage, "train/loss") == list(enumerate(root.losses(), start=1))
    assert (job.data.tags["tunegate.verdict"], job.info.status) == ("Passed", "FINISHED")


def test_failure_reason_determined_by_the_operator_is_sent_to_mlflow(start, runs, at_step):
    root = start()
    at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert main(TRAIN) == ExitCode.INTERRUPTED
    assert trackers_behind(root) == []
    assert runs()["orders/sft"].info.status == runs()["orders"].info.status == "RUNNING"
    assert main(["track", "--failure", "DeadlineExceeded: ran for 600 s"]) == ExitCode.OK
    assert runs()["orders/sft"].info.status == runs()["orders"].info.status == "FAILED"
    assert runs()["orders"].data.tags["tunegate.failure"] == "DeadlineExceeded: ran for 600 s"
    assert not (root.workspace / root.paths.outbox / "track.json").exists(), "it has nothing to report"


def test_follow_up_pod_ends_overridden_jobs_mlflow_run(start, runs, monkeypatch):
    start(gates={"orders": gate_spec(golden_cases(expect="no"), approval="WhenFailed")})
    assert main(TRAIN) == ExitCode.OK
    assert main(["gate", "--stage", STAGE, "--step", "6"]) == ExitCode.OK
    assert runs()["orders"].info.status == "FAILED"
    override = {"action": "override", "about": "d" * 64, "by": "ana", "reason": "retired form"}
    monkeypatch.setenv(DECISION_VARIABLE, json.dumps(override | {"time": "2026-01-01T00:00:00Z"}))
    assert main(["track"]) == ExitCode.OK
    assert runs()["orders"].info.status == "FINISHED"


def test_track_role_ends_on_sigterm(start, proxy):
    root = start()
    proxy.mode = ProxyMode.CLOSED
    later = Timer(8, lambda: os.kill(os.getpid(), signal.SIGTERM))
    later.start()
    assert main(["track"]) == ExitCode.INTERRUPTED
    later.join()
    assert trackers_behind(root) == ["mlflow"]


def test_mlflow_without_file_upload_gets_everything_but_the_report(start, runs, mlflow, request):
    from mlflow.tracking import MlflowClient

    nowhere = "file:///proc/nowhere"
    MlflowClient(mlflow).create_experiment(request.node.name, artifact_location=nowhere)
    root = start()
    report = root.workspace / root.paths.report
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text("<p>from the data pod")
    assert main(TRAIN) == ExitCode.OK
    assert points(mlflow, runs()["orders/sft"], "train/loss") == list(enumerate(root.losses(), start=1))
    assert "tunegate.report_sha256" not in runs()["orders"].data.tags


def test_wrong_mlflow_credentials_do_not_fail_training(start, runs, proxy, capfd):
    root = start(secret="mlflow-token")
    proxy.token = "right-token"
    secret = root.path / "secrets" / "mlflow-token"
    secret.mkdir(parents=True)
    (secret / "MLFLOW_TRACKING_TOKEN").write_text("wrong-token\n")
    assert main(["gate"]) == ExitCode.USER_ERROR, "it is the role that failed: it has no stage"
    log = capfd.readouterr().err
    assert "mlflow: MlflowException: " in log
    assert "401" in log
    assert "the job continues, and the missing metrics are sent later" in log
    assert "wrong-token" not in log

    (secret / "MLFLOW_TRACKING_TOKEN").write_text("right-token\n")
    main(["gate"])
    assert runs()["orders"].data.tags["tunegate.uid"] == root.context().request.uid
    left = [path for path in root.workspace.rglob("*") if path.is_file()]
    assert not [path for path in left if b"right-token" in path.read_bytes()]
