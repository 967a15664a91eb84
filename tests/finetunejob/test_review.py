"""A job with ``data.quality`` waits until people have scored its sample, and trains only if enough rows are
good."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.builders import make_config_map, make_job, make_scores
from support.world import SAMPLE, Script, World
from tunegate_api.meta import MAX_MESSAGE
from tunegate_api.v1alpha2.reasons import Phase, Reason
from tunegate_operator.engine.cluster import Key

DOC = Path(__file__).parents[2] / "docs" / "review.md"
IDS = [row.id for row in SAMPLE.rows]
REVIEWED = {
    "goal": "StyleOrFormat",
    "sources": [{"name": "train", "configMap": "rows"}],
    "quality": {"minScore": "80%"},
}


def scores(name: str = "scores", *, bad: int = 0, **changes: Any) -> dict[str, Any]:
    """Scores for all rows of the sample, of which the first ``bad`` are bad."""
    found = {id: {"good": False, "note": "wrong total"} if n < bad else True for n, id in enumerate(IDS)}
    return make_scores(name, SAMPLE.sha256, **{"reviewer": "ana"} | changes, **found)


def partly(name: str, reviewer: str, found: dict[str, Any]) -> dict[str, Any]:
    return make_scores(name, SAMPLE.sha256, reviewer=reviewer, **found)


@pytest.fixture
def world() -> World:
    world = World()
    world.apply_all(make_job().with_spec(data=REVIEWED, startTimeoutSeconds=60).obj())
    world.run()
    return world


def roles(world: World) -> set[str]:
    return {
        job["metadata"]["labels"]["tunegate.dev/role"] for job in world.cluster.as_user.list_objects("Job")
    }


def test_job_awaits_its_review_for_days_with_instructions(world):
    world.advance(30 * 24 * 3600)
    status = world.status()
    assert (status.phase, status.ready_reason) == (Phase.AWAITING_REVIEW, Reason.AWAITING_REVIEW)
    assert status.message == (
        "0 of 10 rows of the review sample are scored; score the rest with "
        "`tunegate review orders --namespace default`, or apply a ConfigMap with the label "
        "tunegate.dev/review=orders"
    )
    assert status.display.next == "review the data"
    assert roles(world) == {"data"}
    assert world.condition("DataReady").status == "Unknown"
    states = {entry.stage: entry.state for entry in status.lifecycle}
    assert (states["DataPreparation"], states["TrainingSetup"]) == ("AwaitingReview", "Pending")
    assert states["ModelInitialization"] == "Succeeded"


def test_review_that_arrives_lets_the_job_train(world):
    world.apply(scores(bad=2))
    world.settle()
    assert world.status().phase is Phase.QUEUED
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.data is not None
    assert status.data.review_score == "0.80"
    review = status.data.review
    assert review is not None
    assert (review.rows, review.scored, review.good, review.passed) == (10, 10, 8, True)
    assert review.reviewers == ["ana"]
    assert world.condition("DataReady").status == "True"
    assert world.events().count("DataReady") == 1


def test_review_below_minimum_fails_the_job_with_worst_rows(world):
    world.apply(scores(bad=7))
    status = world.run()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert status.failure.reason == Reason.REVIEW_FAILED
    first = "; ".join(f"{id} (row line-{n}): wrong total" for n, id in enumerate(IDS[:5]))
    assert status.failure.message == (
        f"3/10 reviewed rows are good = 0.30, minimum 0.80; bad: {first} and 2 more"
    )
    assert roles(world) == {"data"}
    assert status.data is not None
    assert status.data.review_score == "0.30"
    assert {entry.stage: entry.state for entry in status.lifecycle}["DataPreparation"] == "Failed"


def test_job_waits_until_every_row_of_the_sample_is_scored(world):
    world.apply(partly("ana", "ana", dict.fromkeys(IDS[:6], True)))
    world.settle()
    assert world.status().message.startswith("6 of 10 rows of the review sample are scored")
    assert world.status().phase is Phase.AWAITING_REVIEW
    world.apply(partly("ben", "ben", dict.fromkeys(IDS[6:], True)))
    assert world.run().phase is Phase.SUCCEEDED


@pytest.mark.parametrize(("agree", "phase"), [(True, Phase.SUCCEEDED), (False, Phase.FAILED)])
def test_row_is_bad_unless_most_reviewers_score_it_good(agree, phase):
    world = World()
    world.apply_all(make_job().with_spec(data=REVIEWED).obj())
    both = make_config_map(
        "both",
        ana__json=json.dumps(
            {"sample": SAMPLE.sha256, "reviewer": "ana", "scores": dict.fromkeys(IDS, True)}
        ),
        ben__json=json.dumps(
            {"sample": SAMPLE.sha256, "reviewer": "ben", "scores": dict.fromkeys(IDS[:3], False)}
        ),
        cem__json=json.dumps(
            {"sample": SAMPLE.sha256, "reviewer": "cem", "scores": dict.fromkeys(IDS[:3], agree)}
        ),
    )
    if not agree:
        both["data"].pop("cem.json")
    both["metadata"]["labels"] = {"tunegate.dev/review": "orders"}
    world.apply(both)
    assert world.run().phase is phase


def test_scores_of_another_sample_are_ignored_and_reported(world):
    other = scores("old")
    other["data"]["scores.json"] = other["data"]["scores.json"].replace(SAMPLE.sha256, "6" * 64)
    world.apply(other)
    world.settle()
    assert world.status().phase is Phase.AWAITING_REVIEW
    assert world.status().message.endswith(
        "ConfigMap old, key scores.json is ignored: its scores are about the sample 666666666666…, not "
        "555555555555…"
    )


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"scores.json": "{"}, "Invalid JSON"),
        ({"scores.json": json.dumps({"sample": SAMPLE.sha256, "scores": {}})}, "reviewer: Field required"),
        (
            {
                "scores.json": json.dumps(
                    {"sample": SAMPLE.sha256, "reviewer": "a", "scores": {IDS[0]: "yes"}}
                )
            },
            f"scores.{IDS[0]}",
        ),
        (
            {"scores.json": json.dumps({"sample": SAMPLE.sha256, "reviewer": "a", "scores": {"x": True}})},
            "not in the sample: row x",
        ),
        ({"scores.txt": "{}"}, "it has no key that ends with .json"),
    ],
)
def test_unusable_scores_are_reported_and_the_job_waits(world, data, problem):
    made = scores()
    made["data"] = data
    world.apply(made)
    world.settle()
    assert problem in world.status().message
    assert world.status().phase is Phase.AWAITING_REVIEW
    replaced = world.cluster.as_user.get(Key("ConfigMap", "default", "scores"))
    assert replaced is not None
    world.cluster.as_user.replace(replaced | {"data": scores()["data"]})
    assert world.run().phase is Phase.SUCCEEDED


def test_too_many_score_config_maps_block_the_decision(world):
    for n in range(11):
        world.apply(scores(f"scores-{n:02}", reviewer=f"reviewer {n}"))
        if n == 0:
            world.edit(suspend=True)  # so that the first scores do not decide the review
            world.settle()
    world.edit(suspend=False)
    world.settle()
    assert world.status().phase is Phase.AWAITING_REVIEW
    assert "at most 10 ConfigMaps with the label tunegate.dev/review" in world.status().message


@pytest.mark.parametrize("labels", [{}, {"tunegate.dev/review": "another"}])
def test_config_map_without_its_label_stops_blocking_the_review(world, labels):
    world.apply(*(scores(f"scores-{n}") for n in range(11)))
    world.settle()
    assert "at most 10 ConfigMaps" in world.status().message
    last = world.cluster.as_user.get(Key("ConfigMap", "default", "scores-9"))
    assert last is not None
    world.cluster.as_user.replace(last | {"metadata": last["metadata"] | {"labels": labels}})
    world.settle()
    assert world.status().phase is Phase.QUEUED


def test_scores_that_change_after_the_decision_have_no_effect(world):
    world.apply(scores())
    world.settle()
    given = world.cluster.as_user.get(Key("ConfigMap", "default", "scores"))
    assert given is not None
    world.cluster.as_user.replace(given | {"data": scores(bad=9)["data"]})
    world.settle()
    given = world.cluster.as_user.get(Key("ConfigMap", "default", "scores"))
    assert given is not None
    world.cluster.as_user.delete(Key.of(given), given["metadata"]["uid"])
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.data is not None
    assert status.data.review_score == "1.00"


def test_restarted_operator_continues_from_the_recorded_review(world):
    world.apply(scores())
    world.settle()
    given = world.cluster.as_user.get(Key("ConfigMap", "default", "scores"))
    assert given is not None
    world.cluster.as_user.delete(Key.of(given), given["metadata"]["uid"])
    world.boot()
    assert world.run().phase is Phase.SUCCEEDED


def test_operator_crash_while_deciding_leaves_one_record_and_one_job(world):
    deaths: list[World] = []
    world.cluster.write_listener = lambda: deaths.append(world.without_operator())
    world.apply(scores())
    world.settle()
    assert len(deaths) >= 3, "the record, the training Job and the status"
    for dead in deaths:
        dead.cluster.write_listener = lambda: None
        dead.boot()
        dead.settle()
        assert dead.status().phase is Phase.QUEUED
        assert len(records(dead)) == 1
        assert len(dead.active_jobs()) == 1


def records(world: World) -> list[dict[str, Any]]:
    """Return the ConfigMaps that record a decided review."""
    found = world.cluster.as_user.list_objects("ConfigMap")
    return [obj for obj in found if "review.json" in obj.get("data", {})]


def test_pods_after_the_review_get_its_recorded_scores(world):
    world.apply(scores())
    world.run()
    (record,) = records(world)
    mounted = {}
    for job in world.cluster.as_user.list_objects("Job"):
        spec = job["spec"]["template"]["spec"]
        found = {v["name"]: v["configMap"] for v in spec["volumes"] if v["name"] == "tunegate-review"}
        mounts = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] in found]
        mounted[job["metadata"]["labels"]["tunegate.dev/role"]] = (found, mounts)
    config_map = {"name": record["metadata"]["name"], "optional": True}
    mount = {"name": "tunegate-review", "mountPath": "/tunegate/review", "readOnly": True}
    with_scores = ({"tunegate-review": config_map}, [mount])
    assert mounted == {"data": ({}, []), "train": with_scores, "gate": with_scores}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (SAMPLE.sha256, "6" * 64, "its scores are not about the sample in the plan"),
        ('"ana"', f'"{"r" * 65}"', "review.json.votes.0.reviewer: String should have at most 64 characters"),
    ],
    ids=["sample", "reviewer"],
)
def test_forged_record_of_a_review_holds_the_job(world, old, new, problem):
    world.apply(scores())
    world.settle()
    (record,) = records(world)
    assert record["immutable"] is True
    world.cluster.as_user.delete(Key.of(record), record["metadata"]["uid"])
    forged = record["data"]["review.json"].replace(old, new)
    metadata = {
        field: record["metadata"][field] for field in ("name", "namespace", "labels", "ownerReferences")
    }
    world.apply(world.signed(record | {"metadata": metadata, "data": {"review.json": forged}}))
    world.settle()
    assert world.status().ready_reason == Reason.RECORD_UNREADABLE
    assert f"ConfigMap {metadata['name']} cannot be read: {problem}" in world.status().message


def test_deleted_record_does_not_reopen_the_review(world):
    world.apply(scores(bad=1))
    world.settle()
    (record,) = records(world)
    for name in (record["metadata"]["name"], "scores"):
        found = world.cluster.as_user.get(Key("ConfigMap", "default", name))
        assert found is not None
        world.cluster.as_user.delete(Key.of(found), found["metadata"]["uid"])
    world.settle()
    assert world.status().phase is Phase.QUEUED
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.data is not None
    assert status.data.review_score == "0.90"
    assert status.data.review is not None
    assert (status.data.review.good, status.data.review.passed) == (9, True)


def test_job_fails_closed_if_the_data_pod_chose_no_sample():
    world = World(Script(sample=None))
    world.apply_all(make_job().with_spec(data=REVIEWED).obj())
    status = world.run()
    assert status.phase is Phase.FAILED
    assert status.failure is not None
    assert "chose no sample" in status.failure.message
    assert roles(world) == {"data"}


def test_job_without_quality_ignores_scores():
    world = World()
    world.apply_all()
    world.apply(scores(bad=9))
    status = world.run()
    assert status.phase is Phase.SUCCEEDED
    assert status.data is not None
    assert status.data.review is None


def test_suspended_job_awaits_its_review_again_when_it_is_resumed(world):
    world.edit(suspend=True)
    world.settle()
    assert world.status().phase is Phase.SUSPENDED
    world.edit(suspend=False)
    world.settle()
    assert world.status().phase is Phase.AWAITING_REVIEW


def test_long_notes_and_names_fit_in_the_status(world):
    made = make_scores(
        "scores",
        SAMPLE.sha256,
        reviewer="r" * 64,
        **{id: {"good": False, "note": "n" * 5000} for id in IDS},
    )
    world.apply(made)
    status = world.run()
    assert status.failure is not None
    assert len(status.failure.message) <= MAX_MESSAGE
    assert status.failure.message.endswith("and 5 more")


def test_config_map_in_the_documentation_is_accepted(world):
    (text,) = re.findall(r"```yaml\n(apiVersion: v1.*?)```", DOC.read_text(), re.DOTALL)
    made = yaml.safe_load(text.replace("SAMPLE", SAMPLE.sha256).replace("ID1", IDS[0]).replace("ID2", IDS[1]))
    made["metadata"]["namespace"] = "default"
    world.apply(made)
    world.settle()
    review = world.status().data.review
    assert (review.scored, review.good, review.reviewers) == (2, 1, ["ana"])
