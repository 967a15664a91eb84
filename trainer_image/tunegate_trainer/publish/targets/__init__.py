"""Publish targets, one module per kind. :data:`TARGETS` is their table.

To add one, write a module with a :class:`~tunegate_trainer.publish.targets.target.Target`, and add a line
with its scheme to the table.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from tunegate_trainer.fetch.address import Address
from tunegate_trainer.process.context import Context
from tunegate_trainer.publish.targets.folder import FolderTarget
from tunegate_trainer.publish.targets.target import Target

TARGETS: Mapping[str, Callable[[Path, Address], Target]] = {
    "pvc": FolderTarget.open,
    "file": FolderTarget.open,
}
"""For each scheme, the function that opens the target at an address."""


def open_target(root: Path, uri: str) -> Target:
    """Return the target at ``uri``.

    Raises :class:`UserError` for a URI that cannot be published to, and :class:`SourceNotFoundError` for a
    claim that does not exist.
    """
    address = Address("spec.publish", uri)
    if address.scheme not in TARGETS:
        raise address.wrong(
            f"publishing to {address.scheme}:// is not supported", "publish to pvc://CLAIM/PATH"
        )
    return TARGETS[address.scheme](root, address)


def open_compared(context: Context) -> list[Target]:
    """Return the publish targets whose versions the job's model is compared with. Raises the errors of
    :func:`open_target`."""
    entries = context.request.spec.publish if context.request.compares_with_published else ()
    return [open_target(context.root, entry.uri) for entry in entries]
