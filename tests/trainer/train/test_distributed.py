"""Distributed training: several ranks give the same results as one process, and stop and resume at the same
step."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support.families import FAMILIES
from support.gate_servers import judge_spec, write_calibration
from support.guard_server import GuardServerStub
from support.judge_server import JudgeServerStub
from support.multimodal_models import save_multimodal_model
from support.random_models import save_family
from support.rank_pods import Pods
from support.trainer_root import ALL_WEIGHTS, STAGE, TrainerRoot, dpo_plan, gate_spec
from support.waiting import eventually
from tunegate_api.contract.process import NODE_VARIABLE, ROOT_VARIABLE, ExitCode, Outcome, Termination
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_trainer.distributed import ranks
from tunegate_trainer.distributed.ranks import Ranks
from tunegate_trainer.graders.guardrail.probes import PROBES
from tunegate_trainer.process.interruption import Interrupted, Interruption
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tracking.process import start_trackers

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("warm_roles")]

WITHOUT_DROPOUT = {"lora_dropout": 0.0, "pass_tokens": 64}
"""Parameters without dropout. Each rank draws its own dropout, so results would differ from one process. Some
pairs of rows fit a pass, so ranks need different numbers of passes."""

WITH_DROPOUT = {"lora_dropout": 0.1, "pass_tokens": 64}


def train(root: TrainerRoot, *arguments: str, stage: str = STAGE) -> Pods:
    pods = Pods(root, *arguments, stage=stage)
    assert pods.end() == [ExitCode.OK] * 2
    return pods


def train_on_one_rank(root: TrainerRoot, stage: str = STAGE, start_step: int | None = None) -> None:
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
    """Compare up to rounding, relative to ``loss``, because ranks sum over a batch in another order."""
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


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param(WITHOUT_DROPOUT, id="LoRA"),
        pytest.param(WITHOUT_DROPOUT | ALL_WEIGHTS, id="all weights", marks=pytest.mark.exhaustive),
    ],
)
def test_two_ranks_give_the_same_results_as_one(make_distributed_root, base_model, exact, parameters):
    parameters = {**parameters, "batch_size": 8}
    if not exact:  # the tiny model's learning rate is too high for a real one
        parameters["learning_rate"] = 1e-4
    one, two = (make_distributed_root(n, model=base_model, parameters=parameters) for n in (1, 2))
    train_on_one_rank(one)
    train(two)
    assert_same_run(one, two, (3, 6), loss=1e-6 if exact else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["qwen3_5", "mistral3"])
def test_two_ranks_match_one_for_other_architectures(make_distributed_root, tmp_path, family):
    """Qwen3.5 needs a pass for each example, and Mistral 3 has a vision tower without gradients."""
    folder = save_multimodal_model(tmp_path / family, family)
    excluded = ["model.vision_tower", "model.multi_modal_projector"] if family == "mistral3" else None
    parameters = WITHOUT_DROPOUT | ALL_WEIGHTS | {"batch_size": 8, "excluded_modules": excluded}
    one, two = (
        make_distributed_root(n, model=folder, parameters=parameters, checkpoint_steps=(2,)) for n in (1, 2)
    )
    train_on_one_rank(one)
    train(two)
    assert_same_run(one, two, (2,), loss=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("parallelism", ["DDP", "FSDP"])
def test_two_ranks_with_longrope_give_the_same_results_as_one(make_distributed_root, tmp_path, parallelism):
    """With this seed, the examples of a pass are on one side of the length at which longrope changes on one
    rank, and on both sides on the other rank. The ranks must compute the same number of passes."""
    longrope = next(family for family in FAMILIES if family.features == "longrope")
    folder = save_family(tmp_path / "model", longrope)
    parameters = WITHOUT_DROPOUT | ALL_WEIGHTS | {"batch_size": 8, "seed": 33}
    one, two = (
        make_distributed_root(n, model=folder, parameters=parameters, checkpoint_steps=(3,), **settings)
        for n, settings in ((1, {}), (2, {"parallelism": parallelism}))
    )
    train_on_one_rank(one)
    train(two)
    assert_same_run(one, two, (3,), loss=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "spec"),
    [
        (WITHOUT_DROPOUT, {}),
        (WITHOUT_DROPOUT | ALL_WEIGHTS, {}),
        (WITHOUT_DROPOUT | ALL_WEIGHTS, {"parallelism": "FSDP"}),
        (WITHOUT_DROPOUT | {"quantization": "NF4"}, {}),
    ],
    ids=["LoRA", "all weights", "FSDP", "QLoRA"],
)
def test_two_ranks_with_gradient_checkpointing_give_same_results_as_one(
    make_distributed_root, parameters, spec
):
    settings = {"parameters": {**parameters, "batch_size": 8}, "activation_checkpointing": True}
    one, two = make_distributed_root(1, **settings), make_distributed_root(2, **settings, **spec)
    train_on_one_rank(one)
    train(two)
    assert_same_run(one, two, (3, 6))


@pytest.mark.slow
def test_two_ranks_with_fsdp_give_the_same_results_as_one(make_distributed_root):
    parameters = {**WITHOUT_DROPOUT, **ALL_WEIGHTS, "batch_size": 8}
    one = make_distributed_root(1, parameters=parameters)
    two = make_distributed_root(2, parameters=parameters, parallelism="FSDP")
    train_on_one_rank(one)
    train(two)
    assert_same_run(one, two, (3, 6))


AS_ON_A_GPU = """
from tunegate_trainer.train import start
start.gathers_in_bfloat16 = lambda device, request: True
"""


@pytest.mark.slow
def test_fsdp_in_bfloat16_keeps_weights_and_optimizer_in_float32(make_distributed_root):
    parameters = {**WITHOUT_DROPOUT, **ALL_WEIGHTS, "batch_size": 8}
    one = make_distributed_root(1, parameters=parameters)
    two = make_distributed_root(2, parameters=parameters, parallelism="FSDP")
    train_on_one_rank(one)
    assert Pods(two, before=AS_ON_A_GPU).end() == [ExitCode.OK] * 2
    assert two.losses() != pytest.approx(one.losses(), rel=1e-6), "else bfloat16 was not used"
    assert two.losses() == pytest.approx(one.losses(), rel=0.02)
    assert {each.dtype for each in weights(two, 6).values()} == {torch.float32}
    optimizer = torch.load(two.stage_folder / "state-000006" / "optimizer.pt", weights_only=True)
    moments = [state["exp_avg_sq"] for state in optimizer["state"].values()]
    assert {each.dtype for each in moments} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "spec"),
    [
        pytest.param(WITHOUT_DROPOUT, {}, id="LoRA"),
        pytest.param(WITHOUT_DROPOUT | ALL_WEIGHTS, {}, id="all weights"),
        pytest.param(WITHOUT_DROPOUT | ALL_WEIGHTS, {"parallelism": "FSDP"}, id="FSDP"),
    ],
)
def test_two_ranks_give_the_same_dpo_results_as_one(make_distributed_root, parameters, spec):
    def stages(**spec: str) -> dict[str, Any]:
        further = {} if parameters is WITHOUT_DROPOUT else {**parameters, "starts_from": "Merged"}
        dpo = dpo_plan(**{"pass_tokens": 190, **further}).model_copy(update=spec)
        return {"later": [dpo], "parameters": parameters, **spec}

    one, two = make_distributed_root(1, **stages()), make_distributed_root(2, **stages(**spec))
    train_on_one_rank(one)
    train_on_one_rank(one, "dpo", start_step=6)
    train(two)
    train(two, "--start-step", "6", stage="dpo")
    assert_same_run(one, two, (3, 6), "dpo")


SMALL_GPU_ON_RANK_1 = f"""
import os, torch
from tunegate_trainer.train.trainer import CompletionTrainer
whole = CompletionTrainer.token_losses

