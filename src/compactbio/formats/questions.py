"""Files of questions: SQuAD 1.1 and 2.0, also as rows, and BioASQ's golden files, test sets and submissions.

Sources: Rajpurkar et al., SQuAD, EMNLP 2016; Yoon et al., Pre-trained language model for biomedical question answering,
2019, for BioASQ in the layout of SQuAD; Tsatsaronis et al., An overview of the BIOASQ large-scale biomedical semantic
indexing and question answering competition, BMC Bioinformatics 16, 2015, and the guidelines of its task B.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from compactbio.documents import Document, Question
from compactbio.errors import UserError
from compactbio.files import write_text
from compactbio.formats.checks import (
    Found,
    check_only,
    identifier,
    inconsistency,
    not_writable,
    string,
    validated,
)
from compactbio.formats.json_lines import documents_of_values
from compactbio.formats.streams import RecordError, content

_SNIPPET = re.compile(r"(.+)_[0-9]{3,}", re.DOTALL)
# BioASQ's own ids, of which the snippets are numbered.
_BIOASQ_ID = re.compile(r"[0-9a-f]{24}", re.IGNORECASE)
KINDS = ("factoid", "list", "yesno", "summary")
_MOST_ANSWERS = 5


@dataclass(frozen=True)
class _Answer:
    text: str
    answer_start: int | None = None


@dataclass(frozen=True)
class _SquadQuestion:
    id: str
    question: str
    answers: list[_Answer] | None = None


@dataclass(frozen=True)
class _Paragraph:
    context: str
    qas: list[_SquadQuestion]


@dataclass(frozen=True)
class _Article:
    paragraphs: list[_Paragraph]


@dataclass(frozen=True)
class _SquadFile:
    data: list[_Article]


@dataclass(frozen=True)
class _Snippet:
    text: str


@dataclass(frozen=True)
class _BioasqQuestion:
    id: str
    type: str
    body: str = ""
    exact_answer: str | list[str | list[str]] | None = None
    snippets: list[_Snippet] | None = None


@dataclass(frozen=True)
class _BioasqFile:
    questions: list[_BioasqQuestion]


_SQUAD, _BIOASQ = TypeAdapter(_SquadFile), TypeAdapter(_BioasqFile)


def read_squad(path: Path) -> Iterator[Document]:
    """Give each pair of context and question as a document under the question's id.

    The id within `Question` lacks a final `_` and digits, which number the snippets of a BioASQ question; ids that are
    not BioASQ's keep them where different questions would share an id. Answers are not merged, and their starts are as
    in the file, right or wrong. Raises UserError for JSON of another layout.
    """
    articles = validated(_SQUAD, content(path), path).data
    paragraphs = [paragraph for article in articles for paragraph in article.paragraphs]
    names = _names((asked.id, asked.question) for paragraph in paragraphs for asked in paragraph.qas)
    for paragraph in paragraphs:
        for asked in paragraph.qas:
            given = [answer for answer in asked.answers or [] if answer.text.strip()]  # a blank one is none
            answers = tuple((answer.text,) for answer in given)
            starts = tuple(answer.answer_start for answer in given if answer.answer_start is not None)
            starts = starts if len(starts) == len(given) else ()
            question = Question(asked.question, answers, names[asked.id], starts)
            yield Document(asked.id, paragraph.context, questions=(question,))


def read_squad_rows(path: Path) -> Iterator[Found]:
    """Give the document of each row with `id`, `context`, `question` and `answers`, as the Hugging Face hub has SQuAD.

    `answers` holds the lists `text` and `answer_start`, or is empty. The rows are JSON lines, an array, or a table; one
    of another layout is given as a RecordError. Ids are as for `read_squad`.
    """
    found = list(documents_of_values(path, _document_of_row))
    held = [one for one in found if isinstance(one, Document)]
    names = _names((document.id, document.questions[0].text) for document in held)
    for one in found:
        if isinstance(one, Document):
            one = replace(one, questions=(replace(one.questions[0], id=names[one.id]),))
        yield one


def _document_of_row(path: Path, place: str, value: Any) -> Document:
    if not isinstance(value, Mapping):
        raise RecordError(path, place, "not a JSON object")
    answers = value.get("answers") or {}
    texts = answers.get("text", []) if isinstance(answers, Mapping) else None
    starts = answers.get("answer_start", []) if isinstance(answers, Mapping) else None
    if not isinstance(texts, list) or not isinstance(starts, list) or len(starts) not in (0, len(texts)):
        raise RecordError(path, place, "its answers are not a list of texts with as many starts")
    if not all(isinstance(start, int) and not isinstance(start, bool) for start in starts):
        raise RecordError(path, place, "a start of its answers is not a whole number")
    name = identifier(value.get("id"), "id") or place.rpartition(" ")[2]
    given = [place for place, text in enumerate(texts) if string(text, "an answer").strip()]  # a blank one is none
    wordings = tuple((texts[place],) for place in given)
    starts = tuple(starts[place] for place in given) if starts else ()
    question = Question(string(value.get("question"), "question"), wordings, name, starts)
    document = Document(name, string(value.get("context"), "context"), questions=(question,))
    if reason := inconsistency(document):
        raise RecordError(path, place, reason)
    return document


def write_squad(documents: Iterable[Document], path: Path) -> None:
    """Write one paragraph per document. Raises UserError for what is not one factoid question with single wordings."""
    held = list(documents)
    names = _names((document.id, question.text) for document in held for question in document.questions)
    article = {"title": "", "paragraphs": [_paragraph(document, names) for document in held]}
    path.write_text(json.dumps({"version": "1.1", "data": [article]}, ensure_ascii=False) + "\n", encoding="utf-8")


def _names(asked: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The id of each question by that of its pair of context and question."""
    pairs: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for name, text in asked:
        match = _SNIPPET.fullmatch(name)
        pairs[match[1] if match else name].add((name, " ".join(text.split()).casefold()))
    found: dict[str, str] = {}
    for stem, held in pairs.items():
        names, texts = (set(column) for column in zip(*held, strict=True))
        apart = len(names) > 1 and len(texts) > 1 and not _BIOASQ_ID.fullmatch(stem)
        found |= {name: name if apart else stem for name in names}
    return found


