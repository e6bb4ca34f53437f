"""Tokenizers: loaded as their files describe them, compared, applied to texts; their templates of special tokens."""

import copy
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compactbio import hub
from compactbio.errors import UserError, check_named, reason
from compactbio.files import atomic_folder, read_json, value_digest

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
    "do_lower_case": "lowercase", "strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars",
}  # fmt: skip
_FOUND = ("single_word", "lstrip", "rstrip", "normalized")  # where in a text an added token is found
# Classes that read a bare vocab.txt as BERT does.
_WORDPIECE = ("Bert", "DistilBert", "MobileBert", "Electra")
WITH_MASK = ("pad_token", "mask_token")
Pieces = Sequence[int] | NDArray[np.int64]


def load_tokenizer(name: str | Path, special: Sequence[str] = ("pad_token",)) -> "PreTrainedTokenizerFast":
    """The tokenizer of a folder, a vocabulary file (`vocab.txt`) or a hub name, without truncation and padding.

    tokenizer_config.json is followed first, then tokenizer.json. A vocabulary of which neither says whether it is cased
    counts as cased where any of its pieces has an upper-case letter. One that names no padding token pads with its
    end-of-text token, where it has one. Raises UserError where there is no tokenizer, where it has no fast version, and
    where one of the tokens in `special` is missing.
    """
    name = check_named(name, "The name of a tokenizer")
    path = hub.resolve(name, kind="tokenizer")
    try:
        tokenizer = _from_vocabulary(path, {}) if path.is_file() else _from_folder(path, name)
    except UserError:
        raise
    except Exception as error:  # of many kinds, from two libraries, all about the user's files
        file = "tokenizer.json" if (path / "tokenizer.json").is_file() else "tokenizer"
        raise UserError(f"{name}: its {file} cannot be loaded ({reason(error)}).") from None
    if tokenizer.pad_token is None and tokenizer.eos_token is not None:
        tokenizer.pad_token = tokenizer.eos_token
    unnamed = [key for key in special if getattr(tokenizer, key) is None]
    if unnamed:
        raise UserError(
            f"{name}: its tokenizer does not name its {', '.join(unnamed)}; name them in its tokenizer_config.json, "
            'as in {"pad_token": "[PAD]"}.'
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


def reading_digest(tokenizer: "PreTrainedTokenizerFast") -> str:
    """A fingerprint of how texts are read: their ids, the special tokens of a row, and its token types."""
    templates = [asdict(template(tokenizer, texts)) for texts in (1, 2)]
    return value_digest([tokenizer_digest(tokenizer), templates])


def tokenizer_rules(backend: "Tokenizer") -> dict[str, Any]:
    """What decides the ids of a text, as a JSON value: two tokenizers with equal rules give equal ids."""
    whole = json.loads(backend.to_str())
    normalizer, added = whole["normalizer"], whole["added_tokens"]
    if normalizer and normalizer.get("strip_accents", False) is None:
        normalizer["strip_accents"] = normalizer["lowercase"]  # what None means to a BertNormalizer
    if whole["model"]["type"] == "Unigram":
        # The last digit of a score changes when it is read and written.
        whole["model"]["vocab"] = [[piece, round(score, 6)] for piece, score in whole["model"]["vocab"]]
    return {
        "vocabulary": whole["model"],
        "normalizer": normalizer,
        "pre-tokenizer": whole["pre_tokenizer"],
        "added tokens": sorted([t["id"], t["content"], *(t[key] for key in _FOUND if not t["special"])] for t in added),
    }


def _from_folder(folder: Path, name: str) -> "PreTrainedTokenizerFast":
    config = _config(folder / "tokenizer_config.json")
    if (folder / "tokenizer.json").is_file():
        return _from_json(folder, config, name)
    if not (folder / "vocab.txt").is_file():
        return _from_other_files(folder, name)
    kind = str(config.get("tokenizer_class") or "BertTokenizer")
    if kind.removesuffix("Fast").removesuffix("Tokenizer") not in _WORDPIECE:
        raise UserError(f"{name}: its tokenizer is a {kind} without a fast version (tokenizer.json), which is needed.")
    return _from_vocabulary(folder / "vocab.txt", config, folder)


def _config(path: Path) -> dict[str, Any]:
    """What a tokenizer_config.json states, without the keys that are null. Raises UserError for other JSON."""
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except ValueError as error:
        raise UserError(f"{path}: it cannot be read as JSON ({error}).") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: it must hold one JSON object.")
    stated = {key: value for key, value in found.items() if value is not None}
    for key in _NORMALIZER:
        if not isinstance(stated.get(key, True), bool):
            raise UserError(f"{path}: {key} must be true or false, not {stated[key]!r}.")
    if type(longest := stated.get("model_max_length", 0)) not in (int, float):
        raise UserError(f"{path}: model_max_length must be a number, not {longest!r}.")
    return stated


def _from_json(folder: Path, config: dict[str, Any], name: str) -> "PreTrainedTokenizerFast":
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import PreTrainedTokenizerFast

    whole = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer = _by_class(folder, name, PreTrainedTokenizerFast, **_normalized(whole, config))
    pre_tokenizer, own = whole.get("pre_tokenizer") or {}, tokenizer.backend_tokenizer.pre_tokenizer
    if pre_tokenizer.get("type") == "ByteLevel" and isinstance(own, ByteLevel):
        # Whether texts begin with a blank: its class follows the configuration.
        pre_tokenizer["add_prefix_space"] = own.add_prefix_space
    backend = Tokenizer.from_str(json.dumps(whole))
    unknown = [token for token in tokenizer.special_tokens_map.values() if backend.token_to_id(token) is None]
    if unknown:
        raise UserError(f"{name}: its tokenizer.json lacks the special tokens {', '.join(unknown)}.")
    _add_tokens(backend, tokenizer, name)
    if tokenizer_rules(tokenizer.backend_tokenizer) == tokenizer_rules(backend):
        return tokenizer
    # Its class makes the tokenizer from the vocabulary alone, and so loses rules that the file has.
    if backend.post_processor is None:
        backend.post_processor = tokenizer.backend_tokenizer.post_processor
    return _without_class(backend, tokenizer)


def _add_tokens(backend: "Tokenizer", tokenizer: "PreTrainedTokenizerFast", name: str) -> None:
    """Add the added tokens that the files beside a tokenizer.json name and it lacks."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    lacking = {id: token for id, token in tokenizer.added_tokens_decoder.items() if token.content not in known}
    backend.add_tokens([token for _, token in sorted(lacking.items())])
    for id, token in lacking.items():
        if (own := backend.token_to_id(token.content)) != id:
            where = f"leaves the added token {token.content} the id {own}, the files beside it say {id}"
            raise UserError(f"{name}: its tokenizer.json {where}; add the token to tokenizer.json.")


def _by_class(folder: Path, name: str, undescribed: Any, **options: Any) -> "PreTrainedTokenizerFast":
    """The tokenizer by the class that the files of a folder name, by the class `undescribed` where they name none."""
    from transformers import AlbertTokenizer, AutoTokenizer

    kind = AutoTokenizer if _is_described(folder) else undescribed
    tokenizer = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    if not tokenizer.is_fast:
        raise UserError(f"{name}: its tokenizer has no fast version (tokenizer.json), which is needed.")
    if isinstance(tokenizer, AlbertTokenizer) and "model_input_names" not in tokenizer.init_kwargs:
        # ALBERT was trained with two token types, which its class in transformers 5 no longer returns.
        tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
        tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names
    return tokenizer


def _is_described(folder: Path) -> bool:
    return any((folder / file).exists() for file in ("config.json", "tokenizer_config.json"))


def _without_class(backend: "Tokenizer", tokenizer: "PreTrainedTokenizerFast") -> "PreTrainedTokenizerFast":
    """A tokenizer that transformers reads back from its tokenizer.json alone, with the names of another's tokens."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=tokenizer.model_input_names, **tokenizer.special_tokens_map
    )


