"""Relation scores of files: a class that is not there costs, a class of no relation is known or named."""

import json

import pytest

from compactbio.evaluation import predictions
from compactbio.tasks.relation_classes import scheme
from compactbio.training.finetuning import finetune
from conftest import one_sentence
from task_data import start_folder


def table(*labels: str) -> str:
    return "".join(f"the @GENE$ and @DISEASE$ of number {i}\t{label}\n" for i, label in enumerate(labels))


@pytest.fixture
def scored(cli, tmp_path):
    """Score lines of classes, or of probabilities, on gold classes; give the record, or the whole answer."""

    def run(gold, predicted, *more, whole=False):
        (tmp_path / "gold.tsv").write_text(table(*gold), encoding="utf-8")
        (tmp_path / "predicted.txt").write_text("".join(f"{line}\n" for line in predicted), encoding="utf-8")
        answer = cli("evaluate", tmp_path / "gold.tsv", "--predictions", tmp_path / "predicted.txt", *more, "--json")
        if whole:
            return answer
        assert answer[0] == 0, answer[2]
        return json.loads(answer[1])

    return run


def sums(record):
    return [int(sum(column)) for column in zip(*record["units"], strict=True)]


def noted(record, *words):
    assert any(all(word in note for word in words) for note in record["notes"]), record["notes"]


def test_a_predicted_class_that_the_gold_lacks_costs_precision(scored):
    record = scored(["treats", "false", "false", "false"], ["treats", "causes", "causes", "causes"])
    assert sums(record) == [1, 3, 0] and record["precision"] == 0.25
    noted(record, "3 predictions are of class causes", "wrong")
    noted(record, "false, the negative class")
    assert record["scheme"] == {"name": "labels", "evaluated": ["treats"], "negative": ["false"]}
    assert sums(scored(["treats", "false"], ["none", "Other"])) == [0, 1, 1]


@pytest.mark.parametrize(
    "negative", ["DDI-false", "NA", "none", "no relation", "not_related", "CPR:none", "N/A", "No_Rel"]
)
def test_a_system_that_finds_nothing_has_no_points(scored, negative):
    gold = ["DDI-effect", negative, negative, "DDI-int", negative]
    record = scored(gold, [negative] * 5)
    assert record["f1"] == 0 and sums(record) == [0, 0, 2]
    assert record["scheme"]["negative"] == [negative]


def test_the_negative_class_can_be_named(scored):
    gold, predicted = ["treats", "kein", "kein", "causes"], ["treats", "kein", "causes", "kein"]
    record = scored(gold, predicted)
    assert record["scheme"]["negative"] == [] and sums(record)[0] == 2
    noted(record, "None of causes, kein, treats is named", "set negative")
    named = scored(gold, predicted, "--negative", "KEIN ")
    assert sums(named) == [1, 1, 1] and named["scheme"]["negative"] == ["kein"]
    both = scored([*gold, "unklar"], [*predicted, "unklar"], "--negative", "kein", "--negative", "unklar")
    assert sums(both) == [1, 1, 1] and both["scheme"]["negative"] == ["kein", "unklar"]
    one_sentence(scored(gold, predicted, "--negative", "never", whole=True), "no class 'never'", "kein")
    # A test set without pairs of no relation, and a system that gives some.
    assert sums(scored(["treats", "causes"], ["treats", "kein"], "--negative", "kein")) == [1, 0, 1]


def test_of_two_numbered_classes_the_other_one_can_be_meant(scored):
    gold, predicted = ["1", "0", "0"], ["0", "0", "1"]
    assert sums(scored(gold, predicted)) == [0, 1, 1]
    assert sums(scored(gold, predicted, "--negative", "1")) == [1, 1, 1]
    all_scored = scheme(["0", "1"], [])
    assert all_scored.evaluated == ("0", "1") and all_scored.negative is None


def test_a_class_is_left_to_score(scored):
    for classes in (("0", "1"), ("none", "treats")):
        named = [word for name in classes for word in ("--negative", name)]
        one_sentence(scored(list(classes), list(classes), *named, whole=True), "none is left to score")


def test_negative_is_for_relations(cli, tmp_path):
    for name in ("gold.tsv", "predicted.tsv"):
        (tmp_path / name).write_text("Zinc\tB\n")
    one_sentence(
        cli("evaluate", tmp_path / "gold.tsv", "--predictions", tmp_path / "predicted.tsv", "--negative", "O"),
        "--negative",
    )


def test_several_or_doubtful_classes_of_no_relation_are_reported(scored):
    two = scored(["treats", "none", "false"], ["treats", "false", "none"])
    assert two["f1"] == 1.0
    noted(two, "false, none are all named", "set negative")
    one = scored(["treats", "none", "false"], ["treats", "false", "none"], "--negative", "none")
    assert sums(one) == [1, 1, 1]
    noted(scored(["Cause-Effect(e1,e2)", "Other"], ["Other", "Other"]), "Other is taken as", "set negative")
    noted(scored(["treats", "none", "Other"], ["Other"] * 3), "Other is scored as a relation")


