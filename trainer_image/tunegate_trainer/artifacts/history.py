"""The history of a folder target: the order in which versions were published, and the results of the newest.

The entries are ``.history/000001/entry.json`` and so on, in the same folder as the versions. An entry is
created atomically and never changed. If two jobs publish at the same time, only one of them can create the
next entry, and the other compares its model again.
"""

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from tunegate_api.contract.published import LastPublished, PublishedVersion
from tunegate_api.contract.request import GateRequest, GenerationSettings
from tunegate_api.contract.results import Results
from tunegate_api.judging.judgement import measured_cases
from tunegate_api.meta import MAX_DNS_NAME, Sha256, StatusModel, Time
from tunegate_api.verdict.outcomes import MAX_CASES, passed_count
from tunegate_api.verdict.tiers import CountedCases, counted_cases
from tunegate_trainer.artifacts.evidence import EVIDENCE, VERDICT
from tunegate_trainer.artifacts.gate_result import UsedServer
from tunegate_trainer.artifacts.used_servers import used_guardrail, used_judge
from tunegate_trainer.process.errors import StorageError
from tunegate_trainer.process.files import create_once, is_complete, read_manifest, sha256_file

HISTORY = ".history"
ENTRY = "entry.json"
LATEST = "latest"
"""A symbolic link to the version that was published last."""
UNJUDGED = "it was not evaluated on this golden set"
"""The problem of an unjudged version."""
MAX_REMOVAL = timedelta(minutes=10)
"""A damaged version whose last change is more recent than this may be in the middle of its removal, so the
pod fails and is retried."""


def version_name(job: str, uid: str) -> str:
    """Return the name of a job's version. A part of the uid distinguishes jobs of the same name."""
    return f"{job}-{uid[:5]}"


class DamagedError(Exception):
    """A history entry or a published version exists, but is damaged or incomplete."""


class HistoryEntry(StatusModel):
    """One publication: ``.history/NUMBER/entry.json``."""

    version: Annotated[str, Field(pattern=r"^[a-z0-9][-a-z0-9.]*$", max_length=255)]
    """The name of the version's folder."""
    digest: Sha256
    """The digest of the artifact."""
    time: Time


class EarlierGate(StatusModel):
    """The result of one gate in a version's evidence: only the fields that a comparison needs."""

    name: str
    golden_sha256: Sha256
    outcomes: Annotated[str, Field(max_length=MAX_CASES)]
    """The outcome of each case as one letter."""
    dry_run: bool
    generation: GenerationSettings | None
    """The settings with which the outputs were generated. None if the model was not evaluated."""
    judge: UsedServer | None = None
    guardrail: UsedServer | None = None

    def is_comparable_with(self, gate: GateRequest) -> bool:
        """Whether the outcomes are those of the golden set of ``gate``, with outputs of the same kind, and
        from the same judge and guardrail."""
        if self.generation is None:
            return False
        now, before = gate.spec.generation, self.generation
        settings = [(one.samples, one.max_new_tokens, one.reasoning) for one in (now, before)]
        return (
            self.golden_sha256 == gate.golden_sha256
            and settings[0] == settings[1]
            and _identities(self.judge, self.guardrail) == _identities(used_judge(gate), used_guardrail(gate))
        )


def _identities(*used: UsedServer | None) -> list[tuple[str | None, ...] | None]:
    return [each.identity if each else None for each in used]


class Judged(StatusModel):
    """A version's evidence: only the fields that a comparison needs."""

    job: Annotated[str, Field(max_length=MAX_DNS_NAME)]
    time: Time
    artifact_digest: Sha256
    gates: list[EarlierGate]


def last_number(folder: Path) -> int:
    """Return the number of the last publication to ``folder``, or 0 before the first."""
    with _readable(folder):
        return max(_numbers(folder), default=0)


def is_recorded(folder: Path, version: str) -> bool:
    """Return whether ``version`` has a readable history entry."""
    with _readable(folder):
        return version in _recorded(folder)


def append(folder: Path, number: int, version: str, digest: Sha256) -> bool:
    """Record ``version`` as publication ``number``. Return False if that number is already taken."""
    entry = HistoryEntry(version=version, digest=digest, time=datetime.now(UTC))
    text = entry.model_dump_json(by_alias=True, indent=2) + "\n"
    return create_once(folder / _entry(number) / ENTRY, text)


def newest_recorded(folder: Path) -> str | None:
    """Return the version that ``latest`` should point to: the newest recorded version that still exists.

    Returns None if no recorded version exists, or if the newest history entry is damaged.
    """
    with _readable(folder):
        newest = next((name for name in _recorded(folder) if (folder / name).exists()), None)
    return None if newest is None or _is_damaged_entry(newest) else newest


