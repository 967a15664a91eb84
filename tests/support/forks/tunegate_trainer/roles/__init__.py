"""The trainer's roles, with the forecast command in a fork of the trainer's server."""

import os

import tunegate_trainer

__path__.extend(
    path
    for entry in tunegate_trainer.__path__
    if os.path.isdir(path := os.path.join(entry, "roles")) and path not in __path__
)
