"""Secrets: read where they are mounted, and never shown."""

import pytest

from tunegate_api.contract import ExitCode, Role
from tunegate_trainer.process.context import Context
from tunegate_trainer.process.errors import CredentialsError


@pytest.fixture
def hub(tmp_path):
    """A Secret as kubelet mounts it: keys are links into a folder of the present version."""
    folder = tmp_path / "secrets" / "hub"
    (folder / "..2026").mkdir(parents=True)
    (folder / "..2026" / "HF_TOKEN").write_text("s3cret\n")
    (folder / "..data").symlink_to("..2026")
    (folder / "HF_TOKEN").symlink_to("..data/HF_TOKEN")
    return Context(Role.DATA, root=tmp_path).secret("hub")


def test_a_secret_has_its_keys_without_the_line_break_of_an_editor(hub):
    assert dict(hub) == {"HF_TOKEN": "s3cret"}


def test_a_missing_key_is_named_and_no_value_shown(hub):
    with pytest.raises(CredentialsError, match="Secret hub has no key AWS_REGION") as raised:
        hub["AWS_REGION"]
    assert raised.value.hint == "it has: HF_TOKEN"
    assert raised.value.exit_code is ExitCode.CREDENTIALS
    assert "s3cret" not in f"{hub} {hub!r} {raised.value.failure}"
    assert hub.get("AWS_REGION") is None


def test_the_environment_stands_in_for_a_secret_that_a_laptop_does_not_have(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "from the shell")
    monkeypatch.delenv("AWS_REGION", raising=False)
    secret = Context(Role.DATA, root=tmp_path).secret("hub")
    assert secret["HF_TOKEN"] == "from the shell"
    with pytest.raises(CredentialsError, match="no Secret hub, and the environment variable AWS_REG"):
        secret["AWS_REGION"]
    assert "from the shell" not in repr(secret)


def test_the_environment_counts_for_nothing_where_there_is_a_secret(hub, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "from the pod")
    assert "AWS_REGION" not in hub
