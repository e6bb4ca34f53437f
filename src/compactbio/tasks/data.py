"""A data set on disk: its splits, its task, and its documents."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from compactbio import formats
from compactbio.documents import Document, Question, names
from compactbio.errors import UserError, check_named
from compactbio.files import file_digest, value_digest
from compactbio.formats.drugprot import tables_of
from compactbio.formats.file_names import annotations_of, is_annotation, is_standoff, standoff_texts, text_of
from compactbio.formats.questions import read_questions
from compactbio.formats.sources import check_regular, empty_splits, folds, has_splits, splits
from compactbio.tasks import ner, qa
from compactbio.tasks.relation import label_of
from compactbio.tasks.relation_classes import looks_negative

Split = Literal["train", "devel", "test"]
_SPLITS = ("train", "devel", "test")
_TASKS = ("ner", "relation", "qa")
_ONLY_NER = {"conll": "ner", "hf-jsonl": "ner"}
_TASK_OF = {"marked": "relation", "marked-jsonl": "relation", "squad": "qa", "squad-rows": "qa", "bioasq": "qa"}
_MARKS = re.compile(r"<<|>>|\[\[|\]\]")
# The id of a sentence that `mark_pairs` made: that of its document, and the places of the two mentions.
_MARKED = re.compile(r"(.+)-[0-9]+-[0-9]+", re.DOTALL)
# Tenths of the documents of a single file, by a hash of their names.
_TENTHS: tuple[Split, ...] = ("train",) * 7 + ("devel",) + ("test",) * 2


@dataclass(frozen=True)
class Data:
    """A data set.

    Of a data set in a single file all three splits are that file: `train`, `devel` and `test` are 70, 10 and 20 % of
    its documents by a hash of their names; what belongs together (a question's snippets, one sentence with other
    pairs marked, the sentences of a document) stays together. Where there are fewer than ten documents, or no names of
    them, each sentence is one.

    Args:
        name: for reports.
        task: "ner", "relation" or "qa".
        files: by split.
        gold: the file of the answers of a test split without any.
        single: whether all splits are one file.
        format: of the splits, None to recognise it.
        type: that of its mentions, which have none themselves (NER).
        folder: that of all files, None where they were named.
    """

    name: str
    task: str
    files: Mapping[Split, Path]
    gold: Path | None = None
    single: bool = False
    format: str | None = None
    type: str | None = None
    folder: Path | None = None

    @property
    def places(self) -> list[Path]:
        """The folders and files that are read, in which nothing may be written."""
        named = [self.folder] if self.folder else list(self.files.values())
        return [*named, *([self.gold] if self.gold else [])]

    @cached_property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of each split's file."""
        found: dict[str, str] = {split: digest(path) for split, path in self.files.items()}
        return {**found, "gold": digest(self.gold)} if self.gold else found

    def read(self, split: Split, *, whole: bool = False) -> list[Document]:
        """The documents of a split; `whole`: all of a single file's. Raises UserError where there are none."""
        if split not in get_args(Split):
            raise UserError(f"{split!r} is not a split: take {', '.join(get_args(Split))}.", setting="split")
        if split not in self.files:
            empty = ", ".join(path.name for path in (empty_splits(self.folder) if self.folder else ()))
            why = f"; of zero bytes: {empty}" if empty else ""
            raise UserError(f"{self.name}: it has no {split} file (a file with {split!r} in its name{why}).")
        documents = names.unified(list(formats.read(self.files[split], self.format)))
        if self.type is not None:
            documents = self._named(documents, self.type)
        if self.task == "qa" and split != "train":
            # Refuses two questions of one id, which would be scored as one, before a model is loaded or trained.
            qa.questions(documents)
        if self.single and not whole:
            tenths = zip(documents, _tenths(documents), strict=True)
            documents = [document for document, tenth in tenths if _TENTHS[tenth] == split]
        # A file of few documents has none to choose by.
        if not documents and not (self.single and split == "devel"):
            raise UserError(f"{self.files[split]}: it has no document of the {split} split.")
        return documents

    @cached_property
    def types(self) -> frozenset[str]:
        """The types of mentions that the data set is labelled for: those that occur in any of its splits."""
        splits: tuple[Split, ...] = ("train",) if self.single else tuple(self.files)
        return names.mention_types(document for split in splits for document in self.read(split, whole=True))

    def _named(self, documents: list[Document], kind: str) -> list[Document]:
        own = names.mention_types(documents) - {""}
        if {names.key(other) for other in own} - {names.key(kind)}:
            raise UserError(
                f"{self.name}: its mentions have types already ({', '.join(sorted(own))}), so {kind!r} cannot be their "
                "name: name the data set alone."
            )
        return ner.with_type(documents, kind)

    def golden(self, split: Split) -> dict[str, Question] | None:
        """The answers of a split that are in a file of their own, by question; None except for a test split."""
        return read_questions(self.gold) if self.gold and split == "test" else None

    def scorable(self, documents: Sequence[Document]) -> bool:
        """Whether documents hold what the task's main score counts, which else is 0 whatever a model finds."""
        if self.task == "qa":
            return bool(qa.answered(qa.questions(documents)))
        if self.task == "relation":
            return not all(looks_negative(label_of(document)) for document in documents)
        return any(document.spans for document in documents)

    def check_answers(self, documents: Sequence[Document], split: Split) -> None:
        """Raise UserError where no factoid question of a split has an answer to compare with (QA)."""
        golden = self.golden(split)
        if self.task != "qa" or qa.answered(qa.questions(documents), golden):
            return
        place, fix = f"{split} split", "correct it, or leave this split out"
        if golden is not None:
            place, fix = f"gold file {self.gold}", "give that of this test set"
        elif split == "test":
            fix = "put BioASQ's golden file (with 'golden' in its name) into the folder, or name it as gold"
        raise UserError(f"{self.name}: its {place} has no factoid question with an answer to score; {fix}.")


