"""The formats that other tools give: BioC JSON, PubTator 3, BigBIO, Hugging Face, BioNLP-ST, BRAT with events."""

import json
import logging
from pathlib import Path

import pytest

from annotated_files import documents, mentions, pair, put
from compactbio.documents import Document, Passage, Relation, Span
from compactbio.errors import UserError
from compactbio.formats import read, read_texts, recognise, write
from compactbio.formats.streams import Rejected
from compactbio.tasks.data import find
from conftest import SHARED

# BioC JSON


def bioc(name: object = "7", **more) -> dict:
    """A document with a title and an abstract, and a mention in each, as the BioC API gives it."""
    chemical = {
        "type": "Chemical",
        "identifier": "MESH:D015032",
        "valid": True,
        "normalized": ["D015032"],
        "name": None,
    }
    return {
        "id": name,
        "infons": {},
        "passages": [
            {
                "infons": {"type": "title", "year": 2021},
                "offset": 0,
                "text": "On zinc.",
                "sentences": [],
                "annotations": [
                    {"id": 1, "infons": chemical, "text": "zinc", "locations": [{"offset": 3, "length": 4}]}
                ],
                "relations": [],
            },
            {
                "infons": {"type": "abstract"},
                "offset": 9,
                "text": "Bad skin rash.",
                "annotations": [
                    {
                        "id": "2",
                        "infons": {"type": "Disease"},
                        "text": "Bad rash",
                        "locations": [{"offset": 9, "length": 3}, {"offset": 18, "length": 4}],
                    },
                    {"id": "3", "infons": {}, "text": "astray", "locations": [{"offset": 9, "length": 6}]},
                ],
            },
        ],
        **more,
    }


