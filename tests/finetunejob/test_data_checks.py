"""The results of the data checks in status."""

import pytest

from support.world import Script, World, failed
from tunegate_api.contract.process import ExitCode
from tunegate_api.v1alpha2.data_status import MAX_DATA_CHECKS, DataCheckResult
from tunegate_api.v1alpha2.reasons import Phase

CHECKS = [
    DataCheckResult(name="bad_rows", result="Passed"),
    DataCheckResult(name="refusals", result="Warned", count=7, share="0.02"),
    DataCheckResult(name="secrets", result="Off"),
]
REFUSED = [*CHECKS, DataCheckResult(name="few_rows", result="Refused", count=40)]


def run(checks: list[DataCheckResult], *, refused: bool = False) -> World:
    exits = {"data": [failed(ExitCode.BAD_DATA, "BadData", "40 rows")]} if refused else {}
    world = World(Script(data_checks=checks, exits=exits))
    world.apply_all()
    world.run()
    return world


def test_trained_jobs_status_keeps_its_data_check_results():
    world = run(CHECKS)
    assert world.status().phase is Phase.SUCCEEDED
    assert world.job()["status"]["dataChecks"] == [
        {"name": "bad_rows", "result": "Passed"},
        {"name": "refusals", "result": "Warned", "count": 7, "share": "0.02"},
        {"name": "secrets", "result": "Off"},
    ]


def test_status_shows_the_data_checks_of_refused_data():
    world = run(REFUSED, refused=True)
    assert world.status().phase is Phase.FAILED
    assert world.status().data_checks == REFUSED


def test_more_data_checks_than_status_allows_are_left_out():
    many = [DataCheckResult(name=f"check-{n}", result="Passed") for n in range(MAX_DATA_CHECKS + 1)]
    assert run(many).status().data_checks == many[:MAX_DATA_CHECKS]


@pytest.mark.parametrize("count", [-1, 10**10])
def test_impossible_number_of_faults_is_refused(count):
    with pytest.raises(ValueError, match="count"):
        DataCheckResult(name="refusals", result="Warned", count=count)
