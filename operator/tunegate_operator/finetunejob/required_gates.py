"""The gates that every FineTuneJob must name in ``spec.gates``: those that the operator's settings require,
and those that an annotation of the job's namespace requires.

The admission policy of the chart refuses most jobs without them, with the same rules in CEL. The operator
checks them too when a job starts, because the policy can be switched off, or be installed after the job.
"""

import re
from dataclasses import dataclass

from tunegate_api.meta import NAME_PATTERN
from tunegate_api.v1alpha2 import FineTuneJobSpec
from tunegate_api.v1alpha2.finetunejob_status import Failure
from tunegate_api.v1alpha2.reasons import Reason
from tunegate_operator.engine.cluster import ForbiddenError, Key
from tunegate_operator.engine.controller import View
from tunegate_operator.names import REQUIRED_GATES_ANNOTATION

_LONGEST_NAME = 63


@dataclass(frozen=True)
class RequiredGates:
    """The names of the gates that are required of a job, by who requires them."""

    cluster: tuple[str, ...] = ()
    namespace: tuple[str, ...] = ()
    problem: str = ""
    """Why the gates that the namespace requires are unknown; empty if they are known."""

    def includes(self, name: str) -> bool:
        """Return whether the gate of this name is required."""
        return name in (*self.cluster, *self.namespace)

    def failure(self, spec: FineTuneJobSpec) -> Failure | None:
        """Return the failure of a job that does not name all of these gates; None if it names them."""
        named = {gate.name for gate in spec.gates}
        by = dict.fromkeys(self.namespace, "namespace") | dict.fromkeys(self.cluster, "cluster")
        missing = {name: who for name, who in by.items() if name not in named}
        if not missing:
            return None
        listed = ", ".join(f"{name} (by the {who})" for name, who in missing.items())
        entries = ", ".join(f"{{name: {name}}}" for name in missing)
        return Failure(
            reason=Reason.REQUIRED_GATES_MISSING,
            message=f"spec.gates lacks gates that are required of every job: {listed}",
            hint=f"Add {entries} to spec.gates, and create the job again.",
        )


NOT_READ = RequiredGates(problem="the required gates were not read")
"""The required gates of a job that cannot start for another reason."""


def read_required_gates(view: View, namespace: str, cluster: tuple[str, ...]) -> RequiredGates:
    """Read which gates a namespace requires, in addition to those that the cluster requires. On a laptop,
    there are no namespaces, so no gates are required.

    Raises ClusterError if the request fails for a reason that may pass, such as a timeout.
    """
    try:
        found = view.read(Key("Namespace", namespace, namespace))
    except ForbiddenError as error:
        return RequiredGates(
            cluster,
            problem=f"the required gates are unknown, because the operator may not read namespace "
            f"{namespace}: {error}; grant it the verb get for namespaces, as the chart does",
        )
    metadata = found["metadata"] if found else {}
    text = (metadata.get("annotations") or {}).get(REQUIRED_GATES_ANNOTATION, "")
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    wrong = next((name for name in names if not _is_name(name)), None)
    if wrong is not None:
        return RequiredGates(
            cluster,
            problem=f"annotation {REQUIRED_GATES_ANNOTATION} of namespace {namespace} is malformed: "
            f'"{wrong[:_LONGEST_NAME]}" is not the name of an EvalGate; write the names separated by commas',
        )
    return RequiredGates(cluster, names)


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and re.fullmatch(NAME_PATTERN, text) is not None
