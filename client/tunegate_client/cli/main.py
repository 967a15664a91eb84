"""The ``tunegate`` command."""

import sys

import click

from tunegate_api import __version__
from tunegate_client.cli.lazy import LazyGroup

_CLI = "tunegate_client.cli"
ON_JOBS = {
    "status": f"{_CLI}.jobs",
    "logs": f"{_CLI}.jobs",
    "events": f"{_CLI}.jobs",
    "report": f"{_CLI}.jobs",
    "ui": f"{_CLI}.ui",
    "review": f"{_CLI}.review",
    "continue": f"{_CLI}.decisions",
    "discard": f"{_CLI}.decisions",
    "approve": f"{_CLI}.approvals",
    "override": f"{_CLI}.approvals",
    "reject": f"{_CLI}.approvals",
    "suspend": f"{_CLI}.decisions",
    "resume": f"{_CLI}.decisions",
}
"""The commands for jobs in a runs folder or on a cluster, and the module of each."""
COMMANDS = {
    "check": f"{_CLI}.check",
    "init": f"{_CLI}.init",
    "validate": f"{_CLI}.manifests",
    "plan": f"{_CLI}.manifests",
    "run": f"{_CLI}.run",
    "golden": f"{_CLI}.golden",
    "gate": f"{_CLI}.gate",
    "pairs": f"{_CLI}.pairs",
    **ON_JOBS,
    "completion": f"{_CLI}.completion",
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunegate")
def main() -> None:
    """Fine-tune a model, evaluate every checkpoint, and publish only a model that passed.

    \b
    The same manifests run here and on a cluster:
      tunegate check data.jsonl                check data, without a manifest
      tunegate init --data data.jsonl …        write the manifests of a new job from its data
      tunegate validate examples/quickstart    report every mistake, with its line
      tunegate plan examples/quickstart        estimate what it needs, without training
      tunegate run examples/quickstart         prepare data, train, judge, publish
      tunegate status                          show runs and their results
      tunegate golden --help                   check and extend golden sets
      tunegate gate --help                     judge a model in CI; measure how often a gate is wrong
      tunegate pairs --help                    make preference pairs from completions that people rank

    A run that a gate stopped waits for your decision: `tunegate continue` or `tunegate discard`. A run with
    data.quality waits until a sample of its data is scored: `tunegate review`. A run whose gate requires it
    waits for `tunegate approve`, `tunegate override` or `tunegate reject`. With --namespace, --context or
    --kubeconfig, a command is about the jobs on a cluster.
    """


if __name__ == "__main__":
    sys.exit(main())
