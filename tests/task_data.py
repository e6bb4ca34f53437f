"""Small made-up data sets of the three tasks, from the words of the tests' tokenizer."""

import json
import random
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from conftest import VOCABULARY

DRUGS = ("aspirin", "metformin", "insulin")
FILL = ("patients", "treatment", "daily", "dose", "group", "control", "risk", "results", "study", "the", "of", "and")


def start_folder(folder: Path, tokenizer_folder: Path, layers: int = 2) -> Path:
    """A small BERT as the library draws it, which learns fast, with its tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=48, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
    return folder


def ner_folder(folder: Path, sizes: dict[str, int], seed: int = 0, kind: str = "") -> Path:
    """Sentences with drugs and cancers as mentions, `word TAB tag`."""
    draw = random.Random(seed)
    suffix = f"-{kind}" if kind else ""
    folder.mkdir(parents=True)
    for split, size in sizes.items():
        blocks = []
        for _ in range(size):
            rows = [(word, "O") for word in draw.choices(FILL, k=draw.randint(2, 7))]
            if draw.random() < 0.8:
                rows.insert(draw.randint(0, len(rows)), (draw.choice(DRUGS), f"B{suffix}"))
            if draw.random() < 0.4:
                rows += [(draw.choice(("breast", "lung")), f"B{suffix}"), ("cancer", f"I{suffix}")]
            blocks.append("".join(f"{word}\t{tag}\n" for word, tag in rows))
        (folder / f"{split}.tsv").write_text("\n".join(blocks) + "\n")
    return folder


def texts_file(path: Path, count: int) -> Path:
    """Sentences like those of `ner_folder`, one per line, in a file without tags."""
    folder = ner_folder(path.parent / path.stem, {"train": count}, seed=7)
    blocks = (folder / "train.tsv").read_text().strip().split("\n\n")
    path.write_text("".join(" ".join(line.split("\t")[0] for line in block.splitlines()) + "\n" for block in blocks))
    return path


def relation_folder(folder: Path, sizes: dict[str, int], seed: int = 0) -> Path:
    """Marked sentences of which those with "associated" tell a relation, in GAD's form: its devel file is empty."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        size = sizes[split]
        lines = ["index\tsentence\tlabel"] if split == "test" else []
        for number in range(size):
            label = draw.randint(0, 1)
            middle = "associated with" if label else "and"
            text = f"{draw.choice(FILL)} @GENE$ {middle} {draw.choice(FILL)} @DISEASE$ {draw.choice(FILL)} ."
            lines.append(f"{number}\t{text}\t{label}" if split == "test" else f"{text}\t{label}")
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "dev.tsv").write_text("")
    return folder


def qa_folder(folder: Path, sizes: dict[str, int], seed: int = 0) -> Path:
    """Questions for the drug of a passage, in the layout of BioASQ as SQuAD; the test answers stand in a gold file."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    number = 0
    for split, size in sizes.items():
        pairs, golden = [], []
        for _ in range(size):
            number += 1
            name, drug = f"{number:024x}", draw.choice(DRUGS)
            question = f"drug of the {draw.choice(FILL)} {number}"
            for snippet in range(draw.randint(1, 2)):
                words = [*draw.choices(FILL, k=draw.randint(3, 20)), drug, *draw.choices(FILL, k=3)]
                context = " ".join(words)
                answer = {"text": drug, "answer_start": context.index(drug)}
                answers = [] if split == "test" else [answer]
                asked = {"id": f"{name}_{snippet + 1:03d}", "question": question, "answers": answers}
                pairs.append({"context": context, "qas": [asked]})
            golden.append({"id": name, "type": "factoid", "body": question, "exact_answer": [[drug, drug.upper()]]})
        (folder / f"{split}.json").write_text(
            json.dumps({"version": "made", "data": [{"title": "made", "paragraphs": pairs}]})
        )
        if split == "test":
            (folder / "golden.json").write_text(json.dumps({"questions": golden}))
    return folder
