"""Annotated documents: every format gives the texts, mentions, relations and questions that stand in it."""

import json
import logging
import resource
from pathlib import Path

import pytest

from annotated_files import BIOASQ, BIOC, CONLL, MARKED, MARKED_JSONL, PUBTATOR, SQUAD, documents, mentions, pair, put
from compactbio.documents import Document, Question, Relation, Span
from compactbio.errors import UserError
from compactbio.formats import read, recognise, write
from compactbio.formats.questions import read_questions, write_answers

STATM = Path("/proc/self/statm")

# Token files


def test_a_sentence_is_its_words_joined_by_blanks(tmp_path):
    assert documents(tmp_path, CONLL) == [
        Document("1", "Mild lupus nephritis", (Span(5, 20, ""),), tokenised=True),
        Document("2", "No rash", (Span(3, 7, ""),), tokenised=True),
    ]


@pytest.mark.parametrize(
    "tags",
    ["O I-D I-D B-D O", "O B-D I-D B-D O", "O B-D E-D S-D O", "O B-D L-D U-D O", "O-X B-D I-D B-D O-X"],
)
def test_all_tag_schemes_give_the_same_mentions(tmp_path, tags):
    words = ["a", "bad", "rash", "itch", "ends"]
    [document] = documents(tmp_path, "".join(f"{w}\t{t}\n" for w, t in zip(words, tags.split(" "), strict=True)))
    assert mentions(document) == [("bad rash", "D"), ("itch", "D")]


@pytest.mark.parametrize("separator", ["\t", " ", "   "])
def test_docstart_numbers_the_documents(tmp_path, separator):
    text = "-DOCSTART- X O\n\nzinc NN B\n\nrash NN O\n-DOCSTART-\nitch NN O\n".replace(" ", separator)
    found = documents(tmp_path, text, "conll")
    assert [(d.id, d.text) for d in found] == [("1.1", "zinc"), ("1.2", "rash"), ("2.1", "itch")]
    assert mentions(found[0]) == [("zinc", "")]


def test_jnlpba_begins_a_document_with_its_medline_number(tmp_path):
    text = "###MEDLINE:95369245\n\nIL-2\tB-protein\ngene\tO\n\n###MEDLINE:95333264\n\nthe\tO\n"
    assert [(d.id, d.text) for d in documents(tmp_path, text, "conll")] == [("1.1", "IL-2 gene"), ("2.1", "the")]


def test_control_characters_and_other_blanks_stay_within_words(tmp_path):
    words = ["a\u00a0b", "c\u0085d", "e\u2028f", "g\x0bh", "i\x1cj", "\x1d", "k\u3000l"]
    [document] = documents(tmp_path, "".join(f"{word}\tB-X\n" for word in words))
    assert document.text.split(" ") == words
    assert [text for text, _ in mentions(document)] == words


def test_of_several_columns_the_last_one_is_the_tag(tmp_path):
    path = put(tmp_path, "zinc B-C O\nrash O B-D\n\nitch O O\n")
    assert [mentions(document) for document in read(path)] == [[("rash", "D")], []]


def test_a_late_fault_is_reported_with_its_line_and_not_before(tmp_path):
    path = put(tmp_path, "zinc\tO\n\n" * 20_000 + "zinc\n")
    found = read(path)
    assert all(next(found).id == str(number) for number in range(1, 20_000))
    with pytest.raises(UserError, match="line 40001: it has one column"):
        list(found)


# Standoff and XML


def test_pubtator_texts_are_title_blank_abstract(tmp_path):
    assert documents(tmp_path, PUBTATOR) == [
        Document(
            "7",
            "On zinc. Zinc cures rash.",
            (Span(3, 7, "Chemical", "D015032"), Span(20, 24, "Disease", "D005076")),
            (Relation("D015032", "D005076", "CID"),),
        )
    ]
    bare = documents(tmp_path, "1|t|Title only\n\n\n2|a|No title.\n2\t0\t2\tNo\tX\n3|t|T\n3|a|\n", "pubtator")
    assert [(d.id, d.text, mentions(d)) for d in bare] == [
        ("1", "Title only", []),
        ("2", "No title.", [("No", "X")]),
        ("3", "T", []),
    ]


