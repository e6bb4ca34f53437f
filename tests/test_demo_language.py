"""The demo's language: exactly annotated, true to its tables, the same each time, with test names of their own."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from compactbio.demo import data
from compactbio.documents import Document


@pytest.fixture(scope="module", params=data.PARTS)
def part(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def documents(part: str) -> list[Document]:
    return list(data.documents(400, part))


KNOWN = {name for part in data.PARTS for names in data.world(part).names.values() for name in names}


def names_of(part: str) -> dict[str, set[str]]:
    return {type_: set(names) for type_, names in data.world(part).names.items()}


def name(document: Document, place: int) -> str:
    """A mention's name as the tables have it: a sentence begins with a capital."""
    span = document.spans[place]
    text, known = (
        document.text[span.start : span.end],
        {n for group in data.world("train").names.values() for n in group},
    )
    known |= {n for group in data.world("test").names.values() for n in group}
    return text if text in known else text[:1].lower() + text[1:]


def test_the_tables_hold_enough_and_name_each_other():
    counts = {type_: len(names) for type_, names in names_of("train").items()}
    assert set(counts) == set(data.TYPES.values()) and min(counts.values()) >= 50
    assert len(data.templates()) >= 70
    for part in data.PARTS:
        world = data.world(part)
        known = set().union(*names_of(part).values())
        assert world.facts and all({fact.head, fact.tail} <= known for fact in world.facts)
    with pytest.raises(ValueError, match="part must be one of"):
        data.world("devel")


def test_the_parts_share_no_name():
    train, test = (set().union(*names_of(part).values()) for part in data.PARTS)
    assert not train & test


def test_every_mention_is_a_name_of_its_type_and_none_is_left_out(part, documents):
    names = names_of(part)
    every = sorted(set().union(*names.values()), key=len, reverse=True)
    pattern = re.compile(r"(?<!\w)(?:" + "|".join(re.escape(one) for one in every) + r")(?!\w)", re.IGNORECASE)
    for document in documents:
        assert all(name(document, i) in names[span.type] for i, span in enumerate(document.spans))
        spans = [(span.start, span.end) for span in document.spans]
        assert spans == [match.span() for match in pattern.finditer(document.text)], document.text


def test_relations_are_facts_between_the_right_types(part, documents):
    facts = set(data.world(part).facts)
    for document in documents:
        for relation in document.relations:
            head, tail = name(document, relation.head), name(document, relation.tail)
            assert data.Fact(head, relation.type, tail) in facts
            slots = data.RELATIONS[relation.type]
            types = (document.spans[relation.head].type, document.spans[relation.tail].type)
            assert types == tuple(data.TYPES[slot] for slot in slots)


def test_answers_are_where_they_are_said_to_be(documents):
    asked = [(document, question) for document in documents for question in document.questions]
    assert asked
    for document, question in asked:
        [[answer]], [start] = question.answers, question.starts
        assert document.text[start : start + len(answer)] == answer


def test_document_i_is_a_function_of_part_seed_and_number():
    assert list(data.documents(5)) == list(data.documents(9))[:5]
    assert list(data.documents(5, seed=1)) != list(data.documents(5))
    assert len({document.text for document in data.documents(400)}) > 390


def test_every_template_is_used():
    texts = " ".join(document.text for document in data.documents(4000))
    for template in data.templates():
        if not template.answer:
            plain = max(re.split(r"\[.*?\]|\{.*?\}", template.text), key=len)
            assert plain.strip() in texts or plain.strip().capitalize() in texts, template.text


SIZES = data.Sizes(60, 10, 20, 5, 10)
# What writes the files of a seed, and prints their digests.
MADE = """
import sys
from pathlib import Path
from compactbio.demo import data
from test_demo_language import SIZES, digests
print(digests(Path(sys.argv[1])))
"""


def digests(out: Path) -> dict[str, str]:
    """Makes the texts, the corpus and the data sets in a folder; the SHA-256 of each file."""
    data.open_folder(out)
    data.build_corpus(out, SIZES)
    data.build_tasks(out, SIZES)
    kinds = (".jsonl", ".tsv", ".txt", ".arrow")
    made = sorted(path for path in out.rglob("*") if path.suffix in kinds)
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in made}


def test_the_files_are_the_same_bytes_whatever_the_hash_seed(tmp_path):
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MADE, str(tmp_path / "1")]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    # The hash seed of this process is another one.
    here = digests(tmp_path / "2")
    assert printed.strip() == str(here) and len(here) >= 9


def test_a_marked_sentence_names_its_pair_by_type():
    [document] = data.documents(1)
    for sentence in data.marked([document]):
        head, tail = sentence.spans
        marks = {f"@{type_.upper()}$" for type_ in data.TYPES.values()}
        assert {sentence.text[head.start : head.end], sentence.text[tail.start : tail.end]} <= marks
