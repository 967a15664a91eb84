"""Convert the samples that lm-eval logs to golden cases, with the semantics of lm-eval 0.4.13."""

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunegate_api.cases.normalize import without_differences
from tunegate_client.imports.imported import Ids, Imported, NotCarriedError, slug
from tunegate_client.imports.javascript import read_text

Fields = Mapping[str, Any]
Expectation = dict[str, Any]

_NAME = re.compile(r"samples_(?P<task>.+)_(?P<date>[^_]+)\.jsonl")
_FUNCTION = re.compile(r"\b(?:def|lambda)\b")
_FIELDS = {
    "process_results": "runs code; write a scorer of your own",
    "doc_to_choice": "compares the output with one of several choices",
    "doc_to_image": "shows images to the model",
    "doc_to_audio": "plays audio to the model",
    "gen_prefix": "is the beginning of the answer, which a chat does not give",
}
"""Fields of tasks that have no equivalent."""
_METRICS = dict.fromkeys(
    ("bleu", "chrf", "chrf++", "ter"), "is computed over all samples, so none passes alone"
)
_FILTERS = {
    "custom": "runs code; write a scorer of your own",
    "majority_vote": "votes on several outputs; use generation.samples of the gate",
}
_GSM8K = r"#### (\-?[0-9\.\,]+)"
"""The default pattern of the filter regex."""
_SETTINGS = {"metric", "aggregation", "higher_is_better", "hf_evaluate"}
"""Settings of a metric that are not its own arguments."""
_TRIMMED = {"pattern": "(?s).+"}
"""Extracts the whole output without the white space at both ends."""


@dataclass(frozen=True)
class _Judge:
    """How a task compares the text of an output with a target."""

    extract: dict[str, str] | None
    fallback: str | None
    """What is compared if the pattern of ``extract`` does not match."""
    is_trimmed: bool
    """Whether white space at both ends of the output is removed first."""
    ignore: list[str]
    normalize: list[Any]

    def expectation(self, target: str, until: Sequence[str]) -> Expectation:
        value, compared = self._without_ignored(target), self._compared(target)
        if not compared.strip():
            raise NotCarriedError("target", "has nothing that is compared")
        if self.fallback is not None and self._compared(self.fallback) == compared:
            raise NotCarriedError("target", "equals the fallback of the filter, which stands for no answer")
        changes_ends = bool(self.ignore) or "AsciiPunctuation" in self.normalize
        extract = _TRIMMED if self.is_trimmed and changes_ends and not self.extract else self.extract
        trim = self.is_trimmed and not extract
        if trim and value != value.strip():
            raise NotCarriedError("target", "has white space at its ends, which no filtered output has")
        found = {
            "type": "equals",
            "value": value,
            "normalize": self.normalize,
            "until": until,
            "extract": extract,
            "ignore": self.ignore,
        }
        return {name: each for name, each in found.items() if each} | ({} if trim else {"trim": False})

    def _compared(self, text: str) -> str:
        return without_differences(self._without_ignored(text), self.normalize)

    def _without_ignored(self, text: str) -> str:
        for pattern in self.ignore:
            text = re.sub(pattern, "", text)
        return text


def import_lm_eval(path: Path, filter_: str | None = None, *, incomplete: bool = False) -> Imported:
    """Convert the samples at ``path``. The configuration of their task is in the results beside them.

    ``filter_`` is the name of the filter whose results count, if the task has several.

    Raises :class:`NotCarriedError` if nothing can be carried over, and OSError or UnicodeDecodeError if a
    file cannot be read.
    """
    task, config = _task(path)
    pipeline = _pipeline(config, filter_)
    samples = [each for each in _samples(path) if each.get("filter", pipeline["name"]) == pipeline["name"]]
    dropped: list[NotCarriedError] = []
    refused = list(_refused(config, samples))
    judge = None
    try:
        judge = _judge(config, pipeline, dropped) if not refused else None
    except NotCarriedError as error:
        refused.append(error)
    found, ids = Imported(), Ids()
    for number, sample in enumerate(samples):
        case_id = ids.new(f"doc-{sample.get('doc_id')}", f"doc-{number}")
        case: dict[str, Any] = {"id": case_id, "tags": [slug(task)]}
        faults = [*refused, *dropped]
        if judge:
            try:
                case |= {"prompt": _prompt(sample), "expect": [_expectation(judge, config, sample)]}
            except NotCarriedError as error:
                faults.append(error)
        found.add(case, faults, incomplete=incomplete)
    return found


