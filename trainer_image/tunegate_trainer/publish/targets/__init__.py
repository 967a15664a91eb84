"""Publish targets, one module per kind. :data:`TARGETS` is their table.

To add one, write a module with a :class:`~tunegate_trainer.publish.targets.target.Target`, and add a line
with its scheme to the table.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from tunegate_trainer.fetch.address import Address
from tunegate_trainer.publish.targets.folder import FolderTarget
from tunegate_trainer.publish.targets.target import Target

Targets = Mapping[str, Callable[[Path, Address], Target]]

TARGETS: Targets = {
    "pvc": FolderTarget.open,
    "file": FolderTarget.open,
}
"""For each scheme, the function that opens the target at an address."""


def open_target(root: Path, uri: str, targets: Targets = TARGETS) -> Target:
    """Return the target at ``uri``.

    Raises :class:`UserError` for a URI that cannot be published to, and :class:`SourceNotFoundError` for a
    claim that does not exist.
    """
    address = Address("spec.publish", uri)
    if address.scheme not in targets:
        raise address.wrong(
            f"publishing to {address.scheme}:// is not supported", "publish to pvc://CLAIM/PATH"
        )
    return targets[address.scheme](root, address)
