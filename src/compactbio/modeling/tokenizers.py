"""Tokenizers: loaded as their files describe them, without truncation or padding, compared, and applied to texts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compactbio import hub
from compactbio.errors import UserError
from compactbio.files import atomic_folder, value_digest

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

# Settings that a saved tokenizer carries: they would state, wrongly, how rows are cut, or where it was saved.
_STALE = (
    "max_length", "stride", "truncation_strategy", "pad_to_multiple_of", "pad_token_type_id",
    "is_local", "local_files_only", "name_or_path",
)  # fmt: skip
# The keys of a tokenizer_config.json that a BertNormalizer has under other names.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# Classes that read a bare vocab.txt as BERT does.
_WORDPIECE = ("Bert", "DistilBert", "MobileBert", "Electra")
_SPECIAL = ("unk_token", "cls_token", "sep_token", "pad_token")
WITH_MASK = (*_SPECIAL, "mask_token")


def load_tokenizer(name: str | Path, special: Sequence[str] = _SPECIAL) -> "PreTrainedTokenizerFast":
    """A tokenizer without truncation and padding.

    tokenizer_config.json is followed first, then tokenizer.json. A vocabulary of which neither says whether it is cased
    counts as cased where any of its pieces has an upper-case letter.

    Args:
        name: a local folder, a vocabulary file (`vocab.txt`) or a hub name.
        special: the special tokens that it must name.

    Raises UserError where there is no tokenizer, where it has no fast version, and where a special token is missing.
    """
    path = Path(name)
    if path.is_file():
        tokenizer = _from_vocabulary(path, {})
    else:
        folder = path if path.is_dir() else hub.resolve(str(name), kind="tokenizer")
        tokenizer = _from_folder(folder, str(name))
    unnamed = [key for key in special if getattr(tokenizer, key) is None]
    if unnamed:
        raise UserError(
            f"{name}: its tokenizer does not name its {', '.join(unnamed)}; name them in its tokenizer_config.json, "
            'as in {"cls_token": "[CLS]"}.'
        )
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for key in _STALE:
        tokenizer.init_kwargs.pop(key, None)
    return tokenizer


def save_tokenizer(tokenizer: "PreTrainedTokenizerFast", folder: Path) -> None:
    """Write the tokenizer into a folder, whole or not at all."""
    with atomic_folder(folder) as partial:
        tokenizer.save_pretrained(partial)


def tokenizer_digest(tokenizer: "PreTrainedTokenizerFast") -> str:
    """The SHA-256 of the tokenizer.json as cleared."""
    return value_digest(json.loads(tokenizer.backend_tokenizer.to_str()))


def tokenizer_rules(backend: "Tokenizer") -> dict[str, Any]:
    """What decides the ids of a text, as a JSON value: two tokenizers with equal rules give equal ids."""
    whole = json.loads(backend.to_str())
    normalizer = whole["normalizer"]
    if normalizer and normalizer.get("strip_accents", False) is None:
        normalizer["strip_accents"] = normalizer["lowercase"]  # what None means to a BertNormalizer
    return {
        "vocabulary": whole["model"],
        "normalizer": normalizer,
        "pre-tokenizer": whole["pre_tokenizer"],
        "added tokens": sorted((token["id"], token["content"]) for token in whole["added_tokens"]),
    }


def is_wide(tokenizer: "PreTrainedTokenizerFast") -> bool:
    """Whether an id of the vocabulary needs more than 16 bits."""
    return max(tokenizer.get_vocab().values(), default=0) >= 1 << 16


def as_record(tokenizer: "PreTrainedTokenizerFast", name: str | Path) -> dict[str, Any]:
    """A tokenizer as a record in the manifest of a corpus; of a local path only the last part is named."""
    path = Path(name)
    return {
        "name": path.resolve().name if path.exists() else str(name),
        "sha256": tokenizer_digest(tokenizer),
        "vocab_size": len(tokenizer),
        "pad_id": tokenizer.pad_token_id,
        "cls_id": tokenizer.cls_token_id,
        "sep_id": tokenizer.sep_token_id,
        "mask_id": tokenizer.mask_token_id,
    }


def _from_folder(folder: Path, name: str) -> "PreTrainedTokenizerFast":
    config = _config(folder / "tokenizer_config.json")
    if (folder / "tokenizer.json").is_file():
        return _from_json(folder, config, name)
    if not (folder / "vocab.txt").is_file():
        # The library would make one of nothing but special tokens.
        raise UserError(f"{name}: no tokenizer could be loaded from it (tokenizer.json or vocab.txt).")
    kind = str(config.get("tokenizer_class") or "BertTokenizer")
    if kind.removesuffix("Fast").removesuffix("Tokenizer") not in _WORDPIECE:
        raise UserError(f"{name}: its tokenizer is a {kind} without a fast version (tokenizer.json), which is needed.")
    return _from_vocabulary(folder / "vocab.txt", config, folder)


def _config(path: Path) -> dict[str, Any]:
    """What a tokenizer_config.json states, without the keys that are null. Raises UserError for other JSON."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: it cannot be read as JSON ({error}).") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: it must hold one JSON object.")
    stated = {key: value for key, value in found.items() if value is not None}
    for key in _NORMALIZER:
        if not isinstance(stated.get(key, True), bool):
            raise UserError(f"{path}: {key} must be true or false, not {stated[key]!r}.")
    return stated


