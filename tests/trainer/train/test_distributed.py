"""Several processes that train one model: the same run as one process, ended and resumed together."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.multimodal_models import save_multimodal_model
from support.trainer_root import ALL_WEIGHTS, STAGE, TrainerRoot, dpo_plan
from support.waiting import eventually
from tunegate_api.contract import (
    MASTER_VARIABLE,
    NODE_VARIABLE,
    ROOT_VARIABLE,
    ExitCode,
    Outcome,
    Termination,
)
from tunegate_api.v1alpha1.finetunejob_status import Failure, Reason
from tunegate_trainer.distributed import ranks
from tunegate_trainer.distributed.ranks import Ranks
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tracking.process import start_trackers

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("warm_roles")]

EXACT = {"lora_dropout": 0.0, "micro_batch_size": 2}
"""Without dropout, of which each process draws its own, two processes compute what one does."""

DROPS = {"lora_dropout": 0.1, "micro_batch_size": 2}


class Pods:
    """The processes of one attempt, each with the root of a pod of its own; they share the workspace."""

    def __init__(
        self, root: TrainerRoot, *arguments: str, stage: str = STAGE, only: int = 2, before: str = ""
    ) -> None:
        """``only`` so many of the two are started, each with some code ``before`` it."""
        call = ["train", "--stage", stage, *arguments]
        code = f"{before}\nfrom tunegate_trainer.main import exit_at_once, main\nexit_at_once(main({call}))"
        self.roots = [self._pod(root, node) for node in range(only)]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.master = f"127.0.0.1:{free.getsockname()[1]}"
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tunegate_trainer.code", code],
                env=os.environ
                | {ROOT_VARIABLE: str(path), NODE_VARIABLE: str(node), MASTER_VARIABLE: self.master},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            for node, path in enumerate(self.roots)
        ]

    def _pod(self, root: TrainerRoot, node: int) -> Path:
        path = root.path.with_name(f"{root.path.name}-node-{node}")
        path.mkdir(exist_ok=True)
        for name in ("request", "plan", "workspace"):
            (path / name).unlink(missing_ok=True)
            (path / name).symlink_to(root.path / name)
        return path

    def until(self, happened: Callable[[], object], what: str) -> None:
        """Wait for something, or for one of them to end. None is left behind where it does not come."""
        try:
            eventually(lambda: happened() or self.has_ended(), seconds=240, what=what)
        except AssertionError:
            for process in self.processes:
                process.kill()
            self.end()
            raise

    def has_ended(self) -> bool:
        return any(process.poll() is not None for process in self.processes)

    def end(self) -> list[int]:
        """Their exit codes."""
        try:
            logs = [process.communicate(timeout=300)[0].decode() for process in self.processes]
        except subprocess.TimeoutExpired:
            for process in self.processes:
                process.kill()
                process.communicate()
            raise
        sys.stdout.write("\n\n".join(logs))  # shown where a test fails
        return [process.returncode for process in self.processes]

    def termination(self, node: int) -> Termination:
        return Termination.model_validate_json((self.roots[node] / "termination.json").read_bytes())


@pytest.fixture
def make_together(make_root: Any) -> Any:
    """Makes a root of a job that trains on so many nodes."""

    def make(nodes: int = 2, **changes: Any) -> TrainerRoot:
        spec = changes.pop("spec", {})
        resources = {"accelerator": "CPU", "nodes": nodes}
        return make_root(spec={"resources": resources, **spec}, **changes)

    return make


def train(root: TrainerRoot, *arguments: str, stage: str = STAGE) -> Pods:
    pods = Pods(root, *arguments, stage=stage)
    assert pods.end() == [ExitCode.OK] * 2
    return pods


def train_alone(root: TrainerRoot, stage: str = STAGE, start_step: int | None = None) -> None:
    context = root.context(stage=stage, start_step=start_step)
    assert train_role.train_stage(context, ranks.SINGLE_RANK) is Outcome.COMPLETED


def lines(root: TrainerRoot, stage: str = STAGE) -> list[dict[str, float]]:
    path = root.workspace / root.paths.stage(stage) / "losses.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def weights(root: TrainerRoot, step: int, stage: str = STAGE) -> dict[str, torch.Tensor]:
    (path,) = root.checkpoint(step, stage).glob("*.safetensors")
    found: dict[str, torch.Tensor] = load_file(path)
    return found


def assert_same_run(
    left: TrainerRoot, right: TrainerRoot, steps: Sequence[int], stage: str = STAGE, *, loss: float = 1e-6
) -> None:
    """To rounding, relative to the ``loss``: sums over a batch are made in another order."""
    for one, other in zip(lines(left, stage), lines(right, stage), strict=True):
        assert one["tokens"] == other["tokens"]
        assert one["loss"] == pytest.approx(other["loss"], rel=loss)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=10 * loss)
    for step in steps:
        one, other = weights(left, step, stage), weights(right, step, stage)
        for name, tensor in one.items():
            assert torch.dist(tensor, other[name]) < 1e-4 * tensor.norm()
    for step in (0, *steps):
        assert left.evaluation(step, stage).outcomes == right.evaluation(step, stage).outcomes


@pytest.mark.parametrize("parameters", [EXACT, EXACT | ALL_WEIGHTS], ids=["LoRA", "all weights"])
def test_two_ranks_give_the_results_of_one(make_together, base_model, exact, parameters):
    parameters = {**parameters, "batch_size": 8}
    if not exact:  # at the tiny model's rates a real one only forgets
        parameters["learning_rate"] = 1e-4
    one, two = (make_together(n, model=base_model, parameters=parameters) for n in (1, 2))
    train_alone(one)
    train(two)
    assert_same_run(one, two, (3, 6), loss=1e-6 if exact else 1e-5)


@pytest.mark.parametrize("family", ["qwen3_5", "mistral3"])
def test_two_ranks_give_the_results_of_one_for_other_families(make_together, tmp_path, family):
    """Qwen3.5 computes each example in a pass of its own; of Mistral 3 the vision tower gets no gradients."""
    folder = save_multimodal_model(tmp_path / family, family)
    excluded = ["model.vision_tower", "model.multi_modal_projector"] if family == "mistral3" else None
    parameters = EXACT | ALL_WEIGHTS | {"batch_size": 8, "excluded_modules": excluded}
    one, two = (make_together(n, model=folder, parameters=parameters, checkpoint_steps=(2,)) for n in (1, 2))
    train_alone(one)
    train(two)
    assert_same_run(one, two, (2,), loss=1e-5)


RECOMPUTES = """
from tunegate_trainer.roles import train
train.is_checkpointed = lambda *_: True
"""
"""What large models do on a GPU: activations are computed again for the backward pass."""


@pytest.mark.parametrize(
    ("parameters", "spec"),
    [
        (EXACT, {}),
        (EXACT | ALL_WEIGHTS, {}),
        (EXACT | ALL_WEIGHTS, {"parallelism": "FSDP"}),
        (EXACT | {"quantization": "NF4"}, {}),
    ],
    ids=["LoRA", "all weights", "FSDP", "QLoRA"],
)
def test_two_ranks_with_gradient_checkpointing_give_the_results_of_one(
    make_together, monkeypatch, parameters, spec
):
    monkeypatch.setattr(train_role, "is_checkpointed", lambda *_: True)
    parameters = {**parameters, "batch_size": 8}
    one, two = make_together(1, parameters=parameters), make_together(2, parameters=parameters, **spec)
    train_alone(one)
    assert Pods(two, before=RECOMPUTES).end() == [ExitCode.OK] * 2
    assert_same_run(one, two, (3, 6))


def test_two_ranks_with_fsdp_give_the_results_of_one(make_together):
    parameters = {**EXACT, **ALL_WEIGHTS, "batch_size": 8}
    one = make_together(1, parameters=parameters)
    two = make_together(2, parameters=parameters, parallelism="FSDP")
    train_alone(one)
    train(two)
    assert_same_run(one, two, (3, 6))


@pytest.mark.parametrize(
    ("parameters", "spec"),
    [(EXACT, {}), (EXACT | ALL_WEIGHTS, {}), (EXACT | ALL_WEIGHTS, {"parallelism": "FSDP"})],
    ids=["LoRA", "all weights", "FSDP"],
)
def test_two_ranks_give_the_dpo_results_of_one(make_together, parameters, spec):
    def stages(**spec: str) -> dict[str, Any]:
        further = {} if parameters is EXACT else {**parameters, "starts_from": "Merged"}
        dpo = dpo_plan(**{"micro_batch_size": 2, **further}).model_copy(update=spec)
        return {"later": [dpo], "parameters": parameters, **spec}

    one, two = make_together(1, **stages()), make_together(2, **stages(**spec))
    train_alone(one)
    train_alone(one, "dpo", start_step=6)
    train(two)
    train(two, "--start-step", "6", stage="dpo")
    assert_same_run(one, two, (3, 6), "dpo")


A_SMALL_GPU = f"""
import os, torch
from tunegate_trainer.train.trainer import CompletionTrainer
whole = CompletionTrainer.token_losses

