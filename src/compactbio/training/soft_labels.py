"""What teachers say of texts: computed once for each chunk of documents, and kept in half precision in the cache.

The cache holds a folder per teacher, named by the digest of its weights and of how it reads texts, and in it an Arrow
file per chunk, named by the digest of the texts. A file is either complete or absent, so a run that was stopped
computes what is missing, and every later run with the same teacher and texts computes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from transformers import PreTrainedTokenizerFast

import compactbio
from compactbio.documents import Document, words
from compactbio.documents.names import key, split_type
from compactbio.documents.tags import in_iob2, parse, tagged_types
from compactbio.errors import UserError, check_named
from compactbio.files import clean, value_digest
from compactbio.modeling import loading, runtimes
from compactbio.modeling.families import longest
from compactbio.modeling.runtimes import Runtime
from compactbio.modeling.tokenizers import reading_digest
from compactbio.tasks import units
from compactbio.tasks.outcome import listed
from compactbio.tasks.registry import TASKS
from compactbio.tasks.relation_classes import Scheme
from compactbio.tasks.settings import Settings, decoding, has_independent_outputs
from compactbio.tasks.units import Scores
from compactbio.training.array_files import DamagedError, columns_of, read, write

# Documents that are computed, and lost where a run is killed, together.
CHUNK = 256


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned model to learn from.

    Attributes:
        source: the model.
        task: "ner", "relation" or "qa".
        runtime: the name of the runtime that computes it.
        labels: its labels, or classes, in the order of its outputs; none for QA.
        columns: the place of each among the student's; several may have one place, which has their sum. None for one
            that says nothing of the student's labels: of another type, which the teacher decides for itself.
        width: the number of the student's labels.
        settings: how it reads documents.
    """

    source: loading.Source
    task: str
    runtime: str
    labels: tuple[str, ...]
    columns: tuple[int | None, ...]
    width: int
    settings: Settings

    def record(self) -> dict[str, Any]:
        """What it is and teaches, for the record of a run."""
        return {
            "name": self.source.public_name(),
            "sha256": runtimes.digest(self.source, self.runtime),
            "tokenizer": reading_digest(self.tokenizer),
            "runtime": self.runtime,
            "cache": self.digest,
            "columns": list(self.columns),
        }

    @cached_property
    def digest(self) -> str:
        """The fingerprint of what its outputs for a text depend on."""
        read = self.settings.model_dump(include={"max_length", "stride", "joined_signs"})
        weights = runtimes.digest(self.source, self.runtime)
        tokenizer = reading_digest(self.tokenizer)
        versions = [compactbio.__version__, words.RULES]
        return value_digest([weights, tokenizer, self.runtime, self.task, read, versions])

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        return loading.tokenizer_of(self.source)

    @cached_property
    def reading(self) -> str:
        """The fingerprint of how it encodes documents; teachers with the same one have the same rows."""
        return value_digest([reading_digest(self.tokenizer), self.task, list(self.labels), self.settings.record()])

    def types(self, labels: Sequence[str]) -> set[str]:
        """The types of mentions that it teaches a student with `labels`."""
        return tagged_types(labels[place] for place in self.columns if place is not None)

    @property
    def foreign(self) -> set[str]:
        """The types of mentions that the student does not have."""
        if self.task != "ner":
            return set()
        none = self.columns[self.labels.index("O")]
        return tagged_types(label for label, column in zip(self.labels, self.columns, strict=True) if column == none)

    def arranged(self, scores: Scores) -> Scores:
        """The scores (units, its labels) of a group with the columns of the student's labels; -inf in those of types
        that it does not know."""
        if not self.columns or self.columns == tuple(range(self.width)):
            return scores
        joined = np.full((self.width, len(scores)), -np.inf)
        placed = [place is not None for place in self.columns]
        places = [place for place in self.columns if place is not None]
        with np.errstate(invalid="ignore"):  # NaN stays: of a word that no row of the teacher holds
            np.logaddexp.at(joined, places, scores[:, placed].T.astype(np.float64))
        return joined.T.astype(np.float32)


def find_teachers(
    names: Sequence[str | Path] | Mapping[str, Path],
    task: str,
    labels: Sequence[str],
    settings: Settings,
    scheme: Scheme | None,
    precision: str,
) -> tuple[Teacher, ...]:
    """The teachers of a student with `labels`, in the order of their ids.

    Args:
        names: folders or hub names, or folders by the names that records have; of "TYPE=NAME" only the mentions of that
            type count, or those of a teacher with one type, whatever it calls it (NER).
        settings: how documents are read, as far as a teacher has positions for it.
        precision: that teachers are computed in by PyTorch, "bf16" or "fp32"; exported ones keep their own.

    Raises UserError for a model of another task, or with other labels than the data; letter case does not tell labels
    apart. Teachers of NER may know some types each, where together they know all, and two know the same or none alike.
    """
    given = (task, labels, settings, scheme, precision)
    if isinstance(names, Mapping):
        found = {name: _teacher(str(folder), *given) for name, folder in names.items()}
        teachers = tuple(replace(one, source=replace(one.source, name=name)) for name, one in found.items())
    else:
        teachers = tuple(_teacher(check_named(name, "The name of a teacher"), *given) for name in names)
    if task == "ner":
        _check_types(teachers, labels)
    return teachers


