"""A place with jobs for tests of clients and commands: a runs folder, or a namespace of a cluster."""

from dataclasses import dataclass

from tunegate_operator.clients.client import Client
from tunegate_operator.engine.cluster import Cluster, Key, Object


@dataclass
class Place:
    """A client, and the cluster whose objects it reads."""

    client: Client
    cluster: Cluster
    namespace: str = "default"

    def create(self, obj: Object, name: str = "") -> Object:
        """Create an object in this place, with another name if one is given."""
        metadata = obj["metadata"] | {"namespace": self.namespace} | ({"name": name} if name else {})
        return self.cluster.create({**obj, "metadata": metadata})

    def set_status(self, obj: Object, **status: object) -> Object:
        """Replace the status of an object, whatever its version."""
        current = self.cluster.get(Key.of(obj))
        assert current
        return self.cluster.patch_status(Key.of(obj), dict(status), current["metadata"]["resourceVersion"])