def fits(self, model, inputs):
    if os.environ[{NODE_VARIABLE!r}] == "1" and int((inputs["position_ids"] == 0).sum()) > 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    return whole(self, model, inputs)

CompletionTrainer.token_losses = fits
"""


@pytest.mark.slow
def test_out_of_memory_on_one_rank_reduces_all_ranks_passes(make_distributed_root):
    parameters = WITHOUT_DROPOUT | {"batch_size": 8, "pass_tokens": 168}
    whole, root = make_distributed_root(parameters=parameters), make_distributed_root(parameters=parameters)
    train(whole)
    pods = Pods(root, before=SMALL_GPU_ON_RANK_1)
    assert pods.end() == [ExitCode.INTERNAL_ERROR] * 2
    reasons = [pods.termination(node).failure.reason for node in range(2)]
    assert reasons == [Reason.PEER_LOST, Reason.CUDA_OUT_OF_MEMORY]
    assert Pods(root, before=SMALL_GPU_ON_RANK_1).end() == [ExitCode.OK] * 2
    assert_same_run(whole, root, (3, 6))
    assert root.report().progress.pass_tokens < 42


def test_only_primary_rank_writes_and_reports(make_distributed_root):
    root = make_distributed_root(parameters=WITHOUT_DROPOUT)
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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "parallelism"),
    [
        pytest.param(WITH_DROPOUT, "DDP", id="DDP"),
        pytest.param(WITH_DROPOUT | ALL_WEIGHTS, "FSDP", id="FSDP", marks=pytest.mark.exhaustive),
    ],
)
def test_sigterm_on_one_rank_stops_all_ranks_at_one_step(make_distributed_root, parameters, parallelism):
    steps = (30, 60)
    whole, root = (
        make_distributed_root(checkpoint_steps=steps, parameters=parameters, parallelism=parallelism)
        for _ in range(2)
    )
    train(whole)
    pods = Pods(root)
    pods.wait_until(lambda: steps_on_disk(root) > 35, "half of the steps")
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


SLOW_PRIMARY = """
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
"""Code that makes the primary rank read and write for longer than the timeout of an optimizer step."""


