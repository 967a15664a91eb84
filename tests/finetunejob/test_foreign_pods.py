"""A pod that names a child Job as its owner, but is not what its template makes, changes no decision."""

import pytest

from support.builders import make_job
from support.forged_pods import FORGED_DIGEST, IMAGE_ID, ends, forgeries
from support.masking import differences, masked_status
from support.world import World
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.children.waiting import POD_END_SECONDS
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.objects import uid_of
from tunegate_operator.finetunejob.last_report import POST_SECONDS

TTL = 3600


def ignored(world: World) -> list[str]:
    return [message for _, _, reason, message in world.cluster.events if reason == "ChildIgnored"]


def forge(world: World, job: Object, claim: str, *, counts: bool = False) -> None:
    """Create a pod with another image that ends with a claim, beside the Job's own running pod."""
    pod = forgeries(world.cluster.start_pod(job["metadata"]["name"]), job)["image"]
    pod["metadata"] |= {"name": f"forged-{claim}", "namespace": "default"}
    world.cluster.foreign_pod(pod, ends(claim), counts=counts)


@pytest.mark.parametrize("claim", ["baseline", "failure", "memory"])
def test_foreign_pod_of_training_is_ignored_and_reported_once(claim):
    world, undisturbed = World(), World()
    for each in (world, undisturbed):
        each.apply_all()
        each.until_checkpoint()
    [job] = world.active_jobs()
    forge(world, job, claim)
    world.settle()
    assert [world.run().phase, undisturbed.run().phase] == [Phase.SUCCEEDED] * 2
    attacked, expected = masked_status(world.job()), masked_status(undisturbed.job())
    assert attacked == expected, differences(attacked, expected)
    [message] = ignored(world)
    assert message.startswith(f"Pod forged-{claim} names a Job of this FineTuneJob as its owner")
    assert "its image differ" in message
    assert IMAGE_ID not in str(world.job())
    assert FORGED_DIGEST not in str(world.job()) + str(world.gate())


@pytest.mark.parametrize("is_deleted", [False, True], ids=["visible", "deleted"])
def test_cleanup_completed_by_a_foreign_pod_is_not_done(is_deleted):
    world = World()
    world.apply_all(make_job().with_spec(ttlSecondsAfterFinished=TTL).obj())
    assert world.run().phase is Phase.SUCCEEDED
    world.advance(TTL)
    [job] = world.active_jobs()
    forge(world, job, "baseline", counts=True)
    if is_deleted:
        found = world.cluster.as_user.get(Key("Pod", "default", "forged-baseline"))
        assert found
        world.cluster.as_user.delete(Key.of(found), uid_of(found))
    world.settle()
    assert not world.active_jobs()
    assert world.status().cleanup is None
    world.advance(POD_END_SECONDS)
    assert world.status().cleanup.result != "Succeeded"
    assert "NoOwnPodSucceeded" in world.status().cleanup.message


def test_report_pod_whose_end_is_observed_late_fails_no_job():
    """The Job is complete before the watch of pods reports that its pod has ended."""
    world = World(posts=True)
    world.apply_all()
    world.until_job("gate")
    world.is_reachable = False
    while not any(pod["status"].get("phase") == "Succeeded" for pod in gate_pods(world)):
        world.tick()
        world.settle()
    world.advance(POST_SECONDS)
    [job] = world.active_jobs()
    assert "-report-" in job["metadata"]["name"]
    world.cluster.start_pod(job["metadata"]["name"])
    world.settle()
    with world.late_children("Pod"):
        world.cluster.complete_job(job["metadata"]["name"])
        world.settle()
        assert world.status().failure is None
    world.settle()
    assert world.status().failure is None


def gate_pods(world: World) -> list[Object]:
    return [pod for name in world.jobs() if "-gate-" in name for pod in world.cluster.pods_of(name)]
