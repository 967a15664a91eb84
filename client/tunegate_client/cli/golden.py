"""The commands `tunegate golden`: check, extend and import the golden sets of gates."""

from pathlib import Path

import click

from tunegate_api.cases.case_lines import CaseSetError, parse_cases
from tunegate_api.cases.golden import GoldenCase
from tunegate_client.cli.lazy import LazyGroup

_CLI = "tunegate_client.cli"
COMMANDS = {
    "lint": f"{_CLI}.golden_lint",
    "add": f"{_CLI}.golden_add",
    "import": f"{_CLI}.golden_import",
}
OUTPUT = click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The new golden set. An existing file is never changed.",
)
GOLDEN = click.argument("golden", type=click.Path(exists=True, dir_okay=False, path_type=Path))


@click.group(cls=LazyGroup, lazy=COMMANDS)
def golden() -> None:
    """Check, extend and import golden sets, which are JSON Lines files.

    \b
      tunegate golden lint golden-v1.jsonl                               find weak cases
      tunegate golden add golden-v1.jsonl incident.json -o golden-v2.jsonl    make the next version
      tunegate golden import promptfooconfig.yaml -o golden-v1.jsonl     convert cases of other tools
    """


def read_golden(path: Path) -> tuple[str, list[GoldenCase]]:
    """Return the text of a golden set and its cases. Raises ClickException with every invalid line."""
    text = decode(path.read_bytes(), str(path))
    if path.suffix in (".yaml", ".yml"):
        raise click.ClickException(f"{path} is a manifest: give the golden set as a JSON Lines file")
    return text, parse(text, str(path))


def existing(path: Path) -> click.ClickException:
    """Return the error for a file that would be replaced."""
    return click.ClickException(f"{path} exists: name a new file, because a version never changes")


def write_new(path: Path, text: str) -> None:
    """Write a golden set to a new file. Raises ClickException if the file exists or cannot be written."""
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise existing(path) from None
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error


def decode(content: bytes, name: str) -> str:
    """Return the content of a file as text without a byte order mark. Raises ClickException if it is not
    UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{name} is not UTF-8 at byte {error.start}: save it as UTF-8") from error


def parse(text: str, name: str) -> list[GoldenCase]:
    """Parse golden cases. Raises ClickException with every invalid line of the file ``name``."""
    try:
        return parse_cases(text, GoldenCase)
    except CaseSetError as error:
        raise click.ClickException("\n".join(f"{name}: {problem}" for problem in error.problems)) from error