@pytest.mark.exhaustive
def test_ranks_wait_for_slow_reads_and_saves_of_the_primary(make_distributed_root):
    root = make_distributed_root(parameters=WITHOUT_DROPOUT | ALL_WEIGHTS, parallelism="FSDP")
    train(root)
    (root.checkpoint(6) / "DONE").unlink()
    pods = Pods(root, "--attempt", "2", before=SLOW_PRIMARY)
    assert pods.end() == [ExitCode.OK] * 2
    assert (root.checkpoint(6) / "DONE").exists()


SLOW_SCORING = """
import time
from tunegate_trainer.distributed import ranks
from tunegate_trainer.evaluate import evaluate

ranks.TRAINING_SECONDS = 10
judge_outputs = evaluate.judge_outputs

def slow_judge(*arguments):
    evaluate.judge_outputs = judge_outputs
    time.sleep(13)
    return judge_outputs(*arguments)

evaluate.judge_outputs = slow_judge
"""
"""Code that makes the primary rank score the first set for longer than the timeout of an optimizer step."""


@pytest.mark.exhaustive
def test_ranks_of_a_sharded_model_wait_for_slow_scoring(make_distributed_root):
    parameters = WITHOUT_DROPOUT | ALL_WEIGHTS
    root = make_distributed_root(parameters=parameters, parallelism="FSDP", checkpoint_steps=(3,))
    assert Pods(root, before=SLOW_SCORING).end() == [ExitCode.OK] * 2
    assert len(root.evaluation(3).outcomes) == 2


ONLY_PRIMARY_SCORES = """
from tunegate_trainer.distributed import topology
from tunegate_trainer.evaluate import evaluate
from tunegate_trainer.train.record import StageRecord

def too_slow(*arguments):
    raise AssertionError("only the primary scores")

if not topology.is_primary():
    evaluate.score_votes = too_slow
add = StageRecord.add

def add_and_look(self, *arguments):
    evaluation = add(self, *arguments)
    assert evaluation.outcomes
    assert "e" not in "".join(evaluation.outcomes.values())
    return evaluation

StageRecord.add = add_and_look
"""
"""Code that makes scoring time out on the second rank."""


def test_all_ranks_use_the_scores_of_the_primary(make_distributed_root):
    assert (
        Pods(make_distributed_root(parameters=WITHOUT_DROPOUT), before=ONLY_PRIMARY_SCORES).end()
        == [ExitCode.OK] * 2
    )