def _task(path: Path) -> tuple[str, Fields]:
    """Return the name and the configuration of the task of a file of samples."""
    name = _NAME.fullmatch(path.name)
    if not name:
        raise NotCarriedError("file", "must have the name samples_TASK_DATE.jsonl that lm-eval gave it")
    beside = [each for each in path.parent.glob("*.json") if each.stem.endswith(f"_{name['date']}")]
    if len(beside) != 1:
        raise NotCarriedError("file", f"results_{name['date']}.json of lm-eval must be in the same folder")
    try:
        results = json.loads(read_text(beside[0]))
    except (ValueError, RecursionError) as error:
        raise NotCarriedError("file", f"{beside[0].name} is not JSON: {error}") from error
    configs = results.get("configs") if isinstance(results, Mapping) else None
    config = configs.get(name["task"]) if isinstance(configs, Mapping) else None
    if not isinstance(config, Mapping):
        raise NotCarriedError("file", f"{beside[0].name} has no configuration of the task {name['task']}")
    if results.get("chat_template"):
        reason = "the prompts have the format of one model; log samples without --apply_chat_template"
        raise NotCarriedError("chat_template", reason)
    return name["task"], config


def _samples(path: Path) -> list[Fields]:
    try:
        samples = [json.loads(line) for line in read_text(path).split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        raise NotCarriedError("file", f"is not JSON Lines: {error}") from error
    if not all(isinstance(sample, Mapping) and "target" in sample for sample in samples):
        raise NotCarriedError(
            "file", "must have samples, which are objects with doc_id, arguments and target"
        )
    return samples


def _pipeline(config: Fields, wanted: str | None) -> Fields:
    """Return the filters with the name ``wanted``, or those of a task that has no others."""
    pipelines = config.get("filter_list") or [{"name": "none", "filter": [{"function": "take_first"}]}]
    if not _are_objects(pipelines) or not all(_are_objects(each.get("filter")) for each in pipelines):
        raise NotCarriedError("filter_list", "must have filters, each with a name and a list of functions")
    by_name = {str(each.get("name")): each for each in pipelines}
    if wanted is None and len(by_name) == 1:
        (wanted,) = by_name
    if wanted not in by_name:
        raise NotCarriedError("filter", f"choose one with --filter: {', '.join(by_name)}")
    return {**by_name[wanted], "name": wanted}


def _are_objects(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(each, Mapping) for each in given)


def _refused(config: Fields, samples: Sequence[Fields]) -> Iterator[NotCarriedError]:
    """Return why no sample of a task can be carried over."""
    if config.get("output_type") != "generate_until":
        yield NotCarriedError(
            str(config.get("output_type")), "compares probabilities of texts, which outputs do not have"
        )
        return
    for field, reason in _FIELDS.items():
        if config.get(field):
            yield NotCarriedError(field, reason)
    try:
        kinds = {bool(_list_target(config, sample)) for sample in samples}
    except NotCarriedError as error:
        yield error
    else:
        if len(kinds) > 1:
            yield NotCarriedError("doc_to_target", "is a list in some samples, and a text in others")


def _judge(config: Fields, pipeline: Fields, dropped: list[NotCarriedError]) -> _Judge:
    """Return how a task judges outputs. Metrics other than exact_match are added to ``dropped``."""
    metrics = config.get("metric_list") or [{"metric": "exact_match"}]
    if not _are_objects(metrics):
        raise NotCarriedError("metric_list", "must have metrics, which are objects")
    exact = [each for each in metrics if each.get("metric") == "exact_match"]
    for each in metrics:
        if each not in exact:
            name = str(each.get("metric"))
            is_name = re.fullmatch(r"[\w+-]+", name)
            reason = _METRICS.get(
                name, "has no equivalent" if is_name else "runs code; write a scorer of your own"
            )
            dropped.append(NotCarriedError(name if is_name else "metric", reason))
    if not exact:
        raise NotCarriedError("metric_list", "has no exact_match")
    settings = {name: value for name, value in exact[0].items() if name not in _SETTINGS}
    ignore = settings.pop("regexes_to_ignore", None) or []
    flags = [settings.pop(name, False) for name in ("ignore_case", "ignore_punctuation")]
    others = [name for name, value in settings.items() if value]
    others += ["hf_evaluate"] if exact[0].get("hf_evaluate") else []
    if len(exact) > 1 or others:
        reason = f"has no equivalent with {', '.join(others)}" if others else "occurs several times"
        raise NotCarriedError("exact_match", reason)
    for pattern in ignore:
        try:
            re.compile(pattern)
        except (re.error, TypeError, OverflowError, RecursionError) as error:
            raise NotCarriedError("regexes_to_ignore", f"has an invalid pattern: {error}") from error
    forms = [form for form, flag in zip(("LowerCase", "AsciiPunctuation"), flags, strict=True) if flag]
    return _Judge(*_filtered(pipeline), ignore=list(ignore), normalize=forms)


def _filtered(pipeline: Fields) -> tuple[dict[str, str] | None, str | None, bool]:
    """Return the extraction, its fallback, and whether white space is removed at both ends."""
    steps = list(pipeline["filter"])
    last = steps.pop() if steps else {}
    if last != {"function": "take_first"}:
        raise NotCarriedError("filter", "does not end with take_first")
    extract, fallback, is_trimmed = None, None, False
    for step in steps:
        name = step.get("function")
        if name == "remove_whitespace":
            is_trimmed = True
        elif name == "regex" and not extract and not is_trimmed:
            if step.get("group_select", 0) not in {0, -1}:
                raise NotCarriedError("regex", "selects neither the first nor the last match")
            extract = {"pattern": step.get("regex_pattern", _GSM8K)}
            extract |= {"match": "Last"} if step.get("group_select") else {}
            fallback = step.get("fallback", "[invalid]")
        elif name == "regex":
            raise NotCarriedError("regex", "follows another filter")
        else:
            shown = name if isinstance(name, str) and re.fullmatch(r"\w+", name) else "filter"
            raise NotCarriedError(shown, _FILTERS.get(shown, "is a filter without an equivalent"))
    return extract, fallback, is_trimmed and not extract


def _prompt(sample: Fields) -> str:
    arguments = sample.get("arguments")
    first = arguments.get("gen_args_0") if isinstance(arguments, Mapping) and len(arguments) == 1 else None
    text = first.get("arg_0") if isinstance(first, Mapping) else None
    if not isinstance(text, str) or not text:
        raise NotCarriedError("arguments", "must have one prompt, a text")
    return text


def _expectation(judge: _Judge, config: Fields, sample: Fields) -> Expectation:
    settings = config.get("generation_kwargs")
    given = settings.get("until") if isinstance(settings, Mapping) else None
    until = [each for each in (given if isinstance(given, list) else [given]) if each]
    targets = _list_target(config, sample) or [sample["target"]]
    if not all(isinstance(each, str) for each in targets):
        raise NotCarriedError("target", "has a value that is not a text")
    found = [judge.expectation(each, until) for each in dict.fromkeys(targets)]
    return found[0] if len(found) == 1 else {"type": "any", "of": found}


def _list_target(config: Fields, sample: Fields) -> list[Any] | None:
    """Return the targets of a sample that has several. lm-eval logs a list like a text, in Python syntax."""
    given, doc, text = config.get("doc_to_target"), sample.get("doc"), sample["target"]
    if isinstance(given, str) and isinstance(doc, Mapping) and given in doc:
        return doc[given] if isinstance(doc[given], list) else None
    try:
        found = ast.literal_eval(text) if str(text).startswith("[") else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(found, list) and isinstance(given, str) and _FUNCTION.search(given):
        raise NotCarriedError("doc_to_target", "is code that returned either a list, or a text like a list")
    return found if isinstance(found, list) else None
