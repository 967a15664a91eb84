"""Check manifests together: references by name and key, digests, and whether rules fit the golden cases
and the limits fit the safety cases."""

import base64
import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tunegate_api.cases.agreement import faulty_probes
from tunegate_api.cases.case_lines import CaseSetError, CaseT, inline_text, parse_cases
from tunegate_api.cases.golden import GoldenCase, unreachable, without_server
from tunegate_api.cases.safety_cases import SafetyCase, too_few
from tunegate_api.config_map import visible_keys
from tunegate_api.contract.bar import bar_of_safety_set, final_bar
from tunegate_api.contract.digests import sha256_text
from tunegate_api.meta import MAX_DNS_NAME
from tunegate_api.v1alpha2.case_source import SetName
from tunegate_api.v1alpha2.evalgate import EvalGateSpec
from tunegate_api.v1alpha2.fields import KEY_PATTERN
from tunegate_api.validation.explain import PATTERN_DESCRIPTIONS
from tunegate_api.validation.json_schema import schema_faults
from tunegate_api.validation.metadata import DNS_NAMES, metadata_problems
from tunegate_api.validation.problems import KINDS, Problem, find_problems
from tunegate_api.verdict.comparison import can_fail
from tunegate_client.manifests import Diagnostic, Manifest, ObjectPath

CONFIG_MAP = "ConfigMap"
FEWEST_REFUSAL_TOKENS = 100
"""Number of tokens that have 300 characters in most languages that are written in letters: English has four
characters or more per token."""
MAX_CONFIG_MAP = 1024 * 1024
"""The API server's limit for the total size of a ConfigMap's values, in bytes."""
_Id = tuple[str, str, str]


def validate(manifests: Iterable[Manifest], *, complete: bool = True) -> list[Diagnostic]:
    """Return all errors and notes about the manifests, sorted by file and line.

    Each manifest is checked alone, and references between manifests are checked. If the manifests are
    ``complete``, a missing gate or ConfigMap is an error; otherwise it is a note. Objects of other kinds than
    FineTuneJob, EvalGate, ConfigMap and Secret get a note and are otherwise ignored.
    """
    checks = _Checks(list(manifests), complete=complete)
    return sorted(checks.run(), key=lambda d: (d.file, d.line, d.message))


@dataclass(frozen=True)
class _Text:
    """The text that a source refers to, the manifest that contains this text, and the path of the text
    there."""

    text: str
    holder: Manifest
    path: ObjectPath


