"""BioASQ: golden files, test sets and submissions, one JSON object with a list of questions.

Source: Tsatsaronis et al., An overview of the BIOASQ large-scale biomedical semantic indexing and question answering
competition, BMC Bioinformatics 16, 2015; the guidelines of task B.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from compactbio.documents import Document, Question
from compactbio.errors import UserError
from compactbio.files import atomic_file
from compactbio.formats.checks import check_only, not_writable, validated
from compactbio.formats.streams import content

KINDS = ("factoid", "list", "yesno", "summary")
_MOST_ANSWERS = 5


@dataclass(frozen=True)
class _Snippet:
    text: str


@dataclass(frozen=True)
class _Asked:
    id: str
    type: str
    body: str = ""
    exact_answer: str | list[str | list[str]] | None = None
    snippets: list[_Snippet] | None = None


@dataclass(frozen=True)
class _File:
    questions: list[_Asked]


_FILE = TypeAdapter(_File)


def read(path: Path) -> Iterator[Document]:
    """Give each snippet of each question as a document with the id `QUESTION_001`, and so on.

    A question without snippets gives one document without text. Raises UserError for JSON of another layout, a question
    of another type than the four of `KINDS`, and an exact answer to a yes/no question that is not yes or no.
    """
    for asked in _asked(path):
        question = _question(asked, path)
        snippets = [snippet.text for snippet in asked.snippets or ()] or [""]
        for number, text in enumerate(snippets, 1):
            yield Document(f"{asked.id}_{number:03}", text, questions=(question,))


def read_questions(path: Path) -> dict[str, Question]:
    """The questions by id, in the file's order. Raises UserError as `read` does, and for an id that comes twice."""
    return {asked.id: _question(asked, path) for asked in _each_once(path)}


def read_answers(path: Path) -> dict[str, tuple[str, ...]]:
    """The ranked answers of each question of a submission, blank ones too, which keep their rank.

    Of an answer with several wordings the first counts, as for the official evaluator. Raises UserError for JSON of
    another layout and for an id that comes twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for asked in _each_once(path):
        given = [asked.exact_answer] if isinstance(asked.exact_answer, str) else asked.exact_answer or ()
        found[asked.id] = tuple(answer if isinstance(answer, str) else next(iter(answer), "") for answer in given)
    return found


def write(documents: Iterable[Document], path: Path) -> None:
    """Write questions with the documents' texts as their snippets, which get new numbers.

    Raises UserError for documents that are not snippets of one question, and for answers that its type cannot have.
    """
    entries: dict[str, dict[str, Any]] = {}
    asked: dict[str, Question] = {}
    for document in documents:
        question = _only_question(document)
        if asked.setdefault(question.id, question) != question:
            raise not_writable(document, "bioasq", f"question {question.id!r} differs from an earlier one of that id")
        entry = entries.setdefault(question.id, _entry(document, question))
        entry["snippets"].append({"text": document.text})
    for entry in entries.values():
        if entry["snippets"] == [{"text": ""}]:
            entry["snippets"] = []
    _write(path, entries.values())


def write_answers(
    path: Path, answers: Mapping[str, Sequence[str]], questions: Mapping[str, Question] | None = None
) -> None:
    """Write a submission of phase B with the first five of each factoid question's ranked `answers`.

    Args:
        path: the file to write.
        answers: the ranked answers by the question's id.
        questions: the questions by id; where given, the file holds the factoid ones in their order, those without
            answers too, for the official evaluator stops at a question that has no entry.
    """
    names = list(answers) if questions is None else [id_ for id_, asked in questions.items() if asked.kind == "factoid"]
    entries = (
        {
            "id": name,
            "type": "factoid",
            "ideal_answer": "",
            "exact_answer": [[text] for text in answers.get(name, ())[:_MOST_ANSWERS]],
        }
        for name in names
    )
    with atomic_file(path) as partial:
        _write(partial, entries)


def _write(path: Path, entries: Iterable[Mapping[str, Any]]) -> None:
    path.write_text(json.dumps({"questions": list(entries)}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _asked(path: Path) -> list[_Asked]:
    return validated(_FILE, content(path), path).questions


def _each_once(path: Path) -> list[_Asked]:
    asked = _asked(path)
    for id_, count in Counter(question.id for question in asked).items():
        if count > 1:
            raise UserError(f"{path}: question {id_} is in it {count} times; give each question one entry.")
    return asked


def _question(asked: _Asked, path: Path) -> Question:
    if asked.type not in KINDS:
        raise UserError(f"{path}: question {asked.id} is of type {asked.type!r}; take {', '.join(KINDS)}.")
    answers = () if asked.type == "summary" else _answers(asked.exact_answer)
    if asked.type == "yesno":
        answers = tuple((answer.lower(),) for wordings in answers for answer in wordings)
        if answers not in ((), (("yes",),), (("no",),)):
            raise UserError(f"{path}: question {asked.id} has an exact answer that is not yes or no; fix it there.")
    return Question(asked.body, answers, asked.id, kind=asked.type)


def _answers(exact: str | list[str | list[str]] | None) -> tuple[tuple[str, ...], ...]:
    if not exact:
        return ()
    given = [exact] if isinstance(exact, str) else exact
    worded = ([answer] if isinstance(answer, str) else answer for answer in given)
    return tuple(answer for wordings in worded if (answer := tuple(filter(str.strip, wordings))))


def _only_question(document: Document) -> Question:
    check_only(document, "bioasq", "questions")
    if len(document.questions) != 1:
        raise not_writable(document, "bioasq", f"it has {len(document.questions)} questions, not one")
    [question] = document.questions
    if question.kind not in KINDS or question.starts:
        raise not_writable(document, "bioasq", f"its question is not {', '.join(KINDS)}, or has answers with starts")
    if not all(answer and all(map(str.strip, answer)) for answer in question.answers):
        raise not_writable(document, "bioasq", "an answer is blank, which means no answer there")
    return question


def _entry(document: Document, question: Question) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": question.id, "type": question.kind, "body": question.text, "snippets": []}
    if question.kind == "summary":
        if question.answers:
            raise not_writable(document, "bioasq", "a summary question has exact answers")
    elif question.kind != "yesno":
        entry["exact_answer"] = question.answers
    elif question.answers in ((("yes",),), (("no",),)):
        entry["exact_answer"] = question.answers[0][0]
    elif question.answers:
        raise not_writable(document, "bioasq", "the answer to a yes/no question is not yes or no")
    return entry
