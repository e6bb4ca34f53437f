"""Relations: classes by data set, scores as scikit-learn's and the published file's, marks that no cut loses."""

import csv
import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from transformers import AutoTokenizer

from compactbio.documents import Document, Relation, Span
from compactbio.errors import UserError
from compactbio.modeling.tokenizers import word_pieces
from compactbio.tasks import relation
from conftest import SHARED

CHEMPROT = ["CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9"]


def labelled(text: str, label: str, **more) -> Document:
    return Document("d", text, relations=(Relation("@GENE$", "@DISEASE$", label),), **more)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    return AutoTokenizer.from_pretrained(tokenizer_folder)


def binary():
    return relation.scheme(["0", "1"])


def test_binary_labels_are_recognised_and_only_class_1_is_scored():
    own = relation.scheme(["1", "0", "1"])
    assert (own.name, own.classes, own.evaluated, own.negative) == ("binary", ("0", "1"), ("1",), "0")
    assert relation.scheme(["1"]) == own


@pytest.mark.parametrize(
    ("label", "group"),
    [
        ("INDIRECT-DOWNREGULATOR", "CPR:4"),
        ("INDIRECT_DOWNREGULATOR", "CPR:4"),
        ("UPREGULATOR", "CPR:3"),
        ("AGONIST-INHIBITOR", "CPR:5"),
        ("antagonist", "CPR:6"),
        ("SUBSTRATE_PRODUCT-OF", "CPR:9"),
        ("CPR:9", "CPR:9"),
        ("COFACTOR", "false"),
        ("CPR:10", "false"),
        ("NOT", "false"),
        ("0", "false"),
        ("false", "false"),
    ],
)
def test_chemprot_labels_become_the_five_groups_or_the_negative_class(label, group):
    own = relation.scheme(["INHIBITOR", "false"])
    assert own.map(label) == group


def test_chemprot_with_negatives_has_six_classes_and_scores_five():
    own = relation.scheme(["CPR:4", "CPR:1", "false"])
    assert (own.name, own.classes, own.negative) == ("ChemProt", (*CHEMPROT, "false"), "false")
    assert list(own.evaluated) == CHEMPROT
    assert "with the negative class" in own.sentence


def test_chemprot_without_negatives_has_five_classes_and_says_that_it_is_easier():
    own = relation.scheme(["INHIBITOR", "SUBSTRATE"])
    assert list(own.classes) == CHEMPROT
    assert own.negative is None
    assert "without the negative class: an easier task" in own.sentence


def test_unscored_chemprot_groups_alone_are_no_negative_class():
    own = relation.scheme(["INHIBITOR", "REGULATOR"])
    assert own.classes == (*CHEMPROT, "other")
    assert own.map("REGULATOR") == "other"
    assert "without the negative class" in own.sentence


@pytest.mark.parametrize(
    "labels", [["0", "1"], ["INHIBITOR"], ["CPR:4", "false"], ["AGONIST", "COFACTOR"], ["treats", "none", "causes"]]
)
def test_the_classes_of_a_scheme_have_that_scheme(labels):
    own = relation.scheme(labels)
    assert relation.scheme(own.classes) == own


def test_other_labels_are_all_scored_but_the_negative_one():
    own = relation.scheme(["treats", "no_relation", "causes"])
    assert own.classes == ("causes", "no_relation", "treats")
    assert own.evaluated == ("causes", "treats")
    assert own.negative == "no_relation"
    assert own.map("never seen") == "never seen"