class _Checks:
    """Checks all manifests, which it finds by kind, namespace and name."""

    def __init__(self, manifests: list[Manifest], *, complete: bool) -> None:
        self._manifests = manifests
        self._missing: Literal["error", "note"] = "error" if complete else "note"
        self._by_id: dict[_Id, Manifest] = {}
        for manifest in manifests:
            self._by_id.setdefault(_id(manifest), manifest)

    def run(self) -> Iterator[Diagnostic]:
        for manifest in self._manifests:
            first = self._by_id[_id(manifest)]
            if first is not manifest and manifest.kind and manifest.name:
                where = f"{first.file}:{first.line_of(('metadata', 'name'))}"
                yield manifest.at(
                    ("metadata", "name"), f"{manifest.kind} {manifest.name} is already defined at {where}"
                )
            if manifest.is_ours:
                yield from _diagnostics(manifest, find_problems(manifest.obj))
            if manifest.kind == "FineTuneJob":
                yield from self._job(manifest)
            elif manifest.kind == "EvalGate":
                yield from self._gate(manifest)
                yield from self._safety(manifest)
            elif manifest.kind == CONFIG_MAP:
                yield from _config_map(manifest)
            elif manifest.kind == "Secret":
                yield from _secret(manifest)
            elif manifest.kind == "List" and _has_item_that_is_read(manifest):
                message = "the items of a List are not read: write each as a document of its own, after ---"
                yield manifest.at(("kind",), message)
            elif not manifest.is_ours:
                yield manifest.at(("kind",), f"{manifest.kind} {manifest.name} is ignored", "note")

    def _job(self, job: Manifest) -> Iterator[Diagnostic]:
        for path in (("spec", "gates"), *(("spec", "stages", i, "gates") for i in _positions(job, "stages"))):
            for i, reference in enumerate(_list(job.obj, path)):
                yield from self._gate_exists(job, (*path, i, "name"), reference)
        sources: ObjectPath = ("spec", "data", "sources")
        for i in range(len(_list(job.obj, sources))):
            yield from self._pinned(job, (*sources, i))
        yield from self._grader_exists(job)
        for i in _positions(job, "taskMetrics"):
            yield from self._schema(job, ("spec", "taskMetrics", i, "schema"))

    def _gate_exists(self, job: Manifest, path: ObjectPath, reference: object) -> Iterator[Diagnostic]:
        name = reference.get("name") if isinstance(reference, Mapping) else None
        if isinstance(name, str) and ("EvalGate", job.namespace, name) not in self._by_id:
            yield job.at(path, self._missing_text("EvalGate", job, name), self._missing)

    def _grader_exists(self, job: Manifest) -> Iterator[Diagnostic]:
        """Check that the gate that the review of the data names has the grader."""
        path: ObjectPath = ("spec", "data", "quality", "grader")
        named = _find(job.obj, path)
        name, gate = (named.get("name"), named.get("gate")) if isinstance(named, Mapping) else (None, None)
        holder = self._by_id.get(("EvalGate", job.namespace, gate)) if isinstance(gate, str) else None
        if holder is None or not isinstance(name, str):
            return
        judges = [
            str(each.get("name"))
            for each in _list(holder.obj, ("spec", "graders"))
            if isinstance(each, Mapping) and each.get("type") == "Model" and each.get("agreement")
        ]
        if name not in judges:
            found = ", ".join(judges) or "none"
            message = f"EvalGate {gate} has no grader {name} with type: Model and agreement; found: {found}"
            yield job.at((*path, "name"), message)

    def _missing_text(self, kind: str, user: Manifest, name: str) -> str:
        others = [m for m in self._manifests if m.kind == kind and m.name == name]
        if others:
            where = others[0].namespace
            return f"{kind} {name} is in namespace {where}, but this manifest is in {user.namespace}"
        given = sorted({m.name for m in self._manifests if m.kind == kind and m.namespace == user.namespace})
        return f"no {kind} {name} in these files; found: {', '.join(given) or 'none'}"

    def _pinned(
        self, user: Manifest, source: ObjectPath, pin: ObjectPath | None = None
    ) -> Iterator[Diagnostic]:
        """Check that the ConfigMap key of a source exists, and that its text has the pinned digest, if any,
        which is at the path ``pin``, by default in the source."""
        text = self._text(user, source)
        if isinstance(text, Diagnostic):
            yield text
        elif text is not None:
            yield from _digest(user, pin or (*source, "sha256"), text.text)

    def _schema(self, job: Manifest, source: ObjectPath) -> Iterator[Diagnostic]:
        text = self._text(job, source)
        if isinstance(text, Diagnostic):
            yield text
        elif text is not None:
            yield from _schema_faults(text)

    def _gate(self, gate: Manifest) -> Iterator[Diagnostic]:
        yield from self._agreement(gate)
        yield from _effect(gate)
        text, cases = yield from self._case_set(gate, GoldenCase)
        if cases:
            yield from _reachable(gate, cases, sha256_text(text))
            for problem in without_server(_find(gate.obj, ("spec",)), cases):
                yield gate.at(problem.path, str(problem))

    def _agreement(self, gate: Manifest) -> Iterator[Diagnostic]:
        for i, each in enumerate(_list(gate.obj, ("spec", "sets"))):
            if isinstance(each, Mapping) and each.get("kind") == "Agreement":
                yield from self._pinned(gate, ("spec", "sets", i, "source"), ("spec", "sets", i, "sha256"))
        spec = _gate_spec(gate)
        yield from _diagnostics(gate, faulty_probes(spec) if spec else ())

    def _safety(self, gate: Manifest) -> Iterator[Diagnostic]:
        _, cases = yield from self._case_set(gate, SafetyCase)
        spec = _gate_spec(gate)
        if not cases or spec is None or spec.safety is None:
            return  # an invalid spec is reported as a problem of the EvalGate
        few = too_few(cases, bar_of_safety_set(spec.safety))
        if few:
            yield gate.at((*spec.path_of(spec.safety), "source"), f"safety set: {few}")

    def _case_set(
        self, gate: Manifest, kind: type[CaseT]
    ) -> Generator[Diagnostic, None, tuple[str, list[CaseT]]]:
        """Return the text and the cases of a set that is inline or in a ConfigMap, and yield its faults. A
        set with faults, or at an address, has no cases."""
        part = _set_path(gate, kind.SET)
        if part is None:
            return "", []
        text = self._cases(gate, (*part, "source"))
        if isinstance(text, Diagnostic):
            yield text
        if not isinstance(text, _Text):
            return "", []
        yield from _digest(gate, (*part, "sha256"), text.text)
        try:
            return text.text, parse_cases(text.text, kind)
        except CaseSetError as error:
            yield from (_case_fault(kind.SET, text, problem) for problem in error.problems)
            return "", []

    def _cases(self, gate: Manifest, source: ObjectPath) -> _Text | Diagnostic | None:
        """Return the text of the cases of a golden set or safety set that are inline or in a ConfigMap, see
        :meth:`_text`."""
        inline: ObjectPath = (*source, "inline")
        written = _list(gate.obj, inline)
        if written and all(isinstance(case, dict) for case in written):
            return _Text(inline_text(written), gate, inline)
        return self._text(gate, source)

    def _text(self, user: Manifest, source: ObjectPath) -> _Text | Diagnostic | None:
        """Return the text of the ConfigMap key that a source names, a diagnostic if it is missing, or None if
        the source names no ConfigMap."""
        spec = _find(user.obj, source)
        name = spec.get("configMap") if isinstance(spec, Mapping) else None
        if not isinstance(spec, Mapping) or not isinstance(name, str):
            return None
        holder = self._by_id.get((CONFIG_MAP, user.namespace, name))
        if holder is None:
            return user.at((*source, "configMap"), self._missing_text(CONFIG_MAP, user, name), self._missing)
        data = holder.obj.get("data")
        texts = data if isinstance(data, Mapping) else {}
        keys, key = visible_keys(map(str, texts)), spec.get("key")
        if key is None and len(keys) != 1:
            listed = f"keys: {', '.join(keys)}; set key to one of them" if keys else "no data"
            return user.at((*source, "configMap"), f"ConfigMap {name} has {listed}")
        key = keys[0] if key is None else key
        if key not in texts:
            there = ", ".join(sorted(map(str, texts))) or "none"
            return user.at((*source, "key"), f"ConfigMap {name} has no key {key}; it has: {there}")
        value = texts[key]
        return _Text(value, holder, ("data", key)) if isinstance(value, str) else None


