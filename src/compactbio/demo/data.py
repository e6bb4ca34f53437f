"""The demo's data: documents of a small synthetic language, and the corpus and the data sets that are made of them.

The language is tables of invented names and facts, and templates that state them; it is exactly annotated.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from itertools import permutations
from pathlib import Path
from random import Random
from typing import NamedTuple

from transformers import BertTokenizerFast

from compactbio import corpus, formats
from compactbio.documents import Document, Question, Relation, Span
from compactbio.documents.words import sentences
from compactbio.files import atomic_folder, refuse_foreign, write_text
from compactbio.tasks.marking import marked_sentence

PARTS = ("train", "test")
TYPES = {
    "drug": "Drug",
    "gene": "Gene",
    "marker": "Gene",
    "disease": "Disease",
    "effect": "Disease",
    "species": "Species",
    "other_drug": "Drug",
    "other_gene": "Gene",
    "other_disease": "Disease",
    "other_species": "Species",
}
"""Slot -> type of the names that fill it. An `other_` one has no fact with the names of the other slots."""
RELATIONS = {
    "treats": ("drug", "disease"),
    "induces": ("drug", "effect"),
    "targets": ("drug", "gene"),
    "associated_with": ("marker", "disease"),
    "causes": ("species", "disease"),
    "active_against": ("drug", "species"),
}
"""Relation -> slots of its head and its tail."""
SENTENCES = (2, 3)  # fewest and most of a document
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
NOTICE = "SYNTHETIC.txt"
_NOTICE = (
    "Everything in this folder is synthetic: names, facts and numbers are invented, sentences come from templates.\n"
    "No study took place. The models trained on them serve this demo alone.\n"
)
MAX_LENGTH = 128  # tokens of a corpus row
_WHOLE = 5  # names that hold a word which is therefore not cut: "fever"
NO_RELATION = "none"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_RELATED = {(TYPES[head], TYPES[tail]) for head, tail in RELATIONS.values()}
# Seeds: documents of one do not come again in another.
_CORPUS, _TASKS, _DEVEL = 0, 1, 2


class Fact(NamedTuple):
    """A relation between two names; in a template, between two slots."""

    head: str
    relation: str
    tail: str


@dataclass(frozen=True)
class Template:
    """A sentence with the facts that it states, or a question with the slot that answers it ("" for a sentence)."""

    text: str
    slots: frozenset[str]
    facts: tuple[Fact, ...]
    answer: str


@dataclass(frozen=True)
class World:
    """The names of a part by type, its facts, and the facts about each name, in the order of the tables."""

    names: dict[str, list[str]]
    facts: list[Fact]
    about: dict[str, list[Fact]]


@cache
def world(part: str) -> World:
    """The names and facts of a part, `train` or `test`, which share none. ValueError for another part."""
    if part not in PARTS:
        raise ValueError(f"part must be one of {', '.join(PARTS)}, not {part!r}")
    names: dict[str, list[str]] = {}
    for type_, own, name in _rows("names.tsv"):
        if own == part:
            names.setdefault(type_, []).append(name)
    about: dict[str, list[Fact]] = {name: [] for group in names.values() for name in group}
    facts = [fact for fact in map(Fact._make, _rows("facts.tsv")) if fact.head in about]
    for fact in facts:
        about[fact.head].append(fact)
        about[fact.tail].append(fact)
    return World(names, facts, about)


@cache
def templates() -> tuple[Template, ...]:
    """All templates, in the order of their file."""
    found = []
    for line in _lines("templates.txt"):
        text, _, rest = line.partition(" => ")
        answer = rest if text.endswith("?") else ""
        facts = () if answer else tuple(Fact(*fact.split()) for fact in rest.split("; ") if rest)
        found.append(Template(text, frozenset(_SLOT.findall(text)) - {"n"}, facts, answer))
    return tuple(found)


def documents(count: int, part: str = "train", seed: int = 0) -> Iterator[Document]:
    """`count` documents of a part with mentions, relations and questions.

    Document i is a pure function of (part, seed, i). Every name in the text is a mention; relations and answers are
    what a sentence states. ValueError for another part than `train` and `test`.
    """
    own = world(part)
    return (_document(own, f"synthetic-{part}-{seed}-{i:05d}") for i in range(count))


def _document(own: World, name: str) -> Document:
    random = Random(name)  # a string is hashed the same in every process
    context = _context(own, random)
    text, spans, relations = "", list[Span](), list[Relation]()
    stated: dict[frozenset[str], dict[str, Span]] = {}
    for template in _chosen(own, context, random):
        text += " " if text else ""
        places: dict[str, int] = {}
        for piece, slot in _pieces(template.text, context, random):
            if slot in TYPES:
                places[slot] = len(spans)
                spans.append(Span(len(text), len(text) + len(piece), TYPES[slot]))
            text += piece
        for head, relation, tail in template.facts:
            relations.append(Relation(places[head], places[tail], relation))
            stated.setdefault(frozenset({head, tail}), {slot: spans[places[slot]] for slot in (head, tail)})
    questions: list[Question] = []
    for template in templates():
        if template.answer and (answers := stated.get(template.slots | {template.answer})):
            asked = "".join(piece for piece, _ in _pieces(template.text, context, random))
            span = answers[template.answer]
            answer = ((text[span.start : span.end],),)
            questions.append(Question(asked, answer, f"{name}-{len(questions)}", (span.start,)))
    return Document(name, text, tuple(spans), tuple(relations), tuple(questions))


def _context(own: World, random: Random) -> dict[str, str]:
    """Slot -> name, each name once: facts that join one another, and names that have nothing to do with them."""
    first = random.choice(own.facts)
    context = dict(zip(RELATIONS[first.relation], (first.head, first.tail), strict=True))
    for relation in random.sample(list(RELATIONS), len(RELATIONS)):
        head, tail = RELATIONS[relation]
        taken = {name for slot, name in context.items() if slot not in (head, tail)}
        fitting = [
            fact
            for fact in own.about[context.get(head) or context.get(tail) or first.head]
            if fact.relation == relation
            and context.get(head, fact.head) == fact.head
            and context.get(tail, fact.tail) == fact.tail
            and taken.isdisjoint((fact.head, fact.tail))
        ]
        if fitting:
            fact = random.choice(fitting)
            context |= {head: fact.head, tail: fact.tail}
    near = {name for one in context.values() for fact in own.about[one] for name in (fact.head, fact.tail)}
    for slot, type_ in TYPES.items():
        if slot.startswith("other_"):
            context[slot] = random.choice([name for name in own.names[type_] if name not in near])
    return context


def _chosen(own: World, context: dict[str, str], random: Random) -> list[Template]:
    """The sentences of a document: all but one state facts, where there are so many."""
    usable = [one for one in templates() if not one.answer and one.slots <= context.keys()]
    stating = [one for one in usable if one.facts and all(_holds(own, context, fact) for fact in one.facts)]
    silent = [one for one in usable if not one.facts]
    count = random.randint(*SENTENCES)
    chosen = random.sample(stating, min(len(stating), count - 1))
    chosen += random.sample(silent, count - len(chosen))
    return random.sample(chosen, len(chosen))


def _holds(own: World, context: dict[str, str], fact: Fact) -> bool:
    head = context[fact.head]
    return Fact(head, fact.relation, context[fact.tail]) in own.about[head]


def _pieces(text: str, context: dict[str, str], random: Random) -> Iterator[tuple[str, str]]:
    """A template's text in pieces, each with the slot that it fills ("" for plain text); it begins with a capital."""
    text = _CHOICE.sub(lambda match: random.choice(match[1].split("|")), text)
    first = True
    for i, part in enumerate(_SLOT.split(text)):
        slot = part if i % 2 else ""
        piece = str(random.randint(2, 98)) if slot == "n" else context[slot] if slot else part
        if piece:
            yield piece[:1].upper() + piece[1:] if first else piece, slot
            first = False


