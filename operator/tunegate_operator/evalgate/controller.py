"""The EvalGate controller: is the golden set what it says, and what has it judged."""

from collections.abc import Iterable
from datetime import datetime

from tunegate_api.v1alpha1 import EvalGate, EvalGateStatus
from tunegate_api.v1alpha1.problems import find_problems
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import Decision, View, read_status
from tunegate_operator.evalgate.decide import decide, refuse
from tunegate_operator.evalgate.observe import observe


class EvalGateController:
    """Decides about EvalGates. Holds no state."""

    kind = "EvalGate"

    def decide(self, obj: Object, view: View, now: datetime) -> Decision | None:
        """What to say about one EvalGate. It has no children."""
        if "deletionTimestamp" in obj["metadata"]:
            return None
        status, problems = read_status(obj, EvalGateStatus), find_problems(obj)
        if problems:
            generation = obj["metadata"].get("generation", 1)
            return Decision(refuse(status, problems, generation, now).to_wire())
        gate = EvalGate.model_validate(obj)
        return Decision(decide(observe(gate, view), now).to_wire())

    def concerns(self, changed: Object, view: View) -> Iterable[Key]:
        """Gates whose golden set a ConfigMap holds, and gates that a FineTuneJob names."""
        namespace, name = changed["metadata"].get("namespace", "default"), changed["metadata"]["name"]
        if changed["kind"] == "ConfigMap":
            gates = view.of_kind(self.kind, namespace)
            return [Key.of(gate) for gate in gates if _source(gate).get("configMap") == name]
        if changed["kind"] == "FineTuneJob" and (changed.get("status") or {}).get("final"):
            judged = {result["name"] for result in changed["status"]["final"].get("gates", [])}
            gates = view.of_kind(self.kind, namespace)
            return [Key.of(gate) for gate in gates if gate["metadata"]["name"] in judged]
        return []


def _source(gate: Object) -> Object:
    """``spec.golden.source``, read loosely: the spec may be wrong."""
    found: object = gate.get("spec")
    for key in ("golden", "source"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