def _only_question(document: Document, format: str) -> Question:
    check_only(document, format, "questions")
    if len(document.questions) != 1:
        raise not_writable(document, format, f"it has {len(document.questions)} questions, not one")
    return document.questions[0]


def _paragraph(document: Document, names: Mapping[str, str]) -> dict[str, Any]:
    question = _only_question(document, "squad")
    if question.kind != "factoid" or question.id != names[document.id]:
        raise not_writable(document, "squad", "its question is not a factoid one under the document's id")
    if any(len(wordings) != 1 for wordings in question.answers):
        raise not_writable(document, "squad", "an answer has not one wording")
    if not all(text.strip() for (text,) in question.answers):
        raise not_writable(document, "squad", "an answer is blank, which means no answer there")
    if question.starts and len(question.starts) != len(question.answers):
        raise not_writable(document, "squad", "some answers have a start and some have none")
    answers: list[dict[str, Any]] = [{"text": text} for (text,) in question.answers]
    for answer, start in zip(answers, question.starts, strict=False):
        answer["answer_start"] = start
    return {"context": document.text, "qas": [{"id": document.id, "question": question.text, "answers": answers}]}


def read_bioasq(path: Path) -> Iterator[Document]:
    """Give each snippet of each question as a document with the id `QUESTION_001`, and so on.

    A question without snippets gives one document without text. Raises UserError for JSON of another layout, a question
    of another type than the four of `KINDS`, and an exact answer to a yes/no question that is not yes or no.
    """
    for asked in validated(_BIOASQ, content(path), path).questions:
        question = _question(asked, path)
        snippets = [snippet.text for snippet in asked.snippets or ()] or [""]
        for number, text in enumerate(snippets, 1):
            yield Document(f"{asked.id}_{number:03}", text, questions=(question,))


