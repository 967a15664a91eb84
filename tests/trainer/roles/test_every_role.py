"""Every role has the same entry point, and imports only what it needs."""

import inspect
import subprocess
import sys
from importlib import import_module

import pytest

from tunegate_api.contract.process import Outcome, Role
from tunegate_trainer.process.context import Context


@pytest.mark.parametrize("role", Role)
def test_every_role_module_has_run_that_takes_a_context(role: Role) -> None:
    run = import_module(f"tunegate_trainer.roles.{role}").run
    signature = inspect.signature(run)
    needed = [p for p in signature.parameters.values() if p.default is p.empty]
    assert [p.annotation for p in needed] == [Context]
    assert signature.return_annotation is Outcome


def test_roles_without_a_model_import_no_pytorch() -> None:
    roles = (Role.PUBLISH, Role.REPORT, Role.TRACK, Role.CLEANUP)
    modules = ", ".join(f"tunegate_trainer.roles.{role}" for role in roles)
    code = f"import sys, tunegate_trainer.main, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
