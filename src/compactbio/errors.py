"""The one exception that a user sees as a sentence."""

import errno


class UserError(ValueError):
    """A mistake of the user's, or a limit of their machine: one sentence that says what is wrong and how to fix it.

    `setting` is the name of the argument that the sentence is about, where there is one ("max_length"). The command
    line prints the sentence, with the option of that name, and leaves with status 2; a library caller catches it like
    any exception.
    """

    def __init__(self, sentence: str, *, setting: str | None = None) -> None:
        super().__init__(sentence)
        self.setting = setting


_DISK = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file is larger than the system allows",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "there is no right to write or read it",
    errno.ENOENT: "there is no such file or folder",
    errno.EPERM: "there is no right to write or read it",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.EISDIR: "this path is a folder, not a file",
    errno.ENAMETOOLONG: "its name, or what is put beside it, is longer than the file system takes",
}


def sentence_for(error: OSError) -> str | None:
    """The sentence for an error of the file system that a user can mend, or None where it is none of theirs."""
    reason = _DISK.get(error.errno or 0)
    if reason is None:
        return None
    place = error.filename or "the output"
    return f"{place}: {reason}; free or choose another place and run the same command again, finished work is kept."
