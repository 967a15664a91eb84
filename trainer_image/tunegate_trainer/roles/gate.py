"""The gate role: build the artifact that would be published, load exactly its files, and evaluate it.

Only this role reads the test split. If it can evaluate the model, its outcome is Completed, even if the
verdict is Failed. The publish targets are read last, so that the artifact is also compared with models that
other jobs have published in the meantime. A version that was published with another golden set is evaluated
on today's set. Endpoints are asked about today's set, too. At the end, when the results are written and
reported, the error rates of gates are measured that are not known yet.
"""

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tunegate_api.contract.process import Outcome
from tunegate_api.contract.request import GateRequest
from tunegate_api.contract.results import Subject
from tunegate_api.contract.workspace import RESULT, base_file
from tunegate_api.judging.judgement import judge_artifact, judge_final
from tunegate_api.v1alpha2.finetunejob_status import Progress
from tunegate_api.verdict.outcomes import VerdictState
from tunegate_trainer.artifacts.build import (
    build_artifact,
    is_adapter,
    judged_dtype,
    load_artifact,
    published_stops,
)
from tunegate_trainer.artifacts.gate_result import GateRoleResult, UsedServer, gate_verdicts
from tunegate_trainer.artifacts.used_servers import used_guardrail, used_judge, used_safety_judge
from tunegate_trainer.evaluate.baselines import BaselineCache
from tunegate_trainer.evaluate.error_rate.measure import measure_error_rates
from tunegate_trainer.evaluate.evaluate import Weights, as_evaluation, as_results, evaluate, write_cases
from tunegate_trainer.evaluate.generate import device_name
from tunegate_trainer.evaluate.golden_sets import golden_sets
from tunegate_trainer.evaluate.safety_sets import safety_sets
from tunegate_trainer.evaluate.sets import GeneratedSet, held_out_sets
from tunegate_trainer.evaluate.subjects import measure_subjects
from tunegate_trainer.evaluate.subjects.setting import SubjectSetting
from tunegate_trainer.graders.agreement import ProbedServer
from tunegate_trainer.graders.gate_servers import gate_guard, gate_judge, safety_judge
from tunegate_trainer.models.base_model import merged_base, verified_base
from tunegate_trainer.models.loading import load_base
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.device import choose_device
from tunegate_trainer.process.epoch import Writer
from tunegate_trainer.process.errors import UserError, out_of_memory_explained
from tunegate_trainer.process.files import read_manifest, weights_digest, write_model
from tunegate_trainer.publish.targets import open_compared
from tunegate_trainer.tokens.chat import load_tokenizer

logger = logging.getLogger(__name__)


def run(context: Context) -> Outcome:
    """Evaluate the artifact that is built from the best passing checkpoint, and judge the results.

    ``context.options`` has the stage and step of the checkpoint. The artifact is written to ``model/``,
    outputs and the result to ``gate/``, and the evaluations of the base model and of the artifact are
    reported. Raises :class:`TrainerError` if the artifact cannot be evaluated, and :class:`Superseded` if
    another process took over.
    """
    stage, step = context.options.stage, context.options.step
    if stage is None or step is None:
        raise UserError("the gate role needs --stage and --step")
    writer = Writer.claim(context.workspace / context.paths.gate)
    try:
        with out_of_memory_explained(lambda: _memory_hint(context, stage)):
            _judge(context, stage, step, writer)
        _measure_error_rates(context, stage, step, writer)
    except BaseException:
        # Also after SIGTERM: a process that took over writes the report, and removes files that this one
        # reads.
        writer.check()
        raise
    return Outcome.COMPLETED


def _judge(context: Context, stage: str, step: int, writer: Writer) -> None:
    request, plan, workspace = context.request, context.plan, context.workspace
    last_stage = plan.stages[-1].name
    folder = workspace / context.paths.gate
    report = partial(_report_activity, context, stage, step)
    device = choose_device(request)

    artifact, checkpoint = workspace / context.paths.model, workspace / context.paths.checkpoint(stage, step)
    base_model_folder = verified_base(workspace, plan)
    merged = merged_base(context, stage)
    parameters = plan.stage(stage).parameters
    manifest = build_artifact(
        checkpoint,
        merged or base_model_folder,
        artifact,
        writer,
        whole=merged is not None or request.spec.artifact.form == "Merged" or plan.model.is_merged,
        trained=parameters,
        arguments=plan.model.chat_template_args,
    )
    dtype = judged_dtype(parameters, artifact, device)
    quantization = parameters.quantization if is_adapter(artifact) else None
    tokenizer = load_tokenizer(
        artifact, base_model_folder if is_adapter(artifact) else None, plan.model.chat_template_args
    )
    stops = published_stops(artifact)
    test_sets = held_out_sets(context, tokenizer, "test")
    golden = golden_sets(context, tokenizer, request.final_gates)
    sets = [*golden, *safety_sets(context, tokenizer, request.final_gates), *test_sets]

    report("judging the base model")
    base_model = load_base(base_model_folder, dtype, device, quantization)
    cache = BaselineCache(context, plan.model.digest, dtype, device, quantization)
    base_results = cache.evaluate(base_model, tokenizer, sets)
    base_weights = Weights(Subject.BASE, last_stage, step=0, digest=plan.model.digest)
    base = as_evaluation(base_weights, sets, base_results)

    writer.check()
    report("judging the final model")
    model = load_artifact(base_model, artifact, dtype, device)
    final_results = evaluate(model, tokenizer, sets, stops=stops)
    final_weights = Weights(Subject.FINAL, last_stage, step, manifest.digest)
    final = as_evaluation(final_weights, sets, final_results)

    writer.check()
    for evaluation_set, base_result, result in zip(sets, base_results, final_results, strict=True):
        write_cases(folder / base_file(evaluation_set.file), base_result)
        write_cases(folder / evaluation_set.file, result)
    del model, base_model  # a published version may need the memory
    answers = measure_subjects(
        SubjectSetting(
            context,
            last_stage,
            tokenizer,
            golden,
            device,
            plan.model.digest,
            sources=open_compared(context),
            outputs=folder,
            report=report,
            check=writer.check,
        )
    )
    evaluations = [base, *answers.evaluations, final]
    results = as_results(sets, evaluations).model_copy(update={"last_published": answers.last_published})
    judgement = judge_artifact(request, results, final)
    verdicts = gate_verdicts(judgement)
    for each in verdicts:
        logger.info("%s: %s, %s%s", each.name, each.state, each.message, " (dry run)" if each.dry_run else "")
    write_model(
        folder / RESULT,
        GateRoleResult(
            stage=stage,
            step=step,
            evaluated={each.name: _evaluated_checkpoints(context, each.name) for each in plan.stages},
            artifact=manifest.digest,
            weights=weights_digest(read_manifest(checkpoint).files),
            device=device_name(device),
            dtype=dtype,
            quantization=quantization,
            generation={
                name: s.generation for s in sets if isinstance(s, GeneratedSet) for name in s.names.values()
            },
            rejudged=answers.rejudged,
            endpoints=answers.endpoints,
            judges=_used(context, used_judge, _calibrated),
            guardrails=_used(context, used_guardrail, _probed(gate_guard)),
            safety_judges=_used(context, used_safety_judge, _probed(safety_judge)),
            evaluations=evaluations,
            verdicts=verdicts,
            verdict=judgement.state,
        ),
    )
    context.send_report(results=results)