def fits(self, model, inputs):
    if os.environ[{NODE_VARIABLE!r}] == "1" and int((inputs["position_ids"] == 0).sum()) > 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return whole(self, model, inputs)

CompletionTrainer.token_losses = fits
"""


def test_out_of_memory_on_one_rank_reduces_micro_batch_of_all(make_together):
    parameters = EXACT | {"batch_size": 8, "micro_batch_size": 4}
    whole, root = make_together(parameters=parameters), make_together(parameters=parameters)
    train(whole)
    pods = Pods(root, before=A_SMALL_GPU)
    assert pods.end() == [ExitCode.INTERNAL_ERROR] * 2
    reasons = [pods.termination(node).failure.reason for node in range(2)]
    assert reasons == [Reason.PEER_LOST, Reason.CUDA_OUT_OF_MEMORY]
    assert Pods(root, before=A_SMALL_GPU).end() == [ExitCode.OK] * 2
    assert_same_run(whole, root, (3, 6))
    assert root.report().progress.micro_batch_size == 1


def test_only_primary_rank_writes_and_reports(make_together):
    root = make_together(parameters=EXACT)
    pods = train(root)
    assert [path.name for path in root.stage_folder.glob("epoch-*")] == ["epoch-000001"]
    assert not list(root.stage_folder.glob("scratch-*"))
    assert sorted(p.name for p in (root.stage_folder / "state-000006").glob("rng*")) == [
        "rng_state_0.pth",
        "rng_state_1.pth",
    ]
    assert root.report().outcome is Outcome.COMPLETED
    outbox = root.workspace / root.paths.outbox
    assert [path.name for path in outbox.iterdir()] == [f"train-{STAGE}.json"]
    first, second = (pods.termination(node) for node in range(2))
    assert (first.outcome, second.outcome) == (Outcome.COMPLETED, Outcome.COMPLETED)
    assert first.report_sha256 is not None
    assert second.report_sha256 is None


def steps_on_disk(root: TrainerRoot) -> int:
    path = root.stage_folder / "losses.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize(
    ("parameters", "parallelism"), [(DROPS, "DDP"), (DROPS | ALL_WEIGHTS, "FSDP")], ids=["DDP", "FSDP"]
)
def test_sigterm_on_one_rank_stops_all_ranks_at_the_same_step(make_together, parameters, parallelism):
    steps = (30, 60)
    whole, root = (
        make_together(checkpoint_steps=steps, parameters=parameters, parallelism=parallelism)
        for _ in range(2)
    )
    train(whole)
    pods = Pods(root)
    pods.until(lambda: steps_on_disk(root) > 35, "half of the steps")
    pods.processes[1].send_signal(signal.SIGTERM)
    assert pods.end() == [ExitCode.INTERRUPTED] * 2
    assert root.report().outcome is Outcome.INTERRUPTED
    assert len(list(root.stage_folder.glob("step-*/DONE"))) == 2, "saved between two planned checkpoints"
    assert steps_on_disk(root) < 60, "then this test shows nothing"

    train(root, "--attempt", "2")
    assert root.losses() == whole.losses()
    for step in steps:
        one, other = weights(root, step), weights(whole, step)
        assert all(torch.equal(one[name], other[name]) for name in one)


SLOW = """
import time
from transformers import modeling_utils
from tunegate_trainer.distributed import ranks
from tunegate_trainer.models import loading

