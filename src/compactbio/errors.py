"""The one exception that a user sees as a sentence."""

import difflib
import errno
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


_LONGEST_NAME = 255  # characters of one part of a path


class UserError(ValueError):
    """A mistake of the user's, or a limit of their machine: one sentence that says what is wrong and how to fix it.

    `setting` is the name of the argument that the sentence is about, where there is one ("max_length"). The command
    line prints the sentence, with the option of that name, and leaves with status 2; a library caller catches it like
    any exception.
    """

    def __init__(self, sentence: str, *, setting: str | None = None) -> None:
        super().__init__(sentence)
        self.setting = setting


def plain(value: Any) -> Any:
    """A value with Python's own numbers for those of NumPy and for fractions, which neither JSON nor records take.

    Lists, mappings and arrays of them become lists and dictionaries.
    """
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    convert = getattr(value, "tolist", None)
    return convert() if callable(convert) else value


def check_count(name: str, value: Any, least: int = 1) -> int:
    """The argument `name` as an int. Raises UserError where it is not a whole number, `least` or more."""
    found = plain(value)
    if type(found) is not int or found < least:
        raise UserError(f"{name} is {value!r}; it must be {least} or more, a whole number.", setting=name)
    return found


def without_content(value: Any) -> str:
    """A value of another type than wanted, for a sentence: the type alone, as the content may be a patient's."""
    return "None" if value is None else f"a value of type {type(value).__name__}"


def check_named(name: Any, what: str, *, setting: str | None = None) -> str:
    """The name or path as text.

    Raises UserError for what is neither text nor a path, an empty name, which as a path is the current folder, and one
    that no file can have, as is a text to read in place of its file.
    """
    if not isinstance(name, str | os.PathLike):
        raise UserError(f"{what} is {without_content(name)}: give text or a path.", setting=setting)
    text = str(os.fsdecode(name))
    if not text.strip():
        raise UserError(f"{what} is empty: name it, or check that the variable it comes from is set.", setting=setting)
    if max(map(len, text.split("/"))) > _LONGEST_NAME:
        raise UserError(
            f"{what} has {len(text):,} characters, which is longer than the file system takes: give the path of a "
            "file or folder, or a shorter one.",
            setting=setting,
        )
    return text


def check_counts(**given: Any) -> list[int | None]:
    """Arguments, by name, as such numbers or None. Raises UserError for the first that is neither."""
    return [None if value is None else check_count(name, value) for name, value in given.items()]


_DISK = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than the system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "no permission to write or read it",
    errno.ENOENT: "there is no such file or folder",
    errno.EPERM: "no permission to write or read it",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EEXIST: "this path is a file or a link that leads nowhere, not a folder",
    errno.EISDIR: "this path is a folder, not a file",
    errno.ENAMETOOLONG: "its name, or what is put beside it, is longer than the file system takes",
}


def sentence_for(error: OSError) -> str | None:
    """The sentence for an error of the file system that a user can fix, or None where it is none of theirs."""
    reason = _DISK.get(error.errno or 0)
    if reason is None:
        return None
    place = error.filename2 or error.filename or "the output"  # of a copy the second is what is written
    return f"{place}: {reason}; free or choose another place and run the same command again, finished work is kept."


def reason(error: Exception) -> str:
    """The line of a library's error that says what is wrong: of a field of a configuration the last one."""
    lines = [line.strip() for line in str(error).strip().splitlines()] or [""]
    line = lines[-1] if lines[0].startswith("Validation error") else lines[0]
    return (line.partition("Error: ")[2] or line)[:200] or type(error).__name__


def validation_problem(
    error: "ValidationError",
    known: Callable[[tuple[int | str, ...]], Iterable[str]] | None = None,
    show: Callable[[Any], str] = repr,
) -> str:
    """The first problem that pydantic found, as a phrase that names the key: "steps: input should be ... (got 0)".

    `known` returns the keys that exist at a place (`loc` of pydantic), to suggest one for a key that is unknown; `show`
    writes the value that was given.
    """
    # An unknown key first: a misspelt one is reported as missing too.
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = ".".join(str(key) for key in problem["loc"] if key != "[key]")
    message = problem["msg"].removeprefix("Value error, ")
    for word, plain_word in (("a valid tuple", "a list"), ("a valid dictionary", "a mapping of names to values")):
        message = message.replace(word, plain_word)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {place!r}{nearest(str(problem['loc'][-1]), known(problem['loc'])) if known else ''}"
    if problem["type"] == "missing":
        return f"{place} is missing"
    if problem["type"] == "value_error":
        return f"{place}: {message}" if place else message
    return f"{place}: {message[:1].lower()}{message[1:]} (got {show(problem['input'])})"


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the known one that is spelt most like it, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; the nearest known one is {close[0]!r}" if close else f"; known are {', '.join(names)}"