EXPECTED = Document(
    "7",
    "On zinc. Bad skin rash.",
    (Span(3, 7, "Chemical", "MESH:D015032"), Span(9, 22, "Disease", "", ((9, 12), (18, 22)))),
)
PASSAGES = (Passage(0, 8, "title"), Passage(9, 23, "abstract"))
LAYOUTS = {
    "collection": {"source": "PubMed", "date": "", "key": "", "documents": [bioc(), bioc(8)]},
    "array of collections": [{"bioctype": "BioCCollection", "documents": [bioc()]}, {"documents": [bioc(8)]}],
    "array of documents": [bioc(), bioc(8)],
    "PubTator 3": {"PubTator3": [{"_id": "7|None", **bioc()}, bioc(8)]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("indent", [None, 2])
def test_every_layout_of_bioc_json_gives_its_documents(tmp_path, caplog, layout, indent):
    path = put(tmp_path, json.dumps(LAYOUTS[layout], indent=indent), "a.json")
    assert recognise(path) == "bioc-json"
    found = list(read(path))
    assert found[0] == EXPECTED and found[0].passages == PASSAGES and found[1].id == "8"
    assert "document 7: 1 left out: mentions whose text is not at their offsets" in caplog.text
    assert [one.text for one in read_texts(path)] == [EXPECTED.text] * 2


def test_a_bad_document_of_bioc_json_costs_itself(tmp_path):
    bad = [bioc("no passages", passages=None), bioc("number", passages=[{"offset": "x", "text": "Zinc."}]), {}, 3]
    bad.append(bioc("control", passages=[{"offset": 0, "text": "Zi\x00nc."}]))
    path = put(tmp_path, "".join(json.dumps(one) + "\n" for one in [bioc(), *bad, bioc(9)]) + "{\n", "a.jsonl")
    found = list(read_texts(path))
    assert [one.id for one in found if isinstance(one, Document)] == ["7", "9"]
    places = [one.place for one in found if isinstance(one, Rejected)]
    assert places[:2] == ["document no passages", "document number"] and places[-1] == "line 8" and len(places) == 6
    with pytest.raises(UserError, match="document no passages"):
        list(read(path))


def test_bioc_json_says_what_bioc_xml_says(tmp_path):
    [document] = documents(tmp_path, json.dumps(bioc()), "bioc-json")
    write([document], tmp_path / "a.xml", "bioc")
    [again] = read(tmp_path / "a.xml")
    assert again == document and again.passages == document.passages


def test_relations_of_pubtator_3_are_between_concepts(tmp_path):
    role = {"identifier": "MESH:D015032", "type": "Chemical", "name": "Zinc"}
    relation = {
        "id": "R1",
        "infons": {"score": "0.99", "type": "Treat", "role1": role, "role2": {**role, "identifier": "p|SUB|V|600|E"}},
        "nodes": [{"refid": "1", "role": "1,2"}, {"refid": "2", "role": "1,2"}],
    }
    between = {"id": "R2", "infons": {"type": "Bind"}, "nodes": [{"refid": 1, "role": ""}, {"refid": "2", "role": ""}]}
    [document] = documents(tmp_path, json.dumps({"PubTator3": [bioc(relations=[relation, between])]}))
    assert document.relations == (Relation("MESH:D015032", "p|SUB|V|600|E", "Treat"), Relation(0, 1, "Bind"))
    xml = (
        "<collection><document><id>1</id><passage><offset>0</offset><text>Zinc.</text></passage><relation id='R'>"
        "<infon key='role1'>Chemical|MESH:D1</infon><infon key='role2'>Disease|MESH:D2</infon>"
        "<infon key='type'>Treat</infon><node refid='R0' role=''/></relation></document></collection>"
    )
    assert documents(tmp_path, xml)[0].relations == (Relation("MESH:D1", "MESH:D2", "Treat"),)


# BigBIO


def bigbio(name: object = "7", **more) -> dict:
    return {
        "id": 0,
        "document_id": name,
        "passages": [
            {"id": "p1", "type": "title", "text": ["On zinc."], "offsets": [[0, 8]]},
            {"id": "p2", "type": "abstract", "text": ["Bad skin rash."], "offsets": [[9, 23]]},
        ],
        "entities": [
            {
                "id": 1,
                "type": "Chemical",
                "text": ["zinc"],
                "offsets": [[3, 7]],
                "normalized": [{"db_name": "MESH", "db_id": "D015032"}],
            },
            {
                "id": "e2",
                "type": "Disease",
                "text": ["Bad", "rash"],
                "offsets": [[9, 12], [18, 22]],
                "normalized": [],
            },
            {"id": "e3", "type": "Disease", "text": ["astray"], "offsets": [[0, 6]], "normalized": []},
        ],
        "events": [{"id": "v1", "type": "Binding"}],
        "coreferences": [],
        "relations": [
            {"id": "r1", "type": "treats", "arg1_id": 1, "arg2_id": "e2", "normalized": []},
            {"id": "r2", "type": "treats", "arg1_id": "1", "arg2_id": "e3", "normalized": []},
        ],
        **more,
    }


@pytest.mark.parametrize("content", [json.dumps(bigbio()) + "\n", json.dumps([bigbio()], indent=1)])
def test_bigbio_gives_mentions_relations_and_passages_and_counts_the_rest(tmp_path, caplog, content):
    path = put(tmp_path, content, "train.json")
    assert recognise(path) == "bigbio"
    [document] = read(path)
    assert document == Document("7", EXPECTED.text, (Span(3, 7, "Chemical", "MESH:D015032"), EXPECTED.spans[1]),
                                (Relation(0, 1, "treats"),))  # fmt: skip
    assert document.passages == PASSAGES
    assert [record.args[3] for record in caplog.records] == [
        "mentions whose text is not at their offsets", "relations that are not between two mentions", "events",
    ]  # fmt: skip


def test_a_bad_document_of_bigbio_costs_itself(tmp_path):
    overlap = bigbio("8", passages=[{"text": "a b c", "offsets": [[0, 5]]}, {"text": "d", "offsets": [[2, 3]]}])
    lines = [bigbio(), overlap, bigbio("9", entities=[{"id": "1", "text": ["x"]}]), bigbio(10)]
    path = put(tmp_path, "".join(json.dumps(one) + "\n" for one in lines), "a.jsonl")
    found = list(read_texts(path))
    assert [one.id for one in found if isinstance(one, Document)] == ["7", "10"]
    assert [one.place for one in found if isinstance(one, Rejected)] == ["line 2", "line 3"]


# Hugging Face


NAMES = ["O", "B-Disease", "I-Disease"]
FEATURES = {
    "features": {
        "id": {"dtype": "string", "_type": "Value"},
        "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
        "ner_tags": {"feature": {"names": NAMES, "_type": "ClassLabel"}, "_type": "List"},
    }
}
WORDS = ["Mild", "lupus", "nephritis", "."]


def tokens(tags: list, key: str = "ner_tags", **more) -> str:
    return json.dumps({**more, "tokens": WORDS, key: tags}) + "\n"


@pytest.mark.parametrize("key", ["ner_tags", "tags", "labels"])
def test_tags_of_hugging_face_may_be_strings(tmp_path, key):
    content = tokens(["O", "B-Disease", "I-Disease", "O"], key, id=5) + tokens(["O"] * 4, key)
    assert recognise(put(tmp_path, content, "train.jsonl")) == "hf-jsonl"
    one, two = read(tmp_path / "train.jsonl")
    assert one == Document("5", "Mild lupus nephritis .", (Span(5, 20, "Disease"),), tokenised=True)
    assert (two.id, two.spans) == ("2", ())


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("dataset_info.json", FEATURES),
        ("dataset_infos.json", {"default": FEATURES}),
        ("features.json", FEATURES["features"]),
        ("dataset_info.json", {"features": [{"name": "tokens"}], "ner_tags": {"class_label": {"names": NAMES}}}),
    ],
)
def test_tags_of_hugging_face_may_be_numbers_whose_names_stand_beside(tmp_path, name, features):
    put(tmp_path, json.dumps(features), name)
    path = put(tmp_path, tokens([0, 1, 2, 0]), "train.jsonl")
    assert mentions(next(read(path))) == [("lupus nephritis", "Disease")]
    with pytest.raises(UserError, match="line 1: ner_tags holds a number beyond the 3 names"):
        list(read(put(tmp_path, tokens([0, 1, 3, 0]), "test.jsonl")))


