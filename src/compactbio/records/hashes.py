"""Fingerprints of files, texts and values, all as lower-case hexadecimal."""

import hashlib
import json
from pathlib import Path
from typing import Any


def of_file(path: Path, algorithm: str = "sha256") -> str:
    """The digest of a file's bytes, read in blocks. Raises OSError as `open` does."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def of_value(value: Any) -> str:
    """The SHA-256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
