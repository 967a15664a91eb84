"""A user of a real API server, with the FineTuneJob ``orders`` in a namespace of its own."""

from typing import Any

from kubernetes import client
from kubernetes.client import ApiException

from support.builders import golden_text, make_config_map, make_gate, make_job
from support.waiting import eventually

GROUP = ("tunegate.dev", "v1alpha2")


class Team:
    """The actions of a user in a namespace that only this test uses."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self._core, self._custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
        self._core.create_namespace({"metadata": {"name": namespace}})
        eventually(self._has_account, what="the namespace's service account")

    def apply(self, *objects: dict[str, Any]) -> None:
        for obj in objects:
            obj["metadata"]["namespace"] = self.namespace
            if obj["kind"] == "ConfigMap":
                self._core.create_namespaced_config_map(self.namespace, obj)
            else:
                plural = f"{obj['kind'].lower()}s"
                self._custom.create_namespaced_custom_object(*GROUP, self.namespace, plural, obj)

    def apply_all(self) -> None:
        rows, cases = (
            make_config_map("rows", train__jsonl="{}"),
            make_config_map("cases", golden__jsonl=golden_text()),
        )
        self.apply(rows, cases, make_gate().obj(), make_job().with_publish().obj())

    def job(self, name: str = "orders") -> dict[str, Any]:
        found: dict[str, Any] = self._custom.get_namespaced_custom_object(
            *GROUP, self.namespace, "finetunejobs", name
        )
        return found

    def gate(self, name: str = "golden") -> dict[str, Any]:
        found: dict[str, Any] = self._custom.get_namespaced_custom_object(
            *GROUP, self.namespace, "evalgates", name
        )
        return found

    def phase(self, name: str = "orders") -> str | None:
        phase: str | None = self.job(name).get("status", {}).get("phase")
        return phase

    def wait_for(self, *phases: str, seconds: float = 60) -> None:
        def is_there() -> bool:
            status = self.job().get("status", {})
            shown = {name: status.get(name) for name in ("phase", "message", "attempts")}
            assert status.get("phase") in phases, f"{' or '.join(phases)}, but status has {shown}"
            return True

        eventually(is_there, seconds=seconds)

    def change(self, **spec: Any) -> None:
        self._custom.patch_namespaced_custom_object(
            *GROUP, self.namespace, "finetunejobs", "orders", {"spec": spec}
        )

    def set_status(self, status: dict[str, Any], name: str = "orders") -> None:
        """Write a job's status, as the operator would."""
        self._custom.patch_namespaced_custom_object_status(
            *GROUP, self.namespace, "finetunejobs", name, {"status": status}
        )

    def delete(self) -> None:
        self._custom.delete_namespaced_custom_object(*GROUP, self.namespace, "finetunejobs", "orders")

    def children(self) -> list[str]:
        jobs = client.BatchV1Api(self.api).list_namespaced_job(self.namespace).items
        pods = self._core.list_namespaced_pod(self.namespace).items
        maps = self._core.list_namespaced_config_map(self.namespace).items
        owned = [o for o in (*jobs, *pods, *maps) if o.metadata.owner_references]
        return sorted(o.metadata.name for o in owned)

    def jobs(self) -> list[str]:
        return sorted(
            j.metadata.name for j in client.BatchV1Api(self.api).list_namespaced_job(self.namespace).items
        )

    def _has_account(self) -> bool:
        try:
            return bool(self._core.read_namespaced_service_account("default", self.namespace))
        except ApiException:
            return False
