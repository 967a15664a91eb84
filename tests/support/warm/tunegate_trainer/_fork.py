"""What a pod starts: asks the warm trainer for a fork, passes signals on, and ends as the fork does."""

import json
import os
import signal
import socket
import sys

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(module: str) -> None:
    """Be a fork that runs ``module`` as a command. Does not return."""
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
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: server.sendall(bytes([number])))
        socket.send_fds(server, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
        code = int(server.makefile().readline() or -signal.SIGKILL)
    if code < 0:
        if code != -signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
