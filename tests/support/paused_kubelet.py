"""A fake kubelet whose pods wait before they do their work."""

import threading

from kubernetes import client

from support.fake_kubelet import Address, FakeKubelet, FakePod
from tunegate_api.contract.process import Outcome, Role

PAUSE_SECONDS = 120


class PausedKubelet(FakeKubelet):
    """A kubelet whose pods of some roles run, but do nothing until the role is released."""

    def __init__(self, api: client.ApiClient, address: Address, *roles: Role) -> None:
        super().__init__(api, address)
        self._released = {role: threading.Event() for role in roles}

    def release(self, *roles: Role) -> None:
        """Let the pods of these roles go on, or those of all roles if none is given."""
        for role in roles or self._released:
            self._released[role].set()

    def run_role(self, pod: FakePod) -> Outcome:
        if pod.role in self._released:
            assert self._released[pod.role].wait(PAUSE_SECONDS)
        return super().run_role(pod)
