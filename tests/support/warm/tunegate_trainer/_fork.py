"""The client: ask the warm trainer for a fork, forward signals to it, and exit with its exit code."""

import json
import os
import signal
import socket
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(module: str) -> None:
    """Run ``module`` as a command in a fork of the warm trainer. Does not return."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ["WARM_TRAINER"])
        paths = os.environ["PYTHONPATH"].split(os.pathsep)
        others = os.pathsep.join(path for path in paths if path != HERE)
        environment = {name: value for name, value in os.environ.items() if name != "WARM_TRAINER"}
        request = {
            "module": module,
            "arguments": sys.argv[1:],
            "folder": os.getcwd(),
            "environment": environment | {"PYTHONPATH": others},
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
