"""Shadows the trainer's package on the path, so that its commands become forks of the trainer's server.

All other modules are the trainer's own.
"""

import os
import sys

__path__.extend(
    path
    for entry in sys.path
    if os.path.isdir(path := os.path.join(entry, __name__)) and path not in __path__
)