def _rows(file: str) -> list[list[str]]:
    return [line.split("\t") for line in _lines(file)[1:]]


def _lines(file: str) -> list[str]:
    text = (resources.files("compactbio.demo") / file).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@dataclass(frozen=True)
class Sizes:
    """How many documents there are: of the corpus, its held-out rows, and of each data set's splits."""

    corpus: int = 2500
    heldout: int = 200
    train: int = 300
    devel: int = 60
    test: int = 250


def open_folder(out: Path) -> None:
    """Make the folder of the demo, or use that of an earlier one. Raises UserError for a folder of something else."""
    refuse_foreign(out, "demo", NOTICE)
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / NOTICE, _NOTICE)


def build_corpus(out: Path, sizes: Sizes) -> Path:
    """Write documents and tokenizer, and build the corpus of them; gives its folder. What is there is left alone."""
    source, folder = out / "documents.jsonl", out / "tokenizer"
    if not source.exists():
        _write(map(_with_question, documents(sizes.corpus, seed=_CORPUS)), source)
    if not folder.exists():
        pieces = vocabulary()
        with atomic_folder(folder) as partial:
            (partial / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
            BertTokenizerFast(vocab=str(partial / "vocab.txt"), do_lower_case=False).save_pretrained(partial)
    corpus.build([source], out / "corpus", tokenizer=folder, max_length=MAX_LENGTH, holdout=sizes.heldout, workers=1)
    return out / "corpus"


def _with_question(document: Document) -> Document:
    """The text, one of its questions and the answer: what a corpus row is made of."""
    question = document.questions[len(document.text) % len(document.questions)]
    return Document(document.id, f"{question.text} {document.text} {question.answers[0][0]}.")


def build_tasks(out: Path, sizes: Sizes) -> dict[str, Path]:
    """Write the data sets, where they are not there yet; gives their folders by task.

    Train and devel splits have the training names, test splits have none of them.
    """
    parts = {
        "train": list(documents(sizes.train, seed=_TASKS)),
        "devel": list(documents(sizes.devel, seed=_DEVEL)),
        "test": list(documents(sizes.test, "test", seed=_TASKS)),
    }
    for name, found in parts.items():
        _write((replace(one, relations=(), questions=()) for one in found), out / "tasks" / "ner" / f"{name}.jsonl")
        # The best epoch is chosen by devel for entities alone, which are exported; the others keep the last one.
        if name != "devel":
            _write(marked(found), out / "tasks" / "relation" / f"{name}.tsv", "marked")
            _write(asked(found), out / "tasks" / "qa" / f"{name}.jsonl")
    return {task: out / "tasks" / task for task in ("ner", "relation", "qa")}


def vocabulary() -> list[str]:
    """A WordPiece vocabulary: the words of the templates, and of each training name its stem and its ending.

    A name is cut where both halves are common to many names, so that one that was never read has known pieces. Nothing
    is drawn or depends on the order of a set: the vocabulary is the same each time.
    """
    plain = " ".join(re.sub(r"{.*?}", " ", one.text) for one in templates())
    uses = Counter(word for group in world("train").names.values() for name in group for word in name.split())
    whole = [word for word, count in uses.items() if count >= _WHOLE]
    names = sorted({form for word in uses if word not in whole for form in (word, word[:1].upper() + word[1:])})
    cuts = [[(word[:at], f"##{word[at:]}") for at in range(2, len(word))] for word in names]
    counts = Counter(piece for ways in cuts for way in ways for piece in way)
    halves = {half for ways in cuts for half in max(ways, key=lambda way: (min(counts[one] for one in way), way))}
    signs = [chr(code) for code in range(33, 127)]
    marks = [type_.upper() for type_ in TYPES.values()]
    words = sorted({*re.findall("[A-Za-z]+", plain), *whole})
    return list(dict.fromkeys([*_SPECIAL, *signs, *(f"##{one}" for one in signs), *marks, *words, *sorted(halves)]))


def marked(documents: Iterable[Document]) -> Iterator[Document]:
    """A sentence for each pair of names that could be related, with the two replaced by their types (@DRUG$), and the
    relation that it states between them, or none."""
    for document in documents:
        stated = {(one.head, one.tail): one.type for one in document.relations}
        types = [span.type for span in document.spans]
        capitals = replace(document, spans=tuple(replace(span, type=span.type.upper()) for span in document.spans))
        for start, end in sentences(document.text):
            inside = [i for i, span in enumerate(document.spans) if start <= span.start < end]
            place = start, len(document.text[:end].rstrip())
            for head, tail in permutations(inside, 2):
                if (types[head], types[tail]) in _RELATED:
                    label, marks = stated.get((head, tail), NO_RELATION), (_mark(types[head]), _mark(types[tail]))
                    sentence = marked_sentence(capitals, place, (head, tail), marks, label)
                    yield replace(sentence, id=f"{document.id}-{head}-{tail}")


def _mark(type_: str) -> str:
    return f"@{type_.upper()}$"


def asked(documents: Iterable[Document]) -> Iterator[Document]:
    """A document for its first question and one for its last."""
    for document in documents:
        for question in dict.fromkeys((document.questions[0], document.questions[-1])):
            yield Document(document.id, document.text, questions=(question,))


def _write(documents: Iterable[Document], path: Path, format: str = "jsonl") -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        formats.write(documents, path, format)