def read_questions(path: Path) -> dict[str, Question]:
    """The questions by id, in order. Raises UserError as `read_bioasq` does, and for an id that comes twice."""
    return {asked.id: _question(asked, path) for asked in _each_once(path)}


def read_answers(path: Path) -> dict[str, tuple[str, ...]]:
    """The ranked answers of each question of a submission, blank ones too, which keep their rank.

    Of an answer with several wordings the first counts, as for the official evaluator. Raises UserError for JSON of
    another layout and for an id that comes twice.
    """
    return {
        asked.id: tuple(next(iter(wordings), "") for wordings in _worded(asked.exact_answer))
        for asked in _each_once(path)
    }


def write_bioasq(documents: Iterable[Document], path: Path) -> None:
    """Write questions with the documents' texts as their snippets, which get new numbers.

    Raises UserError for documents that are not snippets of one question, and for answers that its type cannot have.
    """
    entries: dict[str, dict[str, Any]] = {}
    asked: dict[str, Question] = {}
    for document in documents:
        question = _only_question(document, "bioasq")
        if asked.setdefault(question.id, question) != question:
            raise not_writable(document, "bioasq", f"question {question.id!r} differs from an earlier one of that id")
        entry = entries.setdefault(question.id, _entry(document, question))
        entry["snippets"].append({"text": document.text})
    for entry in entries.values():
        if entry["snippets"] == [{"text": ""}]:
            entry["snippets"] = []
    path.write_text(_json(entries.values()), encoding="utf-8")


def write_answers(
    path: Path, answers: Mapping[str, Sequence[str]], questions: Mapping[str, Question] | None = None
) -> None:
    """Write a submission of phase B with the first five of each question's ranked `answers`, by the question's id.

    Where `questions` are given, it holds the factoid ones in their order, those without answers too, for the official
    evaluator stops at a question that has no entry.
    """
    names = list(answers) if questions is None else [id_ for id_, asked in questions.items() if asked.kind == "factoid"]
    entries: list[dict[str, Any]] = [{"id": name, "type": "factoid", "ideal_answer": ""} for name in names]
    for entry in entries:
        entry["exact_answer"] = [[text] for text in answers.get(entry["id"], ())[:_MOST_ANSWERS]]
    write_text(path, _json(entries))


def _json(entries: Iterable[Mapping[str, Any]]) -> str:
    return json.dumps({"questions": list(entries)}, indent=1, ensure_ascii=False) + "\n"


def _each_once(path: Path) -> list[_BioasqQuestion]:
    asked = validated(_BIOASQ, content(path), path).questions
    for id_, count in Counter(question.id for question in asked).items():
        if count > 1:
            raise UserError(f"{path}: question {id_} is in it {count} times; give each question one entry.")
    return asked


def _question(asked: _BioasqQuestion, path: Path) -> Question:
    if asked.type not in KINDS:
        raise UserError(f"{path}: question {asked.id} is of type {asked.type!r}; take {', '.join(KINDS)}.")
    given = () if asked.type == "summary" else _worded(asked.exact_answer)
    answers = tuple(answer for wordings in given if (answer := tuple(filter(str.strip, wordings))))
    if asked.type == "yesno":
        answers = tuple((answer.lower(),) for wordings in answers for answer in wordings)
        if answers not in ((), (("yes",),), (("no",),)):
            raise UserError(f"{path}: question {asked.id} has an exact answer that is not yes or no; fix it there.")
    return Question(asked.body, answers, asked.id, kind=asked.type)


def _worded(exact: str | list[str | list[str]] | None) -> list[list[str]]:
    """The wordings of each answer."""
    given = [exact] if isinstance(exact, str) else exact or []
    return [[answer] if isinstance(answer, str) else answer for answer in given]


def _entry(document: Document, question: Question) -> dict[str, Any]:
    if question.kind not in KINDS or question.starts:
        raise not_writable(document, "bioasq", f"its question is not {', '.join(KINDS)}, or has answers with starts")
    if not all(answer and all(map(str.strip, answer)) for answer in question.answers):
        raise not_writable(document, "bioasq", "an answer is blank, which means no answer there")
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
