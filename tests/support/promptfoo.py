"""Run promptfoo itself, installed from npm, on fixed outputs."""

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

VERSION = "0.123.1"
_ARCHITECTURES = {"x86_64": "x64", "aarch64": "arm64"}
_PROVIDER = """
const outputs = require("./outputs.json");
module.exports = class {
  constructor(options) { this.index = options.config.index; }
  id() { return `output-${this.index}`; }
  async callApi(prompt) { return { output: outputs[this.index] }; }
};
"""


def installed_promptfoo() -> Path:
    """Return the folder with promptfoo, which is installed if needed. Skips the test without npm."""
    architecture = _ARCHITECTURES.get(platform.machine())
    if shutil.which("npm") is None or platform.system() != "Linux" or architecture is None:
        pytest.skip("promptfoo cannot be installed: this needs npm, and Linux on x86-64 or arm64")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(os.environ.get("TUNEGATE_CACHE") or Path(cache) / "tunegate") / f"promptfoo-{VERSION}"
    if not (folder / ".installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        packages = [
            f"promptfoo@{VERSION}",
            f"node-linux-{architecture}@22.23.5",
            f"@libsql/linux-{architecture}-gnu@0.5.29",
        ]
        options = ["--ignore-scripts", "--omit=optional", "--omit=peer", "--no-audit", "--no-fund"]
        subprocess.run(["npm", "install", "--prefix", folder, *options, *packages], check=True, timeout=900)
        (folder / ".installed").touch()
    return folder


def run_promptfoo(folder: Path, config: str, outputs: list[str]) -> dict[tuple[str, int], str]:
    """Return the outcome of each output for each prompt: p (passed), f (failed) or e (error).

    ``config``, a YAML text without providers, is run in ``folder``, where the files are that it refers to,
    with a provider for each output. The prompts must differ.
    """
    installed = installed_promptfoo()
    (folder / "outputs.json").write_text(json.dumps(outputs))
    (folder / "provider.cjs").write_text(_PROVIDER)
    providers = [
        {"id": "file://provider.cjs", "label": str(i), "config": {"index": i}} for i in range(len(outputs))
    ]
    (folder / "run.yaml").write_text(f"{config}\n{yaml.safe_dump({'providers': providers})}")
    environment = {
        **os.environ,
        "PROMPTFOO_CONFIG_DIR": str(folder / "promptfoo"),
        "PROMPTFOO_DISABLE_TELEMETRY": "1",
        "PROMPTFOO_DISABLE_UPDATE": "1",
    }
    modules = installed / "node_modules"
    node = next(modules.glob("node-linux-*/bin/node"))
    options = ["--no-cache", "--no-write", "--no-table", "--no-progress-bar", "-j", "16"]
    done = subprocess.run(
        [
            node,
            modules / "promptfoo/dist/src/main.js",
            "eval",
            "-c",
            "run.yaml",
            "-o",
            "results.json",
            *options,
        ],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if not (folder / "results.json").exists():
        raise AssertionError(f"promptfoo failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    results = json.loads((folder / "results.json").read_text())["results"]["results"]
    return {
        (row["prompt"]["raw"], int(row["provider"]["label"])): "e"
        if row["failureReason"] == 2
        else "p"
        if row["success"]
        else "f"
        for row in results
    }