def find(
    path: str | Path | Mapping[str, str | Path],
    task: str | None = None,
    name: str | None = None,
    gold: str | Path | None = None,
    *,
    format: str | None = None,
) -> Data:
    """Find the files of a data set.

    Args:
        path: its folder, its single file, or its files by split (train, devel, test, gold); "TYPE=PATH" names the type
            of mentions that have none in the files.
        task: "ner", "relation" or "qa"; by default recognised from the content.
        name: for reports; by default that of the folder or file.
        gold: the answers of a test split without any, where they are not in the folder.
        format: one of `formats.READABLE`; by default recognised from the content.

    Raises UserError for what does not exist, a folder without a split, splits of different tasks, and an unknown task
    or format.
    """
    if task is not None and task not in _TASKS:
        raise UserError(f"{task!r} is not a task: take {', '.join(_TASKS)}.", setting="task")
    if format is not None and format not in formats.READABLE:
        raise UserError(f"{format!r} is not a format of data: take {', '.join(formats.READABLE)}.", setting="format")
    if isinstance(path, Mapping):
        wrong = [str(key) for key in path if key not in (*_SPLITS, "gold")]
        if wrong or not any(split in path for split in _SPLITS):
            raise UserError(
                f"Files of a data set are named by split, {', '.join(_SPLITS)} and gold, not by "
                f"{', '.join(wrong) or 'none of the splits'}."
            )
        named = {
            key: Path(check_named(file, f"The {key} file of the data"))
            for key, file in dict[str, Any](path).items()
            if file is not None or key != "gold"
        }
        files = {split: named[split] for split in _SPLITS if split in named}
        answers = named.get("gold")
        return _data(name or next(iter(files.values())).stem, files, answers, task, format)
    kind, place = names.split_type(check_named(path, "The name of a data set"))
    if kind:
        return _of_type(find(place, task, name, gold, format=format), kind)
    path, gold = Path(place), None if gold is None else Path(check_named(gold, "The golden file"))
    if not path.exists():
        raise UserError(f"{path}: there is no such data set.")
    check_regular(path)
    called = name or (path.resolve().name if path.is_dir() else path.name.removesuffix(".gz").rpartition(".")[0])
    if path.is_file() or tables_of(path) or _is_brat(path) or (is_standoff(path) and not has_splits(path)):
        single: dict[str, Path] = {"train": path, "devel": path, "test": path}
        return _data(called, single, gold, task, format, single=True, folder=path if path.is_dir() else None)
    if folds(path):
        raise UserError(f"{path}: its folders are folds; name one of them, or compare models on all in a suite.")
    files = splits(path)
    answers = files.pop("gold", None)
    return _data(called, files, gold or answers, task, format, folder=path)


def find_all(
    paths: str | Path | Mapping[str, str | Path] | Sequence[str | Path],
    task: str | None = None,
    name: str | None = None,
    *,
    format: str | None = None,
) -> tuple[Data, ...]:
    """One data set, or several for one tagger.

    Args:
        paths: one, as for `find`, or several.
        task, name, format: as for `find`; a name is for one data set alone.

    Raises UserError as `find` does, and where several are not of NER, or are one twice.
    """
    if isinstance(paths, str | Path | Mapping):
        return (find(paths, task, name, format=format),)
    found = tuple(find(path, task, name if len(paths) == 1 else None, format=format) for path in paths)
    if not found:
        raise UserError("Name a data set.")
    if len(found) > 1 and (other := next((data for data in found if data.task != "ner"), None)):
        raise UserError(f"{other.name} is of {other.task}: several data sets make one tagger of entities (ner).")
    files = [data.files["train"].resolve() for data in found if "train" in data.files]
    if len(set(files)) < len(files):
        raise UserError("A data set is named twice: name each once.")
    return _named_apart(found)


