"""A person approves, overrides or rejects the final verdict before the model is published."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from support.builders import golden_text, make_gate, make_job
from support.world import Script, World, letters
from tunegate_api.contract.digests import sha256_text
from tunegate_api.contract.published import LastPublished, PublishedVersion
from tunegate_api.judging.approval import DECISION_VARIABLE
from tunegate_api.v1alpha2.evaluation_status import PersonDecision
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.names import VERDICT_ANNOTATIONS

APPROVED, OVERRIDABLE = {"approval": "WhenPassed"}, {"approval": "WhenFailed"}
FAILS = 50
"""How many golden cases a final model passes that does not pass its gate."""


def waiting(
    final: int | str = 94, *, publish: bool = True, critical: Sequence[str] = (), **gate: Any
) -> World:
    """Return a world whose job has a final verdict."""
    world = World(Script(final=final))
    job, made = make_job(), make_gate().with_spec(**gate)
    if critical:
        made.with_critical(*critical)
    world.apply_all((job.with_publish() if publish else job).obj(), made.obj())
    world.run()
    return world


def digest_of(world: World) -> str:
    final = world.status().final
    assert final is not None
    assert final.verdict_digest is not None
    return final.verdict_digest


def annotate(world: World, action: str, **changes: Any) -> None:
    value = {"verdict": digest_of(world), "by": "ana", "reason": "reviewed by legal"} | changes
    world.edit(annotations={VERDICT_ANNOTATIONS[action]: json.dumps(value)})
    world.settle()


def reading(passed: int) -> LastPublished:
    """Return the reading of a publish target at which another job has published."""
    version = PublishedVersion(
        job="rival", by_case=True, golden_sha256=sha256_text(golden_text()), outcomes=letters(passed)
    )
    return LastPublished(reading=1, versions={"golden": version})


def publish_jobs(world: World) -> list[str]:
    return [name for name in world.jobs() if "-publish-" in name]


def decision_variable(job: Object) -> str:
    environment = job["spec"]["template"]["spec"]["containers"][0]["env"]
    (value,) = [each["value"] for each in environment if each["name"] == DECISION_VARIABLE]
    return value


def decision_of(job: Object) -> PersonDecision:
    """Return the decision that the pods of a Job get."""
    return PersonDecision.model_validate_json(decision_variable(job).replace("$$", "$"))


def test_model_that_passed_waits_for_the_required_approval():
    world = waiting(**APPROVED)
    status = world.status()
    assert status.phase is Phase.AWAITING_APPROVAL
    assert status.message == (
        "the final model passed, and golden requires an approval: "
        'tunegate approve|reject orders --namespace default --reason "…"'
    )
    assert status.display.next == "decide: approve or reject"
    assert world.condition("Ready").reason == "AwaitingApproval"
    assert world.condition("Stalled").status == "True"
    assert world.condition("GatePassed").status == "True"
    assert world.condition("Published").status == "Unknown"
    states = {entry.stage: entry.state for entry in status.lifecycle}
    assert (states["EvaluationAndValidation"], states["Deployment"]) == ("Succeeded", "AwaitingApproval")
    world.advance(30 * 24 * 3600)
    world.reconciler.resync()
    world.settle()
    assert (world.status().phase, publish_jobs(world)) == (Phase.AWAITING_APPROVAL, [])


def test_approval_publishes_the_model_and_is_on_record():
    world = waiting(**APPROVED)
    annotate(world, "approve")
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert len(status.published) == 1
    decision = status.verdict_decision
    assert decision is not None
    assert (decision.action, decision.by, decision.reason) == ("approve", "ana", "reviewed by legal")
    assert decision.about == digest_of(world)
    assert "approved by ana: reviewed by legal, published to" in status.message
    assert ("Normal", "Approved", "approved by ana: reviewed by legal") in [
        e[1:] for e in world.cluster.events
    ]


def test_publish_pod_gets_the_decision_as_status_has_it():
    world = waiting(**APPROVED)
    annotate(world, "approve", reason="see $(HOME)")
    (job,) = world.active_jobs()
    assert "$$(HOME)" in decision_variable(job), "or a kubelet would replace it"
    assert decision_of(job) == world.status().verdict_decision


def test_rejection_fails_the_job_and_names_the_person():
    world = waiting(**APPROVED)
    annotate(world, "reject", reason="wrong tone")
    status = world.run()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.REJECTED
    assert status.failure.message.startswith("rejected by ana: wrong tone. The verdict was Passed: golden: ")
    assert status.verdict_decision is not None
    assert status.verdict_decision.action == "reject"
    assert publish_jobs(world) == []


def test_rejection_takes_precedence_over_an_approval():
    world = waiting(**APPROVED)
    decisions = {"verdict": digest_of(world), "by": "ana", "reason": "no"}
    both = {VERDICT_ANNOTATIONS[action]: json.dumps(decisions) for action in ("approve", "reject")}
    world.edit(annotations=both)
    assert world.run().phase is Phase.FAILED


def test_job_without_publish_targets_waits_too_and_then_succeeds():
    world = waiting(publish=False, **APPROVED)
    assert world.status().phase is Phase.AWAITING_APPROVAL
    annotate(world, "approve")
    status = world.status()
    assert status.phase is Phase.SUCCEEDED
    assert status.message == (
        "passed (golden 0.94), approved by ana: reviewed by legal; "
        "best of 5 checkpoints by golden: rate up to 3.3 points too high on average"
    )


def test_track_pod_sends_an_override_that_no_other_pod_knows():
    world = World(Script(final=FAILS, behind=[]))
    tracking = {"mlflow": {"uri": "http://mlflow.internal", "experiment": "orders"}}
    world.apply_all(make_job().with_spec(tracking=tracking).obj(), make_gate().with_spec(**OVERRIDABLE).obj())
    world.run()
    annotate(world, "override")
    (job,) = world.active_jobs()
    assert "-track-" in job["metadata"]["name"]
    assert decision_of(job) == world.status().verdict_decision
    world.run()
    status = world.status()
    assert status.tracking is not None
    assert (status.phase, status.tracking.result) == (Phase.SUCCEEDED, "Succeeded")


@pytest.mark.parametrize("gate", [{}, OVERRIDABLE])
def test_gate_that_requires_no_approval_does_not_hold_a_job(gate):
    world = waiting(**gate)
    status = world.status()
    assert status.phase is Phase.SUCCEEDED
    assert status.verdict_decision is None


def test_failed_verdict_waits_only_if_the_gate_allows_an_override():
    status = waiting(FAILS, **OVERRIDABLE).status()
    assert status.phase is Phase.AWAITING_APPROVAL
    assert status.message.startswith(
        "the verdict is Failed, and a person may override it: tunegate override|reject orders --namespace "
        'default --reason "…". golden: golden 50/100'
    )
    assert status.display.next == "decide: override or reject"
    for gate in ({}, APPROVED):
        assert waiting(FAILS, **gate).status().phase is Phase.FAILED


def test_override_publishes_a_failed_model_and_is_on_record():
    world = waiting(FAILS, **OVERRIDABLE)
    assert world.condition("GatePassed").status == "Unknown"
    annotate(world, "override")
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert len(status.published) == 1
    assert status.message.startswith("Failed (golden 0.50), overridden by ana: reviewed by legal, published")
    assert status.display.gate == "Failed"
    condition = world.condition("GatePassed")
    assert (condition.status, condition.reason) == ("False", "Overridden")
    assert world.condition("Published").status == "True"
    states = {entry.stage: entry.state for entry in status.lifecycle}
    assert (states["EvaluationAndValidation"], states["Deployment"]) == ("Succeeded", "Succeeded")
    warnings = [e[1:] for e in world.cluster.events if e[1] == "Warning"]
    assert ("Warning", "Overridden", "overridden by ana: reviewed by legal") in warnings


def test_verdict_of_unmeasured_cases_cannot_be_overridden():
    status = waiting("p" * 99 + "e", **OVERRIDABLE).status()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_ERROR


def test_one_gate_that_allows_no_override_is_enough():
    world = World(Script(final=FAILS))
    strict = make_gate("strict").with_limits(minPassRate="10%").obj()
    world.apply(strict)
    job = make_job().with_publish().with_gates("golden", "strict").obj()
    world.apply_all(job, make_gate().with_spec(**OVERRIDABLE).obj())
    assert world.run().phase is Phase.FAILED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", 'annotation tunegate.dev/approve must be {"verdict": "DIGEST", "by": "<your user name>", "rea'),
        ("[]", "annotation tunegate.dev/approve must be"),
        ("5", "annotation tunegate.dev/approve must be"),
        ("true", "annotation tunegate.dev/approve must be"),
        pytest.param("[" * 4000, "annotation tunegate.dev/approve must be", id="nested deeply"),
        pytest.param(
            json.dumps({"verdict": "DIGEST", "by": "ana", "reason": "x" * 4096}),
            'annotation tunegate.dev/approve is empty, or longer than 4096 bytes as JSON: write {"verdict"',
            id="too long",
        ),
        ('{"verdict": "DIGEST", "by": "ana"}', "annotation tunegate.dev/approve must be"),
        ('{"verdict": "DIGEST", "by": "ana", "reason": 1}', "annotation tunegate.dev/approve must be"),
        (
            '{"verdict": "DIGEST", "by": "ana", "reason": "ok", "by": "ben"}',
            "annotation tunegate.dev/approve must be",
        ),
        (
            '{"verdict": "DIGEST", "by": "ben", "reason": "ok", "more": {"by": "ana"}}',
            "annotation tunegate.dev/approve must be",
        ),
        ('{"verdict": "DIGEST", "by": " ", "reason": "ok"}', "annotation tunegate.dev/approve must name the"),
        (
            '{"verdict": "DIGEST", "by": "ana", "reason": " "}',
            "annotation tunegate.dev/approve gives no reason. the final model passed",
        ),
        (
            '{"verdict": "d1", "by": "ana", "reason": "ok"}',
            "annotation tunegate.dev/approve names verdict d1, but the verdict is DIGEST",
        ),
    ],
)
def test_annotation_in_a_wrong_form_approves_nothing_and_is_explained(text, message):
    world = waiting(**APPROVED)
    digest = digest_of(world)
    world.edit(annotations={VERDICT_ANNOTATIONS["approve"]: text.replace("DIGEST", digest)})
    world.settle()
    status = world.status()
    assert status.phase is Phase.AWAITING_APPROVAL
    assert status.message.startswith(message.replace("DIGEST", digest))
    assert publish_jobs(world) == []


@pytest.mark.parametrize(
    ("final", "action", "right"), [(94, "override", "approve"), (FAILS, "approve", "override")]
)
def test_decision_for_another_kind_of_verdict_has_no_effect(final, action, right):
    world = waiting(final, approval="Always")
    annotate(world, action)
    status = world.status()
    assert status.phase is Phase.AWAITING_APPROVAL
    assert status.message.startswith(
        f"annotation tunegate.dev/{action} does not apply, because the verdict is"
    )
    assert f": {right} it instead. " in status.message


def test_early_annotation_waits_for_a_verdict_with_its_digest():
    digest = digest_of(waiting(**APPROVED))
    world = World()
    world.apply_all(make_job().with_publish().obj(), make_gate().with_spec(**APPROVED).obj())
    other = json.dumps({"verdict": digest[::-1], "by": "ana", "reason": "early"})
    world.edit(annotations={VERDICT_ANNOTATIONS["approve"]: other})
    status = world.run()
    assert status.phase is Phase.AWAITING_APPROVAL
    assert "names verdict" in status.message


def test_digest_of_the_verdict_depends_on_outcomes_and_rules():
    digests = [
        digest_of(waiting(final, **gate))
        for final, gate in (
            (94, APPROVED),
            (95, APPROVED),
            (FAILS, OVERRIDABLE),
            (FAILS, OVERRIDABLE | {"critical": ["case-60"]}),
        )
    ]
    assert len(set(digests)) == len(digests)
    assert digests[0] == digest_of(waiting(94)), "it does not depend on who must approve"


def test_decision_stays_if_its_annotation_is_changed_later():
    world = waiting(**APPROVED)
    annotate(world, "approve")
    annotate(world, "reject", reason="too late")
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.verdict_decision is not None
    assert status.verdict_decision.action == "approve"


def test_override_does_not_cover_a_comparison_with_a_newer_version():
    world = waiting(FAILS, **OVERRIDABLE)
    annotate(world, "override")
    world.script.publish_reads = reading(99)
    status = world.run()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_FAILED
    assert status.failure.message.endswith("The verdict changed after a person had overridden it")
    assert status.published == []


def test_verdict_that_changes_while_publishing_is_not_offered_for_override():
    world = World(Script(final=90, publish_reads=reading(99)))
    world.apply_all(make_job().with_publish().obj(), make_gate().with_spec(**OVERRIDABLE).obj())
    assert world.run().phase is Phase.FAILED


def test_later_jobs_are_compared_with_an_overridden_version():
    world = waiting(FAILS, **OVERRIDABLE)
    annotate(world, "override")
    world.run()
    world.outbox.clear()
    world.script.final = 94
    world.apply(make_job("second").with_publish().obj())
    status = world.run("second")
    assert status.final is not None
    golden = status.final.gates[0].golden
    assert golden is not None
    assert golden.delta_points["LastPublished"] == "+44.0"


def approved_with(world: World, verdict: str) -> None:
    """Record an approval of a verdict in status, as if the results had changed after it."""
    decision = PersonDecision(action="approve", about=verdict, by="ana", reason="ok", time=world.clock.now())
    job = world.job()
    status = job["status"] | {"decisions": [decision.to_wire()]}
    world.cluster.as_user.patch_status(Key.of(job), status, job["metadata"]["resourceVersion"])


def test_job_fails_if_its_results_changed_after_the_approval():
    world = waiting(**APPROVED)
    approved_with(world, "e" * 64)
    status = world.run()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_ERROR
    assert status.failure.message.endswith("The verdict changed after a person had approved it")
    assert publish_jobs(world) == []


def lose_decision(world: World) -> None:
    """Remove the decision from status, as if an older status had been restored."""
    job = world.job()
    del job["status"]["decisions"]
    world.cluster.as_user.patch_status(Key.of(job), job["status"], job["metadata"]["resourceVersion"])
    world.settle()


@pytest.mark.parametrize(
    ("final", "gate", "action"), [(94, APPROVED, "approve"), (FAILS, OVERRIDABLE, "override")]
)
def test_lost_status_is_restored_from_the_annotation_while_publishing(final, gate, action):
    world = waiting(final, **gate)
    annotate(world, action)
    (publishing,) = publish_jobs(world)
    lose_decision(world)
    decision = world.status().verdict_decision
    assert decision is not None
    assert (decision.action, decision.by, publish_jobs(world)) == (action, "ana", [publishing])
    assert world.run().phase is Phase.SUCCEEDED


@pytest.mark.parametrize(("action", "verdict"), [("override", "e" * 64), ("reject", None)])
def test_lost_override_is_restored_only_from_this_verdicts_override(action, verdict):
    world = waiting(FAILS, **OVERRIDABLE)
    annotate(world, "override")
    value = {"verdict": verdict or digest_of(world), "by": "ana", "reason": "late"}
    annotations = {VERDICT_ANNOTATIONS[action]: json.dumps(value)}
    world.edit(annotations={VERDICT_ANNOTATIONS["override"]: ""} | annotations)
    lose_decision(world)
    status = world.run()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.GATE_FAILED


def test_suspended_job_is_published_only_after_it_is_resumed():
    world = waiting(**APPROVED)
    world.edit(suspend=True)
    world.settle()
    assert world.status().phase is Phase.SUSPENDED
    annotate(world, "approve")
    assert publish_jobs(world) == []
    world.edit(suspend=False)
    assert world.run().phase is Phase.SUCCEEDED


def test_edited_gate_does_not_change_a_running_job():
    world = waiting(**APPROVED)
    gate = world.gate()
    gate["spec"]["approval"] = "Never"
    world.cluster.as_user.replace(gate)
    world.settle()
    assert world.status().phase is Phase.AWAITING_APPROVAL
