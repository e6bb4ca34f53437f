"""Small files of annotated documents, one in each format, and ways to put them on disk."""

import json
from pathlib import Path

from compactbio.documents import Document
from compactbio.formats import read

CONLL = "Mild\tO\nlupus\tB\nnephritis\tI\n\nNo\tO\nrash\tB\n"
PUBTATOR = (
    "7|t|On zinc.\n7|a|Zinc cures rash.\n7\t3\t7\tzinc\tChemical\tD015032\n7\t20\t24\trash\tDisease\tD005076\n"
    "7\tCID\tD015032\tD005076\n"
)
BIOC = (
    "<?xml version='1.0'?><!DOCTYPE collection SYSTEM 'BioC.dtd'><collection><document><id>7</id>"
    "<passage><offset>0</offset><text>On zinc.</text><annotation id='0'><infon key='type'>Chemical</infon>"
    "<infon key='MESH'>D015032</infon><location offset='3' length='4'/><text>zinc</text></annotation></passage>"
    "<passage><offset>12</offset><text>A rash.</text><annotation id='1'><infon key='type'>Disease</infon>"
    "<location offset='14' length='4'/><text>rash</text></annotation></passage>"
    "<relation id='R0'><infon key='type'>cures</infon><node refid='0' role='x'/><node refid='1' role='y'/></relation>"
    "</document></collection>"
)
SQUAD = json.dumps(
    {
        "data": [
            {
                "paragraphs": [
                    {
                        "context": "Zinc cures rash.",
                        "qas": [
                            {"id": "a1_002", "question": "What?", "answers": [{"text": "Zinc", "answer_start": 0}]},
                            {"id": "a2_001", "question": "Who?", "answers": []},
                            {"id": "a3", "question": "Where?"},
                        ],
                    }
                ]
            }
        ]
    },
    indent=1,
)
BIOASQ = json.dumps(
    {
        "questions": [
            {
                "id": "f",
                "type": "factoid",
                "body": "What?",
                "exact_answer": [["zinc", "Zn"], ["iron"]],
                "snippets": [{"text": "Zinc."}, {"text": "Iron.", "document": "x"}],
            },
            {"id": "o", "type": "factoid", "body": "Old?", "exact_answer": ["zinc", "iron"]},
            {"id": "one", "type": "factoid", "body": "Older?", "exact_answer": "zinc"},
            {"id": "l", "type": "list", "body": "Which?", "exact_answer": [["a"], ["b", "c"]], "snippets": []},
            {"id": "y", "type": "yesno", "body": "Does it?", "exact_answer": "Yes"},
            {"id": "s", "type": "summary", "body": "How?", "exact_answer": "N/A", "ideal_answer": ["Well."]},
        ]
    }
)
MARKED = "index\tsentence\tlabel\n4.T1\t@CHEMICAL$ blocks @GENE$ .\tCPR:4\n5\t@GENE$, @GENE$ and @DISEASE$ .\tfalse\n"
MARKED_JSONL = '{"text": "So [[ kinase ]] by << zinc >>.", "label": "INHIBITOR", "metadata": []}\n'
JSONL = '{"id": "7", "text": "Zinc cures rash.", "spans": [{"start": 0, "end": 4, "type": "Chemical"}]}\n'
ONE_OF_EACH = {
    "conll": CONLL,
    "pubtator": PUBTATOR,
    "bioc": BIOC,
    "squad": SQUAD,
    "bioasq": BIOASQ,
    "marked": MARKED,
    "marked-jsonl": MARKED_JSONL,
    "jsonl": JSONL,
}


def put(folder: Path, text: str | bytes, name: str = "data.txt") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def documents(folder: Path, text: str | bytes, format: str | None = None) -> list[Document]:
    return list(read(put(folder, text), format))


def mentions(document: Document) -> list[tuple[str, str]]:
    return [(document.text[span.start : span.end], span.type) for span in document.spans]


def pair(folder: Path, text: str, annotations: str | None, name: str = "d") -> Path:
    folder.mkdir(exist_ok=True)
    put(folder, text, f"{name}.txt")
    if annotations is not None:
        put(folder, annotations, f"{name}.ann")
    return folder
