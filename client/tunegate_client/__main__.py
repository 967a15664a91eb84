"""The ``tunegate`` command as ``python -m tunegate_client``, which is the command of the client's image."""

from tunegate_client.cli.main import main

main(prog_name="tunegate")
