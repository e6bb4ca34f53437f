"""The demo's files: synthetic documents with their gold annotations, a tokenizer trained on them, a token corpus."""

import json
from dataclasses import asdict
from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast

from compactbio import corpus, formats
from compactbio.demo import grammar
from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.files import atomic_folder, write_text

TRAIN, TEST, HELD_OUT = 5000, 250, 500
# Documents whose entities the student is fine-tuned to find.
TAGGED = 400
VOCABULARY = 3000
# Title and first sentence: a model from random weights learns short rows in minutes, long ones in hours.
MAX_LENGTH = 32
NOTICE = "SYNTHETIC.txt"
_NOTICE = (
    "Everything in this folder is synthetic: the abstracts were made by a grammar over real names of drugs, genes,\n"
    "diseases and species. They report no study that took place; models trained on them serve this demo alone.\n"
)


def open_folder(out: Path) -> None:
    """Make the demo's folder, or take up one of an earlier demo. Raises UserError for a folder of something else."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / NOTICE).exists())):
        raise UserError(f"{out} is not empty and holds no demo: choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / NOTICE, _NOTICE)


def write_documents(out: Path) -> None:
    """Write the documents with entities, relations and questions (`train.jsonl`, `test.jsonl`), where not there yet."""
    for part, count in (("train", TRAIN), ("test", TEST)):
        path = out / "documents" / f"{part}.jsonl"
        if path.exists():
            continue
        path.parent.mkdir(exist_ok=True)
        lines = []
        for document in grammar.abstracts(count, part=part):
            title, abstract = grammar.title_and_abstract(document)
            lines.append(json.dumps({"title": title, "abstract": abstract, **asdict(document)}) + "\n")
        write_text(path, "".join(lines))


def write_tagged(out: Path) -> Path:
    """Write the entities of some training and test documents as a data set of NER; gives its folder."""
    folder = out / "ner"
    folder.mkdir(exist_ok=True)
    for part, count in (("train", TAGGED), ("test", TEST)):
        path = folder / f"{part}.jsonl"
        if not path.exists():
            found = grammar.abstracts(count, part=part)
            formats.write((Document(one.id, one.text, one.spans) for one in found), path, "jsonl")
    return folder


def train_tokenizer(out: Path) -> Path:
    """Train a cased WordPiece tokenizer on the training documents, where not there yet; gives its folder."""
    folder = out / "tokenizer"
    if folder.exists():
        return folder
    texts = [json.loads(line)["text"] for line in (out / "documents" / "train.jsonl").open(encoding="utf-8")]
    trainer = BertWordPieceTokenizer(lowercase=False)
    trainer.train_from_iterator(texts, vocab_size=VOCABULARY, min_frequency=2, show_progress=False)
    with atomic_folder(folder) as partial:
        trainer.save_model(str(partial))
        BertTokenizerFast(vocab=str(partial / "vocab.txt"), do_lower_case=False).save_pretrained(partial)
    return folder


def build_corpus(out: Path) -> Path:
    """Build the token corpus of the training documents with held-out rows; a finished one is left alone."""
    folder = out / "corpus"
    source = out / "documents" / "train.jsonl"
    corpus.build([source], train_tokenizer(out), folder, max_length=MAX_LENGTH, holdout=HELD_OUT)
    return folder