def _named_apart(found: tuple[Data, ...]) -> tuple[Data, ...]:
    """The data sets, those of one name with the folders before it as far as that tells them apart."""
    if len({data.name for data in found}) == len(found):
        return found
    places = [next(iter(data.files.values())).resolve() for data in found]
    places = [place if data.single else place.parent for data, place in zip(found, places, strict=True)]
    for depth in range(2, max(len(place.parts) for place in places) + 1):
        longer = ["/".join(place.parts[-depth:]) for place in places]
        if len(set(longer)) == len(longer):
            return tuple(replace(data, name=name) for data, name in zip(found, longer, strict=True))
    return tuple(replace(data, name=f"{data.name} {number}") for number, data in enumerate(found, 1))


def _of_type(data: Data, kind: str) -> Data:
    if data.type is not None:
        raise UserError(f"{kind}={data.type}={data.name}: name one type.")
    if data.task != "ner":
        raise UserError(f"{kind}={data.name}: a type is for mentions, the data are of {data.task}: leave it out.")
    return replace(data, type=kind)


def _data(
    name: str,
    files: Mapping[str, Path],
    gold: Path | None,
    task: str | None,
    format: str | None,
    *,
    single: bool = False,
    folder: Path | None = None,
) -> Data:
    for path in (*files.values(), *([gold] if gold else [])):
        if not path.exists():
            raise UserError(f"{path}: there is no such file.")
        check_regular(path)
    if format is None and not single:
        _check_alike(name, files)
    named = task or _task(next(iter(files.values())), format)
    return Data(name, named, files, gold, single, format, folder=folder)  # type: ignore[arg-type]


def _check_alike(name: str, files: Mapping[str, Path]) -> None:
    """Refuse splits whose formats are of different tasks; an unknown format is reported when it is read."""
    tasks: dict[str, str] = {}
    for split, path in files.items():
        with suppress(UserError):
            found = formats.recognise(path)
            tasks[split] = _ONLY_NER.get(found) or _TASK_OF.get(found, "")
    if len(set(filter(None, tasks.values()))) > 1:
        listed = ", ".join(f"{files[split].name} is of {task}" for split, task in tasks.items() if task)
        raise UserError(f"{name}: its splits are of different tasks ({listed}); keep those of one task in it.")


def _task(path: Path, format: str | None) -> str:
    if known := _TASK_OF.get(format or formats.recognise(path)):
        return known
    for document in formats.read(path, format):
        if document.questions:
            return "qa"
        if document.spans:
            return "ner"
        if document.relations:
            return "relation"
    raise UserError(f"{path}: it holds no mention, relation or question to score; name its task.", setting="task")


def _is_brat(path: Path) -> bool:
    return any(map(is_annotation, path.iterdir()))


def digest(path: Path) -> str:
    """The SHA-256 of a file, or of the names and contents of the files of a folder or a BRAT document that are read."""
    if path.is_file() and not is_standoff(path):
        return file_digest(path)
    tables = list(tables_of(path).values())
    files = tables or (standoff_texts(path) if path.is_dir() else [text_of(path), *annotations_of(path)])
    place = path if path.is_dir() else path.parent
    return value_digest([[p.relative_to(place).as_posix(), file_digest(p)] for p in sorted(files) if p.exists()])


def _group(document: Document) -> str:
    """The name that documents share which must be in the same split."""
    if document.questions:
        return qa.question_key(document.questions[0])
    if document.relations and (made := _MARKED.fullmatch(document.id)):
        return made[1]
    if document.relations and not document.tokenised:
        return " ".join(_MARKS.sub(" ", document.text).split())
    name = document.id.rpartition(".")[0] if document.tokenised else ""
    return name or document.id or document.text


def _tenths(documents: Sequence[Document]) -> list[int]:
    """The tenth, 0 to 9, of each document: its group's, by rank of the group's hash, so that ten groups fill all."""
    names = [_group(document) for document in documents]
    if len(set(names)) < len(_TENTHS) <= len(documents) and not any(d.questions or d.relations for d in documents):
        names = [document.text for document in documents]
    groups = sorted(set(names), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    ranks = {name: rank for rank, name in enumerate(groups)}
    return [ranks[name] * len(_TENTHS) // len(groups) for name in names]


def count(documents: Sequence[Document]) -> dict[str, int]:
    """How many documents, mentions, relations and questions there are, without zeros."""
    counts = {
        "documents": len(documents),
        "mentions": sum(len(document.spans) for document in documents),
        "relations": sum(len(document.relations) for document in documents),
        "questions": len({question.id for document in documents for question in document.questions}),
    }
    return {name: number for name, number in counts.items() if number}
