"""The ``tunegate`` command and its terminal output."""