def newest_versions(
    uri: str, folder: Path, gates: Sequence[GateRequest], own: str
) -> dict[str, list[PublishedVersion]]:
    """Return, for each gate with the baseline LastPublished, the versions in ``folder`` that the job's model
    is compared with: the newest version and, if its evidence has no outcomes on the golden set of the gate,
    also the newest version that has them. The first of the two is ``unjudged``.

    Versions without evidence, ``own``, the job's own version, and for an enforced gate, versions that only
    passed dry runs are ignored. Versions are read from newest to oldest. If one is damaged, it is returned,
    with its ``problem``, for all gates without a version with outcomes so far.

    Raises :class:`StorageError` if the folder of ``uri`` cannot be read, or if a damaged version changed so
    recently that it may be in the middle of its removal.
    """
    pending = {gate.name: gate for gate in gates if "LastPublished" in gate.spec.compared_types}
    found: dict[str, list[PublishedVersion]] = {}
    with _readable(folder):
        for name in _versions(folder):
            if not pending:
                break
            if name == own:
                continue
            try:
                if _is_damaged_entry(name):
                    raise DamagedError("the history entry is damaged")
                judged = _read_judged(folder / name)
            except DamagedError as error:
                if not (is_complete(folder / name) or name in _recorded(folder)):
                    continue  # it is being removed
                if not _is_damaged_entry(name):
                    _refuse_recent(folder / name, error)
                # These gates must not pass, because the version may have been their baseline.
                for gate in pending.values():
                    found.setdefault(gate.name, []).append(_damaged(uri, name, gate.golden_sha256, error))
                break
            for gate in [*pending.values()]:
                version = judged and _published(uri, name, judged, gate)
                if version and not version.unjudged:
                    del pending[gate.name]
                if version and not (version.unjudged and gate.name in found):
                    found.setdefault(gate.name, []).append(version)
    return found


def with_rejudged(
    versions: Mapping[str, Sequence[PublishedVersion]], rejudged: Mapping[str, Sequence[PublishedVersion]]
) -> dict[str, list[PublishedVersion]]:
    """Return ``versions``, in which each unjudged version is replaced by the same version in ``rejudged``, if
    it is there. The keys of both are the names of gates."""

    def judged(gate: str, version: PublishedVersion) -> PublishedVersion:
        same = (
            each
            for each in rejudged.get(gate, ())
            if (each.version, each.digest) == (version.version, version.digest)
        )
        return next(same, version) if version.unjudged else version

    return {gate: [judged(gate, version) for version in each] for gate, each in versions.items()}


def strictest(
    found: Iterable[Mapping[str, Sequence[PublishedVersion]]], gates: Sequence[GateRequest], results: Results
) -> dict[str, PublishedVersion]:
    """Combine the versions at several targets: for each gate, return the version that passed the most cases.
    Advisory cases do not count.

    A damaged version takes precedence, so that the comparison does not pass. A new version whose pass rate is
    at least that of the returned one has at least the pass rate of the last version at every target. New
    failures are compared with the returned version only.
    """
    counted = {g.name: counted_cases(measured_cases(g, results), g.bar) for g in gates}
    chosen: dict[str, PublishedVersion] = {}
    for versions in found:
        for gate, version in ((gate, version) for gate, each in versions.items() for version in each):
            strictness = partial(_strictness, counted[gate])
            chosen[gate] = max(chosen.get(gate, version), version, key=strictness)
    return chosen


def next_reading(known: LastPublished | None, found: dict[str, PublishedVersion]) -> LastPublished | None:
    """Return ``known``, the previous reading, if its versions equal ``found``. Otherwise return a reading
    with the versions ``found`` and the next number."""
    if found == (known.versions if known else {}):
        return known
    return LastPublished(reading=known.reading + 1 if known else 1, versions=found)


def _strictness(counted: CountedCases, version: PublishedVersion) -> tuple[bool, int, bool]:
    outcomes = counted.of(version.outcomes) if version.by_case else version.outcomes
    return (version.problem is not None, passed_count(outcomes), version.by_case)


def _published(uri: str, name: str, judged: Judged, gate: GateRequest) -> PublishedVersion | None:
    """Return the version as a baseline of ``gate``. Returns None if ``gate`` is enforced, but the version
    only passed dry runs, or passed ``gate`` when that was a dry run."""
    own = [each for each in judged.gates if each.name == gate.name]
    rehearsed = all(each.dry_run for each in own or judged.gates)
    if rehearsed and not gate.spec.dry_run:
        return None
    version = PublishedVersion(
        job=judged.job,
        golden_sha256=gate.golden_sha256,
        outcomes="",
        version=f"{uri.rstrip('/')}/{name}",
        digest=judged.artifact_digest,
    )
    same = next((each for each in [*own, *judged.gates] if each.is_comparable_with(gate)), None)
    if same is None:
        return version.model_copy(update={"unjudged": True, "problem": UNJUDGED})
    return version.model_copy(update={"outcomes": same.outcomes, "by_case": True})


