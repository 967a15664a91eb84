"""Convert a promptfoo configuration to golden cases, with the semantics of promptfoo 0.123."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tunegate_client.imports.imported import Ids, Imported, NotCarriedError, tags_of
from tunegate_client.imports.javascript import load_yaml, read_text, trimmed
from tunegate_client.imports.promptfoo_assertions import Expectation, Scope
from tunegate_client.imports.promptfoo_prompts import Prompt, chat, read_prompts
from tunegate_client.imports.promptfoo_references import resolved
from tunegate_client.imports.promptfoo_scores import expectations_of
from tunegate_client.imports.promptfoo_tests import Test, faults_of, read_tests, variable_sets

Fields = Mapping[str, Any]


def import_promptfoo(path: Path, *, incomplete: bool = False) -> Imported:
    """Convert the configuration at ``path``. ``incomplete`` also carries over cases without those assertions
    that have no equivalent.

    Raises :class:`NotCarriedError` if nothing in the file can be carried over, and OSError,
    UnicodeDecodeError or yaml.YAMLError if the file cannot be read.
    """
    config = load_yaml(read_text(path))
    _check(config)
    parts = ("tests", "scenarios", "defaultTest")
    config = {**config, **{part: resolved(config.get(part), config) for part in parts}}
    found, ids = Imported(), Ids()
    prompts = read_prompts(config.get("prompts"), path.parent)
    for number, test in enumerate(read_tests(config, path.parent), 1):
        description = test.fields.get("description")
        named = description if isinstance(description, str) else ""
        for case, faults, suffix in _cases(test, prompts, path.parent):
            base = f"test-{number}" if not named or named.startswith("Row #") else named
            case_id = ids.new(f"{base[: 60 - len(suffix)]}{suffix}", f"test-{number}{suffix}")
            found.add({"id": case_id, **case}, faults, incomplete=incomplete)
    return found


def _check(config: Any) -> None:
    """Raise NotCarriedError if the whole file cannot be carried over."""
    if not isinstance(config, Mapping) or not config.keys() & {"prompts", "tests", "scenarios"}:
        raise NotCarriedError("file", "is no promptfoo configuration: it has no prompts and no tests")
    for name, reason in (
        ("redteam", "attacks are generated and graded by models"),
        ("extensions", "run code that can change the tests"),
    ):
        if config.get(name):
            raise NotCarriedError(name, reason)
    env = config.get("env")
    if isinstance(env, Mapping) and any(str(name).startswith("PROMPTFOO_") for name in env):
        raise NotCarriedError("env", "sets variables that change how promptfoo works")
    providers = config.get("providers") or config.get("targets") or []
    for provider in providers if isinstance(providers, list) else [providers]:
        options = provider if isinstance(provider, Mapping) else {}
        if options.get("transform") or any(
            isinstance(each, Mapping) and each.get("transform") for each in options.values()
        ):
            raise NotCarriedError("transform of a provider", "runs code on the output")


def _cases(
    test: Test, prompts: list[Prompt], folder: Path
) -> Iterator[tuple[dict[str, Any], list[NotCarriedError], str]]:
    """Yield a case of a test for each set of variables and each prompt, with what cannot be carried over, and
    the end of its id."""
    if test.fault:
        yield {}, [test.fault], ""
        return
    faults = list(faults_of(test.fields))
    try:
        variables = variable_sets(test.fields, folder)
    except NotCarriedError as error:
        yield {}, [*faults, error], ""
        return
    for v, values in enumerate(variables, 1):
        for p, prompt in enumerate(prompts, 1):
            suffix = f"-vars-{v}" if len(variables) > 1 else ""
            suffix += f"-prompt-{p}" if len(prompts) > 1 else ""
            yield *_case(test.fields, prompt, values, folder, faults), suffix


def _case(
    test: Fields, prompt: Prompt, variables: Fields, folder: Path, faults: list[NotCarriedError]
) -> tuple[dict[str, Any], list[NotCarriedError]]:
    expect, refused = expectations_of(test["assert"], test.get("threshold"), Scope(variables, folder))
    if faults:
        return {}, [*faults, *refused]
    try:
        if prompt.fault:
            raise prompt.fault
        prefix, suffix = (test["options"][name] for name in ("prefix", "suffix"))
        turns = chat(f"{prefix}{prompt.template}{suffix}", variables)
    except NotCarriedError as error:
        return {}, [*refused, error]
    allow_empty = not any(needs_text(each) for each in expect)
    case = {"tags": tags_of(test["metadata"]), **turns, "expect": expect, "allowEmpty": allow_empty}
    return case, refused


def needs_text(expectation: Expectation) -> bool:
    """Whether no empty output, and no output of white space, can meet an expectation."""
    if expectation.get("not"):
        return False
    if expectation["type"] == "all":
        return any(map(needs_text, expectation["of"]))
    if expectation["type"] == "any":
        return all(map(needs_text, expectation["of"]))
    if expectation["type"] in {"equals", "contains", "starts_with"}:
        return bool(expectation["value"].strip() and trimmed(expectation["value"]))
    return expectation["type"] in {"json_schema", "json_equals"}
