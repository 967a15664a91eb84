"""A job's runs in Weights & Biases, at a server with the same protocol."""

import json
import os
import signal
from pathlib import Path

import pytest

from support.api_server import free_port
from support.trainer_root import STAGE, UID
from support.wandb_server import wandb_server
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode
from tunegate_trainer.main import main
from tunegate_trainer.process.files import write_model
from tunegate_trainer.tracking import process
from tunegate_trainer.tracking.__main__ import OutOfTime
from tunegate_trainer.tracking.runs import EVALUATED, JOB, MetricPoint, RunState, TrackedRun

pytestmark = pytest.mark.model

KEY = "a" * 40
TRAIN = ["train", "--stage", STAGE]


@pytest.fixture
def server(monkeypatch):
    # Importing the client takes a second of a core: a busy machine is slow, not wrong.
    monkeypatch.setattr(process, "CLOSING_SECONDS", 240)
    with wandb_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        yield server


@pytest.fixture
def start(make_root, monkeypatch):
    """Return a function that makes a root whose job is tracked, with the key in a Secret."""

    def make(key=KEY):
        root = make_root(spec={"tracking": {"wandb": {"project": "orders", "secretName": "wandb-key"}}})
        monkeypatch.setenv(ROOT_VARIABLE, str(root.path))
        write_model(root.data / "plan.json", root.context().plan)  # as the data role writes it
        secret = root.path / "secrets" / "wandb-key"
        secret.mkdir(parents=True)
        (secret / "WANDB_API_KEY").write_text(key)
        return root

    return make


@pytest.mark.slow
def test_pods_send_each_point_once_to_one_wandb_group(start, server, at_step):
    root = start()
    server.key = KEY
    at_step(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert main(TRAIN) == ExitCode.INTERRUPTED
    assert server.runs[f"{UID}-{STAGE}"].column("train/loss") == root.losses()
    assert server.runs[f"{UID}-{STAGE}"].exit_code is None, "it continues"
    assert main(TRAIN) == ExitCode.OK
    assert main(["gate", "--stage", STAGE, "--step", "6"]) == ExitCode.OK

    job, stage = server.runs[UID], server.runs[f"{UID}-{STAGE}"]
    assert job.group == stage.group == UID
    assert stage.column("train/step") == [1, 2, 3, 4, 5, 6]
    assert stage.column("train/loss") == root.losses()
    assert stage.column("checkpoint/step") == [0, 3, 6]
    assert stage.exit_code == 0
    planned = root.context().plan.stage(STAGE).parameters.model_dump(exclude_none=True)
    config = {name: entry["value"] for name, entry in json.loads(stage.config).items()}
    assert planned.items() <= config.items()
    summary = json.loads(job.summary)
    assert (summary["verdict"], summary["golden/orders/rate"]) == ("Passed", 1)
    assert any(name.startswith("media/html/report") for name in job.files)


@pytest.mark.slow
def test_unreachable_wandb_delays_no_step_and_gets_the_metrics_later(start, server, monkeypatch, caplog):
    root = start()
    server.key = KEY
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{free_port()}")
    assert main(TRAIN) == ExitCode.OK
    assert "wandb is not up to date; the job's next pod sends the missing metrics" in caplog.text
    lines = [json.loads(line) for line in (root.stage_folder / "losses.jsonl").read_text().splitlines()]
    assert max(line["seconds"] for line in lines) < 5, "a step waited for the tracker"
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    assert main(["gate", "--stage", STAGE, "--step", "6"]) == ExitCode.OK
    stage = server.runs[f"{UID}-{STAGE}"]
    assert stage.column("train/loss") == root.losses()
    assert stage.column("checkpoint/step") == [0, 3, 6]


@pytest.mark.slow
def test_successful_attempt_clears_the_failure_in_the_wandb_run(start, server):
    root = start()
    server.key = KEY
    plan = root.path / "plan" / "plan.json"
    content = plan.read_bytes()
    plan.write_text("{}")
    assert main(TRAIN) != ExitCode.OK
    assert json.loads(server.runs[UID].summary)["failure"]
    plan.write_bytes(content)
    assert main(TRAIN) == ExitCode.OK
    assert not json.loads(server.runs[UID].summary)["failure"]


def test_wrong_wandb_key_does_not_fail_training(start, server, capfd):
    root = start(key="b" * 40)
    server.key = KEY
    assert main(["gate"]) == ExitCode.USER_ERROR, "it is the role that failed: it has no stage"
    log = capfd.readouterr().err
    assert "401" in log
    assert "the job continues, and the missing metrics are sent later" in log
    assert server.runs == {}
    assert "b" * 40 not in log
    left = [path for path in root.workspace.rglob("*") if path.is_file()]
    assert not [path for path in left if b"b" * 40 in path.read_bytes()]


def test_every_evaluation_metric_is_plotted_by_checkpoint_step(server, tmp_path, monkeypatch):
    from tunegate_trainer.tracking.wandb_tracker import WandbTracker  # wandb takes a second to import

    monkeypatch.setenv("WANDB_API_KEY", KEY)
    server.key = KEY
    point = MetricPoint(3, 0, {EVALUATED: 3.0, "golden/orders/rate": 1.0, "safety/orders/unsafe": 0.0})
    run = TrackedRun(JOB, "orders", 0, {}, (), (point,), {}, RunState.RUNNING)
    WandbTracker("orders", None, UID, tmp_path).send([run])
    defined = json.loads(server.runs[UID].config)["_wandb"]["value"]["m"]
    x_axis = {each["2"]: defined[each["5"] - 1]["1"] for each in defined if "5" in each}
    assert x_axis.items() >= {"golden/*": EVALUATED, "safety/*": EVALUATED}.items()


def test_interrupted_offline_write_keeps_the_wandb_run_written_before(tmp_path, monkeypatch):
    from tunegate_trainer.tracking.wandb_tracker import WandbTracker

    monkeypatch.setenv("WANDB_MODE", "offline")
    earlier = tmp_path / "wandb" / f"offline-run-1-{UID}"
    earlier.mkdir(parents=True)

    def cut_short(_: WandbTracker, __: TrackedRun, folder: Path) -> None:
        (folder / "wandb" / f"offline-run-2-{UID}").mkdir(parents=True)
        raise OutOfTime

    monkeypatch.setattr(WandbTracker, "_send", cut_short)
    tracker = WandbTracker("orders", None, UID, tmp_path)
    run = TrackedRun(JOB, "orders", 0, {}, (), (), {}, RunState.RUNNING)
    with pytest.raises(OutOfTime):
        tracker.send([run])
    assert [path.name for path in tmp_path.iterdir()] == ["wandb"]
    assert list(earlier.parent.iterdir()) == [earlier]