def _damaged(uri: str, name: str, golden_sha256: Sha256, error: DamagedError) -> PublishedVersion:
    version = f"{uri.rstrip('/')}/{name}"
    if _is_damaged_entry(name):
        problem = f"the history entry {version} cannot be read; remove it if its version no longer exists"
    else:
        problem = f"{error}; restore the version, or remove its folder"
    return PublishedVersion(
        job=name, golden_sha256=golden_sha256, outcomes="", version=version, problem=problem
    )


def _refuse_recent(folder: Path, error: DamagedError) -> None:
    """Raise :class:`StorageError` if a damaged version changed recently: it may be in the middle of its
    removal."""
    now = datetime.now(UTC)
    times = [path.stat().st_mtime for path in (folder, folder / EVIDENCE) if path.exists()]
    if now - datetime.fromtimestamp(max(times, default=now.timestamp()), UTC) < MAX_REMOVAL:
        minutes = int(MAX_REMOVAL.total_seconds()) // 60
        raise StorageError(
            f"the published version {folder.name} is damaged: {error}; it changed less than {minutes} "
            "minutes ago, so it may be in the middle of its removal",
            "if the version is being removed, retry afterwards; otherwise restore it",
        ) from error


@contextlib.contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"the versions published to {folder} cannot be read: {error}",
            "check the volume, and who owns its files",
        ) from error


def _versions(folder: Path) -> Iterator[str]:
    """Yield the names of existing versions and of damaged history entries in ``folder``, newest first.

    Versions without an entry come last, ordered by the time of their evidence: the target may be a copy
    without the hidden folder of the history.
    """
    recorded = _recorded(folder)
    for name in dict.fromkeys(recorded):
        if (folder / name).exists():
            yield name
    yield from (name for name in _by_time(folder) if name not in recorded)


def _read_judged(folder: Path) -> Judged | None:
    """Read the evidence of a version. Returns None if it was published without evidence.

    Raises :class:`DamagedError` if the version is incomplete, or if its evidence is missing or was changed.
    The weights are not verified, because a comparison needs only the evidence.
    """
    if not is_complete(folder):
        raise DamagedError("the version is not complete")
    try:
        manifest = read_manifest(folder)
        if VERDICT not in manifest.files:
            return None
        digest = sha256_file(folder / VERDICT)
        judged = Judged.model_validate_json((folder / VERDICT).read_bytes())
    except (FileNotFoundError, ValidationError) as error:
        raise DamagedError(f"its evidence cannot be read: {str(error).splitlines()[0]}") from error
    if (digest, judged.artifact_digest) != (manifest.files[VERDICT], manifest.digest):
        raise DamagedError(f"its {VERDICT} was changed")
    return judged


def _numbers(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder / HISTORY)  # unlike glob, listdir raises if the folder is unreadable
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if re.fullmatch("[0-9]{6,}", name))


def _entry(number: int) -> str:
    return f"{HISTORY}/{number:06d}"


def _is_damaged_entry(name: str) -> bool:
    """Return whether ``name``, from :func:`_recorded`, is the name of a damaged history entry, not of a
    version."""
    return name.startswith(HISTORY)


def _recorded(folder: Path) -> list[str]:
    """Return the versions in the history entries, newest first. A damaged entry is listed with its own
    name."""
    names: list[str] = []
    for number in reversed(_numbers(folder)):
        entry = _entry(number)
        try:
            text = (folder / entry / ENTRY).read_bytes()
            names.append(HistoryEntry.model_validate_json(text).version)
        except FileNotFoundError:
            continue  # it is being removed
        except (ValidationError, NotADirectoryError):
            names.append(entry)
    return names


def _by_time(folder: Path) -> list[str]:
    """Return the complete versions that have evidence, newest first by the time in the evidence. Versions
    with damaged evidence come before all others."""
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    found: list[tuple[bool, str, str]] = []
    for name in names:
        if name.startswith(".") or not is_complete(folder / name):
            continue
        try:
            judged = _read_judged(folder / name)
        except DamagedError:
            found.append((True, "", name))
        else:
            if judged:
                found.append((False, judged.time.isoformat(), name))
    return [name for *_, name in sorted(found, reverse=True)]
