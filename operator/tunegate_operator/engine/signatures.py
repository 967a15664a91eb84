"""Sign the records that the operator keeps in ConfigMaps, and recognize them by their signatures.

Whoever may write ConfigMaps in a namespace can create one with the name and the owner of a record. Only the
operator has the key: docs/adr/0066-signed-records.md.
"""

import hashlib
import hmac
import json

from tunegate_operator.engine.cluster import Object
from tunegate_operator.engine.owners import controlling_owner
from tunegate_operator.names import SIGNATURE_ANNOTATION

SIGNED_KINDS = frozenset({"ConfigMap"})


class Signer:
    """Signs objects with HMAC-SHA256 (RFC 2104), with a key derived from ``secret``."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"tunegate.dev records", hashlib.sha256)

    def sign(self, obj: Object) -> Object:
        """Return an object with its signature in an annotation; an object of another kind unchanged."""
        if obj["kind"] not in SIGNED_KINDS:
            return obj
        metadata = obj["metadata"]
        annotations = (metadata.get("annotations") or {}) | {SIGNATURE_ANNOTATION: self._signature(obj)}
        return obj | {"metadata": metadata | {"annotations": annotations}}

    def is_signed(self, obj: Object) -> bool:
        """Return whether an object has a signature that matches its namespace, name, owner and data."""
        found = (obj["metadata"].get("annotations") or {}).get(SIGNATURE_ANNOTATION, "")
        return hmac.compare_digest(str(found).encode(), self._signature(obj).encode())

    def _signature(self, obj: Object) -> str:
        metadata = obj["metadata"]
        owner = controlling_owner(obj)
        owner_uid = owner.uid if owner else ""
        signed = (obj["kind"], metadata["namespace"], metadata["name"], owner_uid, obj.get("data") or {})
        return hmac.digest(self._key, json.dumps(signed, sort_keys=True).encode(), hashlib.sha256).hex()