LATE_READER = """
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
"""Code that makes the second rank read the scratch folder only when the primary rank has finished."""


def test_only_the_primary_asks_the_judge_and_the_guardrail(make_distributed_root):
    """The base model's answers are truncated, so only those of the checkpoint are sent."""
    cases = [
        {"id": f"case-{n}", "prompt": f"order {n}", "expect": [{"type": "judge"}, {"type": "guardrail"}]}
        for n in range(6)
    ]
    with JudgeServerStub() as judge, GuardServerStub() as guardrail:
        gate = gate_spec(cases, graders=[judge_spec(judge), guardrail.spec])
        gates = {"orders": gate}
        root = make_distributed_root(parameters=WITHOUT_DROPOUT, checkpoint_steps=(20,), gates=gates)
        write_calibration(root)
        train(root)
        assert len(judge.rows) == 6
        assert len(guardrail.bodies) == len(PROBES) + 6
    assert root.evaluation(20).outcomes["golden/orders"] == "pppppp"


@pytest.mark.slow
def test_primary_keeps_scratch_folder_until_other_ranks_have_read_it(make_distributed_root):
    root = make_distributed_root(parameters=WITHOUT_DROPOUT)
    assert Pods(root, before=LATE_READER).end() == [ExitCode.OK] * 2
    assert not list(root.stage_folder.glob("scratch-*"))


def test_sigterm_after_ranks_agreed_takes_effect_one_step_later(make_distributed_root):
    """If the signal took effect at once, this rank alone would save, and all ranks would wait for each other
    forever."""
    root, interruption = make_distributed_root(1, parameters=WITH_DROPOUT), Interruption()

    class LateSigterm(Ranks):
        def sum(self, *numbers: int) -> list[int]:
            sums = super().sum(*numbers)
            if (
                len(numbers) > 1 and steps_on_disk(root) == 3
            ):  # the ranks agreed on step 4, which is not on disk yet
                interruption.request()
            return sums

    with pytest.raises(Interrupted):
        train_role.train_stage(root.context(interruption=interruption), LateSigterm())
    assert [path.parent.name for path in sorted(root.stage_folder.glob("step-*/DONE"))] == [
        "step-000003",
        "step-000005",
    ]


def test_rendezvous_timeout_exceeds_the_start_timeout_of_the_job(make_distributed_root, monkeypatch):
    waits = []
    monkeypatch.setattr(ranks, "_connect", lambda *found: waits.append(found[-1]))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    for timeout in (60, 7200):
        request = make_distributed_root(spec={"startTimeoutSeconds": timeout}).context().request
        with ranks.process_group(request):
            pass
    assert waits == [ranks.RENDEZVOUS_SECONDS, 7200 + 60]


def test_only_primary_rank_starts_trackers(make_distributed_root):
    root = make_distributed_root(
        spec={"tracking": {"mlflow": {"uri": "http://127.0.0.1:9", "experiment": "orders"}}}
    )
    context = root.context()
    context.is_primary = False
    assert start_trackers(context) is None


def test_killed_rank_ends_the_other_rank_with_reason_peer_lost(make_distributed_root):
    root = make_distributed_root(checkpoint_steps=(2000,), parameters=WITH_DROPOUT)
    pods = Pods(root)
    pods.wait_until(lambda: steps_on_disk(root) > 3, "some steps")
    pods.processes[1].kill()
    eventually(lambda: pods.processes[0].poll() is not None, seconds=60, what="the other has ended")
    assert pods.end() == [ExitCode.INTERNAL_ERROR, -signal.SIGKILL]
    failure = pods.termination(0).failure
    assert failure is not None
    assert failure.reason == Reason.PEER_LOST


def test_user_error_ends_all_ranks_with_the_same_exit_code(make_distributed_root):
    pods = Pods(make_distributed_root(parameters={"batch_size": 3}))
    assert pods.end() == [ExitCode.USER_ERROR] * 2
    failure = pods.termination(1).failure
    assert failure is not None
    assert "batchSize is 3, not a multiple of the 2 ranks" in failure.message


