"""How many writes to the API server a job causes."""

from support.builders import make_job
from support.world import World
from tunegate_api.v1alpha2.reasons import Phase


def test_passing_job_with_five_checkpoints_costs_30_writes():
    """One of them is the gate's first status. On a cluster, the report of the publish pod arrives before this
    pod ends, so docs/benchmarks.md counts 30 for a job."""
    world = World()
    world.apply_all(make_job().with_publish().obj())
    assert len(world.run().checkpoints) == 5
    writes = [w for w in world.cluster.writes if w.verb != "event"]
    assert len(writes) <= 30, writes


def test_pod_start_costs_one_status_write():
    """The kubelet reports Pending, ContainerCreating and Running. Only Running changes the status of the
    job."""
    world = World()
    world.apply_all()
    world.settle()
    (name,) = world.jobs()
    before = len(world.status_writes())
    state = {"waiting": {"reason": "ContainerCreating"}}
    world.cluster.pending_pod(name)
    world.settle()
    world.cluster.set_pod_status(
        name, {"phase": "Pending", "containerStatuses": [{"name": "trainer", "state": state}]}
    )
    world.settle()
    world.cluster.start_pod(name)
    world.settle()
    assert len(world.status_writes()) - before == 1


def test_plan_is_shown_when_the_data_job_has_ended():
    """The report of the data pod, which usually arrives before the Job has ended, costs no write of its own:
    the ConfigMap of the plan has it."""
    world = World()
    world.apply_all()
    world.until_job("data")
    world.tick()
    world.settle()
    before = len(world.status_writes())
    with world.late_children():
        world.tick()
        world.settle()
        (plan,) = [w for w in world.cluster.writes if w.kind == "ConfigMap" and "plan" in w.name]
        assert world.status().plan is None
        assert len(world.status_writes()) == before
    world.boot()
    world.settle()
    assert world.status().plan is not None
    assert world.status().plan.config_map == plan.name
    assert world.status().phase is Phase.QUEUED
    assert len(world.status_writes()) == before + 1


def test_unchanged_job_is_not_written():
    world = World()
    world.apply_all()
    world.until_checkpoint()
    before = len(world.cluster.writes)
    for _ in range(20):
        world.reconciler.resync()
        world.advance(60)
    assert len(world.cluster.writes) == before
