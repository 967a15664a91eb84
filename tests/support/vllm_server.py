"""A real vLLM server on the CPU with a model, in the environment that `make stories` creates."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from support.answers import Answer
from support.api_server import free_port
from support.waiting import eventually

PYTHON = Path(__file__).parents[2] / "build" / "vllm" / "bin" / "python"
ADAPTER = "tuned"
"""The name of the served adapter in requests."""
_AT_ONCE = 8
_SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


@contextmanager
def vllm_server(base: Path, adapter: Path, log: Path) -> Iterator[int]:
    """Serve ``adapter`` on ``base`` in bfloat16, as its model card says. Yields the server's port."""
    with _running(
        *("--model", base, "--dtype", "bfloat16", "--max-model-len", "1024"),
        *("--enable-lora", "--lora-modules", f"{ADAPTER}={adapter}", "--generation-config", adapter),
        log=log,
    ) as port:
        yield port


@contextmanager
def vllm_judge(model: Path, name: str, key: str, log: Path, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve ``model`` under a name, with an API key unless ``key`` is empty. Yields the server's port."""
    with _running(
        *("--model", model, "--served-model-name", name, "--dtype", "bfloat16"),
        *("--max-model-len", "2048", *(("--api-key", key) if key else ())),
        log=log,
        host=host,
    ) as port:
        yield port


@contextmanager
def _running(*arguments: str | Path, log: Path, host: str = "127.0.0.1") -> Iterator[int]:
    """Run the server with these arguments on an address of this machine. Yields its port."""
    assert PYTHON.exists(), "`make stories` and `make e2e-full` install vLLM into build/vllm"
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(PYTHON, "-m", "vllm.entrypoints.openai.api_server"),
                *arguments,
                *("--enforce-eager", "--host", host, "--port", str(port)),
            ],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | _SETTINGS,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-4000:]
        with suppress(urllib.error.URLError):
            return bool(urllib.request.urlopen(f"http://{host}:{port}/health", timeout=5).status == 200)
        return False

    try:
        eventually(answers, seconds=600, what="vLLM answers", pause=0.5)
        yield port
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and its child processes."""
    with suppress(psutil.NoSuchProcess):
        started = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        _, left = psutil.wait_procs(started, timeout=10)
        for child in left:
            child.kill()
    process.kill()
    process.wait(30)


def ask_all(port: int, prompts: Mapping[str, str], max_tokens: int) -> dict[str, Answer]:
    """Return the server's greedy answers by case id. ``prompts`` are user turns by case id."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        answers = threads.map(lambda prompt: _ask(port, prompt, max_tokens), prompts.values())
        return dict(zip(prompts, answers, strict=True))


def _ask(port: int, prompt: str, max_tokens: int) -> Answer:
    body = {
        "model": ADAPTER,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 10,
        "return_tokens_as_token_ids": True,
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310 - the address is above
        (choice,) = json.load(response)["choices"]
    places: list[dict[str, Any]] = choice["logprobs"]["content"]
    return Answer(
        text=choice["message"]["content"],
        tokens=[_id(place["token"]) for place in places],
        logprobs=[{_id(one["token"]): one["logprob"] for one in place["top_logprobs"]} for place in places],
    )


def _id(token: str) -> int:
    return int(token.removeprefix("token_id:"))