def test_labels_differ_in_letters_and_blanks_alone(scored):
    gold = ["Positive Association", "no relation", "Treats"]
    record = scored(gold, ["positive\u00a0association ", "No  Relation", "TREATS"])
    assert record["f1"] == record["accuracy"] == 1.0
    assert record["scheme"]["evaluated"] == ["Positive Association", "Treats"]


DRUGPROT = ["INHIBITOR", "DIRECT-REGULATOR", "PART-OF", "ACTIVATOR", "SUBSTRATE_PRODUCT-OF", "none"]


def test_drugprot_is_scored_label_by_label_unless_groups_are_asked_for(scored):
    swapped = ["INDIRECT-DOWNREGULATOR", "PART-OF", "DIRECT-REGULATOR", "ACTIVATOR", "SUBSTRATE_PRODUCT-OF", "none"]
    record = scored(DRUGPROT, swapped)
    assert sums(record) == [2, 3, 3] and record["scheme"]["name"] == "labels"
    noted(record, "DrugProt", "scheme chemprot")
    grouped = scored(DRUGPROT, swapped, "--scheme", "chemprot")
    assert sums(grouped) == [3, 0, 0] and grouped["scheme"]["name"] == "ChemProt"
    shared = scored(["INHIBITOR", "none"], ["INDIRECT-DOWNREGULATOR", "none"])
    assert shared["f1"] == 1.0
    noted(shared, "ChemProt and in DrugProt", "scheme labels")
    assert scored(["INHIBITOR", "none"], ["INDIRECT-DOWNREGULATOR", "none"], "--scheme", "labels")["f1"] == 0
    one_sentence(scored(["treats", "none"], ["none"] * 2, "--scheme", "chemprot", whole=True), "treats", "chemprot")


@pytest.mark.parametrize("labels", [["CPR:3", "CPR:4", "false"], ["UPREGULATOR", "PART-OF", "false"]])
def test_chemprots_own_labels_leave_no_doubt(scored, labels):
    record = scored(labels, labels)
    assert record["scheme"]["name"] == "ChemProt" and not any("DrugProt" in note for note in record["notes"])


def test_the_classes_are_those_of_all_splits(cli, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.tsv").write_text(table("DIRECT-REGULATOR", "INHIBITOR", "none"))
    (data / "test.tsv").write_text(table("INHIBITOR", "none"))
    (tmp_path / "p.txt").write_text("INDIRECT-DOWNREGULATOR\nnone\n")
    record = json.loads(cli("evaluate", data, "--predictions", tmp_path / "p.txt", "--json")[1])
    assert record["f1"] == 0 and record["scheme"]["name"] == "labels"
    (tmp_path / "p.txt").write_text("0.1\t0.8\t0.1\n0.9\t0.1\t0\n")
    record = json.loads(cli("evaluate", data, "--predictions", tmp_path / "p.txt", "--json")[1])
    assert sums(record) == [1, 1, 0]
    noted(record, "Columns", "DIRECT-REGULATOR, INHIBITOR, none")


# Tables of probabilities

BINARY = ["1", "0", "1"]


def test_a_header_names_the_columns_of_probabilities(scored):
    rows = ["0.9\t0.1", "0.2\t0.8", "0.7\t0.3"]
    assert scored(BINARY, rows)["f1"] == 0
    assert scored(BINARY, ["1\t0", *rows])["f1"] == 1.0
    record = scored(["treats", "none", "treats"], ["treats\tNone", *rows])
    assert record["f1"] == 1.0
    noted(record, "probabilities of treats, None")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["0.9\t0.1", "nan\tnan", "0.7\t0.3"], ["row 2", "probabilities"]),
        (["0.9\t0.1", "inf\t-inf", "0.7\t0.3"], ["row 2", "probabilities"]),
        (["0.9\t0.1", "1.5\t-0.5", "0.7\t0.3"], ["row 2", "probabilities"]),
        (["4.2\t-3.1", "1.5\t-0.5", "0.7\t0.3"], ["row 1", "probabilities"]),
        (["0.9\t0.1", "0.7\t0.3"], ["2 predictions for 3 examples"]),
        (["0.9\t0.1"] * 4, ["4 predictions for 3 examples"]),
        (["0.9\t0.1\t0", "0.9\t0.1\t0", "0.9\t0.1\t0"], ["3 columns for 2 classes"]),
        (["index\tlabel", "0\t1", "1\t0", "2\t1"], ["first line", "index"]),
        (["0\t0", "0.9\t0.1", "0.9\t0.1", "0.9\t0.1"], ["4 predictions for 3 examples"]),
        (["1", "0"], ["2 predictions for 3 examples"]),
        (["1", "0", "maybe"], ["'maybe'"]),
        ([], ["0 predictions for 3 examples"]),
    ],
)
def test_tables_that_do_not_fit_are_refused(scored, lines, words):
    one_sentence(scored(BINARY, lines, whole=True), *words)


