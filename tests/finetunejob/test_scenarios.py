"""Transcripts of job scenarios: every status change, every child and every event.

The transcripts are in ``__snapshots__/test_scenarios``, one file per scenario. After an intended change,
``pytest --snapshot-update`` rewrites the transcripts. Review their diff, because users will see these
changes.
"""

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode

from support.scenarios import SCENARIOS, new_world
from support.transcript import Transcript
from tunegate_api.v1alpha2.reasons import Phase


class TranscriptFile(SingleFileSnapshotExtension):
    _write_mode = WriteMode.TEXT
    file_extension = "txt"


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_matches_its_snapshot(name: str, snapshot: SnapshotAssertion) -> None:
    play, world = new_world(name)
    transcript = Transcript(world)
    play(world)
    assert str(transcript) == snapshot(extension_class=TranscriptFile)
    for job in world.cluster.as_user.list_objects("FineTuneJob"):
        failure = job["status"].get("failure")
        assert failure is None or failure["hint"], "what to do"


def test_scenarios_reach_every_phase() -> None:
    """Every phase appears in at least one transcript."""
    seen = set()
    for name in ("passes", "stopped-then-discarded", "suspended", "reviewed", "approved"):
        play, world = new_world(name)
        world.cluster.as_user.watch(lambda change: seen.add(change.obj.get("status", {}).get("phase")))
        play(world)
    assert {str(phase) for phase in Phase} <= seen
