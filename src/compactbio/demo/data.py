"""The demo's files: synthetic documents, a tokenizer of them, a corpus, and a data set of each of the three tasks."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

from transformers import BertTokenizerFast

from compactbio import corpus, formats
from compactbio.annotate.relations import marked_sentence
from compactbio.demo import language
from compactbio.documents import Document
from compactbio.documents.words import sentences
from compactbio.files import atomic_folder, refuse_foreign, write_text

NOTICE = "SYNTHETIC.txt"
_NOTICE = (
    "Everything in this folder is synthetic: names, facts and numbers are invented, sentences come from templates.\n"
    "No study took place. The models trained on them serve this demo alone.\n"
)
MAX_LENGTH = 128
"""Tokens of a corpus row."""
_WHOLE = 5  # names that hold a word which is therefore not cut: "fever"
NO_RELATION = "none"
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_RELATED = {(language.TYPES[head], language.TYPES[tail]) for head, tail in language.RELATIONS.values()}
# Seeds of the language: documents of one do not come again in another.
_CORPUS, _TASKS, _DEVEL = 0, 1, 2


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
        _write(map(_with_question, language.documents(sizes.corpus, seed=_CORPUS)), source)
    if not folder.exists():
        pieces = vocabulary()
        with atomic_folder(folder) as partial:
            (partial / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
            BertTokenizerFast(vocab=str(partial / "vocab.txt"), do_lower_case=False).save_pretrained(partial)
    corpus.build([source], folder, out / "corpus", max_length=MAX_LENGTH, holdout=sizes.heldout)
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
        "train": list(language.documents(sizes.train, seed=_TASKS)),
        "devel": list(language.documents(sizes.devel, seed=_DEVEL)),
        "test": list(language.documents(sizes.test, "test", seed=_TASKS)),
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
    plain = " ".join(re.sub(r"{.*?}", " ", one.text) for one in language.templates())
    uses = Counter(word for group in language.world("train").names.values() for name in group for word in name.split())
    whole = [word for word, count in uses.items() if count >= _WHOLE]
    names = sorted({form for word in uses if word not in whole for form in (word, word[:1].upper() + word[1:])})
    cuts = [[(word[:at], f"##{word[at:]}") for at in range(2, len(word))] for word in names]
    counts = Counter(piece for ways in cuts for way in ways for piece in way)
    halves = {half for ways in cuts for half in max(ways, key=lambda way: (min(counts[one] for one in way), way))}
    signs = [chr(code) for code in range(33, 127)]
    marks = [type_.upper() for type_ in language.TYPES.values()]
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
