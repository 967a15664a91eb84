"""The EvalGate controller: check a gate's golden set and safety set, and record the models that it judged."""

from collections.abc import Iterable
from datetime import datetime

from tunegate_api.meta import ObjectMeta
from tunegate_api.v1alpha2 import EvalGate, EvalGateStatus
from tunegate_api.v1alpha2.evalgate_status import MAX_RECENT_LOOKS
from tunegate_operator.engine.cluster import Key, Object
from tunegate_operator.engine.controller import Decision, Event, UnreadableStatusError, View, parse_status
from tunegate_operator.engine.problems import problems_of
from tunegate_operator.evalgate.baselines import with_baselines
from tunegate_operator.evalgate.decide import decide, refuse
from tunegate_operator.evalgate.error_rates import with_error_rates
from tunegate_operator.evalgate.jobs import index_job
from tunegate_operator.evalgate.looks import has_new_looks
from tunegate_operator.evalgate.observe import Unreadable, observe
from tunegate_operator.evalgate.records import read_records
from tunegate_operator.names import config_map_names_of_gate, judged_names


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
        is_more = False
        if problems:
            meta = ObjectMeta.model_validate(obj["metadata"])
            status, actions = refuse(meta, status, read_records(meta, view), problems, now)
        else:
            observed = observe(EvalGate.model_validate(obj | {"status": status}), view)
            status, actions = decide(observed, now)
            warnings = tuple(map(_about_results, observed.unreadable[:1]))
            is_more = observed.is_more and not actions  # after the actions, there is another decision
        requeue_after = 0.0 if is_more else None
        return Decision(status.to_wire(), actions, warnings=warnings, requeue_after=requeue_after)

    def references(self, obj: Object) -> Iterable[Key]:
        """Yield the keys of the ConfigMaps that a gate names."""
        if obj["kind"] == self.kind:
            namespace = obj["metadata"].get("namespace", "default")
            for name in config_map_names_of_gate(obj):
                yield Key("ConfigMap", namespace, name)

    def index(self, obj: Object) -> Iterable[tuple[Key, str]]:
        """Return the gates that have something to record from a FineTuneJob."""
        return index_job(obj) if obj["kind"] == "FineTuneJob" else ()

    def concerns(self, changed: Object, view: View) -> Iterable[Key]:
        """Return the gates that a changed object concerns.

        A ConfigMap concerns the gates that name it. A FineTuneJob concerns the gates that have something to
        record from it: if it ended, all of them; otherwise those that judged its final model, and those that
        do not list all cached baselines and error rates of the job, or do not count all models that it
        evaluated, yet."""
        if changed["kind"] == "ConfigMap":
            return view.referrers(Key.of(changed), self.kind)
        if changed["kind"] == "FineTuneJob":
            keys, judged = [key for key, _ in self.index(changed)], judged_names(changed)
            if (changed.get("status") or {}).get("completionTime"):
                return keys  # not compared, because an operator that starts lists thousands of ended jobs
            return [
                key
                for key in keys
                if key.name in judged or ((gate := view.get(key)) and _has_news(gate, changed))
            ]
        return []


def _about_results(unreadable: Unreadable) -> Event:
    return Event(
        "Warning",
        "RecordUnreadable",
        f"ConfigMap {unreadable.config_map} cannot be read, because it was edited or another version of the "
        f"operator wrote it. So the model of FineTuneJob {unreadable.job} is not recorded. Restore the "
        f"ConfigMap before {MAX_RECENT_LOOKS} more jobs with this gate end: later, it is not read again.",
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
        with_baselines(known.baselines, [job]) != known.baselines
        or with_error_rates(known.error_rates, name, [job]) != known.error_rates
        or has_new_looks(known.looks, name, job)
    )
