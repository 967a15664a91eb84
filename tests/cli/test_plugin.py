"""The plugin `kubectl tunegate`: its options, its completion, its installation."""

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from support import manifests
from support.places import CommandAt
from tunegate_client.cli.completion import kubectl_completions
from tunegate_client.cli.main import COMMANDS, main
from tunegate_client.cli.plugin import plugin

ROOT = Path(__file__).parents[2]
UNNEEDED = (
    "kopf",
    "psutil",
    "prometheus_client",
    "tunegate_client.laptop.cluster",
    "tunegate_operator.manager",
)


def test_commands_that_the_plugin_needs_are_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert {"tunegate", "kubectl-tunegate", "kubectl_complete-tunegate"} <= set(scripts)
    for script in scripts.values():
        module, _, function = script.partition(":")
        assert callable(getattr(import_module(module), function))


@pytest.mark.parametrize("command", list(plugin.list_commands(click.Context(plugin))))
def test_plugin_commands_use_a_cluster_and_have_no_runs_folder(command: str) -> None:
    text = CliRunner().invoke(plugin, [command, "--help"]).output
    assert "--namespace" in text
    assert "--runs" not in text
    assert "--runs" in CliRunner().invoke(main, [command, "--help"]).output


def test_each_command_of_tunegate_has_help() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    for command in COMMANDS:
        assert f"\n  {command}  " in text


def test_missing_kubeconfig_is_reported_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for location in ("kubernetes.config", "kubernetes.config.kube_config"):
        monkeypatch.setattr(f"{location}.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    result = CliRunner().invoke(plugin, ["status"])
    assert result.exit_code == 1
    assert "no cluster is configured: there is no kubeconfig; set KUBECONFIG" in result.output


@pytest.mark.parametrize("content", ["[1]", "text", "clusters: 1"])
def test_kubeconfig_that_is_not_one_is_reported(tmp_path: Path, content: str) -> None:
    (tmp_path / "config").write_text(content)
    result = CliRunner().invoke(plugin, ["status", "--kubeconfig", str(tmp_path / "config")])
    assert result.exit_code == 1
    assert "no cluster is configured" in result.output


def test_folder_and_cluster_cannot_both_be_selected() -> None:
    result = CliRunner().invoke(main, ["status", "--runs", "here", "--namespace", "team"])
    assert result.exit_code == 2
    assert "--runs selects a folder on this machine, and --namespace a cluster" in result.output


def test_runs_folder_in_the_environment_does_not_hide_the_cluster(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("{}")
    options = ["status", "--kubeconfig", str(tmp_path / "config")]
    result = CliRunner().invoke(main, options, env={"TUNEGATE_RUNS": "here"})
    assert "no cluster is configured" in result.output


def test_status_on_a_cluster_imports_no_module_of_other_commands(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("{}")
    program = (
        "import sys; from tunegate_client.cli.plugin import main\n"
        f"sys.argv[1:] = ['status', '--kubeconfig', {str(tmp_path / 'config')!r}]\n"
        "try: main()\n"
        f"finally: print(sorted(set({UNNEEDED}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "[]\n"), done.stderr


def test_kubectl_gets_the_completions_of_commands_and_options() -> None:
    *lines, directive = kubectl_completions(plugin, ["re"])
    assert [line.split("\t")[0] for line in lines] == ["report", "review", "reject", "resume"]
    assert directive == ":4", "no names of files"
    assert "--follow\t" in "\n".join(kubectl_completions(plugin, ["logs", "orders", "--f"]))
    assert kubectl_completions(plugin, ["status", "--kubeconfig", ""])[-1] == ":0", "names of files"


def test_names_of_jobs_are_completed_in_the_selected_folder(on_laptop: CommandAt) -> None:
    for name in ("orders", "order-forms", "cups"):
        on_laptop.place.create(manifests.finetunejob(), name)
    lines = kubectl_completions(main, ["logs", *on_laptop.place.options, "ord"])
    assert lines == ["order-forms", "orders", ":4"]


@pytest.mark.cluster
def test_names_of_jobs_are_completed_in_the_selected_namespace(on_cluster: CommandAt) -> None:
    on_cluster.place.create(manifests.finetunejob())
    for place in (on_cluster.place.options, ["status", *on_cluster.place.options]):
        arguments = [*place, "status"] if "status" not in place else place
        assert kubectl_completions(plugin, [*arguments, "o"]) == ["orders", ":4"]


def test_names_are_not_completed_without_a_cluster(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("{}")
    assert kubectl_completions(plugin, ["status", "--kubeconfig", str(tmp_path / "config"), ""]) == [":4"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_calls_tunegate(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert f"_TUNEGATE_COMPLETE={shell}_complete" in result.output