def test_a_document_that_comes_twice_is_given_twice(tmp_path):
    assert len(documents(tmp_path, PUBTATOR + PUBTATOR)) == 2


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (PUBTATOR.replace("\tzinc\t", "\tSECRET\t"), "pubtator"),
        (PUBTATOR.replace("\t3\t7", "\t3\t777"), "pubtator"),
        (BIOC.replace("<text>zinc", "<text>SECRET"), "bioc"),
        (BIOC.replace("length='4'", "length='400'", 1), "bioc"),
        (BIOC.replace("length='4'", "length='0'", 1), "bioc"),
    ],
)
def test_a_mention_beside_its_offsets_is_left_out_counted_and_not_quoted(tmp_path, caplog, content, format):
    with caplog.at_level(logging.WARNING, "compactbio.formats"):
        [document] = documents(tmp_path, content, format)
    assert [text for text, _ in mentions(document)] == ["rash"]
    assert "document 7: 1 left out" in caplog.text
    assert "SECRET" not in caplog.text


def test_bioc_passages_stand_at_their_offsets(tmp_path):
    [document] = documents(tmp_path, BIOC)
    assert document.text == "On zinc.    A rash."
    assert document.spans == (Span(3, 7, "Chemical", "D015032"), Span(14, 18, "Disease"))
    assert document.relations == (Relation(0, 1, "cures"),)


def test_bioc_passages_with_offsets_of_escaped_text_stand_where_their_mentions_say(tmp_path):
    shifted = BIOC.replace("<offset>12<", "<offset>17<").replace("offset='14'", "offset='11'")
    [document] = documents(tmp_path, shifted)
    assert (document.text, mentions(document)[1]) == ("On zinc. A rash.", ("rash", "Disease"))


def test_bioc_sentences_fragments_and_concepts(tmp_path):
    xml = (
        "<collection><document><id>1</id><passage><offset>0</offset><sentence><offset>0</offset><text>Renal and bad "
        "pain.</text><annotation id='a'><infon key='type'>D</infon><infon key='identifier'>M:1</infon>"
        "<infon key='MESH'>2</infon><location offset='10' length='8'/><location offset='0' length='5'/>"
        "</annotation><annotation id='b'><infon key='CompositeRole'>IndividualMention</infon>"
        "<location offset='0' length='5'/></annotation></sentence></passage>"
        "<relation><infon key='relation'>CID</infon><infon key='Disease'>d</infon><infon key='Chemical'>c</infon>"
        "</relation><relation><infon key='type'>lost</infon><node refid='a'/></relation></document></collection>"
    )
    [document] = documents(tmp_path, xml)
    assert document.spans == (Span(0, 18, "D", "M:1", ((0, 5), (10, 18))),)
    assert document.relations == (Relation("c", "d", "CID"),)


@pytest.mark.parametrize("key", ["MESH", "MeSH", "NCBI Gene identifier", "NCBI_Taxonomy", "ChEBI", "Identifier"])
def test_bioc_identifiers_are_known_in_other_spellings(key, tmp_path):
    [document] = documents(tmp_path, BIOC.replace("<infon key='MESH'>", f"<infon key='{key}'>"))
    assert [span.identifier for span in document.spans] == ["D015032", ""]


def test_an_identifier_that_is_empty_hides_none(tmp_path):
    [document] = documents(tmp_path, BIOC.replace("<infon key='MESH'>", "<infon key='identifier'/><infon key='MESH'>"))
    assert document.spans[0].identifier == "D015032"


def test_of_two_annotations_with_one_id_neither_is_related(tmp_path, caplog):
    alike = BIOC.replace("annotation id='1'", "annotation id='0'").replace("refid='1'", "refid='0'")
    [document] = documents(tmp_path, alike)
    assert len(document.spans) == 2 and document.relations == ()
    assert "1 left out: relations" in caplog.text


def test_bioc_of_another_namespace_or_with_entities_is_refused(tmp_path):
    with pytest.raises(UserError, match="root"):
        documents(tmp_path, BIOC.replace("<collection>", "<collection xmlns='http://bioc'>"))
    with pytest.raises(UserError, match="an entity that nothing declares"):
        documents(tmp_path, BIOC.replace("On zinc.", "On zinc&alpha;."))


