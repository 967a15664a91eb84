"""Where reports arrive: the leader's address behind a Service without selector."""

from ipaddress import ip_address

from tunegate_operator.engine.apply import apply
from tunegate_operator.engine.cluster import Cluster, Key, Object


def report_host(service: str, namespace: str) -> str:
    """The Service's name in the cluster's DNS."""
    return f"{service}.{namespace}.svc"


def publish_address(cluster: Cluster, service: str, namespace: str, ip: str, port: int) -> None:
    """Let the Service lead to us, and to nobody else. Raises ClusterError."""
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
