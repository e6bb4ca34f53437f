"""The tokenizer of a corpus: found, cleaned of what would cut or pad behind our back, and described."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compactbio.errors import UserError
from compactbio.records import atomic, hashes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Left in a folder by whoever saved it; they would say, wrongly, how the corpus was cut, or where it was made.
_STALE = (
    "max_length", "stride", "truncation_strategy", "pad_to_multiple_of", "pad_token_type_id",
    "is_local", "local_files_only", "name_or_path",
)  # fmt: skip
_NEEDED = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")


def load(name: str | Path) -> "PreTrainedTokenizerFast":
    """The tokenizer of a local folder, a vocabulary file (`vocab.txt`) or a hub name, truncation and padding cleared.

    A bare vocabulary is taken as cased where any of its pieces has an upper-case letter, else as uncased.
    Raises UserError where there is none, or only one without a fast version.
    """
    path = Path(name)
    if path.is_file():
        return cleared(_from_vocabulary(path))
    folder = path if path.is_dir() else _from_hub(str(name))
    if _is_bare(folder):
        return cleared(_from_vocabulary(folder / "vocab.txt"))
    return cleared(_from_folder(folder, str(name)))


def cleared(tokenizer: "PreTrainedTokenizerFast") -> "PreTrainedTokenizerFast":
    """The same tokenizer, in place, without truncation, padding and the settings that go with them."""
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for key in _STALE:
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


def save(tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    """Write the tokenizer into a folder, whole or not at all."""
    with atomic.folder(folder) as partial:
        tokenizer.save_pretrained(partial)


def digest(tokenizer: "PreTrainedTokenizerFast") -> str:
    """The SHA-256 of the tokenizer.json as cleared."""
    return hashes.of_value(json.loads(tokenizer.backend_tokenizer.to_str()))


def vocabulary_digest(tokenizer: "PreTrainedTokenizerFast") -> str:
    """The SHA-256 of the sorted pairs of piece and id."""
    return hashes.of_value(sorted(tokenizer.get_vocab().items()))


def is_wide(tokenizer: "PreTrainedTokenizerFast") -> bool:
    """Whether an id of the vocabulary needs more than 16 bits."""
    return max(tokenizer.get_vocab().values(), default=0) >= 1 << 16


def as_record(tokenizer: "PreTrainedTokenizerFast", name: str | Path) -> dict[str, Any]:
    """The tokenizer as it stands in the manifest; of a local path only the last part is named."""
    path = Path(name)
    return {
        "name": path.resolve().name if path.exists() else str(name),
        "sha256": digest(tokenizer),
        "vocab_sha256": vocabulary_digest(tokenizer),
        "vocab_size": len(tokenizer),
        "pad_id": tokenizer.pad_token_id,
        "cls_id": tokenizer.cls_token_id,
        "sep_id": tokenizer.sep_token_id,
        "mask_id": tokenizer.mask_token_id,
    }


def _from_hub(name: str) -> Path:
    from compactbio.records import hub

    return hub.resolve(name, kind="tokenizer")


def _is_bare(folder: Path) -> bool:
    """A vocabulary without a word on its case, as BioBERT was published: the library's default would lower it."""
    if (folder / "tokenizer.json").exists() or not (folder / "vocab.txt").exists():
        return False
    config = folder / "tokenizer_config.json"
    return not (config.exists() and "do_lower_case" in config.read_text(encoding="utf-8"))


def _from_folder(folder: Path, name: str) -> "PreTrainedTokenizerFast":
    from transformers import AutoTokenizer

    # The library would make one of nothing but special tokens.
    if not any((folder / file).exists() for file in ("tokenizer.json", "vocab.txt")):
        raise UserError(f"{name}: no tokenizer could be loaded from it (tokenizer.json or vocab.txt).")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"{name}: no tokenizer could be loaded from it (tokenizer.json or vocab.txt).") from error
    if not tokenizer.is_fast:
        raise UserError(f"{name}: its tokenizer has no fast version (tokenizer.json), which a corpus needs.")
    return tokenizer


def _from_vocabulary(path: Path) -> "PreTrainedTokenizerFast":
    from transformers import BertTokenizerFast

    try:
        pieces = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a vocabulary (one piece a line, UTF-8).") from error
    missing = [piece for piece in _NEEDED if piece not in pieces]
    if missing:
        raise UserError(f"{path}: not a BERT vocabulary, {', '.join(missing)} missing.")
    cased = any(piece != piece.lower() for piece in pieces if not (piece.startswith("[") and piece.endswith("]")))
    return BertTokenizerFast(vocab=str(path), do_lower_case=not cased)