def test_numbers_without_names_are_refused(tmp_path, cli):
    path = put(tmp_path, tokens([0, 1, 2, 0]), "train.jsonl")
    with pytest.raises(UserError, match=r"line 1: ner_tags holds numbers without names; .*dataset_info\.json"):
        list(read(path))
    status, _, messages = cli("evaluate", path, "--predictions", path)
    assert status == 2 and "numbers without names" in messages and len(messages.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (tokens(["O", "O"]), "one tag for each token"),
        (tokens(["O", 1, "O", "O"]), "not strings or whole numbers"),
        (tokens([0.0, 1.0, 0.0, 0.0]), "not strings or whole numbers"),
        (tokens(["O", "Disease", "O", "O"]), "is not a tag"),
        (tokens(["O", "O", "O", True]), "not strings or whole numbers"),
        ('{"tokens": ["a b"], "ner_tags": ["O"]}\n', "not words"),
        ('{"tokens": [""], "ner_tags": ["O"]}\n', "not words"),
        ('{"tokens": [1], "ner_tags": ["O"]}\n', "not words"),
        ('{"tokens": "zinc", "ner_tags": ["O"]}\n', "not words"),
        ('{"tokens": ["x"], "id": [1], "ner_tags": ["O"]}\n', "id is not a string"),
        ("{\n", "not JSON"),
    ],
)
def test_a_bad_line_of_hugging_face_is_said_and_costs_itself(tmp_path, line, said):
    path = put(tmp_path, tokens(["O"] * 4) + line + tokens(["O"] * 4), "a.jsonl")
    with pytest.raises(UserError, match=f"line 2: .*{said}"):
        list(read(path))
    found = list(read_texts(path))
    assert [one.id if isinstance(one, Document) else one.place for one in found] == ["1", "line 2", "3"]


def test_a_folder_of_hugging_face_files_is_a_data_set(tmp_path, cli):
    put(tmp_path, json.dumps(FEATURES), "dataset_info.json")
    for split in ("train-00000-of-00001", "validation", "test"):
        put(tmp_path, tokens([0, 1, 2, 0]) * 3, f"{split}.jsonl")
    data = find(tmp_path)
    assert data.task == "ner" and [len(data.read(split)) for split in ("train", "devel", "test")] == [3, 3, 3]
    status, printed, _ = cli("evaluate", tmp_path, "--predictions", tmp_path / "test.jsonl", "--json")
    assert status == 0 and json.loads(printed)["f1"] == 1.0