def test_parts_of_a_mention_that_overlap_are_left_out(tmp_path, caplog):
    more = "<location offset='3' length='4'/><location offset='1' length='4'/>"
    [document] = documents(tmp_path, BIOC.replace("<location offset='3' length='4'/>", more))
    assert [span.type for span in document.spans] == ["Disease"] and "1 left out: mentions" in caplog.text
    wrong = Document("1", "abcdef ghij", (Span(0, 3, "X", fragments=((7, 9), (4, 5))),))
    with pytest.raises(UserError, match="the parts of a mention from 0 to 3 are not in order"):
        write([wrong], tmp_path / "out", "jsonl")


def test_bioc_sentences_outside_passages_are_read(tmp_path):
    sentence = "<sentence><offset>{}</offset><text>{}</text></sentence>"
    sentences = sentence.format(0, "On.") + sentence.format(4, "Off.")
    [document] = documents(tmp_path, f"<collection><document><id>1</id>{sentences}</document></collection>")
    assert document.text == "On. Off."


@pytest.mark.parametrize(
    "declaration",
    [
        "<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>",
        "<!ENTITY b SYSTEM 'file:///etc/passwd'>",
        "<!ENTITY b SYSTEM 'http://127.0.0.1:9/x'>",
    ],
)
def test_bioc_with_entities_is_refused(tmp_path, declaration):
    xml = BIOC.replace("SYSTEM 'BioC.dtd'", f"[{declaration}]").replace("On zinc", "On &b;")
    with pytest.raises(UserError, match="entities"):
        documents(tmp_path, xml)


def test_bioc_is_read_document_by_document(tmp_path):
    record = BIOC[BIOC.index("<document>") : BIOC.index("</collection>")]
    found = read(put(tmp_path, f"<collection>{record * 300}<document><bro"), "bioc")
    for _ in range(200):
        assert next(found).id == "7"
    with pytest.raises(UserError, match="malformed XML"):
        list(found)


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells a process its memory this way")
def test_bioc_documents_that_were_given_take_no_memory(tmp_path):
    passage = f"<passage><offset>0</offset><text>{'zinc ' * 2000}</text></passage>"
    path = put(tmp_path, f"<collection>{f'<document><id>1</id>{passage}</document>' * 4000}</collection>")
    found = read(path)
    next(found)
    before = int(STATM.read_text().split(" ")[1])
    for _ in range(3990):
        next(found)
    pages = int(STATM.read_text().split(" ")[1]) - before
    assert pages * resource.getpagesize() < path.stat().st_size / 4


ANNOTATIONS = (
    "T1\tDrug 0 4\tZinc\nT2\tSign 6 10;14 18\trash itch\nR1\tTreats Arg1:T1 Arg2:T2\n#1\tNote T1\tNo\nA1\tNegated T2\n"
    "N1\tReference T1 MeSH:D1\tZinc\nN2\tReference T1 OMIM:2\tZinc\nE1\tX:T1\n*\tEquiv T1 T2\nM1\tSure T1\n"
)


def test_brat_has_no_fragment_across_the_end_of_a_line(tmp_path):
    text = "breast\ncancer of the left\r\n\r\nlung"
    spans = (Span(0, 13, "Disease"), Span(0, len(text), "Disease", "", ((0, 13), (21, len(text)))))
    write([Document("d", text, spans)], tmp_path / "brat", "brat")
    rows = (tmp_path / "brat" / "d.ann").read_text().splitlines()
    assert rows == [
        "T1\tDisease 0 6;7 13\tbreast cancer",
        "T2\tDisease 0 6;7 13;21 25;29 33\tbreast cancer left lung",
    ]
    [document] = read(tmp_path / "brat", "brat")
    assert document.text == text and document.spans == spans


@pytest.mark.parametrize("named", ["", "d.ann", "d.txt"])
def test_brat_counts_the_line_ends_of_its_text(tmp_path, named):
    folder = pair(tmp_path / "brat", "Zinc\r\nrash\r\n\r\nitch", ANNOTATIONS)
    assert recognise(folder / named) == "brat"
    assert list(read(folder / named)) == [
        Document(
            "d",
            "Zinc\r\nrash\r\n\r\nitch",
            (Span(0, 4, "Drug", "MeSH:D1|OMIM:2"), Span(6, 18, "Sign")),
            (Relation(0, 1, "Treats"),),
        )
    ]


