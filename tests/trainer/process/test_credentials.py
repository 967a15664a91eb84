"""Secrets are read from their mounts, and their values are never shown."""

import pytest

from tunegate_api.contract.process import ExitCode, Role
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import CredentialsError


@pytest.fixture
def hub(tmp_path):
    """A Secret as kubelet mounts it: keys are links into a folder with the current version."""
    folder = tmp_path / "secrets" / "hub"
    (folder / "..2026").mkdir(parents=True)
    (folder / "..2026" / "HF_TOKEN").write_text("s3cret\n")
    (folder / "..data").symlink_to("..2026")
    (folder / "HF_TOKEN").symlink_to("..data/HF_TOKEN")
    return Context(Role.DATA, root=tmp_path).secret("hub")


def test_secret_values_lose_trailing_line_breaks(hub):
    assert dict(hub) == {"HF_TOKEN": "s3cret"}


def test_missing_secret_key_is_named_without_showing_values(hub):
    with pytest.raises(CredentialsError, match="Secret hub has no key AWS_REGION") as raised:
        hub["AWS_REGION"]
    assert raised.value.hint == "the Secret has: HF_TOKEN"
    assert raised.value.exit_code is ExitCode.CREDENTIALS
    assert "s3cret" not in f"{hub} {hub!r} {raised.value.failure}"
    assert hub.get("AWS_REGION") is None


def test_environment_variables_are_used_if_no_secret_is_mounted(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "from the shell")
    monkeypatch.delenv("AWS_REGION", raising=False)
    secret = Context(Role.DATA, root=tmp_path).secret("hub")
    assert secret["HF_TOKEN"] == "from the shell"
    with pytest.raises(CredentialsError, match="no Secret hub, and the environment variable AWS_REG"):
        secret["AWS_REGION"]
    assert "from the shell" not in repr(secret)


def test_environment_variables_are_ignored_if_a_secret_is_mounted(hub, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "from the pod")
    assert "AWS_REGION" not in hub
