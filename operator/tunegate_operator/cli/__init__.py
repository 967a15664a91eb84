"""The ``tunegate`` command, and what it shows on a terminal."""
