"""A pod that names a child Job as its owner, but is not what its template makes, changes no decision."""

import pytest

from support.builders import make_job
from support.forged_pods import FORGED_DIGEST, IMAGE_ID, ends, forgeries
from support.masking import differences, masked_status
from support.world import World
from tunegate_api.v1alpha2.reasons import Phase
from tunegate_operator.engine.cluster import Object

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


def test_cleanup_completed_by_a_foreign_pod_is_not_recorded():
    world = World()
    world.apply_all(make_job().with_spec(ttlSecondsAfterFinished=TTL).obj())
    assert world.run().phase is Phase.SUCCEEDED
    world.advance(TTL)
    [job] = world.active_jobs()
    forge(world, job, "baseline", counts=True)
    world.settle()
    assert not world.active_jobs()
    assert world.status().cleanup is None