def _from_other_files(folder: Path, name: str) -> "PreTrainedTokenizerFast":
    """The tokenizer of a folder with vocab.json and merges.txt, or with a SentencePiece model."""
    from transformers import RobertaTokenizer

    merged = (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file()
    found = sorted(file.name for file in folder.glob("*.model"))
    if not merged and not found:
        # The library would make one of nothing but special tokens.
        raise UserError(
            f"{name}: no tokenizer could be loaded from it (tokenizer.json, vocab.txt, or vocab.json with merges.txt)."
        )
    if not merged and not _is_described(folder):
        raise UserError(
            f"{name}: no config.json or tokenizer_config.json says of which kind its {found[0]} is; name a folder with "
            "one of them, or with tokenizer.json."
        )
    tokenizer = _by_class(folder, name, RobertaTokenizer)
    files = [folder / file for file in ("vocab.json", "added_tokens.json") if merged and (folder / file).is_file()]
    stated = {piece for file in files for piece in json.loads(file.read_text(encoding="utf-8"))}
    # A class that looks for other files makes a tokenizer of its special tokens alone, and one that lacks some of
    # these in the vocabulary adds them at its end, where the model has no embedding.
    special = tokenizer.special_tokens_map.values()
    missing = [token for token in special if token not in stated] if merged else []
    if missing or len(tokenizer) <= len(special) or not stated <= tokenizer.get_vocab().keys():
        raise UserError(
            f"{name}: its vocabulary is not that of a {type(tokenizer).__name__}"
            + (f", {', '.join(missing)} missing" if missing else "")
            + "; name a folder with tokenizer.json."
        )
    return tokenizer


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
    if folder is None:
        tokenizer = BertTokenizerFast(vocab=str(path), do_lower_case=lower)
    else:
        tokenizer = BertTokenizerFast.from_pretrained(folder, do_lower_case=lower, local_files_only=True)
    # The library adds special tokens that a vocabulary lacks at its end, where the model has no embedding.
    missing = [token for token in tokenizer.special_tokens_map.values() if token not in pieces]
    if missing:
        raise UserError(f"{path}: not a BERT vocabulary, {', '.join(missing)} missing.")
    return tokenizer


class WordPieces(NamedTuple):
    """The word pieces of a text, without special tokens."""

    ids: NDArray[np.int64]  # (n,)
    offsets: NDArray[np.int64]  # (n, 2), the characters of each piece, end exclusive

    def touching(self, start: int, end: int) -> range:
        """The pieces that touch some characters of the text."""
        first, last = np.searchsorted(self.offsets[:, 1], start, "right"), np.searchsorted(self.offsets[:, 0], end)
        return range(int(first), int(last))


def word_pieces(texts: Sequence[str], tokenizer: "PreTrainedTokenizerFast") -> list[WordPieces]:
    """All word pieces of each text, however long it is.

    The offsets of a piece are those of the characters that a reader sees: without the blanks that vocabularies with
    marks of blanks count in, and with the combining accents that a normaliser put into the letter. A piece of blanks
    alone is empty and lies after them; the pieces of one character, such as an emoji's bytes, all have its offsets.
    """
    if not texts:
        return []
    found = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        WordPieces(np.array(ids, dtype=np.int64), _seen(text, np.array(offsets, dtype=np.int64).reshape(-1, 2)))
        for text, ids, offsets in zip(texts, found["input_ids"], found["offset_mapping"], strict=True)
    ]


