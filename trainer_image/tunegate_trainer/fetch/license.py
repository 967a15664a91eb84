"""Read the license of a base model from the front matter of its model card. If the card names none, the
license is unknown."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub.repocard import metadata_load

from tunegate_api.contract.plan import ModelLicense

logger = logging.getLogger(__name__)

CARD = "README.md"
_MOST_BYTES = 1024 * 1024
_MOST_CHARACTERS = 256


def read_license(folder: Path) -> ModelLicense | None:
    """Return the license in the model card of ``folder``. Returns None if there is no card, if the card is
    larger than 1 MiB or cannot be read, or if it names no license."""
    card = folder / CARD
    try:
        if not card.is_file() or card.stat().st_size > _MOST_BYTES:
            return None
        return license_of(metadata_load(card) or {})
    except (OSError, ValueError, yaml.YAMLError) as error:
        logger.info("the license of the base model is unknown: %s cannot be read: %s", CARD, error)
        return None


def license_of(front_matter: Mapping[str, Any]) -> ModelLicense | None:
    """Return the license in the front matter of a model card, or None if it names none.

    A relative link such as ``LICENSE`` is dropped, because it would not work in another card.
    """
    name, link = _text(front_matter.get("license_name")), _text(front_matter.get("license_link"))
    found = _text(front_matter.get("license"))
    if found is None:
        return None
    return ModelLicense(
        id=found, name=name, link=link if link and link.startswith(("https://", "http://")) else None
    )


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) and len(value) <= _MOST_CHARACTERS else None
