"""The client of a fork server: ask it for a fork, forward signals to it, and exit with its exit code.

``python fork_client.py PROGRAM MODULE [ARGUMENT ...]`` is like ``python -m MODULE [ARGUMENT ...]``.
"""

import json
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

HERE = os.path.dirname(os.path.abspath(__file__))


def run_role(module: str) -> NoReturn:
    """Run a module of the trainer in a fork whose own trainer commands are no forks."""
    paths = os.environ["PYTHONPATH"].split(os.pathsep)
    others = os.pathsep.join(path for path in paths if path != HERE)
    environment = {name: value for name, value in os.environ.items() if name != "TRAINER_FORKS"}
    run("TRAINER_FORKS", module, sys.argv[1:], environment | {"PYTHONPATH": others})


def run(program: str, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Run ``module`` as a command in a fork of the program's server."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[program])
        request = {
            "module": module,
            "arguments": arguments,
            "folder": os.getcwd(),
            "environment": dict(environment),
        }
        forwarded = (signal.SIGTERM, signal.SIGINT)
        signal.pthread_sigmask(signal.SIG_BLOCK, forwarded)  # until the server has the request
        for number in forwarded:
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        text = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(server, [text], [0, 1, 2])
        server.sendall(text[sent:])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, forwarded)
        code = int(server.makefile().readline() or -signal.SIGKILL)
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3:], os.environ)