def _measure_error_rates(context: Context, stage: str, step: int, writer: Writer) -> None:
    """Measure the error rates of gates that have ``errorRate``, and for which they are not known for this
    base model. Then judge the artifact again, because a gate that finds too few regressions does not pass
    it."""
    path = context.workspace / context.paths.gate / RESULT
    judged = GateRoleResult.model_validate_json(path.read_bytes())
    found = measure_error_rates(
        context,
        judged,
        _unknown_error_rates(context),
        report=partial(_report_activity, context, stage, step),
        check=writer.check,
    )
    if not found.outcomes:
        return
    results = context.report.results.model_copy(update={"error_rates": found.outcomes})
    judgement = judge_final(context.request, results)
    if judgement is None:  # cannot happen: the artifact was just evaluated
        return
    changes = {"verdicts": gate_verdicts(judgement), "verdict": judgement.state}
    writer.check()
    write_model(path, judged.model_copy(update={"error_rates": found.outcomes, **changes}))
    context.send_report(results=results)


def _unknown_error_rates(context: Context) -> dict[str, int]:
    """Return how often the artifact is evaluated again for each gate whose error rate is to be measured. A
    gate that the artifact does not pass is left out, because a bad model can hardly become worse."""
    request = context.request
    judgement = judge_final(request.without_error_rates, context.report.results)
    states = {gate.name: gate.verdict.state for gate in judgement.gates} if judgement else {}
    repeats = {}
    for gate in request.final_gates:
        if gate.spec.error_rate is None or context.plan.model.digest in (gate.measured_bases or ()):
            continue
        if states.get(gate.name) in (VerdictState.PASSED, VerdictState.INCONCLUSIVE):
            repeats[gate.name] = gate.spec.error_rate.repeats
        else:
            logger.info("%s: the error rate is not measured, because the model does not pass", gate.name)
    return repeats


def _used(
    context: Context,
    used: Callable[[GateRequest], UsedServer | None],
    measured: Callable[[Context, GateRequest], Mapping[str, Any]],
) -> dict[str, UsedServer]:
    """Return the server of each final gate that has one. ``used`` returns what the gate says about it, and
    ``measured`` what the job has measured."""
    found = {}
    for gate in context.request.final_gates:
        if (server := used(gate)) is not None:
            found[gate.name] = server.model_copy(update=measured(context, gate))
    return found


def _calibrated(context: Context, gate: GateRequest) -> dict[str, Any]:
    plan = context.gate_judges.get(gate.name)
    return {
        "calibration": plan.calibration if plan else None,
        "faults": gate_judge(context, gate).server.faults,
    }


def _probed(
    find: Callable[[Context, GateRequest], ProbedServer],
) -> Callable[[Context, GateRequest], dict[str, Any]]:
    def measured(context: Context, gate: GateRequest) -> dict[str, Any]:
        found = find(context, gate)
        return {"probes": found.probed, "faults": found.server.faults}

    return measured


def _evaluated_checkpoints(context: Context, stage: str) -> int:
    evaluated = (context.workspace / context.paths.evals / stage).glob(f"step-*/{RESULT}")
    start = context.paths.evaluation(stage, 0).name
    return sum(path.parent.name != start for path in evaluated)


def _memory_hint(context: Context, stage: str) -> str:
    """Return a hint on how the gate can use less memory. It does not mention ``training.maxLength``, which
    has no effect on the gate."""
    made = context.plan.based_on(stage)
    # A model that is judged whole is not quantized.
    can_quantize = made.parameters.quantization is None and is_adapter(
        context.workspace / context.paths.model
    )
    smaller = (
        f"set quantization: NF4 in stage {made.name} to load the base in 4 bits, or " if can_quantize else ""
    )
    return f"{smaller}request a GPU with more memory"


def _report_activity(
    context: Context, stage: str, step: int, activity: str, end: datetime | None = None
) -> None:
    context.send_report(
        progress=Progress(
            stage=stage,
            step=step,
            total_steps=context.plan.stage(stage).total_steps,
            percent=100,
            estimated_end=end,
            activity=activity,
            updated=datetime.now(UTC),
        )
    )