def test_sigterm_ends_a_rank_waiting_for_rendezvous(make_distributed_root):
    pods = Pods(make_distributed_root(parameters=WITH_DROPOUT), only=1)
    port = int(pods.master.rpartition(":")[2])
    pods.wait_until(lambda: is_listening(port), "it waits for the other")
    pods.processes[0].send_signal(signal.SIGTERM)
    pods.wait_until(pods.any_has_ended, "it has ended")
    assert pods.end() == [ExitCode.INTERRUPTED]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_launcher(root: TrainerRoot) -> "subprocess.Popen[bytes]":
    """Start both ranks in one pod, as with two GPUs."""
    imports = "import sys; from pathlib import Path; from tunegate_trainer.distributed.launcher import launch"
    code = f"{imports}; sys.exit(launch(['train', '--stage', '{STAGE}'], 2, Path('{root.path}')))"
    return subprocess.Popen([sys.executable, "-c", code], env=os.environ | {ROOT_VARIABLE: str(root.path)})


def test_sigterm_ends_all_ranks_of_a_pod_together(make_distributed_root):
    root = make_distributed_root(checkpoint_steps=(30, 60), parameters=WITH_DROPOUT)
    pod = start_launcher(root)
    eventually(lambda: steps_on_disk(root) > 5 or pod.poll() is not None, seconds=240)
    pod.send_signal(signal.SIGTERM)
    assert pod.wait(120) == ExitCode.INTERRUPTED
    termination = Termination.model_validate_json((root.path / "termination.json").read_bytes())
    assert termination.outcome is Outcome.INTERRUPTED
    assert len(list(root.stage_folder.glob("step-*/DONE"))) == 1, "saved by one of them"


def test_launcher_reports_user_error_once_with_its_exit_code(make_distributed_root):
    root = make_distributed_root(parameters={"batch_size": 3})
    assert start_launcher(root).wait(120) == ExitCode.USER_ERROR
    termination = Termination.model_validate_json((root.path / "termination.json").read_bytes())
    assert termination.failure is not None
    assert termination.failure.reason == Reason.USER_ERROR


HANGING_TRAINER = """
import os, sys, time
from pathlib import Path

if os.environ["TUNEGATE_LOCAL_RANK"] == "0":
    time.sleep(600)
Path(os.environ["TUNEGATE_TERMINATION"]).write_text(sys.argv[1])
sys.exit(1)
"""
"""A trainer whose first rank waits forever for the second rank, which has failed."""


def make_fake_trainer(folder: Path, code: str) -> Path:
    """Write a package ``tunegate_trainer`` that runs ``code``. Returns the folder for PYTHONPATH."""
    trainer = folder / "fake" / "tunegate_trainer"
    trainer.mkdir(parents=True)
    (trainer / "__init__.py").touch()
    (trainer / "__main__.py").write_text(code)
    return trainer.parent


@pytest.mark.parametrize(("limit", "threads"), [("8", "4"), ("1", "1")])
def test_ranks_of_a_pod_share_its_cpu_limit(tmp_path, limit, threads):
    fake = make_fake_trainer(
        tmp_path,
        "import os, pathlib, sys\n"
        "path = pathlib.Path(sys.argv[1], os.environ['TUNEGATE_LOCAL_RANK'])\n"
        "path.write_text(os.environ['OMP_NUM_THREADS'])\n",
    )
    code = f"""
import os
from pathlib import Path
from tunegate_trainer.distributed import launcher

os.environ |= {{"PYTHONPATH": {str(fake)!r}, "OMP_NUM_THREADS": {limit!r}}}
launcher.launch([{str(tmp_path)!r}], 2, Path({str(tmp_path)!r}))
"""
    subprocess.run([sys.executable, "-c", code], timeout=60, check=True)
    assert [(tmp_path / rank).read_text() for rank in "01"] == [threads] * 2


def test_launcher_reports_failed_rank_not_the_killed_straggler(tmp_path):
    fake = make_fake_trainer(tmp_path, HANGING_TRAINER)
    failure = Failure(reason=Reason.CUDA_OUT_OF_MEMORY, message="of memory")
    termination = Termination(exit_code=1, outcome=Outcome.FAILED, failure=failure).model_dump_json(
        by_alias=True
    )
    code = f"""
import os, sys
from pathlib import Path
from tunegate_trainer.distributed import launcher

launcher.STRAGGLER_SECONDS = 0.5
os.environ["PYTHONPATH"] = {str(fake)!r}
sys.exit(launcher.launch([{termination!r}], 2, Path({str(tmp_path)!r})))
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 1
    assert (tmp_path / "termination.json").read_text() == termination