def test_sentences_of_hugging_face_may_stand_in_an_array(tmp_path):
    content = "[" + ",\n".join([tokens(["O", "B", "I", "O"]).strip()] * 2 + [tokens(["O"]).strip()]) + "]"
    path = put(tmp_path, content, "train.json")
    assert recognise(path) == "hf-jsonl"
    found = list(read_texts(path))
    assert [one.id if isinstance(one, Document) else one.place for one in found] == ["1", "2", "document 3"]
    assert mentions(found[1]) == [("lupus nephritis", "")]


def test_lines_without_tags_are_texts(tmp_path):
    path = put(tmp_path, json.dumps({"tokens": WORDS}) + "\n", "a.jsonl")
    assert [(one.text, one.spans) for one in read_texts(path)] == [("Mild lupus nephritis .", ())]


# BRAT and BioNLP-ST


TEXT = "RFLAT-1 activates zinc."
GIVEN = "T1\tProtein 0 7\tRFLAT-1\nT2\tChemical 18 22\tzinc\n"
WANTED = (
    "T3\tPositive_regulation 8 17\tactivates\nE1\tPositive_regulation:T3 Theme:T2 Cause:T1\nM1\tNegation E1\n"
    "R1\tBinds Arg1:T1 Arg2:T2\nR2\tPart Arg1:E1 Arg2:T2\n*\tEquiv T1 T2\n"
)


def test_bionlp_files_are_read_together(tmp_path, caplog):
    put(tmp_path, TEXT, "PMID-1.txt")
    put(tmp_path, GIVEN, "PMID-1.a1")
    put(tmp_path, WANTED, "PMID-1.a2")
    put(tmp_path, "Rash.", "PMID-2.txt")
    put(tmp_path, "T1\tSign 0 4\tRash\n", "PMID-2.a1")
    for path in (tmp_path, tmp_path / "PMID-1.a1", tmp_path / "PMID-1.a2", tmp_path / "PMID-1.txt"):
        assert recognise(path) == "brat"
    one, two = read(tmp_path)
    assert mentions(one) == [("RFLAT-1", "Protein"), ("zinc", "Chemical"), ("activates", "Positive_regulation")]
    assert one.relations == (Relation(0, 1, "Binds"),) and mentions(two) == [("Rash", "Sign")]
    assert list(read(tmp_path / "PMID-1.a2")) == [one]
    assert "document PMID-1: 3 left out: events, attributes and equivalences" in caplog.text
    assert "document PMID-1: 1 left out: relations to events" in caplog.text


def test_relations_of_brat_to_events_are_left_out_and_counted(tmp_path, caplog, cli):
    folder = pair(tmp_path / "brat", TEXT, GIVEN + WANTED)
    with caplog.at_level(logging.WARNING, "compactbio.formats"):
        [document] = read(folder)
    assert len(document.spans) == 3 and document.relations == (Relation(0, 1, "Binds"),)
    assert "document d: 1 left out: relations to events" in caplog.text
    status, printed, _ = cli("evaluate", folder, "--predictions", folder / "d.txt", "--json")
    assert status == 0 and any("relations to events" in note for note in json.loads(printed)["notes"])
    with pytest.raises(UserError, match="there is no mention T9"):
        list(read(pair(tmp_path / "bad", TEXT, GIVEN + "R1\tBinds Arg1:T1 Arg2:T9\n")))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real corpora are not beside this checkout")
def test_real_pubtator_files_are_written_as_they_were_read(tmp_path):
    for name in ("NCBI-disease/NCBItestset_corpus.txt", "BC5CDR/CDR_sample.txt"):
        path = SHARED / "pubtator" / name
        write(read(path), tmp_path / "out", "pubtator")
        assert texts_of(tmp_path / "out") == texts_of(path)


def texts_of(path: Path) -> list[str]:
    """The lines of titles and abstracts."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if "|t|" in line or "|a|" in line]
