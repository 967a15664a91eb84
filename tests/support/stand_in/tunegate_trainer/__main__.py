"""``python -m tunegate_trainer``: the fake trainer, in a fork of its server."""

import os
import sys

from fork_client import run

run("STAND_IN_FORKS", "stand_in_trainer", sys.argv[1:], os.environ)
