"""Publish the leader's address as the endpoint of the report Service, which has no pod selector."""

from ipaddress import ip_address

from tunegate_operator.engine.apply import apply
from tunegate_operator.engine.cluster import Cluster, Key, Object


def report_host(service: str, namespace: str) -> str:
    """Return the DNS name of the report Service inside the cluster."""
    return f"{service}.{namespace}.svc"


def publish_address(cluster: Cluster, service: str, namespace: str, ip: str, port: int) -> None:
    """Make ``ip`` and ``port`` the only endpoint of the report Service. Raises ClusterError."""
    slice = _endpoint_slice(service, namespace, ip, port)
    apply(cluster, slice, cluster.get(Key.of(slice)))


def _endpoint_slice(service: str, namespace: str, ip: str, port: int) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": service,
            "namespace": namespace,
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "tunegate",
            },
        },
        "addressType": f"IPv{ip_address(ip).version}",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
