"""A fake trainer that sends reports and trains nothing, for tests of the command.

``STAND_IN`` selects the course of training: ``passes`` (default); ``trains`` until SIGTERM, then saves for a
second; ``never saves``, the same, but SIGTERM does not end it; ``stops`` at a regression. The data role
prints its rows. ``STAND_IN_UNREACHABLE`` names a tracker that is never reached.
"""

# ruff: noqa: T201 - its output is its purpose

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tunegate_api.contract.plan import DataPlan, ModelPlan, Plan, SplitPlan, StagePlan, TrainingParameters
from tunegate_api.contract.process import Outcome, Role, Termination
from tunegate_api.contract.report import PublishedArtifact, Report
from tunegate_api.contract.request import Request
from tunegate_api.contract.results import Evaluation, Results, Subject, golden_set, task_set
from tunegate_api.contract.workspace import Workspace
from tunegate_api.v1alpha2.finetunejob_status import Progress
from tunegate_api.verdict.outcomes import CaseSet

ROOT = Path(os.environ["TUNEGATE_ROOT"])
if "--deleted-job" in sys.argv:  # this pod has no request
    for path in (ROOT / "workspace" / Workspace(sys.argv[sys.argv.index("--deleted-job") + 1]).job).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    sys.exit(0)
REQUEST = Request.model_validate_json((ROOT / "request" / "request.json").read_text())
ROLE = Role(sys.argv[1])
STAGE = sys.argv[sys.argv.index("--stage") + 1] if ROLE is Role.TRAIN else None
ATTEMPT = int(sys.argv[sys.argv.index("--attempt") + 1])
BEHAVIOUR = os.environ.get("STAND_IN", "passes")
UNREACHABLE = [name for name in [os.environ.get("STAND_IN_UNREACHABLE")] if name]
DIGEST, CASES, ROWS, STEPS = "d" * 64, 20, 8, 50


def send_report(**content):
    folder = ROOT / "workspace" / Workspace(REQUEST.uid).job
    (folder / "outbox").mkdir(parents=True, exist_ok=True)
    report = Report(
        job_uid=REQUEST.uid,
        role=ROLE,
        stage=STAGE,
        attempt=ATTEMPT,
        sequence=time.time_ns() // 1000,
        time=datetime.now(UTC),
        **content,
    )
    write(folder / "outbox" / report.file_name, report.model_dump_json(by_alias=True, exclude_none=True))
    page = f"<!doctype html>\n<title>{ROLE}</title>\n<body>\n<p>report of {ROLE}</p>\n</body>\n"
    write(folder / "report.html", page)


def write(path, text):
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def end(outcome=Outcome.COMPLETED, code=0, **content):
    send_report(outcome=outcome, **content)
    message = Termination(exit_code=code, outcome=outcome, trackers_behind=UNREACHABLE)
    write(ROOT / "termination.json", message.model_dump_json(by_alias=True, exclude_none=True))
    sys.exit(code)


def results(*evaluations):
    gate = REQUEST.gates[0]
    cases = CaseSet(sha256=gate.golden_sha256, ids=[f"case-{i}" for i in range(CASES)])
    rows = CaseSet(sha256=DIGEST, ids=[f"row-{i}" for i in range(ROWS)])
    sets = {task_set(split, "exact_match"): rows for split in ("dev", "test")}
    return Results(sets=sets | {golden_set(gate.name): cases}, evaluations=list(evaluations))


def evaluated(subject, step, passed, split="dev"):
    golden = "p" * passed + "f" * (CASES - passed)
    outcomes = {golden_set(REQUEST.gates[0].name): golden, task_set(split, "exact_match"): "p" * ROWS}
    return Evaluation(subject=subject, stage="sft", step=step, loss=0.5, digest=DIGEST, outcomes=outcomes)


def prepare():
    train = REQUEST.spec.data.train
    if train.uri:
        print("rows:", (ROOT / "volumes" / train.uri.removeprefix("pvc://")).read_text())
    parameters = TrainingParameters(
        method="SFT",
        adapter="LoRA",
        lora_r=8,
        lora_alpha=16,
        lora_dropout=0,
        target_modules=["all-linear"],
        epochs=1,
        learning_rate=1e-4,
        scheduler="linear",
        warmup_steps=1,
        weight_decay=0,
        max_grad_norm=1,
        batch_size=8,
        pass_tokens=1536,
        max_length=512,
        seed=1,
        dtype="float32",
        optim="adamw_torch",
    )
    split = SplitPlan(rows=ROWS, sha256=DIGEST)
    stage = StagePlan(
        name="sft",
        parameters=parameters,
        total_steps=STEPS,
        checkpoint_steps=[STEPS // 2, STEPS],
        tokens=1,
        gates=[REQUEST.gates[0].name],
    )
    plan = Plan(
        job_uid=REQUEST.uid,
        model=ModelPlan(uri="package://tiny", digest=DIGEST, parameters=1),
        data=DataPlan(source_sha256=DIGEST, train=split, dev=split, test=split, dropped=0),
        stages=[stage],
        versions={},
    )
    end(plan=plan)


def train():
    start = evaluated(Subject.START, 0, 2 if BEHAVIOUR == "passes" else CASES)
    if BEHAVIOUR == "stops":
        worse = [evaluated(Subject.CHECKPOINT, step, 2) for step in (STEPS // 2, STEPS // 2 + 1)]
        end(Outcome.STOPPED, results=results(start, *worse))
    if BEHAVIOUR in ("trains", "never saves"):
        now = datetime.now(UTC)
        progress = Progress(stage="sft", step=1, total_steps=STEPS, percent=2, updated=now)
        send_report(results=results(start), progress=progress)
        while True:
            signal.pause()
    end(results=results(start, evaluated(Subject.CHECKPOINT, STEPS, CASES)))


def save_and_stop(*_):
    print("asked to stop", flush=True)
    if BEHAVIOUR != "never saves":
        time.sleep(1)
        print("saved", flush=True)
        end(Outcome.INTERRUPTED, 75)


def main():
    signal.signal(signal.SIGTERM, save_and_stop)
    if ROLE is Role.DATA:
        prepare()
    elif ROLE is Role.TRAIN:
        train()
    elif ROLE is Role.TRACK:
        print("sent:", *sys.argv[4:], flush=True)
        while UNREACHABLE:
            signal.pause()
    elif ROLE is Role.CLEANUP:
        outbox = ROOT / "workspace" / Workspace(REQUEST.uid).job / "outbox"
        while outbox.exists():
            with suppress(FileNotFoundError):  # the command removes the reports that it has read
                shutil.rmtree(outbox)
    elif ROLE is Role.GATE:
        judged = evaluated(Subject.BASE, 0, 2, "test"), evaluated(Subject.FINAL, STEPS, CASES, "test")
        end(results=results(*judged))
    else:
        end(published=[PublishedArtifact(uri=f"{t.uri}/v1", digest=DIGEST) for t in REQUEST.spec.publish])


main()