def _seen(text: str, offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Offsets (n, 2) without blanks at either end, and with the accents that follow and belong to no other piece."""
    places = np.arange(len(text) + 1)
    blank = np.array([character.isspace() for character in text] + [False])
    # At each place the next one that is not a blank, and the end of the last such character before it.
    following = np.minimum.accumulate(np.where(blank, len(text), places)[::-1])[::-1]
    preceding = np.maximum.accumulate(np.concatenate([[0], np.where(blank[:-1], 0, places[1:])]))
    starts = np.minimum(following[offsets[:, 0]], offsets[:, 1])
    ends = np.maximum(preceding[offsets[:, 1]], starts)
    if not text.isascii():
        accent = np.array([unicodedata.combining(character) > 0 for character in text] + [False])
        after = np.minimum.accumulate(np.where(accent, len(text), places)[::-1])[::-1]
        ends = np.maximum(ends, np.minimum(after[ends], np.append(starts[1:], len(text))))
    return np.stack([starts, ends], axis=1)


@lru_cache(maxsize=8)
def for_words(tokenizer: "PreTrainedTokenizerFast") -> "PreTrainedTokenizerFast":
    """The tokenizer for texts that are given as words: itself, or one that begins each word with a blank.

    Byte-level vocabularies have the blank before a word within its first piece, and read the words "heart" and "attack"
    as "heartattack". With `add_prefix_space`, as token classification with RoBERTa sets it in transformers, all words
    have it; saved, it does the same there with `is_split_into_words=True`.
    """
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import ByteLevel

    alone, after_blank, two = tokenizer(["a", " a", "a a"], add_special_tokens=False)["input_ids"]
    if alone == after_blank or two != alone + after_blank:
        return tokenizer
    if not isinstance(tokenizer.backend_tokenizer.pre_tokenizer, ByteLevel):
        whole = json.loads(tokenizer.backend_tokenizer.to_str())
        # Before all else, so that it counts as a blank of the text.
        rules = [{"type": "Prepend", "prepend": " "}, *([whole["normalizer"]] if whole["normalizer"] else [])]
        whole["normalizer"] = {"type": "Sequence", "normalizers": rules}
        return _without_class(Tokenizer.from_str(json.dumps(whole)), tokenizer)
    marked = copy.deepcopy(tokenizer)
    backend = marked.backend_tokenizer
    backend.pre_tokenizer.add_prefix_space = True
    if hasattr(backend.post_processor, "add_prefix_space"):
        backend.post_processor.add_prefix_space = True  # else offsets would lose the first character
    marked.add_prefix_space = marked.init_kwargs["add_prefix_space"] = True
    return marked


@dataclass(frozen=True)
class Template:
    """Where a tokenizer puts special tokens: before its first text and after each, in gaps that may be empty."""

    gaps: tuple[tuple[int, ...], ...]  # the ids: [CLS] and [SEP] of a BERT; <s>, </s></s> and </s> of a RoBERTa's pair
    gap_types: tuple[tuple[int, ...], ...]  # the token types of these ids
    text_types: tuple[int, ...]  # the token type of each text
    cls: int  # the place of the token that stands for the whole row (cls_token), 0 where the template has none
    filler: int  # the only id of a row that would be empty, which no model can read

    @property
    def size(self) -> int:
        """The number of special tokens."""
        return sum(map(len, self.gaps))

    def ids(self, *texts: Pieces) -> NDArray[np.int64]:
        """The row (length,) of the pieces of each text."""
        parts: list[Pieces] = [self.gaps[0]]
        for text, gap in zip(texts, self.gaps[1:], strict=True):
            parts += [text, gap]
        row = np.concatenate([np.asarray(part, dtype=np.int64) for part in parts])
        return row if len(row) else np.array([self.filler])

    def segments(self, *texts: Pieces) -> NDArray[np.int64] | None:
        """The token types (length,) of the row of these texts, None where the template has no other type than 0."""
        if not any(self.text_types) and not any(map(any, self.gap_types)):
            return None
        parts = [self.gap_types[0]]
        for text, kind, gap in zip(texts, self.text_types, self.gap_types[1:], strict=True):
            parts += [(kind,) * len(text), gap]
        return np.array([kind for part in parts for kind in part] or [0])


@lru_cache(maxsize=16)
def template(tokenizer: "PreTrainedTokenizerFast", texts: int = 1) -> Template:
    """The template of a tokenizer for one text or two, read off what it makes of them.

    Raises UserError where it makes no piece of the letter a.
    """
    found = tokenizer(*["a"] * texts)
    ids, types = found["input_ids"], found.get("token_type_ids") or [0] * len(found["input_ids"])
    sources = found.sequence_ids()  # the text of each token, None of a special one
    if not set(range(texts)) <= set(sources):
        raise UserError("The tokenizer makes no piece of the letter a, so it is not one of texts: name another.")
    edges = [0]
    for text in range(texts):
        edges += [sources.index(text), len(sources) - sources[::-1].index(text)]
    borders = list(zip(edges[::2], [*edges[1::2], len(ids)], strict=True))
    gaps = tuple(tuple(ids[start:end]) for start, end in borders)
    return Template(
        gaps,
        tuple(tuple(types[start:end]) for start, end in borders),
        tuple(types[sources.index(text)] for text in range(texts)),
        gaps[0].index(tokenizer.cls_token_id) if tokenizer.cls_token_id in gaps[0] else 0,
        tokenizer.pad_token_id or 0,
    )


def special_ids(tokenizer: "PreTrainedTokenizerFast") -> list[int]:
    """The ids that are no pieces of texts: those of templates, of named special tokens, and of added ones so marked."""
    of_templates = {id for texts in (1, 2) for gap in template(tokenizer, texts).gaps for id in gap}
    added = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return sorted(of_templates | added | set(tokenizer.all_special_ids))