def _from_json(folder: Path, config: dict[str, Any], name: str) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        options = _normalized(whole, config)
        backend = Tokenizer.from_str(json.dumps(whole))
        described = any((folder / file).exists() for file in ("config.json", "tokenizer_config.json"))
        kind = AutoTokenizer if described else PreTrainedTokenizerFast
        tokenizer = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except Exception as error:  # of many kinds, from two libraries, all about the user's files
        raise UserError(f"{name}: its tokenizer.json cannot be loaded ({reason(error)}).") from None
    if not tokenizer.is_fast:
        raise UserError(f"{name}: its tokenizer has no fast version (tokenizer.json), which is needed.")
    if tokenizer_rules(tokenizer.backend_tokenizer) == tokenizer_rules(backend):
        return tokenizer
    # Its class makes the tokenizer from the vocabulary alone, and so loses rules that the file has.
    special = _special(tokenizer)
    unknown = [token for token in special.values() if backend.token_to_id(token) is None]
    if unknown:
        raise UserError(f"{name}: its tokenizer.json lacks the special tokens {', '.join(unknown)}.")
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def _normalized(whole: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Put what the configuration states into the BertNormalizer of a tokenizer.json; returns its settings then."""
    normalizer = whole.get("normalizer") or {}
    if normalizer.get("type") != "BertNormalizer":
        return {}
    normalizer.update({field: config[key] for key, field in _NORMALIZER.items() if key in config})
    return {key: normalizer[field] for key, field in _NORMALIZER.items() if field in normalizer}


def _from_vocabulary(path: Path, config: dict[str, Any], folder: Path | None = None) -> "PreTrainedTokenizerFast":
    """The tokenizer of a vocab.txt, and of the files beside it in its `folder` where one is given."""
    from transformers import BertTokenizerFast

    try:
        pieces = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a vocabulary (one piece per line, UTF-8).") from error
    if pieces and pieces[0].startswith("\ufeff"):
        raise UserError(f"{path}: it begins with a byte order mark, which is not part of any piece; remove the mark.")
    cased = any(piece != piece.lower() for piece in pieces if not (piece.startswith("[") and piece.endswith("]")))
    lower = config.get("do_lower_case", not cased)
    try:
        if folder is None:
            tokenizer = BertTokenizerFast(vocab=str(path), do_lower_case=lower)
        else:
            tokenizer = BertTokenizerFast.from_pretrained(folder, do_lower_case=lower, local_files_only=True)
    except Exception as error:  # of many kinds, about added_tokens.json and the like
        raise UserError(f"{path.parent}: its tokenizer cannot be loaded ({reason(error)}).") from None
    # The library adds special tokens that a vocabulary lacks at its end, where the model has no embedding.
    missing = [token for token in _special(tokenizer).values() if token not in pieces]
    if missing:
        raise UserError(f"{path}: not a BERT vocabulary, {', '.join(missing)} missing.")
    return tokenizer


def _special(tokenizer: "PreTrainedTokenizerFast") -> dict[str, str]:
    """The special tokens that a tokenizer names."""
    return {key: token for key in WITH_MASK if (token := getattr(tokenizer, key)) is not None}


def reason(error: Exception) -> str:
    """The line of a library's error that says what is wrong: of a field of a configuration the last one."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [""]
    line = lines[-1] if lines[0].startswith("Validation error") else lines[0]
    return (line.partition("Error: ")[2] or line)[:200] or type(error).__name__


class WordPieces(NamedTuple):
    """The word pieces of a text, without special tokens.

    Attributes:
        ids: (n,).
        offsets: (n, 2), the characters of each piece, end exclusive.
    """

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]


def word_pieces(texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast") -> list[WordPieces]:
    """All word pieces of each text, however long it is."""
    if not texts:
        return []
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        WordPieces(np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64).reshape(-1, 2))
        for ids, offsets in zip(found["input_ids"], found["offset_mapping"], strict=True)
    ]
