"""The tables of DrugProt and ChemProt, as BioCreative publishes them, are documents with mentions and relations."""

import pytest

import compactbio
from compactbio import Document, Marking, Relation, Span, mark_pairs
from compactbio.errors import UserError
from compactbio.formats import recognise
from compactbio.tasks import data as datasets
from compactbio.training.finetuning import finetune

TITLE, ABSTRACT = "Aspirin and COX1.", "Zinc binds IL-2 in cells."
SPANS = (Span(0, 7, "CHEMICAL"), Span(12, 16, "GENE-Y"), Span(18, 22, "CHEMICAL"), Span(29, 33, "GENE-N"))
RELATIONS = (Relation(0, 1, "INHIBITOR"), Relation(2, 3, "DIRECT-REGULATOR"))


def tables(folder, name="drugprot_training", *, count=1, relations="1\tINHIBITOR\tArg1:T1\tArg2:T2\n"):
    """The tables of abstracts that are alike, and one without annotations; with the names of the published files."""
    folder.mkdir(parents=True, exist_ok=True)
    text = f"{TITLE} {ABSTRACT}"
    abstracts, entities, related = "0\tNo entity.\tNone.\n", "", ""
    for number in range(1, count + 1):
        abstracts += f"{number}\t{TITLE}\t{ABSTRACT}\n"
        for place, span in enumerate(SPANS, 1):
            shown = text[span.start : span.end]
            entities += f"{number}\tT{place}\t{span.type}\t{span.start}\t{span.end}\t{shown}\n"
        related += relations.replace("1\t", f"{number}\t", 1)
    # The published files' own spelling of abstracts.
    (folder / f"{name}_abstracs.tsv").write_text(abstracts)
    (folder / f"{name}_entities.tsv").write_text(entities)
    (folder / f"{name}_relations.tsv").write_text(related)
    return folder


def test_tables_are_documents_with_passages(tmp_path):
    relations = "1\tINHIBITOR\tArg1:T1\tArg2:T2\n1\tDIRECT-REGULATOR\tArg1:T3\tArg2:T4\n"
    folder = tables(tmp_path, relations=relations)
    assert recognise(folder) == "drugprot"
    empty, found = compactbio.read(folder)
    assert found == Document("1", f"{TITLE} {ABSTRACT}", SPANS, RELATIONS) and empty.spans == ()
    assert [found.text[one.start : one.end] for one in found.passages] == [TITLE, ABSTRACT]
    marked = mark_pairs([found], Marking("CHEMICAL", "GENE-N", ("@CHEMICAL$", "@GENE$")))
    assert [(one.text, one.relations[0].type) for one in marked] == [
        ("@CHEMICAL$ binds @GENE$ in cells.", "DIRECT-REGULATOR")
    ]
    both = mark_pairs([found], Marking("CHEMICAL", ("GENE-Y", "gene-n"), ("@CHEMICAL$", "@GENE$")))
    assert [one.relations[0].type for one in both] == [relation.type for relation in RELATIONS]


def test_chemprots_further_columns_are_passed_over(tmp_path):
    folder = tables(tmp_path, "chemprot_training", relations="1\tCPR:4\tY \tINHIBITOR\tArg1:T1\tArg2:T2\n")
    (folder / "chemprot_training_gold_standard.tsv").write_text("1\tCPR:4\tArg1:T1\tArg2:T2\n")
    assert list(compactbio.read(folder))[1].relations == (Relation(0, 1, "CPR:4"),)


def test_a_test_set_without_relations_has_none(tmp_path):
    folder = tables(tmp_path)
    (folder / "drugprot_training_relations.tsv").unlink()
    assert list(compactbio.read(folder))[1].relations == ()


def test_what_is_not_at_its_place_is_left_out_and_counted(tmp_path, caplog):
    folder = tables(tmp_path)
    entities = folder / "drugprot_training_entities.tsv"
    entities.write_text(entities.read_text().replace("\t12\t16\t", "\t13\t17\t").replace("\t29\t33\t", "\t29\t999\t"))
    found = list(compactbio.read(folder))[1]
    assert found.spans == (SPANS[0], SPANS[2]) and found.relations == ()
    assert [message.partition("document ")[2] for message in caplog.messages] == [
        "1: 2 left out: mentions whose text is not at their offsets",
        "1: 1 left out: relations of mentions that are left out or not there",
    ]


@pytest.mark.parametrize(("table", "line", "said"), [
    ("abstracs", "9\tno abstract\n", r"abstracs\.tsv, line 3: it has 2 columns"),
    ("entities", "1\tT9\tGENE\n", r"entities\.tsv, line 5: it has 3 columns; write PMID, T1, type, start, end, text"),
    ("entities", "1\tT9\tGENE\tx\t4\tZinc\n", r"entities\.tsv, line 5: its offsets are not whole numbers"),
    ("entities", "1\tT2\tGENE\t0\t4\tZinc\n", r"entities\.tsv, line 5: document 1 has two entities T2"),
    ("relations", "1\tINHIBITOR\tT1\tT2\n", r"relations\.tsv, line 2: its last columns are not Arg1:T1 and Arg2:T2"),
])  # fmt: skip
def test_a_line_of_another_form_is_said_with_file_and_place(table, line, said, tmp_path):
    folder = tables(tmp_path)
    path = folder / f"drugprot_training_{table}.tsv"
    path.write_text(path.read_text() + line)
    with pytest.raises(UserError, match=said):
        list(compactbio.read(folder))


def test_two_tables_of_a_kind_are_refused(tmp_path):
    folder = tables(tmp_path)
    (folder / "entities.tsv").write_text("")
    with pytest.raises(UserError, match="are all tables of entities; leave one of them"):
        recognise(folder)


def test_the_published_folders_are_a_data_set_of_entities(start, tmp_path):
    tables(tmp_path / "drugprot" / "training", count=12)
    tables(tmp_path / "drugprot" / "development", "drugprot_development", count=3)
    found = datasets.find(tmp_path / "drugprot", "ner")
    assert sorted(found.files) == ["devel", "train"] and found.types == {"CHEMICAL", "GENE-Y", "GENE-N"}
    before = found.digests["train"]
    path = tmp_path / "drugprot" / "training" / "drugprot_training_entities.tsv"
    path.write_text(path.read_text().replace("GENE-N", "GENE"))
    assert datasets.find(tmp_path / "drugprot", "ner").digests["train"] != before
    made = finetune(tmp_path / "drugprot", str(start), tmp_path / "out", task="ner", overrides={"epochs": 1})
    assert made.devel is not None
    with pytest.raises(UserError, match=r"has 0 relations, .* compactbio\.mark_pairs makes them"):
        finetune(tmp_path / "drugprot", str(start), tmp_path / "related", task="relation")


def test_tables_of_different_splits_are_refused_or_counted(tmp_path, caplog):
    folder = tables(tmp_path, count=2)
    abstracts = folder / "drugprot_training_abstracs.tsv"
    abstracts.write_text("".join(abstracts.read_text().splitlines(keepends=True)[:2]))
    assert [len(found.spans) for found in compactbio.read(folder)] == [0, 4]
    assert caplog.text.count("1 left out: documents without an abstract") == 2  # of entities and of relations
    abstracts.write_text("9\tT.\tA.\n")
    with pytest.raises(UserError, match=r"none of its documents is in drugprot_training_abstracs\.tsv"):
        list(compactbio.read(folder))
