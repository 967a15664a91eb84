"""Checksums as the other side names them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunegate_trainer.process.files import sha256_file

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Checksum:
    """What a file's content must have."""

    kind: Literal["sha256", "git", "md5", "md5-parts"]
    """``git``: SHA-1 of a blob, header included, see git-hash-object. ``md5-parts``: MD5 of the MD5s of
    parts, a dash, and their number, as S3 computes an ETag for an upload in parts."""
    value: str
    part_size: int = 0
    """Bytes of each part but the last, for ``md5-parts``."""

    def of(self, path: Path) -> str:
        """The checksum of this kind that a file has."""
        match self.kind:
            case "sha256":
                return sha256_file(path)
            case "git":
                digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
                with path.open("rb") as file:
                    while block := file.read(_BLOCK):
                        digest.update(block)
                return digest.hexdigest()
            case "md5":
                with path.open("rb") as file:
                    return hashlib.file_digest(file, _md5).hexdigest()
            case "md5-parts":
                return _md5_of_parts(path, self.part_size)

    def matches(self, path: Path) -> bool:
        return self.of(path) == self.value


def _md5(data: bytes = b"") -> "hashlib._Hash":
    return hashlib.md5(data, usedforsecurity=False)


def _md5_of_parts(path: Path, part_size: int) -> str:
    parts: list[bytes] = []
    with path.open("rb") as file:
        while True:
            part, left = _md5(), part_size
            while left and (block := file.read(min(left, _BLOCK))):
                part.update(block)
                left -= len(block)
            if left == part_size:
                break
            parts.append(part.digest())
            if left:
                break
    return f"{_md5(b''.join(parts)).hexdigest()}-{len(parts)}"