def test_a_brat_text_without_annotations_has_no_mentions(tmp_path):
    folder = pair(tmp_path / "brat", "Zinc.", None, "b")
    pair(folder, "Rash.", "", "a")
    assert list(read(folder)) == [Document("a", "Rash."), Document("b", "Zinc.")]


def test_a_wrong_brat_mention_is_left_out_with_its_relations(tmp_path, caplog):
    annotations = ANNOTATIONS.replace("rash itch", "rash")
    folder = pair(tmp_path / "brat", "Zinc\r\nrash\r\n\r\nitch", annotations)
    [document] = read(folder)
    assert (mentions(document), document.relations) == ([("Zinc", "Drug")], ())
    assert caplog.text.count("document d: 1 left out") == 2


# Questions


def test_squad_gives_a_document_a_pair_under_the_questions_id(tmp_path):
    found = documents(tmp_path, SQUAD)
    assert [d.id for d in found] == ["a1_002", "a2_001", "a3"]
    assert {d.text for d in found} == {"Zinc cures rash."}
    assert [d.questions[0] for d in found] == [
        Question("What?", (("Zinc",),), "a1", (0,)),
        Question("Who?", (), "a2"),
        Question("Where?", (), "a3"),
    ]


def test_a_wrong_answer_start_is_kept(tmp_path):
    found = documents(tmp_path, SQUAD.replace('"answer_start": 0', '"answer_start": 7'))
    assert found[0].questions[0].starts == (7,)


def test_bioasq_answers_of_every_type_and_age(tmp_path):
    found = documents(tmp_path, BIOASQ)
    assert [(d.id, d.text) for d in found[:3]] == [("f_001", "Zinc."), ("f_002", "Iron."), ("o_001", "")]
    questions = read_questions(tmp_path / "data.txt")
    assert {name: (q.kind, q.answers) for name, q in questions.items()} == {
        "f": ("factoid", (("zinc", "Zn"), ("iron",))),
        "o": ("factoid", (("zinc",), ("iron",))),
        "one": ("factoid", (("zinc",),)),
        "l": ("list", (("a",), ("b", "c"))),
        "y": ("yesno", (("yes",),)),
        "s": ("summary", ()),
    }


def test_a_submission_holds_five_answers_a_question_and_every_factoid_question(tmp_path):
    path = tmp_path / "out.json"
    write_answers(path, {"f": list("abcdefg")}, read_questions(put(tmp_path, BIOASQ)))
    entries = json.loads(path.read_text())["questions"]
    assert [entry["id"] for entry in entries] == ["f", "o", "one"]
    assert entries[0] == {
        "id": "f",
        "type": "factoid",
        "ideal_answer": "",
        "exact_answer": [["a"], ["b"], ["c"], ["d"], ["e"]],
    }
    assert entries[1]["exact_answer"] == []
    write_answers(path, {"x": ["a"]})
    assert read_questions(path) == {"x": Question("", (("a",),), "x")}


# Marked sentences


def test_marks_of_tables_are_mentions_and_their_class_the_relation(tmp_path):
    two, three = documents(tmp_path, MARKED)
    assert two == Document(
        "4.T1",
        "@CHEMICAL$ blocks @GENE$ .",
        (Span(0, 10, "CHEMICAL"), Span(18, 24, "GENE")),
        (Relation(0, 1, "CPR:4"),),
    )
    assert [kind for _, kind in mentions(three)] == ["GENE", "GENE", "DISEASE"]
    assert three.relations == (Relation("@GENE$", "@DISEASE$", "false"),)
    [overlapping] = documents(tmp_path, "A @CHEM-GENE$ here\t1\n")
    assert overlapping == Document(
        "1", "A @CHEM-GENE$ here", (Span(2, 13, "CHEM-GENE"),), (Relation("@CHEM-GENE$", "@CHEM-GENE$", "1"),)
    )


def test_marks_of_json_lines_stay_and_what_is_within_is_the_mention(tmp_path):
    [document] = documents(tmp_path, MARKED_JSONL)
    assert document.text == "So [[ kinase ]] by << zinc >>."
    assert [text for text, _ in mentions(document)] == ["zinc", "kinase"]
    assert document.relations == (Relation(0, 1, "INHIBITOR"),)
    [bare] = documents(tmp_path, '{"text": "So << zinc >>.", "label": "X"}')
    assert (bare.spans, bare.relations) == ((), (Relation("<< >>", "[[ ]]", "X"),))