def _effect(gate: Manifest) -> Iterator[Diagnostic]:
    """Yield notes about a gate whose rules may be unable to fail, and about too few tokens for refusals."""
    spec = _gate_spec(gate)
    if spec is None:
        return
    if spec.safety is None and not can_fail(final_bar(spec.golden), 1, ()):
        message = (
            "no rule can fail if the models in compareWith pass few golden cases, and this is unknown until "
            "a job measures them: set minPassRate"
        )
        yield gate.at(spec.path_of(spec.golden), message, "note")
    tokens = _find(gate.obj, ("spec", "generation", "maxNewTokens"))
    is_builtin = spec.safety is not None and spec.safety.source.builtin is not None
    if is_builtin and isinstance(tokens, int) and tokens < FEWEST_REFUSAL_TOKENS:
        message = (
            f"{tokens} tokens are too few for the safety set: an answer that is truncated in its first 300 "
            "characters is not measured, so most verdicts will be Error; set at least "
            f"{FEWEST_REFUSAL_TOKENS}"
        )
        yield gate.at(("spec", "generation", "maxNewTokens"), message, "note")


def _id(manifest: Manifest) -> _Id:
    return (manifest.kind, manifest.namespace, manifest.name)


def _find(obj: Any, path: ObjectPath) -> Any:
    for name in path:
        if isinstance(name, int):
            obj = obj[name] if isinstance(obj, list) and name < len(obj) else None
        else:
            obj = obj.get(name) if isinstance(obj, Mapping) else None
    return obj


def _list(obj: Any, path: ObjectPath) -> list[Any]:
    found = _find(obj, path)
    return found if isinstance(found, list) else []


def _has_item_that_is_read(manifest: Manifest) -> bool:
    """Whether a List contains an object of a kind that manifests may have."""
    items = _list(manifest.obj, ("items",))
    kinds = (*KINDS, CONFIG_MAP, "Secret")
    return any(isinstance(item, Mapping) and item.get("kind") in kinds for item in items)


def _positions(manifest: Manifest, name: str) -> range:
    return range(len(_list(manifest.obj, ("spec", name))))


def _diagnostics(manifest: Manifest, problems: Iterable[Problem]) -> Iterator[Diagnostic]:
    for problem in problems:
        yield manifest.at(problem.path, str(problem))


def _config_map(config_map: Manifest) -> Iterator[Diagnostic]:
    """Return diagnostics for everything in a ConfigMap that the API server would refuse."""
    yield from _diagnostics(config_map, metadata_problems(config_map.obj.get("metadata"), DNS_NAMES))
    yield from _texts(config_map, "data")
    data = config_map.obj.get("data")
    texts = data if isinstance(data, Mapping) else {}
    size = sum(len(text.encode(errors="surrogatepass")) for text in texts.values() if isinstance(text, str))
    if size > MAX_CONFIG_MAP:
        yield config_map.at(
            ("data",),
            f"data has {size:,} bytes, and a ConfigMap takes at most {MAX_CONFIG_MAP:,}: "
            "put the file on a volume, and set uri: pvc://CLAIM/PATH",
        )


