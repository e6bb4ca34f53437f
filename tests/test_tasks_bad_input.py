"""What a user can get wrong in fine-tuning, evaluating and comparing: one sentence, exit status 2, nothing lost."""

import json
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForTokenClassification, AutoTokenizer, BertConfig

from compactbio.tasks import data as datasets
from compactbio.training import corpora
from compactbio.training.finetuning import finetune
from conftest import bert, one_sentence
from task_data import ner_folder, qa_folder, relation_folder

SIZES = {"train": 16, "devel": 6, "test": 6}
QUICK = {"epochs": 1, "batch_size": 8, "max_length": 32}


@pytest.fixture(scope="module")
def start(tokenizer_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "start"
    bert(layers=2).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def typed(start, tmp_path_factory):
    """Typed NER data and a model tuned on them."""
    place = tmp_path_factory.mktemp("typed")
    data = ner_folder(place / "made", SIZES, kind="Drug")
    finetune(data, str(start), place / "tagger", overrides=QUICK)
    return data, place / "tagger"


def test_labels_that_the_model_has_never_seen(cli, typed, tmp_path):
    other = ner_folder(tmp_path / "other", {"train": 4, "test": 4}, kind="Gene")
    one_sentence(cli("evaluate", other, "--model", typed[1]), "finds Drug", "hold Gene")


def test_labels_partly_unseen_are_counted_and_reported(cli, typed, tmp_path):
    file = tmp_path / "test.tsv"
    file.write_text("aspirin\tB-Drug\nof\tO\ncancer\tB-Disease\n")
    done = cli("evaluate", file, "--model", typed[1], "--json")
    assert done[0] == 0, done
    assert any("knows no Disease" in note for note in json.loads(done[1])["notes"])


def test_predictions_shorter_than_the_gold(cli, typed, tmp_path):
    lines = (typed[0] / "test.tsv").read_text().strip().split("\n\n")
    short, cut = tmp_path / "short.tsv", tmp_path / "cut.tsv"
    short.write_text("\n\n".join(lines[:-1]) + "\n")
    cut.write_text("\n\n".join([*lines[:-1], lines[-1].rsplit("\n", 1)[0]]) + "\n")
    one_sentence(cli("evaluate", typed[0], "--predictions", short), "gold has 6 sentences, the predictions 5")
    one_sentence(cli("evaluate", typed[0], "--predictions", cut), "Sentence 6 has")


def test_a_row_of_one_column_in_line_40_000(cli, start, tmp_path):
    data = ner_folder(tmp_path / "made", {"train": 2, "test": 2})
    (data / "train.tsv").write_text("word\tO\n" * 39_999 + "word\n")
    one_sentence(cli("finetune", data, "--model", start, "--out", tmp_path / "out"), "train.tsv", "line 40000")
    assert not (tmp_path / "out").exists()


def test_an_answer_whose_offset_is_wrong_is_counted_and_shown(cli, start, tmp_path):
    data = qa_folder(tmp_path / "made", {"train": 8, "devel": 4, "test": 4})
    held = json.loads((data / "devel.json").read_text())
    for paragraph in held["data"][0]["paragraphs"][:2]:
        paragraph["qas"][0]["answers"][0]["answer_start"] += 1
    (data / "devel.json").write_text(json.dumps(held))
    done = cli("finetune", data, "--model", start, "--out", tmp_path / "out", "--set", "epochs=1")
    assert done[0] == 0, done
    _, shown, _ = cli("evaluate", data, "--model", tmp_path / "out", "--split", "devel")
    first = held["data"][0]["paragraphs"][0]["qas"][0]["id"]
    assert f"2 answers are not where their offset says, the first of them in {first}" in shown


def test_wrong_offsets_in_the_training_data_are_counted_and_shown(cli, start, tmp_path):
    data = qa_folder(tmp_path / "made", {"train": 8, "devel": 4, "test": 4})
    held = json.loads((data / "train.json").read_text())
    held["data"][0]["paragraphs"][3]["qas"][0]["answers"][0]["answer_start"] += 1
    (data / "train.json").write_text(json.dumps(held))
    _, shown, _ = cli("finetune", data, "--model", start, "--out", tmp_path / "out", "--set", "epochs=1")
    assert (
        "1 answers are not where" in shown and "1 answers are not where" in (tmp_path / "out" / "README.md").read_text()
    )


def _bioasq(kind, answers):
    asked = [
        {"id": f"{i:024x}", "type": kind, "body": f"the drug {i}", "snippets": [{"text": "the aspirin"}]}
        | {"exact_answer": answers} for i in range(4)
    ]  # fmt: skip
    return {"questions": asked}


def test_questions_that_cannot_be_scored_are_refused_before_training(cli, start, tmp_path):
    data = tmp_path / "made"
    data.mkdir()
    (data / "train.json").write_text(json.dumps(_bioasq("factoid", [["aspirin"]])))
    blank = {"context": "the aspirin", "qas": [{"id": "x", "question": "the drug", "answers": []}]}
    squad = {"version": "1", "data": [{"title": "t", "paragraphs": [blank]}]}
    for devel in (squad, _bioasq("list", [["aspirin"]]), _bioasq("factoid", [])):
        (data / "devel.json").write_text(json.dumps(devel))
        refused = cli("finetune", data, "--model", start, "--out", tmp_path / "out", "--set", "epochs=1")
        one_sentence(refused, "made: its devel split has no factoid question with an answer", "leave this split out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "text", "what"),
    [(ner_folder, "the\tO\ngroup\tO\n", "mention"), (relation_folder, "1\tthe @GENE$ and @DISEASE$\t0\n", "relation")],
)
def test_a_devel_split_that_cannot_choose_an_epoch_is_refused(cli, start, tmp_path, make, text, what):
    data = make(tmp_path / "made", {"train": 12, "devel": 4, "test": 4})
    [devel] = data.glob("dev*")
    devel.write_text(text)
    refused = cli("finetune", data, "--model", start, "--out", tmp_path / "out", "--set", "epochs=1")
    one_sentence(refused, f"made: its devel split has no {what} to choose an epoch by", "leave it out")


def test_the_devel_tenth_of_a_small_file_that_has_no_mention_chooses_nothing(tmp_path):
    path, words = tmp_path / "single.tsv", [f"group{number}" for number in range(20)]
    path.write_text("\n".join(f"{word}\tO\n" for word in words))
    [mention, *_] = datasets.find(path, "ner").read("train")
    path.write_text("\n".join(f"{word}\t{'B' if word == mention.text else 'O'}\n" for word in words))
    assert (
        datasets.find(path).read("devel")
        and not corpora.read(path, None, None, format=None, train_on="train").parts[0].devel
    )


def test_data_without_mentions_say_so_beside_their_score(cli, tagger, tmp_path):
    data = ner_folder(tmp_path / "made", {"train": 4, "test": 4}, kind="Drug")
    (data / "test.tsv").write_text("the\tO\ngroup\tO\n")
    status, out, _ = cli("evaluate", data, "--model", tagger)
    assert status == 0 and "The data have no mention" in out


def test_a_submission_without_all_questions(cli, tmp_path):
    data = qa_folder(tmp_path / "made", {"train": 2, "devel": 2, "test": 4})
    asked = json.loads((data / "golden.json").read_text())["questions"]
    (tmp_path / "short.json").write_text(json.dumps({"questions": asked[:3]}))
    one_sentence(
        cli("evaluate", data, "--predictions", tmp_path / "short.json"),
        "lack 1 of the factoid questions",
        asked[3]["id"],
    )


def test_options_that_would_change_nothing(cli, typed, tmp_path):
    file = tmp_path / "one.tsv"
    file.write_text("aspirin\tB-Drug\n")
    one_sentence(cli("evaluate", file, "--model", typed[1], "--split", "devel"), "single file", "--split")
    one_sentence(
        cli("evaluate", typed[0], "--model", typed[1], "--gold", file), "golden file is for questions", "--gold"
    )
    one_sentence(cli("evaluate", typed[0], "--predictions", tmp_path / "gone.tsv"), "no such file of predictions")
    one_sentence(cli("evaluate", typed[0]), "--model", "--predictions")
    one_sentence(cli("evaluate", typed[0], "--model", typed[1], "--predictions", file), "--model", "--predictions")
    refused = cli("evaluate", typed[0], "--predictions", file, "--write-predictions", tmp_path / "out.tsv")
    one_sentence(refused, "leave --write-predictions out")
    one_sentence(cli("evaluate", typed[0], "--model", typed[1], "--write-predictions", tmp_path), "is a folder")
    for path, said in (
        (typed[0] / "test.tsv", "is read as data"),
        (typed[0] / "more.tsv", "outside it"),
        (file, "exists: remove it, or name another file"),
        (typed[1] / "config.json", "exists"),
    ):
        before = path.read_text() if path.exists() else None
        refused = cli("evaluate", typed[0], "--model", typed[1], "--write-predictions", path)
        one_sentence(refused, said, "(option --write-predictions)")
        assert (path.read_text() if path.exists() else None) == before
    refused = cli(
        "evaluate", file, "--model", typed[1], "--write-predictions", f"{tmp_path}/../{tmp_path.name}/one.tsv"
    )
    one_sentence(refused, "is the same place")
    raw = tmp_path / "raw.pubtator"
    raw.write_text("7|t|aspirin daily\n7\t0\t7\taspirin\tDrug\tD1\n\n")
    one_sentence(
        cli("evaluate", raw, "--model", typed[1], "--write-predictions", tmp_path / "out.tsv"), "raw text", ".jsonl"
    )


def test_a_model_without_id2label(cli, tokenizer_folder, typed, tmp_path):
    config = BertConfig(
        vocab_size=200, hidden_size=24, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32, num_labels=3
    )
    AutoModelForTokenClassification.from_config(config).save_pretrained(tmp_path / "bare")
    AutoTokenizer.from_pretrained(tokenizer_folder).save_pretrained(tmp_path / "bare")
    one_sentence(cli("evaluate", typed[0], "--model", tmp_path / "bare"), "no id2label")


def test_a_model_with_the_wrong_head(cli, start, typed, tmp_path):
    one_sentence(cli("evaluate", typed[0], "--model", start), "no head for ner", "BertForMaskedLM", "finetune")
    relations = relation_folder(tmp_path / "made", SIZES)
    one_sentence(cli("evaluate", relations, "--model", typed[1]), "no head for relation", "BertForTokenClassification")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["{data}", "--model", "{start}", "--set", "epoch=3"], ["'epoch'", "epochs"]),
        (["{data}", "--model", "{start}", "--set", "epochs=none"], ["epochs", "integer"]),
        (["{data}", "--model", "nowhere/at-all"], ["nowhere/at-all", "HF_HUB_OFFLINE"]),
        (["{data}", "--model", "./nowhere"], ["./nowhere", "check the path"]),
        (["{nothing}", "--model", "{start}"], ["no such data set"]),
        (["{empty}", "--model", "{start}"], ["empty", "train"]),
        (["{testless}", "--model", "{start}"], ["no train file"]),
        (["{data}", "--model", "{start}", "--task", "relation"], ["relations"]),
    ],
)
def test_what_finetune_refuses(cli, words, parts, start, typed, tmp_path):
    (tmp_path / "empty").mkdir()
    ner_folder(tmp_path / "testless", {"test": 3})
    places = {"data": typed[0], "start": start, "nothing": tmp_path / "nothing", "empty": tmp_path / "empty",
              "testless": tmp_path / "testless"}  # fmt: skip
    named = [word.format(**places) for word in words]
    one_sentence(cli("finetune", *named, "--out", tmp_path / "out"), *parts)
    assert not (tmp_path / "out").exists()


