"""Settings are read from the environment, and errors name the variable."""

import json
import logging

import pytest

from tunegate_operator.logs import JsonFormatter
from tunegate_operator.settings import SettingsError, read_settings

POD = {"POD_NAME": "a", "POD_NAMESPACE": "tunegate", "POD_IP": "10.0.0.1"}
LEAST = POD | {"TUNEGATE_TRAINER_IMAGE": "trainer:1"}


def test_settings_are_valid_if_only_required_ones_are_set():
    settings = read_settings(LEAST | {"PATH": "/bin", "POD_OTHER": "x"})
    assert (settings.trainer_image, settings.pod_ip) == ("trainer:1", "10.0.0.1")
    assert settings.watch_namespaces == ()
    assert settings.required_gates == ()


def test_watched_namespaces_are_separated_by_commas():
    assert read_settings(LEAST | {"TUNEGATE_WATCH_NAMESPACES": "a, b,"}).watch_namespaces == ("a", "b")


def test_required_gates_are_separated_by_commas():
    assert read_settings(LEAST | {"TUNEGATE_REQUIRED_GATES": "a, b,"}).required_gates == ("a", "b")


def test_allowed_local_addresses_are_networks():
    given = LEAST | {"TUNEGATE_ALLOWED_LOCAL_ADDRESSES": "169.254.20.10, fe80::/64"}
    assert read_settings(given).allowed_local_addresses == ("169.254.20.10/32", "fe80::/64")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"TUNEGATE_TRAINER_IMAGE": ""}, "TUNEGATE_TRAINER_IMAGE"),
        ({"TUNEGATE_WORKERS": "none"}, "TUNEGATE_WORKERS"),
        ({"TUNEGATE_LOG_FORMAT": "xml"}, "TUNEGATE_LOG_FORMAT"),
        ({"TUNEGATE_WORKER": "4"}, "TUNEGATE_WORKER"),
        ({"TUNEGATE_REQUIRED_GATES": "Gate_A"}, "TUNEGATE_REQUIRED_GATES"),
        ({"TUNEGATE_ALLOWED_LOCAL_ADDRESSES": "localhost"}, "TUNEGATE_ALLOWED_LOCAL_ADDRESSES"),
        ({"POD_IP": ""}, "POD_IP"),
    ],
)
def test_invalid_setting_is_named_in_the_error(wrong, named):
    with pytest.raises(SettingsError, match=named):
        read_settings(LEAST | wrong)


def test_all_missing_settings_are_named_at_once():
    with pytest.raises(SettingsError) as caught:
        read_settings({})
    for name in ("TUNEGATE_TRAINER_IMAGE", "POD_NAME", "POD_NAMESPACE", "POD_IP"):
        assert name in str(caught.value)


def test_json_log_line_includes_extra_fields():
    record = logging.makeLogRecord({"name": "x", "msg": "decided %s", "args": ("a",), "phase": "Training"})
    line = json.loads(JsonFormatter().format(record))
    assert (line["message"], line["phase"], line["logger"]) == ("decided a", "Training", "x")
    assert line["time"].endswith("+00:00")
