"""Checksums of the kinds that servers report."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunegate_trainer.process.files import sha256_file

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Checksum:
    """The expected checksum of a file."""

    kind: Literal["sha256", "git", "md5", "md5-parts"]
    """``git`` is the SHA-1 of a Git blob with its header, see git-hash-object. ``md5-parts`` is the ETag of
    an S3 multipart upload: the MD5 of the MD5s of all parts, a dash, and the number of parts."""
    value: str
    part_size: int = 0
    """Bytes of each part except the last, for ``md5-parts``."""

    def of(self, path: Path) -> str:
        """Compute the checksum of a file with the algorithm of this ``kind``."""
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