ranks.TRAINING_SECONDS = 10
read, write = loading._whole_weights, modeling_utils.safe_save_file

def slow_read(folder):
    time.sleep(13)
    return read(folder)

def slow_write(*arguments, **options):
    time.sleep(13)
    write(*arguments, **options)

loading._whole_weights, modeling_utils.safe_save_file = slow_read, slow_write
"""
"""The first process reads and writes for longer than one waits in a training step."""


def test_ranks_wait_for_slow_reads_and_saves_of_the_primary(make_together):
    root = make_together(parameters=EXACT | ALL_WEIGHTS, parallelism="FSDP")
    train(root)
    (root.checkpoint(6) / "DONE").unlink()
    pods = Pods(root, "--attempt", "2", before=SLOW)
    assert pods.end() == [ExitCode.OK] * 2
    assert (root.checkpoint(6) / "DONE").exists()


DISAGREES = """
from tunegate_trainer.distributed import topology
from tunegate_trainer.evaluate import evaluate
from tunegate_trainer.evaluate.scorers import Score
from tunegate_trainer.train.record import StageRecord

def too_slow(cases, outputs):
    return [dict.fromkeys(case.measures, Score("e", "took too long")) for case in cases]

if not topology.is_primary():
    evaluate.score_cases = too_slow
