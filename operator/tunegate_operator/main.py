"""Kopf's side: a routing table, no logic. What Kopf sees goes to the engine."""

from typing import Any

import kopf

from tunegate_operator.engine.kubernetes import PAGE, REQUEST_SECONDS, RESOURCES, KubernetesCluster, Resource

SILENT_SECONDS = 60
"""A watch that is silent for so long is opened anew: a dead connection says nothing either."""


def routes(cluster: KubernetesCluster) -> kopf.OperatorRegistry:
    """Every kind that the engine knows, each delivered to it as it comes."""
    registry = kopf.OperatorRegistry()

    async def deliver(event: kopf.RawEvent, **_: Any) -> None:
        type = event["type"] or "ADDED"  # Kopf's first list has none
        if type != "BOOKMARK":
            cluster.deliver(type, dict(event["object"]))

    for resource in RESOURCES.values():
        kopf.on.event(*_selector(resource), registry=registry)(deliver)
    return registry


def settings() -> kopf.OperatorSettings:
    """No events of Kopf's own, no peering, bounded waits, and only the pods and Jobs that are ours."""
    made = kopf.OperatorSettings()
    made.posting.enabled = False
    made.peering.standalone = True
    made.scanning.disabled = True
    made.watching.server_timeout = SILENT_SECONDS
    made.watching.client_timeout = SILENT_SECONDS + REQUEST_SECONDS
    made.watching.chunk_size = PAGE
    made.networking.request_timeout = REQUEST_SECONDS
    for resource in RESOURCES.values():
        if resource.labels:
            made.watching.label_selectors[_selector(resource)] = resource.labels
    return made


def _selector(resource: Resource) -> tuple[str, str, str]:
    """Group, version, plural; the group of the core is empty."""
    group, _, version = resource.api_version.rpartition("/")
    return group, version, resource.plural
