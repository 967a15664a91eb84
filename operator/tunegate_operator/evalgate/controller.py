"""The EvalGate controller: check a gate's golden set and safety set, and record the models that it judged."""

from collections.abc import Iterable
from datetime import datetime

from tunegate_api.meta import ObjectMeta
from tunegate_api.v1alpha1 import EvalGate, EvalGateStatus
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import Decision, Event, UnreadableStatusError, View, parse_status
from tunegate_operator.engine.problems import problems_of
from tunegate_operator.evalgate.baselines import with_baselines
from tunegate_operator.evalgate.calibrations import with_calibrations
from tunegate_operator.evalgate.decide import decide, refuse
from tunegate_operator.evalgate.looks import has_new_looks
from tunegate_operator.evalgate.observe import Unreadable, observe
from tunegate_operator.evalgate.records import read_records
from tunegate_operator.names import gate_names


class EvalGateController:
    """Decide about EvalGates. An instance has no state."""

    kind = "EvalGate"

    def decide(self, obj: Object, view: View, now: datetime) -> Decision | None:
        """Return the status of one EvalGate, and the actions that record the models that it judged. Return
        None if the gate is being deleted."""
        if "deletionTimestamp" in obj["metadata"]:
            return None
        status, problems = parse_status(obj, EvalGateStatus), problems_of(obj)
        warnings: tuple[Event, ...] = ()
        if problems:
            meta = ObjectMeta.model_validate(obj["metadata"])
            status, actions = refuse(meta, status, read_records(meta, view), problems, now)
        else:
            observed = observe(EvalGate.model_validate(obj | {"status": status}), view)
            status, actions = decide(observed, now)
            warnings = tuple(map(_about_results, observed.unreadable[:1]))
        return Decision(status.to_wire(), actions, warnings=warnings)

    def waits_for(self, obj: Object) -> Iterable[Key]:
        """Return no keys: :meth:`concerns` finds the gates that a changed object concerns."""
        del obj
        return ()

    def concerns(self, changed: Object, view: View) -> Iterable[Key]:
        """Return the gates that a changed object concerns.

        A ConfigMap concerns the gates whose golden set or safety set it contains. A FineTuneJob concerns the
        gates that judged its final model, and those of its gates that do not list all cached baselines and
        error rates of the job, or do not count all models that it evaluated, yet."""
        namespace, name = changed["metadata"].get("namespace", "default"), changed["metadata"]["name"]
        if changed["kind"] == "ConfigMap":
            gates = view.of_kind(self.kind, namespace)
            return [Key.of(gate) for gate in gates if name in _config_maps(gate)]
        if changed["kind"] == "FineTuneJob":
            status = changed.get("status") or {}
            judged = {result["name"] for result in (status.get("final") or {}).get("gates", [])}
            if not judged and not any(map(status.get, ("baselines", "calibrations", "checkpoints"))):
                return []
            named = [view.get(Key(self.kind, namespace, gate)) for gate in gate_names(changed) - judged]
            new = {gate["metadata"]["name"] for gate in named if gate and _has_news(gate, changed)}
            return [Key(self.kind, namespace, gate) for gate in sorted(judged | new)]
        return []


def _about_results(unreadable: Unreadable) -> Event:
    return Event(
        "Warning",
        "RecordUnreadable",
        f"ConfigMap {unreadable.config_map} cannot be read, because it was edited or another version of the "
        f"operator wrote it. So the model of FineTuneJob {unreadable.job} is not recorded. Restore the "
        "ConfigMap.",
    )


def _has_news(gate: Object, job: Object) -> bool:
    """Whether the status of a job that names this gate has baselines, error rates or evaluations that the
    gate's status does not include yet."""
    name = gate["metadata"]["name"]
    try:
        known = parse_status(gate, EvalGateStatus)
    except UnreadableStatusError:
        return False
    return (
        with_baselines(known.baselines, name, [job]) != known.baselines
        or with_calibrations(known.calibrations, name, [job]) != known.calibrations
        or has_new_looks(known.looks, name, job)
    )


def _config_maps(gate: Object) -> list[object]:
    """Return ``configMap`` in the sources of a gate's golden set and safety set. The spec may be invalid."""
    return [_value(gate, "spec", which, "source", "configMap") for which in ("golden", "safety")]


def _value(found: object, *path: str) -> object:
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found
