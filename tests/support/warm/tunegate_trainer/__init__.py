"""Comes before the trainer on the path: its commands are forks of a trainer that is warm already.

Everything but the commands is the trainer's own.
"""

import os
import sys

__path__.extend(
    path
    for entry in sys.path
    if os.path.isdir(path := os.path.join(entry, __name__)) and path not in __path__
)
