"""A fake trainer that starts in milliseconds, run as a script by the local cluster's tests.

``tiny_trainer.py exit CODE [OUTCOME]``   print, write a termination message, exit
``tiny_trainer.py train``                 report, then run until SIGTERM: save, report, exit 75
``tiny_trainer.py ignore-sigterm``        like train, but ignore SIGTERM
``tiny_trainer.py child``                 start another process, then exit 0
``tiny_trainer.py print PATH...``         print these files, then the environment
"""

# ruff: noqa: T201 - its output is its purpose

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(os.environ["TUNEGATE_ROOT"])


def leave_message(code, outcome):
    (ROOT / "termination.json").write_text(json.dumps({"exitCode": code, "outcome": outcome}))


def report(sequence, **more):
    outbox = ROOT / "workspace" / "tunegate" / "jobs" / os.environ["OWNER_UID"] / "outbox"
    outbox.mkdir(parents=True, exist_ok=True)
    content = {"jobUid": os.environ["OWNER_UID"], "role": "train", "attempt": 1, "sequence": sequence, **more}
    temporary = outbox / ".train.json.tmp"
    temporary.write_text(json.dumps(content))
    temporary.replace(outbox / "train.json")


def train(ignores_sigterm):
    starts = ROOT / "workspace" / "starts"
    with starts.open("a") as file:
        file.write(f"{os.getpid()}\n")

    def stop(*_):
        if not ignores_sigterm:
            report(2, outcome="Interrupted")
            leave_message(75, "Interrupted")
            os._exit(75)

    signal.signal(signal.SIGTERM, stop)
    report(1)
    print("training", flush=True)
    while True:
        time.sleep(60)


def main(behaviour, *args):
    if behaviour == "exit":
        print("last words")
        if args[1:]:
            leave_message(int(args[0]), args[1])
        sys.exit(int(args[0]))
    elif behaviour in ("train", "ignore-sigterm"):
        train(behaviour == "ignore-sigterm")
    elif behaviour == "child":
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True
        )
        (ROOT / "workspace" / "child").write_text(str(child.pid))
        os._exit(0)
    elif behaviour == "print":
        for path in args:
            print(path, "=", (ROOT / path).read_text())
        print(json.dumps(dict(os.environ)))


main(*sys.argv[1:])
