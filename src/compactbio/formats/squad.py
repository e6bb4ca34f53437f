"""SQuAD 1.1 and 2.0 JSON, and BioASQ questions in its layout.

Source: Rajpurkar et al., SQuAD, EMNLP 2016, and Yoon et al., Pre-trained language model for biomedical question
answering, 2019, for the ids of BioASQ.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from compactbio.documents import Document, Question
from compactbio.formats.checks import check_only, not_writable, validated
from compactbio.formats.streams import content

_SNIPPET = re.compile(r"(.+)_[0-9]{3,}", re.DOTALL)
# BioASQ's own ids, of which the snippets are numbered.
_BIOASQ = re.compile(r"[0-9a-f]{24}", re.IGNORECASE)


@dataclass(frozen=True)
class _Answer:
    text: str
    answer_start: int | None = None


@dataclass(frozen=True)
class _Asked:
    id: str
    question: str
    answers: list[_Answer] | None = None


@dataclass(frozen=True)
class _Paragraph:
    context: str
    qas: list[_Asked]


@dataclass(frozen=True)
class _Article:
    paragraphs: list[_Paragraph]


@dataclass(frozen=True)
class _File:
    data: list[_Article]


_FILE = TypeAdapter(_File)


def read(path: Path) -> Iterator[Document]:
    """Give each pair of context and question as a document under the question's id.

    The id within `Question` lacks a final `_` and digits, which number the snippets of a BioASQ question; ids that are
    not BioASQ's keep them where different questions would share an id. Answers are not merged, and their starts are as
    in the file, right or wrong. Raises UserError for JSON of another layout.
    """
    articles = validated(_FILE, content(path), path).data
    pairs = [
        (paragraph.context, asked)
        for article in articles
        for paragraph in article.paragraphs
        for asked in paragraph.qas
    ]
    names = _names((asked.id, asked.question) for _, asked in pairs)
    for context, asked in pairs:
        yield Document(asked.id, context, questions=(_question(asked, names[asked.id]),))


def write(documents: Iterable[Document], path: Path) -> None:
    """Write one paragraph per document. Raises UserError for what is not one factoid question with single wordings."""
    held = list(documents)
    names = _names((document.id, question.text) for document in held for question in document.questions)
    article = {"title": "", "paragraphs": [_paragraph(document, names) for document in held]}
    path.write_text(json.dumps({"version": "1.1", "data": [article]}, ensure_ascii=False) + "\n", encoding="utf-8")


def _names(asked: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The id of each question by that of its pair."""
    texts: defaultdict[str, set[str]] = defaultdict(set)
    sharing: defaultdict[str, set[str]] = defaultdict(set)
    for name, text in asked:
        match = _SNIPPET.fullmatch(name)
        stem = match[1] if match else name
        texts[stem].add(" ".join(text.split()).casefold())
        sharing[stem].add(name)
    apart = {
        stem for stem, held in sharing.items() if len(held) > 1 and len(texts[stem]) > 1 and not _BIOASQ.fullmatch(stem)
    }
    return {name: name if stem in apart else stem for stem, held in sharing.items() for name in held}


def _question(asked: _Asked, name: str) -> Question:
    given = asked.answers or []
    starts = tuple(answer.answer_start for answer in given if answer.answer_start is not None)
    return Question(
        text=asked.question,
        answers=tuple((answer.text,) for answer in given),
        id=name,
        starts=starts if len(starts) == len(given) else (),
    )


def _paragraph(document: Document, names: Mapping[str, str]) -> dict[str, Any]:
    check_only(document, "squad", "questions")
    if len(document.questions) != 1:
        raise not_writable(document, "squad", f"it has {len(document.questions)} questions, not one")
    [question] = document.questions
    if question.kind != "factoid" or question.id != names[document.id]:
        raise not_writable(document, "squad", "its question is not a factoid one under the document's id")
    if any(len(wordings) != 1 for wordings in question.answers):
        raise not_writable(document, "squad", "an answer has not one wording")
    if question.starts and len(question.starts) != len(question.answers):
        raise not_writable(document, "squad", "some answers have a start and some have none")
    answers: list[dict[str, Any]] = [{"text": text} for (text,) in question.answers]
    for answer, start in zip(answers, question.starts, strict=False):
        answer["answer_start"] = start
    return {"context": document.text, "qas": [{"id": document.id, "question": question.text, "answers": answers}]}
