"""Record a user's decision about a stopped job on a cluster, with the user's kubeconfig."""

import json
from typing import Any

import urllib3
from kubernetes import client, config

from tunegate_api import GROUP, VERSION
from tunegate_operator.engine.kubernetes import REQUEST_SECONDS, connect


class DecisionError(Exception):
    """The decision could not be recorded. The message is for users."""


def record_decision(name: str, namespace: str, annotation: str, reason: str) -> None:
    """Annotate the FineTuneJob ``name`` with a decision about its current stop. Raises DecisionError."""
    try:
        jobs = client.CustomObjectsApi(connect(threads=1, of_user=True))
        where = (GROUP, VERSION, namespace, "finetunejobs", name)
        job: Any = jobs.get_namespaced_custom_object(*where, _request_timeout=REQUEST_SECONDS)
        status = job.get("status", {})
        stop = status.get("stop")
        if stop is None or "completionTime" in status:
            raise DecisionError(
                f"FineTuneJob {name} in namespace {namespace} is not stopped by a gate: there is nothing to "
                "decide"
            )
        value = json.dumps({"stop": stop["id"], "reason": reason})
        patch = {"metadata": {"annotations": {annotation: value}}}
        jobs.patch_namespaced_custom_object(*where, patch, _request_timeout=REQUEST_SECONDS)
    except config.ConfigException as error:
        raise DecisionError(
            f"no cluster is configured: {error}; set KUBECONFIG to the path of a kubeconfig"
        ) from error
    except client.ApiException as error:
        raise DecisionError(
            f"the decision about FineTuneJob {name} in namespace {namespace} was not recorded: "
            f"{_server_message(error)}"
        ) from error
    except urllib3.exceptions.HTTPError as error:
        raise DecisionError(f"the cluster is unreachable: {error}") from error


def _server_message(error: client.ApiException) -> str:
    """Return the message in the API server's answer, or its HTTP status."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
