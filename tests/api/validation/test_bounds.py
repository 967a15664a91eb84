"""Both the API server and ``tunegate validate`` refuse a value beyond any bound of the schema."""

from collections.abc import Iterator
from typing import Any

import pytest

from support.api_server import ApiServer
from support.refusals import DryRunClient
from support.wrong_bounds import WrongValue, wrong_values
from support.wrong_manifests import GOOD
from tunegate_api.schema.crd import crds
from tunegate_api.validation.problems import find_problems

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def dry_run(server: ApiServer) -> Iterator[DryRunClient]:
    with server.client() as api:
        yield DryRunClient(api)


def cases() -> list[tuple[str, WrongValue]]:
    found = []
    for crd in crds().values():
        kind = crd["spec"]["names"]["kind"]
        spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        found += [(kind, value) for value in wrong_values(spec, ("spec",))]
    return found


CASES = cases()


@pytest.mark.parametrize(
    ("kind", "wrong"), CASES, ids=[f"{kind}-{wrong.field}-{wrong.message[:24]}" for kind, wrong in CASES]
)
def test_value_beyond_a_bound_is_refused_by_server_and_validator(
    dry_run: DryRunClient, kind: str, wrong: WrongValue
) -> None:
    manifest: dict[str, Any] = wrong.placed(GOOD[kind]())
    answer = dry_run.create(manifest)
    assert [line for line in answer if line.startswith(f"{wrong.field}: ") and wrong.message in line], answer
    assert find_problems(manifest)