def _check_types(teachers: Sequence[Teacher], labels: Sequence[str]) -> None:
    """Refuse teachers that do not know all types together, or that overlap in part."""
    taught = [teacher.types(labels) for teacher in teachers]
    lacking = tagged_types(labels).difference(*taught)
    if lacking:
        known = tagged_types(label for teacher in teachers for label in teacher.labels)
        raise UserError(
            f"No teacher knows {listed(lacking)} of the data, only {listed(known)}: name one that does, as in "
            "TYPE=TAGGER where it calls the type otherwise.",
            setting="teacher",
        )
    for (first, types), (second, others) in combinations(zip(teachers, taught, strict=True), 2):
        if types & others and types != others:
            raise UserError(
                f"{first.source.public_name()!r} and {second.source.public_name()!r} know {listed(types & others)}, "
                "and one of them more: name what each is to teach, as in TYPE=TAGGER, once for each type.",
                setting="teacher",
            )


def _teacher(
    name: str, task: str, labels: Sequence[str], settings: Settings, scheme: Scheme | None, precision: str
) -> Teacher:
    kind, name = split_type(name)
    if kind and task != "ner":
        raise UserError(
            f"{kind}={name}: a type is for mentions, the data are of {task}: leave it out.", setting="teacher"
        )
    source = runtimes.find(name)
    if (trained := runtimes.task_of(source)) != task:
        raise UserError(
            f"{name} is fine-tuned for {trained}, the data are of {task}: name a teacher that is fine-tuned for that.",
            setting="teacher",
        )
    if task == "relation" and has_independent_outputs(source.config):
        raise UserError(
            f"{name}: its outputs are not those of one choice among classes: name another teacher.", setting="teacher"
        )
    own = named = TASKS[task].model_labels(source.config, name, [])
    if task == "ner":
        named = _of_type(name, named, labels, kind) if kind else _typed_alike(name, named, labels)
    columns: tuple[int | None, ...] = _columns(name, named, labels, scheme)
    if task == "ner" and decoding(source.config).by_type:
        nothing = columns[own.index("O")]
        columns = tuple(
            place if label == "O" or place != nothing else None for label, place in zip(own, columns, strict=True)
        )
    runtime = runtimes.chosen(source, "auto")
    if runtime in runtimes.TORCH:
        runtime = f"torch-{precision}"
    return Teacher(source, task, runtime, tuple(named), columns, len(labels), settings.within(longest(source.config)))


def _typed_alike(name: str, named: Sequence[str], labels: Sequence[str]) -> list[str]:
    """A teacher's labels, without types where the student's have none, with the student's one type where it has none.

    Letter case is kept, as types are matched without it. Raises UserError for a teacher of several types where the
    student's have none.
    """
    known, wanted = tagged_types(named), tagged_types(labels)
    if wanted == {""} and len(known) > 1:
        raise UserError(
            f"{name} knows {listed(known)}, and the data name no type: say which of them the data are labelled for, "
            "as in TYPE=TAGGER.",
            setting="teacher",
        )
    if wanted == {""}:
        return [parse(label)[0] for label in named]
    if known == {""} and len(wanted) == 1:
        (kind,) = wanted
        return [label if label == "O" else f"{label}-{kind}" for label in named]
    return list(named)


def _of_type(name: str, named: Sequence[str], labels: Sequence[str], kind: str) -> list[str]:
    """A teacher's labels with the one type `kind`, or with none where the student's have none; its others count as `O`.

    Raises UserError where the teacher or the student lacks it.
    """
    known, wanted = tagged_types(named), tagged_types(labels)
    if wanted != {""} and key(kind) not in map(key, wanted):
        raise UserError(f"The data have no {kind} to teach, they have {listed(wanted)}.", setting="teacher")
    chosen = {other for other in known if key(other) == key(kind)} or known
    if len(chosen) > 1:
        raise UserError(
            f"{name} does not know {kind}, it knows {listed(known)}: name one of these types, or leave the type out.",
            setting="teacher",
        )
    suffix = "" if wanted == {""} else f"-{kind}"
    return [f"{parse(label)[0]}{suffix}" if parse(label)[1] in chosen and label != "O" else "O" for label in named]


