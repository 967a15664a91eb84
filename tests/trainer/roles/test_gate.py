"""The final gate: it judges the artifact's files on the test split, in comparison with the base model."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase

from support.trainer_root import STAGE, TrainerRoot, gate_spec, golden_cases
from tunegate_api.contract.baselines import BASELINES_VARIABLE, write_baselines
from tunegate_api.contract.process import ROOT_VARIABLE, ExitCode, Outcome, Role, Termination
from tunegate_api.contract.results import Subject
from tunegate_api.v1alpha2.evaluation_status import BaselineDigest
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_api.verdict.outcomes import FAIL, PASS, VerdictState
from tunegate_trainer.artifacts import build as artifact_module
from tunegate_trainer.artifacts.gate_result import GateRoleResult
from tunegate_trainer.evaluate.config_map_files import schema_sha256
from tunegate_trainer.evaluate.evaluate import SetResult
from tunegate_trainer.main import main
from tunegate_trainer.process import files
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.files import remove, seal, sha256_file, verify, write_model
from tunegate_trainer.roles import gate as gate_module
from tunegate_trainer.roles import train as train_role
from tunegate_trainer.tokens.chat import load_tokenizer

STEP = 20


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_model) -> TrainerRoot:
    """A root with a stage that has learned its answer. Tests must not write to it."""
    cases = [case | {"group": "pairs"} if i < 2 else case for i, case in enumerate(golden_cases())]
    gates = {"orders": gate_spec(cases), "dry": gate_spec(golden_cases(5, expect="no"), enforcement="DryRun")}
    root = TrainerRoot(tmp_path_factory.mktemp("trained") / "root", checkpoint_steps=(STEP,), gates=gates)
    root.write(tiny_model)
    train_role.run(root.context())
    return root


@pytest.fixture
def root(trained, tmp_path, monkeypatch) -> TrainerRoot:
    """A copy of the trained root, and the environment of a process in it."""
    shutil.copytree(trained.path, tmp_path / "root")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    return TrainerRoot(tmp_path / "root", checkpoint_steps=(STEP,), gates=trained.gates)


def gate() -> int:
    return main(["gate", "--stage", STAGE, "--step", str(STEP)])


def result(root: TrainerRoot) -> GateRoleResult:
    return GateRoleResult.model_validate_json((root.workspace / root.paths.gate / "result.json").read_bytes())


def artifact(root: TrainerRoot) -> Path:
    return root.workspace / root.paths.model


def test_groups_of_golden_cases_are_reported_and_written(root):
    assert gate() == ExitCode.OK
    assert root.report(Role.GATE).results.sets["golden/orders"].groups == [0, *range(19)]
    lines = (root.workspace / root.paths.gate / "golden-orders.jsonl").read_text().splitlines()
    assert [json.loads(line).get("group") for line in lines[:3]] == ["pairs", "pairs", None]


def test_artifact_is_compared_with_base_on_golden_and_test_sets(root):
    assert gate() == ExitCode.OK
    judged = result(root)
    base, final = judged.evaluations
    assert (base.subject, base.digest) == (Subject.BASE, root.context().plan.model.digest)
    assert base.outcomes["golden/orders"].count(PASS) == 0
    assert (final.subject, final.step, final.digest) == (Subject.FINAL, STEP, judged.artifact)
    assert final.outcomes["golden/orders"] == PASS * 20
    assert final.outcomes["test/exact_match"] == PASS * 6
    assert judged.verdict is VerdictState.PASSED
    assert judged.evaluated == {"sft": 1}, "the starting model is not a checkpoint"
    report = root.report(Role.GATE)
    assert report.results.evaluations == judged.evaluations
    assert report.outcome is Outcome.COMPLETED


def test_changed_dry_run_golden_set_does_not_end_gate(root):
    path = root.path / "request" / "request.json"
    request = json.loads(path.read_text())
    (dry,) = (gate for gate in request["gates"] if gate["name"] == "dry")
    dry["goldenSha256"] = "0" * 64
    path.write_text(json.dumps(request))
    assert gate() == ExitCode.OK
    verdicts = {v.name: v.state for v in result(root).verdicts}
    assert verdicts["dry"] is VerdictState.ERROR
    assert result(root).verdict is verdicts["orders"]


def test_dry_run_gate_is_recorded_but_blocks_nothing(root):
    gate()
    verdicts = {v.name: v for v in result(root).verdicts}
    assert verdicts["dry"].dry_run
    assert verdicts["dry"].state is not VerdictState.PASSED
    assert result(root).verdict is VerdictState.PASSED


def test_bad_model_gives_a_failed_verdict_not_an_error(root):
    adapter = load_file(root.checkpoint(STEP) / "adapter_model.safetensors")
    replace_adapter(root, {name: torch.zeros_like(tensor) for name, tensor in adapter.items()})
    assert gate() == ExitCode.OK
    assert result(root).verdict is VerdictState.FAILED
    assert root.report(Role.GATE).outcome is Outcome.COMPLETED


def test_outputs_that_break_the_json_schema_give_a_failed_verdict(root):
    """The model has learned to answer yes, which passes the golden set, but is no JSON object."""
    file = root.path / "request" / "request.json"
    request = json.loads(file.read_text())
    metric = {
        "name": "json_schema",
        "type": "JSONSchema",
        "schema": {"inline": {"type": "object"}},
        "min": "50%",
    }
    request["spec"]["taskMetrics"] = [metric]
    file.write_text(json.dumps(request))
    file = root.path / "plan" / "plan.json"
    plan = json.loads(file.read_text())
    plan["data"]["schemasSha256"] = {"json_schema": schema_sha256({"type": "object"})}
    file.write_text(json.dumps(plan))
    assert gate() == ExitCode.OK
    judged = result(root)
    assert judged.evaluations[-1].outcomes["golden/orders"] == PASS * 20
    assert judged.evaluations[-1].outcomes["test/json_schema"] == FAIL * 6
    assert judged.verdict is VerdictState.FAILED


def test_gate_judges_the_artifact_on_disk(root):
    gate()
    before = result(root)
    adapter = load_file(root.checkpoint(STEP) / "adapter_model.safetensors")
    replace_adapter(root, {name: -t if "lora_B" in name else t for name, t in adapter.items()})
    gate()
    after = result(root)
    assert after.artifact != before.artifact
    assert after.evaluations[1].outcomes != before.evaluations[1].outcomes


def replace_adapter(root: TrainerRoot, adapter: dict[str, torch.Tensor]) -> None:
    """Replace the weights of a checkpoint and seal it, so that it is undamaged."""
    checkpoint = root.checkpoint(STEP)
    save_file(adapter, checkpoint / "adapter_model.safetensors")
    (checkpoint / "DONE").unlink()
    seal(checkpoint)


def test_changed_checkpoint_is_refused(root):
    path = root.checkpoint(STEP) / "adapter_model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert gate() == ExitCode.STORAGE
    failure = root.report(Role.GATE).failure
    assert failure is not None
    assert failure.reason == Reason.STORAGE
    assert "adapter_model.safetensors does not match its digest" in failure.message
    assert not artifact(root).exists()


@pytest.fixture
def after_build(monkeypatch):
    """Return a function that sets up an action, called after the artifact is built."""

    def set_up(do):
        build = gate_module.build_artifact

        def build_and_do(*args, **options):
            manifest = build(*args, **options)
            do()
            return manifest

        monkeypatch.setattr(gate_module, "build_artifact", build_and_do)

    return set_up


def test_gate_loads_adapter_and_tokenizer_of_the_artifact(root, after_build):
    def damage_checkpoint_and_base():
        adapter = load_file(root.checkpoint(STEP) / "adapter_model.safetensors")
        replace_adapter(root, {name: torch.zeros_like(tensor) for name, tensor in adapter.items()})
        (base_folder(root) / "chat_template.jinja").write_text("{{ 'another prompt' }}")

    after_build(damage_checkpoint_and_base)
    assert gate() == ExitCode.OK
    assert result(root).verdict is VerdictState.PASSED
    assert result(root).evaluations[1].outcomes["golden/orders"] == PASS * 20


def base_folder(root: TrainerRoot) -> Path:
    return root.workspace / root.paths.base_model(root.context().plan.model.digest)


def test_generation_stops_only_at_tokens_the_artifact_names(root, after_build):
    def name_another_token():
        (artifact(root) / "generation_config.json").write_text(json.dumps({"eos_token_id": [0]}))
        (artifact(root) / "DONE").unlink()
        seal(artifact(root))

    after_build(name_another_token)
    assert gate() == ExitCode.OK
    lines = (root.workspace / root.paths.gate / "golden-orders.jsonl").read_text().splitlines()
    assert all(json.loads(line)["truncated"] for line in lines), "the end of turn was no end"


@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "chat_template.jinja", "generation_config.json"]
)
def test_artifact_changed_while_loading_is_not_judged(root, after_build, name):
    if name == "chat_template.jinja":
        after_build(lambda: (artifact(root) / name).write_text("{{ 'another prompt' }}"))
    elif name == "generation_config.json":
        after_build(lambda: (artifact(root) / name).write_text(json.dumps({"eos_token_id": [0]})))
    else:
        zeros = load_file(root.checkpoint(STEP) / name)
        zeros = {key: torch.zeros_like(tensor) for key, tensor in zeros.items()}
        after_build(lambda: save_file(zeros, artifact(root) / name))
    assert gate() == ExitCode.STORAGE
    failure = root.report(Role.GATE).failure
    assert failure is not None
    assert f"the artifact was changed after it was built: {name} does not match its digest" in failure.message
    assert not (root.workspace / root.paths.gate / "result.json").exists()


def take_over(root: TrainerRoot) -> None:
    """Claim the folder as another gate pod would, for example after the node of this one was lost."""
    Writer.claim(root.workspace / root.paths.gate)
    for folder in root.workspace.glob(f"{root.paths.model}*"):
        remove(folder)


def test_superseded_gate_pod_reports_nothing(root, after_build):
    after_build(lambda: take_over(root))
    assert gate() == ExitCode.INTERRUPTED
    assert not (root.workspace / root.paths.gate / "result.json").exists()
    assert not root.context(Role.GATE).report_file.exists()


def test_two_gate_pods_build_the_artifact_in_separate_folders(root, monkeypatch):
    write, folders = artifact_module.write_artifact, []

    def write_while_another_starts(checkpoint, base, folder, **options):
        folders.append(folder)
        manifest = write(checkpoint, base, folder, **options)
        if len(folders) == 1:
            assert gate() == ExitCode.OK
        return manifest

    monkeypatch.setattr(artifact_module, "write_artifact", write_while_another_starts)
    assert gate() == ExitCode.INTERRUPTED
    assert len(set(folders)) == 2
    assert result(root).verdict is VerdictState.PASSED
    assert verify(artifact(root)) == []
    assert not list(root.workspace.glob(f"{root.paths.model}.*"))


@pytest.mark.parametrize("name", ["adapter_config.json", "tokenizer_config.json"])
def test_artifact_with_a_changed_text_file_is_rebuilt(root, name):
    gate()
    first = result(root)
    path = artifact(root) / name
    judged = path.read_text()
    path.write_text(judged + " ")
    (artifact(root) / "DONE").unlink()
    seal(artifact(root))
    gate()
    assert path.read_text() == judged
    assert result(root).artifact == first.artifact
    assert not verify(artifact(root))


def test_damaged_base_model_is_refused(root):
    (base_folder(root) / "tokenizer_config.json").write_text("{}")
    assert gate() == ExitCode.STORAGE
    failure = root.report(Role.GATE).failure
    assert failure is not None
    assert "tokenizer_config.json does not match its digest" in failure.message
    assert "its data Job fetches the model again" in failure.hint


@pytest.mark.parametrize("what", ["base model", "checkpoint"])
def test_unreadable_file_is_not_reported_as_damaged(root, monkeypatch, what):
    folder, digest_of = (
        base_folder(root) if what == "base model" else root.checkpoint(STEP),
        files.sha256_file,
    )

    def stale(path: Path) -> str:
        if path.parent == folder:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return digest_of(path)

    monkeypatch.setattr(files, "sha256_file", stale)
    assert gate() == ExitCode.STORAGE
    failure = root.report(Role.GATE).failure
    assert failure is not None
    assert what in failure.message
    assert "cannot be read: Stale file handle" in failure.message
    assert "damaged" not in failure.message
    assert failure.hint == "check the storage volume, and the node that it is mounted on"


@pytest.mark.parametrize("load", ["load_base", "load_artifact"])
def test_out_of_memory_error_in_gate_gives_a_hint(root, monkeypatch, load):
    def too_large(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(gate_module, load, too_large)
    assert gate() == ExitCode.CUDA_OUT_OF_MEMORY
    failure = root.report(Role.GATE).failure
    assert failure is not None
    assert failure.hint == (
        "set quantization: NF4 in stage sft to load the base in 4 bits, or request a GPU with more memory"
    )


def test_result_records_device_types_and_generation_settings(root):
    gate()
    found = result(root)
    assert (found.device, found.dtype) == ("cpu", "float32")
    assert sorted(found.generation) == ["golden/dry", "golden/orders", "test/exact_match"]
    for settings in found.generation.values():
        assert settings.to_wire() == {
            "maxNewTokens": 6,
            "batchSize": 32,
            "batching": "Fixed",
            "precision": "Auto",
            "reasoning": "Strip",
        }


def test_baseline_is_measured_again_if_prompt_changed(root):
    """Templates may print today's date, so the baseline of yesterday was measured with other prompts."""
    cache = root.workspace / root.paths.baselines
    before = set(cache.iterdir())
    template = base_folder(root) / "chat_template.jinja"
    template.write_text("Today is Tuesday. " + template.read_text())
    (base_folder(root) / "DONE").unlink()
    seal(base_folder(root))
    assert gate() == ExitCode.OK
    assert len(set(cache.iterdir()) - before) == 3, "both golden sets too, which the stage had measured"


