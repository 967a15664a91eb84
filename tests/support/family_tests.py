"""Tests of each model family."""

from collections.abc import Iterable

import pytest

from support.family import Family


def of_families(families: Iterable[Family], kind: str) -> pytest.MarkDecorator:
    """Run a test for each family. The test is expected to fail for families that have a fault of this
    kind."""
    return pytest.mark.parametrize(
        "family",
        [
            pytest.param(
                family,
                id=family.id,
                marks=[pytest.mark.xfail(reason=family.faults[kind])] if kind in family.faults else [],
            )
            for family in families
        ],
    )