def test_a_header_over_classes_is_known_and_what_names_no_class_is_refused(scored):
    gold = ["treats", "none", "causes"]
    assert scored(gold, ["label", *gold])["f1"] == 1.0
    one_sentence(scored(gold, ['{"label": "treats"}'] * 3, whole=True), "no line is one of the classes")
    noted(scored(gold, ["label", *gold[:-1]]), "1 predictions are of class label", "wrong")


# A model's own


def test_a_model_keeps_its_class_of_no_relation(cli, tokenizer_folder, tmp_path):
    start = start_folder(tmp_path / "start", tokenizer_folder)
    data = tmp_path / "data"
    data.mkdir()
    labels = ["treats", "kein", "causes", "kein"] * 6
    for split, size in (("train", 24), ("devel", 8), ("test", 8)):
        (data / f"{split}.tsv").write_text(table(*labels[:size]))
    settings = {"epochs": 1, "batch_size": 8, "max_length": 32}
    tuned = finetune(data, str(start), tmp_path / "model", overrides={**settings, "negative": ["kein"]})
    assert any("kein, the negative class" in note for note in tuned.notes)
    record = json.loads(cli("evaluate", data, "--model", tmp_path / "model", "--json")[1])
    assert record["scheme"]["negative"] == ["kein"] and record["scheme"]["evaluated"] == ["causes", "treats"]
    other = json.loads(cli("evaluate", data, "--model", tmp_path / "model", "--negative", "causes", "--json")[1])
    assert other["scheme"]["negative"] == ["causes"]
    kept = json.loads((tmp_path / "model" / "evaluations.json").read_text())
    assert [one["scheme"]["negative"] for one in kept] == [["kein"], ["causes"]]
    one_sentence(cli("evaluate", data, "--model", tmp_path / "model", "--negative", "never"), "no class 'never'")
    from compactbio.annotate.models import load_model

    assert load_model(tmp_path / "model", "relation", runtime="torch-fp32", threads=1).scheme.negatives == ("kein",)
    status, _, messages = cli(
        "finetune", data, "--model", start, "--out", tmp_path / "again", "--negative", "kein",
        *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")), "--json",
    )  # fmt: skip
    assert status == 0, messages
    config = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("model", "again")]
    assert config[0]["relation_classes"] == config[1]["relation_classes"]
    (tmp_path / "p.tsv").write_text("Zinc\tB\n")
    one_sentence(
        cli("finetune", tmp_path / "p.tsv", "--model", start, "--out", tmp_path / "x", "--negative", "O"), "negative"
    )


def test_a_model_of_single_labels_is_not_grouped_later(cli, tokenizer_folder, tmp_path):
    start = start_folder(tmp_path / "start", tokenizer_folder)
    (tmp_path / "data.tsv").write_text(table(*["INHIBITOR", "INDIRECT-DOWNREGULATOR", "false", "AGONIST"] * 8))
    settings = {"epochs": 1, "batch_size": 8, "max_length": 32, "scheme": "labels"}
    finetune(tmp_path / "data.tsv", str(start), tmp_path / "model", overrides=settings)
    record = json.loads(cli("evaluate", tmp_path / "data.tsv", "--model", tmp_path / "model", "--json")[1])
    assert record["scheme"]["evaluated"] == ["AGONIST", "INDIRECT-DOWNREGULATOR", "INHIBITOR"]
    grouped = json.loads(
        cli("evaluate", tmp_path / "data.tsv", "--model", tmp_path / "model", "--scheme", "chemprot", "--json")[1]
    )
    assert grouped["scheme"]["name"] == "ChemProt"


@pytest.mark.parametrize(("often", "seldom", "columns"), [
    ("Inhibits", "inhibits", "Inhibits, binds"), ("inhibits", "Inhibits", "binds, inhibits"),
])  # fmt: skip
def test_columns_without_a_header_are_sorted_by_the_most_frequent_spelling(often, seldom, columns, tmp_path):
    for split, name, count in (("train", often, 8), ("test", seldom, 4)):
        rows = (f"patients @CHEMICAL$ x{i} @GENE$ .\t{name if i % 2 else 'binds'}\n" for i in range(count))
        (tmp_path / f"{split}.tsv").write_text("".join(rows))
    (tmp_path / "table").write_text("0.1\t0.9\n" * 4)
    found = predictions.evaluate_file(tmp_path / "table", tmp_path, task="relation")
    assert f"Columns are taken as the probabilities of {columns}." in found.outcome.notes