def _secret(secret: Manifest) -> Iterator[Diagnostic]:
    """Return diagnostics for the metadata, keys and encoding of a Secret that the API server would refuse.
    The diagnostics contain no values of the Secret."""
    yield from _diagnostics(secret, metadata_problems(secret.obj.get("metadata"), DNS_NAMES))
    for field in ("data", "stringData"):
        yield from _texts(secret, field)
    data = secret.obj.get("data")
    for key, value in (data if isinstance(data, Mapping) else {}).items():
        try:
            base64.b64decode(value, validate=True) if isinstance(value, str) else b""
        except ValueError:
            yield secret.at(("data", key), f"data.{key} must be base64: use stringData for plain text")


def _texts(holder: Manifest, field: str) -> Iterator[Diagnostic]:
    """Check the keys and values of a ConfigMap or a Secret."""
    texts = holder.obj.get(field)
    if texts is not None and not isinstance(texts, Mapping):
        yield holder.at(
            (field,), f"{field} must be a mapping of keys to text: write KEY: | and the text below it"
        )
        return
    for key, value in (texts or {}).items():
        if len(key) > MAX_DNS_NAME or not re.fullmatch(KEY_PATTERN, key):
            yield holder.at((field, key), f'{field}: "{key}" must be {PATTERN_DESCRIPTIONS[KEY_PATTERN]}')
        if not isinstance(value, str):
            yield holder.at((field, key), f"{field}.{key} must be text: write it below `{key}: |`")


def _schema_faults(text: _Text) -> Iterator[Diagnostic]:
    try:
        schema = json.loads(text.text)
    except json.JSONDecodeError as error:
        line = text.holder.line_in(text.path, error.lineno)
        yield Diagnostic(text.holder.file, line, f"the schema is not JSON: {error.msg}")
        return
    except (ValueError, RecursionError) as error:
        # JSON, but nested too deeply, or with a number that is too large.
        yield text.holder.at(text.path, f"the schema cannot be read: {error}")
        return
    for path, fault in schema_faults(schema):
        yield text.holder.at(text.path, f"in the schema {Problem(path, fault)}" if path else fault)


def _digest(user: Manifest, pin: ObjectPath, text: str) -> Iterator[Diagnostic]:
    pinned, found = _find(user.obj, pin), sha256_text(text)
    if isinstance(pinned, str) and pinned != found:
        yield user.at(pin, f"{Problem(pin, '').where} does not match the content, whose digest is {found}")


def _case_fault(what: str, text: _Text, problem: str) -> Diagnostic:
    """Return a diagnostic for a fault in a golden set or a safety set, at the line of the faulty case."""
    match = re.match(r"line (\d+): (.*)", problem, re.DOTALL)
    if match is None:
        return text.holder.at(text.path, f"{what} set: {problem}")
    line = int(match[1])
    if text.path[-1] == "inline":
        return text.holder.at((*text.path, line - 1), f"{what} case {line}: {match[2]}")
    return Diagnostic(
        text.holder.file, text.holder.line_in(text.path, line), f"{what} case in line {line}: {match[2]}"
    )


def _reachable(gate: Manifest, cases: list[GoldenCase], sha256: str) -> Iterator[Diagnostic]:
    """Check that the rules name existing cases, and that the golden set has enough cases for its rules, and
    enough that are not sealed."""
    spec = _gate_spec(gate)
    for problem in unreachable(spec, cases, sha256) if spec else ():
        yield gate.at(problem.path, problem.message)


def _gate_spec(gate: Manifest) -> EvalGateSpec | None:
    """Return the spec of a gate whose sets and graders are valid, also if other fields are not."""
    given = gate.obj.get("spec")
    if not isinstance(given, Mapping):
        return None
    fields = {name: given[name] for name in ("sets", "graders", "compareWith") if name in given}
    if any(
        problem.path in (("spec",), ("spec", "sets")) or fields.keys() & set(problem.path[1:2])
        for problem in find_problems(gate.obj)
    ):
        return None
    return EvalGateSpec.model_validate(fields)


def _set_path(gate: Manifest, name: SetName) -> ObjectPath | None:
    """Return the path of the set of this kind in a gate."""
    for i, each in enumerate(_list(gate.obj, ("spec", "sets"))):
        if isinstance(each, Mapping) and str(each.get("kind", "Golden")).lower() == name:
            return ("spec", "sets", i)
    return None