@pytest.mark.parametrize(
    ("labels", "negatives"),
    [
        (["PIP", "TrAP", "TrNAP", "TeRP", "false"], ["false"]),
        (["PIP", "TrAP", "NTrP", "NPP"], ["NPP", "NTrP"]),
        (["per:title", "org:founded", "no_relation"], ["no_relation"]),
        (["Association", "Positive_Correlation", "Negative_Correlation", "None"], ["None"]),
        (["Association", "Negative_Correlation"], []),
        (["PA", "SA", "NA", "FA"], ["FA"]),
        (["P17", "P131", "Na"], ["Na"]),
        (["CID", "NULL"], ["NULL"]),
        (["1:CID:2", "1:NR:2"], ["1:NR:2"]),
        (["positive", "negative"], ["negative"]),
        (["True", "False"], ["False"]),
        (["Y", "N"], ["N"]),
        (["1", "-1"], ["-1"]),
        (["0", "1", "2"], ["0"]),
        (["related", "not related"], ["not related"]),
        (["Strength-Drug", "Reason-Drug", "NO-RELATION"], ["NO-RELATION"]),
        (["nonRel", "ADE-Drug"], ["nonRel"]),
        (["Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)", "Other"], ["Other"]),
        (["DDI-advise", "DDI-false", "DDI-int"], ["DDI-false"]),
        (["INHIBITOR", "PART-OF", "NOT"], ["NOT"]),
        (["treats", "causes"], []),
        (["no effect", "increases"], []),
    ],
)
def test_the_class_of_no_relation_is_known_by_the_names_of_published_sets(labels, negatives):
    own = relation.scheme(labels)
    assert list(own.negatives) == negatives and set(own.evaluated) == set(labels) - set(negatives)
    memory = own.memory()
    again = relation.scheme(own.classes, memory["negative"], memory["scheme"])
    assert again == own and own.record()["negative"] == negatives


@pytest.mark.parametrize("named", [["kein"], None])
def test_a_named_class_of_no_relation_is_chemprots_and_is_kept_in_memory(named):
    own = relation.scheme(["INHIBITOR", "UPREGULATOR", *(named or ["false"])], named)
    assert (own.name, own.negative) == ("ChemProt", "false")
    memory = own.memory()
    again = relation.scheme(own.classes, memory["negative"], memory["scheme"])
    assert again == own and again.map((named or ["none"])[0]) == "false"
    with pytest.raises(UserError, match="no class 'nein'"):
        relation.scheme(["INHIBITOR", "UPREGULATOR"], ["nein"])


@pytest.mark.parametrize(("labels", "foreign"), [(["0", "1"], "LABEL_1"), (["INHIBITOR", "false"], "treats")])
def test_a_label_of_another_data_set_is_a_sentence(labels, foreign):
    with pytest.raises(UserError, match=foreign):
        relation.scheme(labels).map(foreign)


def test_data_without_labels_are_a_sentence():
    with pytest.raises(UserError, match="no relation labels"):
        relation.scheme([])


@pytest.mark.parametrize("count", [0, 2])
def test_a_document_needs_exactly_one_relation(count):
    with pytest.raises(UserError, match=f"'d7' has {count} relations"):
        relation.label_of(Document("d7", "text", relations=(Relation(0, 1, "1"),) * count))


def test_sides_of_different_length_are_a_sentence_with_both():
    with pytest.raises(UserError, match=r"3 labels.* 2"):
        relation.score(["1", "0", "1"], ["1", "0"])


def test_binary_scores_equal_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(20):
        gold, predicted = (rng.choice(["0", "1"], 50).tolist() for _ in range(2))
        found = relation.score(gold, predicted)
        precision, recall, f1, _ = precision_recall_fscore_support(gold, predicted, average="binary", pos_label="1")
        specificity = precision_recall_fscore_support(gold, predicted, labels=["0"], average=None)[1][0]
        wanted = {"precision": precision, "recall": recall, "f1": f1, "specificity": specificity}
        assert found == pytest.approx({**wanted, "accuracy": accuracy_score(gold, predicted)}, abs=1e-12)


def test_micro_scores_over_some_classes_equal_scikit_learn():
    rng = np.random.default_rng(1)
    for _ in range(20):
        gold, predicted = (rng.choice([*CHEMPROT, "false"], 60, p=[0.1] * 5 + [0.5]).tolist() for _ in range(2))
        wanted = precision_recall_fscore_support(gold, predicted, labels=CHEMPROT, average="micro", zero_division=0)
        for found in (relation.score(gold, predicted), relation.score(gold, predicted, CHEMPROT)):
            assert [found[name] for name in ("precision", "recall", "f1")] == pytest.approx(wanted[:3], abs=1e-12)
            assert "specificity" not in found


def test_fine_grained_gold_is_scored_by_groups():
    gold = ["INHIBITOR", "ACTIVATOR", "SUBSTRATE"]
    assert relation.score(gold, ["CPR:4", "UPREGULATOR", "false"])["recall"] == pytest.approx(2 / 3)


