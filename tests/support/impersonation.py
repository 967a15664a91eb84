"""Send requests to an API server in the name of another user."""

from kubernetes import client


def acting_as(api: client.ApiClient, name: str, group: str | None = None) -> client.ApiClient:
    """Return a client that impersonates a user, who may belong to a group. ``api`` must have the right to do
    so."""
    other = client.ApiClient(api.configuration)
    other.set_default_header("Impersonate-User", name)
    if group:
        other.set_default_header("Impersonate-Group", group)
    return other
