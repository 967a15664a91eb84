"""A job with a grader for its data counts the scores of this judge only if it is calibrated, and otherwise
waits for people."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from support.builders import make_config_map, make_gate, make_job, make_scores
from support.graders import JUDGE, REVIEW, with_graders
from support.manifests import changed, evalgate, finetunejob, problem_messages
from support.world import SAMPLE, Script, World
from tunegate_api.contract.plan import CalibrationCounts, JudgedBad, JudgePlan, SamplePlan
from tunegate_api.meta import MAX_MESSAGE
from tunegate_api.v1alpha2 import FineTuneJobStatus
from tunegate_api.v1alpha2.data_status import JudgeStatus, ReviewStatus
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key

DOC = Path(__file__).parents[2] / "docs" / "review.md"
IDS = [row.id for row in SAMPLE.rows]
JUDGED = {
    "goal": "StyleOrFormat",
    "sources": [{"name": "train", "configMap": "rows"}],
    "quality": {"minScore": "80%", **REVIEW},
}
FIGURES = (
    "recall 14/20 = 0.70, lower bound 0.48, minimum 0.70; "
    "specificity 78/80 = 0.97, lower bound 0.91, minimum 0.80"
)


def sample(*, bad_found: int = 20, bad: int = 0, unscored: int = 0, **faults: int) -> SamplePlan:
    """Return the sample with the scores of a judge: the first ``bad`` rows are bad, and the last ``unscored``
    have no score."""
    judge = JudgePlan(
        model="judge-7b",
        instructions_sha256="1" * 64,
        calibration=CalibrationCounts(
            source_sha256="0" * 64, bad=20, bad_found=bad_found, good=80, good_accepted=78
        ),
        good=IDS[bad : len(IDS) - unscored],
        bad=[JudgedBad(id=id, reason="the total is wrong") for id in IDS[:bad]],
        faults=faults,
    )
    return SAMPLE.model_copy(update={"judge": judge})


def judged_world(reviewed: SamplePlan | None) -> World:
    """Return a world with a job whose data pod has reported the sample."""
    world = World(Script(sample=reviewed))
    world.apply(make_config_map("scored", scored__jsonl="{}"))
    gate = make_gate().obj()
    gate["spec"] = with_graders(gate["spec"], JUDGE)
    world.apply_all(make_job().with_spec(data=JUDGED).obj(), gate=gate)
    return world


def review_of(status: FineTuneJobStatus) -> ReviewStatus:
    assert status.data is not None
    assert status.data.review is not None
    return status.data.review


def judge_of(status: FineTuneJobStatus) -> JudgeStatus:
    judge = review_of(status).judge
    assert judge is not None
    return judge


def roles(world: World) -> set[str]:
    jobs = world.cluster.as_user.list_objects("Job")
    return {job["metadata"]["labels"]["tunegate.dev/role"] for job in jobs}


def by_people(found: dict[str, Any]) -> dict[str, Any]:
    return make_scores("scores", SAMPLE.sha256, reviewer="ana", **found)


def test_calibrated_judge_lets_the_job_train_without_people():
    world = judged_world(sample(bad=2))
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    review = review_of(status)
    assert (review.rows, review.scored, review.good, review.passed) == (10, 10, 8, True)
    assert review.reviewers == ["judge judge-7b"]
    judge = judge_of(status)
    assert (judge.model, judge.calibration, judge.scored) == ("judge-7b", "Passed", 10)
    assert (judge.recall_lower_bound, judge.specificity_lower_bound) == ("0.83", "0.91")
    assert judge.message.startswith("recall 20/20 = 1.00, lower bound 0.83, minimum 0.70")
    assert status.data is not None
    assert status.data.review_score == "0.80"


def test_calibrated_judge_fails_the_job_with_its_reasons():
    world = judged_world(sample(bad=3))
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.REVIEW_FAILED
    rows = "; ".join(f"{id} (row line-{n}): the total is wrong" for n, id in enumerate(IDS[:3]))
    assert status.failure.message == (f"7/10 reviewed rows are good = 0.70, minimum 0.80; bad: {rows}")
    assert roles(world) == {"data"}


def test_job_waits_for_people_if_the_calibration_is_inconclusive():
    world = judged_world(sample(bad_found=14))
    status = world.run()
    assert (status.phase, status.ready_reason) == (Phase.AWAITING_REVIEW, Reason.AWAITING_REVIEW)
    assert status.message == (
        f"Inconclusive: the scores of the judge judge-7b do not count: {FIGURES}. "
        "0 of 10 rows of the review sample are scored; score the rest with "
        "`tunegate review orders --namespace default`, or apply a ConfigMap with the label "
        "tunegate.dev/review=orders"
    )
    judge = judge_of(status)
    assert (judge.calibration, judge.recall_lower_bound) == ("Inconclusive", "0.48")
    assert judge.message == FIGURES
    assert review_of(status).reviewers == []
    assert status.display.next == "review the data"

    world.apply(by_people(dict.fromkeys(IDS, True)))
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert review_of(status).reviewers == ["ana"]
    assert judge_of(status).calibration == "Inconclusive"


def test_rows_without_a_score_of_the_judge_wait_for_people():
    world = judged_world(sample(unscored=2, TimedOut=6, Malformed=3))
    status = world.run()
    assert status.phase is Phase.AWAITING_REVIEW
    assert status.message.startswith(
        "the judge judge-7b scored 8 of 10 rows, and people must score the rest: recall 20/20"
    )
    assert "; failed requests: 3 Malformed, 6 TimedOut. 8 of 10 rows of the review sample" in status.message

    world.apply(by_people({IDS[8]: True, IDS[9]: False}))
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    review = review_of(status)
    assert (review.scored, review.good, review.reviewers) == (10, 9, ["ana", "judge judge-7b"])


def test_earlier_scores_of_people_replace_those_of_the_judge():
    world = judged_world(sample(bad=3))
    world.apply(by_people({IDS[0]: True}))
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert review_of(status).good == 8


def test_too_many_score_config_maps_block_a_judge_review():
    world = judged_world(sample())
    for n in range(11):
        world.apply(make_scores(f"scores-{n:02}", SAMPLE.sha256, reviewer=f"person {n}", **{IDS[0]: True}))
    status = world.run()
    assert status.phase is Phase.AWAITING_REVIEW
    assert "at most 10 ConfigMaps" in status.message
    assert "people must score the rest" not in status.message


def test_judge_review_is_recorded_and_later_scores_are_ignored():
    world = judged_world(sample())
    world.until_job("train")
    (record,) = (
        obj for obj in world.cluster.as_user.list_objects("ConfigMap") if "review.json" in obj.get("data", {})
    )
    assert record["immutable"] is True
    (votes,) = json.loads(record["data"]["review.json"])["votes"]
    assert (votes["reviewer"], votes["good"]) == ("judge judge-7b", IDS)
    world.apply(by_people(dict.fromkeys(IDS, False)))
    world.boot()
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert review_of(status).good == 10


def test_job_fails_closed_if_the_data_pod_asked_no_judge():
    world = judged_world(SAMPLE)
    world.apply(by_people(dict.fromkeys(IDS, True)))
    status = world.run()
    assert status.failure is not None
    assert status.failure.reason == Reason.REPORT_MISSING
    assert "the data pod asked no judge" in status.failure.message
    assert roles(world) == {"data"}


def test_judge_scores_do_not_count_for_a_manual_review():
    world = World(Script(sample=sample()))
    quality = {"minScore": "80%"}
    world.apply_all(make_job().with_spec(data=JUDGED | {"quality": quality}).obj())
    status = world.run()
    assert status.phase is Phase.AWAITING_REVIEW
    assert review_of(status).judge is None
    assert review_of(status).scored == 0


def test_job_waits_for_the_config_map_with_calibration_rows():
    world = judged_world(sample())
    found = world.cluster.as_user.get(Key("ConfigMap", "default", "scored"))
    assert found is not None
    world.cluster.as_user.delete(Key.of(found), found["metadata"]["uid"])
    world.settle()
    status = world.status()
    assert (status.phase, status.ready_reason) == (Phase.PENDING, Reason.CONFIG_MAP_NOT_FOUND)
    assert "ConfigMap scored does not exist" in status.message


def test_long_message_of_a_judge_fits_in_the_status():
    faults = {f"Fault{n}" * 20: n for n in range(20)}
    status = judged_world(sample(bad_found=14, **faults)).run()
    assert status.phase is Phase.AWAITING_REVIEW
    assert len(status.message) <= MAX_MESSAGE
    assert len(judge_of(status).message) <= MAX_MESSAGE


def test_judge_in_the_documentation_is_a_valid_spec():
    job, gate = (
        yaml.safe_load(text)["spec"]
        for text in re.findall(r"```yaml\n(spec:[^`]*grader.*?)```", DOC.read_text(), re.DOTALL)
    )
    changes = {"spec.data.quality": job["data"]["quality"], "spec.gates": job["gates"]}
    assert problem_messages(changed(finetunejob(), changes)) == []
    assert problem_messages(changed(evalgate(), {f"spec.{name}": gate[name] for name in gate})) == []
    assert EvalGateSpec.model_validate(gate).judge.name == job["data"]["quality"]["grader"]["name"]


def test_job_whose_gate_lacks_the_grader_fails_at_once():
    world = World(Script(sample=sample()))
    world.apply_all(make_job().with_spec(data=JUDGED).obj())
    world.settle()
    failure = world.status().failure
    assert failure is not None
    assert failure.reason == Reason.INVALID_SPEC
    assert "EvalGate golden has no grader judge with type: Model and agreement" in failure.message
    assert world.jobs() == []


def test_people_review_if_the_graders_gate_was_left_out():
    world = World(Script(sample=SAMPLE))
    gate = make_gate("rehearsal").with_spec(enforcement="DryRun").obj()
    gate["spec"] = with_graders(gate["spec"], JUDGE)
    world.apply(gate)
    quality = {"minScore": "80%", "grader": {"gate": "rehearsal", "name": "judge"}}
    job = make_job().with_gates("golden", "rehearsal").with_spec(data=JUDGED | {"quality": quality})
    world.apply_all(job.obj())
    world.settle()
    world.advance(300)
    status = world.run()
    assert status.phase is Phase.AWAITING_REVIEW
    assert review_of(status).judge is None