def test_another_run_in_the_folder_is_not_overwritten(cli, start, typed, tmp_path):
    kept = (typed[1] / "model.safetensors").read_bytes()
    done = cli("finetune", typed[0], "--model", start, "--out", typed[1], "--set", "epochs=2")
    one_sentence(done, "holds a run of other settings", "epochs")
    assert (typed[1] / "model.safetensors").read_bytes() == kept


def _suite(folder: Path, **changes: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "suite.yaml"
    path.write_text(yaml.safe_dump(changes))
    return path


def test_a_comparison_never_writes_over_a_folder_of_something_else(cli, start, typed, tmp_path):
    mine = tmp_path / "mine" / "plots"
    mine.mkdir(parents=True)
    (mine / "figure.txt").write_text("keep")
    suite = _suite(tmp_path / "suites", models={"a": str(start)}, data={"x": str(typed[0])})
    one_sentence(cli("compare", suite, "--out", tmp_path / "mine"), "holds no comparison of compactbio")
    assert (mine / "figure.txt").read_text() == "keep"


def test_a_suite_that_names_what_is_not_there_is_refused_before_the_first_run(cli, start, typed, tmp_path):
    data, models = str(typed[0]), {"a": str(start)}
    relations = relation_folder(tmp_path / "relations", SIZES)
    (relations / "dev.tsv").unlink()
    unanswered = qa_folder(tmp_path / "unanswered", SIZES)
    (unanswered / "golden.json").unlink()
    foreign = qa_folder(tmp_path / "foreign", SIZES)
    golden = json.loads((foreign / "golden.json").read_text())
    (foreign / "golden.json").write_text(
        json.dumps({"questions": [{**one, "id": f"9{one['id']}"} for one in golden["questions"]]})
    )
    listed = qa_folder(tmp_path / "listed", SIZES)
    golden["questions"] = [{**one, "type": "list"} for one in golden["questions"]]
    (listed / "golden.json").write_text(json.dumps(golden))
    relations, unanswered, foreign, listed = map(str, (relations, unanswered, foreign, listed))
    cases = [
        ({"models": models, "data": {"x": data, "y": str(tmp_path / "gone")}}, ["data.y", "gone"]),
        ({"models": {**models, "b": "./gone"}, "data": {"x": data}}, ["models.b", "gone"]),
        ({"models": {**models, "b": "no/where"}, "data": {"x": data}}, ["no/where"]),
        ({"models": models, "data": {"x": str(ner_folder(tmp_path / "t", {"train": 2}))}}, ["x", "no test file"]),
        ({"models": models, "data": {"x": data}, "sedes": [1]}, ["sedes", "seeds"]),
        ({"models": models, "data": {"x": data}, "settings": {"seed": 3}}, ["the suite", "under seeds"]),
        ({"models": models, "data": {"x": relations}, "train_on": "train+devel"}, ["x", "no devel file"]),
        (
            {"models": models, "data": {"x": unanswered}},
            ["x", "test split", "no factoid question with an answer", "gold"],
        ),
        ({"models": models, "data": {"x": foreign}}, ["No question of the gold file is in the data"]),
        (
            {"models": models, "data": {"x": listed}},
            ["x: its gold file", "golden.json has no factoid question with an answer"],
        ),
    ]
    for suite, parts in cases:
        done = cli("compare", _suite(tmp_path / "suites", **suite), "--out", tmp_path / "table")
        one_sentence(done, *parts)
        assert not (tmp_path / "table").exists()
