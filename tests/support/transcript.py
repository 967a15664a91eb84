"""Record a scenario as text: status changes, created and deleted children, and events."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from support.world import DIGEST, World
from tunegate_operator.engine.cluster import Object, WatchEvent
from tunegate_operator.engine.objects import uid_of

SHOWN = ("FineTuneJob", "EvalGate")


class Transcript:
    """Records the changes of a world's cluster from its creation on. ``str()`` is the text.

    Only what a write changed in a status is recorded, with one line for each field, condition or list item.
    The message of a condition is left out if it is the message of the status. Uids and digests are replaced
    by names.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._lines: list[str] = []
        self._names: dict[str, str] = {}
        self._statuses: dict[str, dict[str, str]] = {}
        self._seconds = 0.0
        self._events = 0
        self._start = world.clock.now()
        world.cluster.as_user.watch(self._see)

    def __str__(self) -> str:
        self._add_events()
        text = "\n".join(self._lines) + "\n"
        for uid, name in self._names.items():
            text = text.replace(uid, f"{name}-uid").replace(f"-{uid[:5]}", "-uid")
        text = re.sub(r"(-uid-\d+)-[a-z0-9]{5}\b", r"\1-pod", text)
        text = re.sub(r"(plan: \{sha256:) [0-9a-f]{64}", r"\1 plan-digest", text)
        text = re.sub(r"(requestSha256:) [0-9a-f]{64}", r"\1 request-digest", text)
        return text.replace(DIGEST, "digest").replace(self._world.script.golden_sha256, "golden-digest")

    def _see(self, change: WatchEvent) -> None:
        self._add_events()
        obj = change.obj
        name, kind = obj["metadata"]["name"], obj["kind"]
        owned = any(o["kind"] in SHOWN for o in obj["metadata"].get("ownerReferences", ()))
        if kind in SHOWN:
            self._names.setdefault(uid_of(obj), name)
            before = self._statuses.get(uid_of(obj), {})
            after = self._statuses[uid_of(obj)] = dict(_fields(obj.get("status", {})))
            changed = [f"{k}: {v}" for k, v in after.items() if before.get(k) != v]
            changed += [f"{k}: gone" for k in before if k not in after]
            if changed:
                self._add(f"{kind} {name}", *changed)
        elif owned and change.type == "ADDED":
            self._add(f"create {kind} {name}", *([" ".join(_args(obj))] if kind == "Job" else []))
        elif owned and change.type == "DELETED":
            self._add(f"delete {kind} {name}")

    def _add_events(self) -> None:
        new = self._world.cluster.events[self._events :]
        self._events += len(new)
        for _, type, reason, message in new:
            self._add(f"event {type} {reason}: {message}")

    def _add(self, what: str, *details: str) -> None:
        seconds = (self._world.clock.now() - self._start).total_seconds()
        if seconds != self._seconds:
            self._lines.append(f"\nAfter {seconds:g} s")
            self._seconds = seconds
        self._lines += [what, *(f"  {line}" for line in details)]


def _args(job: Object) -> list[str]:
    args: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return args


def _fields(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in status.items():
        if key == "conditions":
            for c in value:
                since = c["lastTransitionTime"].removeprefix("2026-01-01T")
                message = "…" if c["message"] == status.get("message") else c["message"]
                yield (
                    f"condition {c['type']}",
                    f"{c['status']} {c['reason']} since {since} of {c['observedGeneration']}: {message}",
                )
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ((f"{key}[{i}]", _flow(item)) for i, item in enumerate(value))
        elif isinstance(value, dict) and key in ("final", "failure", "stop"):
            yield from ((f"{key}.{inner}", _flow(item)) for inner, item in value.items())
        else:
            yield key, _flow(value)


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    text = yaml.dump(value, Dumper=yaml.CSafeDumper, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")
