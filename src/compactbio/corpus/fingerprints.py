"""Which file a source is: its size and SHA-256, and whether the MD5 beside it agrees."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 1 << 20
# As the NLM writes it, `MD5(file)= hex`, and as md5sum does, `hex  file`.
_MD5 = re.compile(r"^(?:MD5\s*\(.*\)\s*=\s*)?([0-9a-fA-F]{32})\b", re.MULTILINE)


@dataclass(frozen=True)
class Source:
    """A file of citations. `problem` says why it cannot be used at all, else it is None."""

    path: Path
    bytes: int
    sha256: str
    problem: str | None = None

    @property
    def name(self) -> str:
        return self.path.name


def fingerprint(path: Path) -> Source:
    """Read a file through once; a file that cannot be read is a source with a problem."""
    size, sha256, md5 = 0, hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                size += len(block)
                sha256.update(block)
                md5.update(block)
        problem = _disagreement(path, md5.hexdigest())
    except OSError as error:
        return Source(path, 0, "", f"cannot be read: {error.strerror}")
    return Source(path, size, sha256.hexdigest(), problem)


def _disagreement(path: Path, found: str) -> str | None:
    beside = path.with_name(f"{path.name}.md5")
    if not beside.exists():
        return None
    stated = _MD5.search(beside.read_text(encoding="utf-8", errors="replace"))
    if stated is None:
        return f"cannot be verified: {beside.name} holds no MD5 sum"
    if stated[1].lower() != found:
        return f"does not agree with {beside.name}: its MD5 is {found}, not {stated[1].lower()}"
    return None
