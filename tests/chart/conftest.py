import pytest

from support.helm import Helm


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm()
