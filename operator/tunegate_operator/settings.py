"""Read the operator's settings from environment variables, which the chart sets and docs/install.md
explains."""

import os
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tunegate_api.meta import Name

VARIABLE_PREFIX = "TUNEGATE_"
_POD = ("POD_NAME", "POD_NAMESPACE", "POD_IP")


class SettingsError(Exception):
    """Environment variables are missing, unknown or invalid. The message names each of them."""


def _comma_list(text: object) -> object:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if isinstance(text, str) else text


def _network(text: str) -> str:
    return str(ip_network(text))


LocalNetwork = Annotated[str, AfterValidator(_network)]


class Settings(BaseModel):
    """The operator's settings.

    Each field is read from the environment variable ``TUNEGATE_<NAME>``, except ``pod_name``,
    ``pod_namespace`` and ``pod_ip``, which are read from ``POD_NAME``, ``POD_NAMESPACE`` and ``POD_IP``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trainer_image: str = Field(min_length=1)
    """The image that trainer pods run."""
    watch_namespaces: Annotated[tuple[str, ...], BeforeValidator(_comma_list)] = ()
    """The namespaces to watch; empty means all namespaces. The environment variable separates them by
    commas."""
    required_gates: Annotated[tuple[Name, ...], BeforeValidator(_comma_list)] = ()
    """The EvalGates that every FineTuneJob must name in ``spec.gates``. The environment variable separates
    them by commas."""
    allowed_local_addresses: Annotated[tuple[LocalNetwork, ...], BeforeValidator(_comma_list)] = ()
    """The networks among loopback and link-local addresses, such as 127.0.0.1/32, to which trainer pods may
    connect. The environment variable separates them by commas."""
    log_format: Literal["text", "json"] = "text"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    workers: int = Field(default=4, ge=1, le=64)
    """How many objects are reconciled at the same time."""
    resync_seconds: int = Field(default=300, ge=10)
    """Seconds between resyncs, which list all objects to find changes that a watch missed."""
    report_service: str = "tunegate-reports"
    """Name of the Service without selector, in the operator's namespace, to which pods send reports."""
    report_port: int = Field(default=8443, ge=1, le=65535)
    health_port: int = Field(default=8080, ge=1, le=65535)
    pod_name: str = Field(min_length=1)
    """Name of the operator's pod, which identifies the holder of the Lease. The downward API sets it, as well
    as ``pod_namespace`` and ``pod_ip``."""
    pod_namespace: str = Field(min_length=1)
    pod_ip: str = Field(min_length=1)


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. Raises SettingsError, which names every variable that is missing, unknown or
    invalid."""
    values = {
        name.removeprefix(VARIABLE_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(VARIABLE_PREFIX) or name in _POD
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(f"{_variable(e['loc'])}: {e['msg']}" for e in error.errors())
        raise SettingsError(problems) from error


def _variable(location: tuple[int | str, ...]) -> str:
    name = str(location[0]).upper()
    return name if name in _POD else f"{VARIABLE_PREFIX}{name}"