def test_damaged_baseline_is_measured_again(root):
    for path in (root.workspace / root.paths.baselines).iterdir():
        path.write_text('{"cases": ')
    assert gate() == ExitCode.OK
    assert result(root).verdict is VerdictState.PASSED


def test_artifact_tokenizes_prompts_as_in_training(root, monkeypatch):
    loaded = []

    def noted(*folders: Path) -> PreTrainedTokenizerBase:
        loaded.append(folders)
        return load_tokenizer(*folders)

    monkeypatch.setattr(gate_module, "load_tokenizer", noted)
    gate()
    assert loaded == [(artifact(root), root.base_model, {})]


def test_artifact_contains_only_published_files(root):
    gate()
    assert sorted(p.name for p in artifact(root).iterdir()) == [
        "DONE",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "generation_config.json",
        "manifest.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert not verify(artifact(root))


def test_rebuilt_artifact_has_same_digest_and_outcomes_as_before_damage(root):
    gate()
    first = result(root)
    (artifact(root) / "adapter_config.json").write_text(
        "{}"
    )  # damaged between the attempts, so it is built again
    gate()
    second = result(root)
    assert second.artifact == first.artifact
    assert [e.outcomes for e in second.evaluations] == [e.outcomes for e in first.evaluations]
    assert not verify(artifact(root))


def test_gate_role_fails_if_test_rows_are_missing(root):
    (root.data / "test.jsonl").unlink()
    assert gate() == ExitCode.NOT_FOUND


@pytest.mark.parametrize("is_recorded", [True, False])
def test_gate_reuses_base_model_evaluation_from_training_if_recorded(root, monkeypatch, is_recorded):
    cache = root.workspace / root.paths.baselines
    for path in cache.iterdir():  # a mark that appears later only if the cache is read
        cached = SetResult.model_validate_json(path.read_bytes())
        marked = [case.model_copy(update={"output": "from the cache"}) for case in cached.cases]
        write_model(path, cached.model_copy(update={"cases": marked}))
    recorded = [BaselineDigest(key=path.stem, sha256=sha256_file(path)) for path in cache.iterdir()]
    monkeypatch.setenv(BASELINES_VARIABLE, write_baselines(recorded) if is_recorded else "")
    gate()
    lines = (root.workspace / root.paths.gate / "base-golden-orders.jsonl").read_text().splitlines()
    assert len(lines) == 20
    assert (json.loads(lines[0])["output"] == "from the cache") is is_recorded
    termination = Termination.model_validate_json((root.path / "termination.json").read_bytes())
    reported = {each.key: each.sha256 for each in termination.baselines}
    written = {path.stem: sha256_file(path) for path in cache.iterdir()}
    assert len(reported) == 3, "both golden sets, and the rows of the test split"
    assert reported.items() <= written.items()


def test_gate_stores_outputs_of_base_and_final_model(root):
    gate()
    folder = root.workspace / root.paths.gate
    assert sorted(p.name for p in folder.iterdir()) == [
        "base-golden-dry.jsonl",
        "base-golden-orders.jsonl",
        "base-test.jsonl",
        "epoch-000001",
        "golden-dry.jsonl",
        "golden-orders.jsonl",
        "result.json",
        "test.jsonl",
    ]
