"""A finished corpus, read again."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compactbio.errors import UserError

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedTokenizerFast

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
PARTS = ".parts"
TOKENIZER = "tokenizer"


def manifest(folder: str | Path) -> dict[str, Any]:
    """The record of how a corpus was made (keys: `building.build`).

    Raises UserError where the folder is missing, holds no corpus, or one whose building was not finished.
    """
    path = Path(folder) / MANIFEST
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(_why_none(Path(folder))) from error
    except ValueError as error:
        raise UserError(f"{path}: not a corpus manifest; build the corpus again in an empty folder.") from error
    if not isinstance(record, dict) or record.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{path}: not a manifest of a corpus that this version reads (format {FORMAT_VERSION}).")
    return record


def open_corpus(folder: str | Path) -> "DatasetDict":
    """The token rows, mapped into memory: the split `train` and, where rows were set aside, `holdout`.

    Columns: `input_ids`, a row's pieces with the special ones (16-bit integers, 32-bit for a vocabulary over 65,536
    pieces), and `pmid`, "" where there is none. Raises UserError as `manifest` does, and where a shard is damaged.
    """
    from datasets import Dataset, DatasetDict, concatenate_datasets

    record = manifest(folder)
    splits = DatasetDict()
    for split, rows in record["rows"].items():
        names = [name for name in record["sha256"] if name.startswith(f"{split}-")]
        if not names:
            continue
        try:
            splits[split] = concatenate_datasets([Dataset.from_file(str(Path(folder) / name)) for name in names])
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: a shard of {split} is missing or damaged; build the corpus again.") from error
        if len(splits[split]) != rows:
            raise UserError(f"{folder}: {split} has {len(splits[split])} rows, not {rows}; build the corpus again.")
    return splits


def tokenizer(folder: str | Path) -> "PreTrainedTokenizerFast":
    """The tokenizer that made the corpus, without truncation and padding. Raises UserError as `manifest` does."""
    from compactbio.corpus import vocabulary

    manifest(folder)
    return vocabulary.load(Path(folder) / TOKENIZER)


def _why_none(folder: Path) -> str:
    if not folder.exists():
        return f"{folder}: no such folder; `compactbio corpus build` makes a corpus."
    if (folder / PARTS).exists():
        return f"{folder}: this corpus is not finished; run its `compactbio corpus build` again to go on."
    return f"{folder}: no corpus here ({MANIFEST} is missing); `compactbio corpus build` makes one."
