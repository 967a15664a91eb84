"""The command `tunegate pairs sample`."""

import json
import signal
from contextlib import closing
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.progress import track

from tunegate_api.meta import summarize
from tunegate_api.preference import Candidates, Completion, PromptLine, SampledPrompt, SampleRequest
from tunegate_client.cli.data_job import address_of
from tunegate_client.cli.pairs import OUTPUT
from tunegate_client.cli.place import RUNS
from tunegate_client.laptop.plan import ForecastError
from tunegate_client.laptop.plan import sample as sampled
from tunegate_client.pairs.files import Problems, read_lines
from tunegate_client.pairs.session import MAX_KEYS
from tunegate_client.places.client import ClientError

_SHOWN_IDS = 10
_UNUSED = {
    "repeated": "repeat another one: a higher --temperature gives more different ones",
    "cut": "do not end within --max-new-tokens",
    "empty": "are empty",
}


@click.command()
@click.option("--model", required=True, help="A model or an adapter: a path, or an address such as hf://…")
@click.option("--revision", help="The commit, tag or branch of an hf:// model, which needs one.")
@click.option(
    "--prompts",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON Lines with the field prompt, which is text or a chat, and optionally id.",
)
@OUTPUT
@click.option(
    "-n",
    "--completions",
    type=click.IntRange(2, MAX_KEYS),
    default=4,
    show_default=True,
    help="Number of different completions of a prompt.",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0, 5, min_open=True),
    default=0.8,
    show_default=True,
    help="Higher values give more different, but less likely completions.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="Maximum length of a completion. Longer ones are not used.",
)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@RUNS
def sample(
    *,
    model: str,
    revision: str | None,
    prompts: Path,
    output: Path,
    completions: int,
    temperature: float,
    seed: int,
    max_new_tokens: int,
    batch_size: int,
    runs: Path,
) -> None:
    """Sample completions of prompts, for people to rank.

    The model runs on this machine, on its GPU if there is one. The completions of a prompt are written as
    soon as they are complete. A prompt that has fewer than 2 different completions is left out.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the model's process ends, too
    given = _read_prompts(prompts)
    request = SampleRequest(
        model=address_of(model),
        revision=revision,
        prompts=given,
        completions=completions,
        temperature=temperature,
        seed=seed,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
    )
    if output.exists():
        raise ClientError(f"{output} exists: delete it, or choose another name")
    found: list[SampledPrompt] = []
    try:
        with (
            output.open("x", encoding="utf-8") as file,
            closing(sampled(request, Path.cwd(), runs)) as results,
        ):
            for one in track(results, "sampling", len(given), console=Console(stderr=True), transient=True):
                found.append(one)
                _write(file, given[one.index], one)
    except OSError as error:
        raise ClientError(f"{output} cannot be written: {error}") from error
    except ForecastError as error:
        raise ClientError(str(error)) from error
    finally:
        written = sum(len(one.texts) > 1 for one in found)
        if written:
            click.echo(f"{output} has completions of {written:,} of {len(given):,} prompts")
        else:
            output.unlink(missing_ok=True)
    _report(found, given, completions)
    if not written:
        raise ClientError(f"no prompt has 2 different completions, so {output} is not written")


def _read_prompts(path: Path) -> list[PromptLine]:
    """Read the prompts, each with an id. Raises ClientError."""
    problems, found = Problems(path), dict[str, PromptLine]()
    for place, line in read_lines(path, PromptLine, problems):
        id = line.id or place.removeprefix("line ")
        if id in found:
            problems.add(place, f"id: another prompt has the id {id}")
        found[id] = line.model_copy(update={"id": id})
    problems.refuse()
    if not found:
        raise ClientError(f"{path} has no prompts")
    return list(found.values())


def _write(file: TextIO, prompt: PromptLine, one: SampledPrompt) -> None:
    if len(one.texts) > 1:
        texts = [Completion(id=f"c{n}", text=text) for n, text in enumerate(one.texts, start=1)]
        candidates = Candidates(id=str(prompt.id), prompt=prompt.prompt, completions=texts)
        file.write(json.dumps(candidates.model_dump(mode="json"), ensure_ascii=False) + "\n")
        file.flush()


def _report(found: list[SampledPrompt], given: list[PromptLine], completions: int) -> None:
    """Print which prompts have too few completions, and why samples are not used."""
    few = [str(given[one.index].id) for one in found if len(one.texts) < completions]
    if few:
        left_out = sum(len(one.texts) < 2 for one in found)
        click.echo(
            f"{len(few):,} prompts have fewer than {completions} different completions: "
            f"{summarize(few, _SHOWN_IDS)}; {left_out:,} of them have fewer than 2 and are excluded"
        )
    for field, reason in _UNUSED.items():
        count = sum(getattr(one, field) for one in found)
        if count:
            click.echo(f"{count:,} samples are not used because they {reason}")