add = StageRecord.add

def add_and_look(self, *arguments):
    evaluation = add(self, *arguments)
    assert evaluation.outcomes
    assert "e" not in "".join(evaluation.outcomes.values())
    return evaluation

StageRecord.add = add_and_look
"""
"""The second process scores nothing within its limit of time."""


def test_all_ranks_use_the_scores_of_the_primary(make_together):
    assert Pods(make_together(parameters=EXACT), before=DISAGREES).end() == [ExitCode.OK] * 2


LATE = """
import os, time
from transformers import trainer

sort = trainer.sort_checkpoints

def sort_late(*arguments, **options):
    if os.environ["RANK"] == "1":
        time.sleep(3)
        assert os.path.isdir(options["output_dir"])
    return sort(*arguments, **options)

trainer.sort_checkpoints = sort_late
"""
"""The second process is still about to look at the scratch folder when the first is done."""


def test_primary_keeps_scratch_folder_until_other_ranks_have_read_it(make_together):
    root = make_together(parameters=EXACT)
    assert Pods(root, before=LATE).end() == [ExitCode.OK] * 2
    assert not list(root.stage_folder.glob("scratch-*"))


def test_sigterm_after_agreement_takes_effect_one_step_later(make_together):
    """Else it would save alone, and wait for the others for ever, as they do for it."""
    root, interruption = make_together(1, parameters=DROPS), Interruption()

    class AskedLate(Ranks):
        def sum(self, *numbers: int) -> list[int]:
            sums = super().sum(*numbers)
            if len(numbers) > 1 and steps_on_disk(root) == 3:  # step 4 is agreed on, and not on disk yet
                interruption.request()
            return sums

    with pytest.raises(Interrupted):
        train_role.train_stage(root.context(interruption=interruption), AskedLate())
    assert [path.parent.name for path in sorted(root.stage_folder.glob("step-*/DONE"))] == [
        "step-000003",
        "step-000005",
    ]


def test_rendezvous_timeout_exceeds_the_start_timeout_of_the_job(make_together, monkeypatch):
    waits = []
    monkeypatch.setattr(ranks, "_connect", lambda *found: waits.append(found[-1]))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    for timeout in (60, 7200):
        request = make_together(spec={"startTimeoutSeconds": timeout}).context().request
        with ranks.process_group(request):
            pass
    assert waits == [ranks.RENDEZVOUS_SECONDS, 7200 + 60]


def test_only_primary_rank_starts_trackers(make_together):
    root = make_together(spec={"tracking": {"mlflow": {"uri": "http://127.0.0.1:9", "experiment": "orders"}}})
    context = root.context()
    context.is_primary = False
    assert start_trackers(context) is None


def test_killed_rank_ends_the_others_with_peer_lost(make_together):
    root = make_together(checkpoint_steps=(2000,), parameters=DROPS)
    pods = Pods(root)
    pods.until(lambda: steps_on_disk(root) > 3, "some steps")
    pods.processes[1].kill()
    eventually(lambda: pods.processes[0].poll() is not None, seconds=60, what="the other has ended")
    assert pods.end() == [ExitCode.INTERNAL_ERROR, -signal.SIGKILL]
    failure = pods.termination(0).failure
    assert failure is not None
    assert failure.reason == Reason.PEER_LOST


def test_user_error_ends_all_ranks_with_the_same_exit_code(make_together):
    pods = Pods(make_together(parameters={"micro_batch_size": 4}))
    assert pods.end() == [ExitCode.USER_ERROR] * 2
    failure = pods.termination(1).failure
    assert failure is not None
    assert "batchSize 4 is not a multiple of 4 examples per forward pass times 2 ranks" in failure.message


def test_sigterm_ends_a_rank_waiting_for_rendezvous(make_together):
    pods = Pods(make_together(parameters=DROPS), only=1)
    port = int(pods.master.rpartition(":")[2])
    pods.until(lambda: is_listening(port), "it waits for the other")
    pods.processes[0].send_signal(signal.SIGTERM)
    pods.until(pods.has_ended, "it has ended")
    assert pods.end() == [ExitCode.INTERRUPTED]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def launched(root: TrainerRoot) -> "subprocess.Popen[bytes]":
    """Both processes in one pod, as with two GPUs."""
    imports = "import sys; from pathlib import Path; from tunegate_trainer.distributed.launcher import launch"
    code = f"{imports}; sys.exit(launch(['train', '--stage', '{STAGE}'], 2, Path('{root.path}')))"
    return subprocess.Popen([sys.executable, "-c", code], env=os.environ | {ROOT_VARIABLE: str(root.path)})


def test_sigterm_ends_all_ranks_of_a_pod_together(make_together):
    root = make_together(checkpoint_steps=(30, 60), parameters=DROPS)
    pod = launched(root)
    eventually(lambda: steps_on_disk(root) > 5 or pod.poll() is not None, seconds=240)
    pod.send_signal(signal.SIGTERM)
    assert pod.wait(120) == ExitCode.INTERRUPTED
    termination = Termination.model_validate_json((root.path / "termination.json").read_bytes())
    assert termination.outcome is Outcome.INTERRUPTED
    assert len(list(root.stage_folder.glob("step-*/DONE"))) == 1, "saved by one of them"


def test_launcher_reports_user_error_once_with_its_exit_code(make_together):
    root = make_together(parameters={"micro_batch_size": 4})
    assert launched(root).wait(120) == ExitCode.USER_ERROR
    termination = Termination.model_validate_json((root.path / "termination.json").read_bytes())
    assert termination.failure is not None
    assert termination.failure.reason == Reason.USER_ERROR


HANGS = """
import os, sys, time
from pathlib import Path

if os.environ["TUNEGATE_LOCAL_RANK"] == "0":
    time.sleep(600)
Path(os.environ["TUNEGATE_TERMINATION"]).write_text(sys.argv[1])
sys.exit(1)
"""
"""A trainer whose first process waits for the second, which failed."""


def test_launcher_reports_failed_rank_not_the_killed_straggler(tmp_path):
    trainer = tmp_path / "fake" / "tunegate_trainer"
    trainer.mkdir(parents=True)
    (trainer / "__init__.py").touch()
    (trainer / "__main__.py").write_text(HANGS)
    failure = Failure(reason=Reason.CUDA_OUT_OF_MEMORY, message="of memory")
    said = Termination(exit_code=1, outcome=Outcome.FAILED, failure=failure).model_dump_json(by_alias=True)
    code = f"""
import os, sys
from pathlib import Path
from tunegate_trainer.distributed import launcher

launcher.STRAGGLER_SECONDS = 0.5
os.environ["PYTHONPATH"] = {str(trainer.parent)!r}
sys.exit(launcher.launch([{said!r}], 2, Path({str(tmp_path)!r})))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 1
    assert (tmp_path / "termination.json").read_text() == said
