"""Record a user's decision about a stopped job on the cluster of their kubeconfig."""

import json
from typing import Any

import urllib3
from kubernetes import client, config

from tunegate_api import GROUP, VERSION
from tunegate_operator.engine.kubernetes import REQUEST_SECONDS, connect


class AnswerError(Exception):
    """The decision could not be recorded. The message is for users."""


def answer(name: str, namespace: str, annotation: str, reason: str) -> None:
    """Annotate the FineTuneJob ``name`` with a decision on its current stop. Raises :class:`AnswerError`."""
    try:
        jobs = client.CustomObjectsApi(connect(threads=1, of_user=True))
        where = (GROUP, VERSION, namespace, "finetunejobs", name)
        job: Any = jobs.get_namespaced_custom_object(*where, _request_timeout=REQUEST_SECONDS)
        status = job.get("status", {})
        stop = status.get("stop")
        if stop is None or "completionTime" in status:
            raise AnswerError(f"{name} in namespace {namespace} is not stopped: there is nothing to decide")
        said = json.dumps({"stop": stop["id"], "reason": reason})
        change = {"metadata": {"annotations": {annotation: said}}}
        jobs.patch_namespaced_custom_object(*where, change, _request_timeout=REQUEST_SECONDS)
    except config.ConfigException as error:
        raise AnswerError(f"no cluster: {error}; set KUBECONFIG") from error
    except client.ApiException as error:
        raise AnswerError(_said_by(error)) from error
    except urllib3.exceptions.HTTPError as error:
        raise AnswerError(f"the cluster is unreachable: {error}") from error


def _said_by(error: client.ApiException) -> str:
    """Return the message in the API server's answer, or its HTTP status."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return f"{error.status} {error.reason}"
