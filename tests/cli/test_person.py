"""The name of the user who runs a command."""

import getpass

import click
import pytest

from tunegate_client.cli.person import user_name


def test_user_without_a_name_gets_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a user that is not in /etc/passwd."""

    def getuser() -> str:
        raise KeyError("getpwuid(): uid not found: 54321")

    monkeypatch.setattr(getpass, "getuser", getuser)
    with pytest.raises(click.ClickException, match="has no name: give yours with --reviewer"):
        user_name("give yours with --reviewer")


def test_user_has_the_name_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "ana")
    assert user_name("") == "ana"