def _columns(name: str, named: Sequence[str], labels: Sequence[str], scheme: Scheme | None) -> tuple[int, ...]:
    """The place among the student's labels of each of a teacher's.

    Labels of IOBES and BILOU have the places of those of IOB2. A type that the data do not have is not a mention there:
    it counts as O. Raises UserError for a class of relations that the teacher or the data lack, and where the teacher
    knows no type of the data, or half of one.
    """
    places = {key(label): place for place, label in enumerate(labels)}
    if scheme is None:
        found = [places.get(key(in_iob2(label)), places.get("o", -1)) for label in named]
        known = tagged_types(labels[place] for place in found if place >= 0)
        wanted = [label for label in labels if label == "O" or not known or parse(label)[1] in known]
    else:
        found = [places.get(key(scheme.find(label) or label), -1) for label in named]
        wanted = list(labels)
    lacking = [label for label in wanted if places[key(label)] not in found]
    if lacking and scheme is not None:
        groups = f", or set scheme=labels where the data have the classes of {name} alone"
        raise UserError(
            f"{name} does not know {listed(set(lacking))}, it knows {listed(set(named))}: name a teacher of the "
            f"classes that are trained{groups if scheme.name == 'ChemProt' else ''}.",
            setting="teacher",
        )
    if lacking:
        raise UserError(
            f"{name} does not know {listed(set(lacking))} of the data, it knows {listed(set(named))}: name a teacher "
            "that is fine-tuned for the types of these data, or give its types the data's names: TYPE=TEACHER where it "
            "has one, else in the labels of its config.json.",
            setting="teacher",
        )
    if -1 in found:
        foreign = {label for label, place in zip(named, found, strict=True) if place < 0}
        raise UserError(
            f"{name} knows {listed(foreign)}, which the data do not have: name a teacher of the same classes.",
            setting="teacher",
        )
    return tuple(found)


class Ensemble:
    """Teachers and what they say of chunks of documents, from the cache or computed; it loads what it has to."""

    def __init__(self, teachers: Sequence[Teacher], cache: Path | None = None) -> None:
        self._teachers = teachers
        self._cache = cache or runtimes.cache()
        self._loaded: dict[str, Runtime] = {}
        # The rows of the last chunk, which teachers of one tokenizer share.
        self._encoded: tuple[tuple[str, Settings, str], Any] | None = None
        for teacher in teachers:
            clean(self.folder(teacher))

    def folder(self, teacher: Teacher) -> Path:
        """Where a teacher's outputs are kept."""
        return self._cache / "teachers" / teacher.digest[:32]

    def fill(self, documents: Sequence[Document]) -> None:
        """Compute what the cache lacks for a chunk. Raises UserError where it cannot be written."""
        content = _content(documents)
        for teacher in self._teachers:
            self._filled(teacher, documents, content)

    def scores(self, documents: Sequence[Document]) -> list[list[Scores]]:
        """By teacher the scores of each group of documents, with the columns of the student's labels.

        Raises UserError where the cache cannot be written, or holds something else.
        """
        content, found = _content(documents), []
        for teacher in self._teachers:
            table = self._table(teacher, documents, content)
            values, borders = columns_of(table)["scores"]
            width = len(teacher.labels) or 2
            groups = [values[a:b].reshape(-1, width) for a, b in pairwise(borders.tolist())]
            found.append([teacher.arranged(group) for group in groups])
        return found

    def _table(self, teacher: Teacher, documents: Sequence[Document], content: str) -> pa.Table:
        """A teacher's outputs; those of a damaged file are computed again."""
        path = self._filled(teacher, documents, content)
        try:
            return read(path, teacher.digest, teacher.source.name)
        except DamagedError:
            with suppress(OSError):
                path.unlink()
            return read(self._filled(teacher, documents, content), teacher.digest, teacher.source.name)

    def _filled(self, teacher: Teacher, documents: Sequence[Document], content: str) -> Path:
        path = self.folder(teacher) / f"{content[:32]}.arrow"
        if not path.exists():
            scores = [group.astype(np.float16).ravel() for group in self._computed(teacher, documents, content)]
            write(path, {"scores": scores}, teacher.digest)
        return path

    def _computed(self, teacher: Teacher, documents: Sequence[Document], content: str) -> list[Scores]:
        runtime = self._loaded.get(teacher.digest) or runtimes.load(teacher.source, teacher.runtime)
        self._loaded[teacher.digest] = runtime
        settings = teacher.settings.within(runtime.longest or teacher.settings.max_length)
        documents = units.without_labels(teacher.task, documents, (*teacher.labels, "")[0])
        key = (teacher.reading, settings, content)
        if self._encoded is None or self._encoded[0] != key:
            self._encoded = key, TASKS[teacher.task].encode(documents, teacher.tokenizer, teacher.labels, settings)
        return units.scores(teacher.task, documents, self._encoded[1], runtime.logits(self._encoded[1].rows))


def chunks(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """The documents in lists of CHUNK, the last one perhaps shorter."""
    left = iter(documents)
    return iter(lambda: list(islice(left, CHUNK)), [])


def _content(documents: Sequence[Document]) -> str:
    """The digest of what a model reads of documents."""
    read = []
    for document in documents:
        ends = [end for relation in document.relations for end in (relation.head, relation.tail)]
        related = [document.spans[end].places if isinstance(end, int) else end for end in ends]
        questions = [[question.id, question.text, question.kind] for question in document.questions]
        starts = [passage.start for passage in document.passages]
        read.append([document.text, document.tokenised, starts, related, questions])
    return value_digest(read)