def test_a_predicted_class_that_the_gold_lacks_counts_against_precision():
    found = relation.score(["treats", "none"], ["treats", "causes"])
    assert (found["precision"], found["recall"]) == (0.5, 1.0)


def test_published_predictions_on_gad_have_their_official_scores():
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    name = "re_predictions/GAD_fold1/test_results.tsv"
    with (SHARED / "re/GAD/1/test.tsv").open(encoding="utf-8") as file:
        gold = [row["label"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    predicted = relation.decode(
        np.log(np.loadtxt(SHARED / name, dtype=np.float32)), ["0", "1"], relation.scheme(["0", "1"])
    )
    expected = json.loads((SHARED / "expected_scores.json").read_text(encoding="utf-8"))[name]
    assert len(gold) == expected.pop("rows")
    del expected["evaluator"]
    assert relation.score(gold, predicted) == pytest.approx(expected, abs=1e-12)


def test_all_labels_of_the_chemprot_files_are_scored_without_a_negative_class():
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    lines = (SHARED / "re/chemprot_scibert/train.txt").read_text(encoding="utf-8").splitlines()
    labels = [json.loads(line)["label"] for line in lines]
    own = relation.scheme(labels)
    assert own.name == "ChemProt"
    assert own.negative is None
    assert {own.map(label) for label in labels} == set(CHEMPROT)


def test_an_outcome_adds_up_to_its_scores_and_names_its_mistakes():
    own = relation.scheme(["CPR:3", "CPR:4", "false"])
    gold = ["ACTIVATOR", "INHIBITOR", "false", "INHIBITOR", "REGULATOR"]
    predicted = ["CPR:3", "CPR:3", "CPR:4", "false", "false"]
    documents = [labelled(f"text {i}", label) for i, label in enumerate(gold)]
    found = relation.outcome(documents, predicted, own)
    assert found.units.tolist() == [[1, 0, 0], [0, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    tp, fp, fn = found.units.sum(0)
    assert found.main == pytest.approx(2 * tp / (2 * tp + fp + fn)) == relation.score(gold, predicted)["f1"]
    assert found.scores["accuracy"] == pytest.approx(0.4)
    assert [(m.kind, m.gold, m.predicted, m.context) for m in found.mistakes] == [
        ("confused", "CPR:4", "CPR:3", "text 1"),
        ("spurious", "false", "CPR:4", "text 2"),
        ("missed", "CPR:4", "false", "text 3"),
    ]
    assert found.per_type["CPR:3"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1.0}
    assert found.notes == (own.sentence,)


def test_a_gold_class_that_the_model_lacks_counts_as_missed_and_is_reported():
    own = relation.scheme(["treats", "none"])
    found = relation.outcome([labelled("a", "treats"), labelled("b", "causes")], ["treats", "none"], own)
    assert found.scores["recall"] == 0.5
    assert "1 examples are of class causes" in found.notes[-1]


def test_test_data_without_the_negative_class_are_reported():
    found = relation.outcome([labelled("a", "CPR:4")], ["CPR:4"], relation.scheme(["CPR:4", "false"]))
    assert "Class false does not occur" in found.notes[1]


def test_data_without_an_example_of_a_scored_class_say_that_their_score_is_zero():
    own = relation.scheme(["INHIBITOR", "false"])
    nothing = relation.outcome([labelled("a", "false"), labelled("b", "false")], ["false", "false"], own)
    assert nothing.main == 0 and any("so F1 is 0 whatever is predicted" in note for note in nothing.notes)
    some = relation.outcome([labelled("a", "INHIBITOR"), labelled("b", "false")], ["false", "false"], own)
    assert not any("whatever is predicted" in note for note in some.notes)


def test_a_row_is_the_sentence_with_its_class_at_cls(tokenizer):
    encoded = relation.encode([labelled("the gene", "1")], tokenizer, {"0": 0, "1": 1}, binary(), 32)
    (row,) = encoded.rows
    assert tokenizer.convert_ids_to_tokens(row.input_ids) == ["[CLS]", "the", "gene", "[SEP]"]
    assert row.labels.tolist() == [1, -100, -100, -100]
    assert row.segments is None
    assert encoded.shortened == 0


def test_a_class_that_the_model_lacks_is_not_a_label(tokenizer):
    own = relation.scheme(["treats", "none"])
    (row,) = relation.encode([labelled("the gene", "causes")], tokenizer, {"none": 0}, own, 32).rows
    assert row.labels.tolist() == [-100] * 4


def words_of(document: Document, tokenizer, max_length: int) -> tuple[str, int]:
    encoded = relation.encode([document], tokenizer, {"1": 1}, binary(), max_length)
    (row,) = encoded.rows
    tokens = tokenizer.convert_ids_to_tokens(row.input_ids)
    assert len(row) <= max_length
    assert (tokens[0], tokens[-1], row.labels[0]) == ("[CLS]", "[SEP]", 1)
    return " ".join(tokens[1:-1]), encoded.shortened


@pytest.mark.parametrize(
    ("first", "second"), [("@GENE$", "@DISEASE$"), ("<< aspirin >>", "[[ insulin ]]"), ("@GENE$", "@GENE$")]
)
@pytest.mark.parametrize("before", [0, 5, 60, 115])
def test_a_long_sentence_keeps_both_marks_and_as_much_on_either_side(tokenizer, first, second, before):
    text = " ".join(["before"] * before + [first] + ["between"] * 5 + [second] + ["after"] * (115 - before))
    marks = [" ".join(tokenizer.tokenize(mark)) for mark in (first, second)]
    kept, shortened = words_of(labelled(text, "1"), tokenizer, 50)
    assert shortened == 1
    assert len(kept.split()) == 48
    left, rest = kept.split(marks[0], 1)
    middle, right = rest.split(marks[1], 1)
    assert middle.split() == ["between"] * 5
    if before == 60:
        assert abs(left.count("before") - right.count("after")) <= 1


def test_marks_too_far_apart_keep_what_is_around_each(tokenizer):
    text = " ".join(["before"] * 40 + ["@GENE$"] + ["between"] * 80 + ["@DISEASE$"] + ["after"] * 40)
    kept, shortened = words_of(labelled(text, "1"), tokenizer, 50)
    gene, disease = (" ".join(tokenizer.tokenize(mark)) for mark in ("@GENE$", "@DISEASE$"))
    assert shortened == 1
    assert f"before {gene} between" in kept
    assert f"between {disease} after" in kept
    assert abs(kept.count("before") - kept.count("after")) <= 1


def test_a_mark_longer_than_half_of_the_row_stays_whole_with_the_other(tokenizer):
    long = "<< " + "aspirin " * 30 + ">>"
    text = " ".join([long] + ["between"] * 30 + ["[[ insulin ]]"] + ["after"] * 9)
    kept, _ = words_of(labelled(text, "1"), tokenizer, 50)
    assert all(" ".join(tokenizer.tokenize(mark)) in kept for mark in (long, "[[ insulin ]]"))


def test_related_mentions_without_marks_are_kept_too(tokenizer):
    text = " ".join(["before"] * 60 + ["aspirin", "and", "insulin"] + ["after"] * 60)
    start, end = text.index("aspirin"), text.index("insulin")
    spans = (Span(start, start + 7, "Chemical"), Span(end, end + 7, "Chemical"))
    kept, _ = words_of(Document("d", text, spans, relations=(Relation(0, 1, "1"),)), tokenizer, 20)
    assert "aspirin and insulin" in kept


def test_a_long_sentence_without_marks_keeps_its_beginning(tokenizer):
    kept, shortened = words_of(labelled("gene " + "cells " * 40, "1"), tokenizer, 20)
    assert (kept.split()[0], shortened) == ("gene", 1)


def test_stored_truncation_and_padding_have_no_effect(tokenizer_folder):
    own = AutoTokenizer.from_pretrained(tokenizer_folder)
    own.backend_tokenizer.enable_truncation(8)
    own.backend_tokenizer.enable_padding(length=16)
    short, long = word_pieces(["the gene", "cells " * 30], own)
    assert (len(short.ids), len(long.ids)) == (2, 30)
    assert long.offsets[-1].tolist() == [174, 179]
