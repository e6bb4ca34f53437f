"""Every public function that takes a path takes it as `str` and as `Path`."""

import json
from pathlib import Path

import pytest

from compactbio import Annotator, corpus, formats, recipes
from compactbio.annotate import Marking, QuestionAnnotator, RelationAnnotator
from compactbio.annotate.files import annotate_files
from compactbio.comparison import report, suite
from compactbio.comparison import runs as comparing
from compactbio.comparison.table import build
from compactbio.deploy.export import export
from compactbio.deploy.profile import profile
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.evaluation import predictions, scoring
from compactbio.formats import read_texts
from compactbio.modeling import loading
from compactbio.objectives import Distiller
from compactbio.tasks import data
from compactbio.training import plan, pretraining, run_folder
from compactbio.training.finetuning import finetune
from compactbio.training.grid_search import search
from conftest import SMALL, bert, one_sentence
from task_data import ner_folder, start_folder

QUICK = {"epochs": 1, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}


@pytest.fixture(scope="module")
def made(tokenizer_folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("paths")
    ner_folder(place / "data", {"train": 16, "devel": 4, "test": 4}, kind="Drug")
    start_folder(place / "start", tokenizer_folder, layers=1)
    (place / "texts.jsonl").write_text(json.dumps({"pmid": "1", "title": "", "abstract": "aspirin daily " * 4}) + "\n")
    packaged = Path(recipes.__file__).parent / "published" / "bio-tinybert.yaml"
    (place / "recipe.yaml").write_bytes(packaged.read_bytes())
    (place / "suite.yaml").write_text(json.dumps({"models": {"one": "start"}, "data": {"drugs": "data"}}))
    return place


@pytest.mark.parametrize("kind", [str, Path])
def test_corpora_formats_and_recipes(kind, made, tokenizer_folder, tmp_path):
    texts, out = kind(made / "texts.jsonl"), kind(tmp_path / "corpus")
    (tmp_path / "exclude").write_text("99\n")
    corpus.build(
        [texts], out, tokenizer=kind(tokenizer_folder), max_length=32, workers=1, exclude=kind(tmp_path / "exclude")
    )
    assert len(corpus.open(out)["train"]) == 1
    assert corpus.manifest(out)["counts"] and corpus.tokenizer(out).vocab_size
    assert formats.recognise_citations(texts) == "jsonl" and len(list(formats.read_citations(texts))) == 1
    assert len(formats.find_citations([kind(made / "texts.jsonl")]).files) == 1 and len(list(read_texts(texts))) == 1
    for format in formats.FORMATS:
        if format not in ("squad", "bioasq", "marked", "marked-jsonl"):
            written = kind(tmp_path / format)
            formats.write(
                [Document("1", "aspirin daily", (Span(0, 7, "Drug"),), tokenised=format == "conll")], written, format
            )
            assert [span.type for one in formats.read(written, format) for span in one.spans] == ["Drug"]
            assert formats.recognise(written)
    assert recipes.load(kind(made / "recipe.yaml")).kind == "continue"
    assert set(data.find(kind(made / "data")).files) == {"train", "devel", "test"}
    by_split = {split: kind(made / "data" / f"{split}.tsv") for split in ("train", "test")}
    assert len(data.find(by_split).read("test")) == 4


@pytest.mark.parametrize("kind", [str, Path])
def test_models_are_trained_scored_and_used(kind, made, tagger, tmp_path):
    folder, start, out = kind(made / "data"), kind(made / "start"), kind(tmp_path / "out")
    assert finetune(folder, start, out, overrides=QUICK).state == "finished"
    assert search(folder, start, kind(tmp_path / "search"), overrides={**QUICK, "learning_rate": 1e-3}).state
    outcome = scoring.evaluate(kind(tagger), folder)
    scoring.add_to_card(out, outcome)
    predicted = kind(tmp_path / "predicted.tsv")
    predictions.check_writable(predicted, folder, kind(tagger), None)
    predictions.write(outcome, predicted)
    assert predictions.evaluate_file(predicted, folder).outcome.main == outcome.outcome.main
    assert Annotator.from_pretrained(kind(tagger), runtime="torch-fp32")(["aspirin"])[0]
    with pytest.raises(UserError, match="fine-tuned for ner"):
        QuestionAnnotator.from_pretrained(kind(tagger))
    with pytest.raises(UserError, match="fine-tuned for ner"):
        RelationAnnotator.from_pretrained(kind(tagger), Marking("A", "B", ("@A$", "@B$")))
    annotated = kind(tmp_path / "found.jsonl")
    done = annotate_files(kind(made / "texts.jsonl"), annotated, models=kind(tagger), runtime="torch-fp32", workers=1)
    assert done.documents == 1 and list(formats.read(annotated))


def test_students_are_planned_made_and_saved(token_corpus, teacher_folder, tmp_path):
    recipe = recipes.load("distil-biobert", **{**SMALL, "steps": 1})
    rows, teacher, out = str(token_corpus), teacher_folder, str(tmp_path / "out")
    assert plan.plan(recipe, rows, teacher=teacher).steps == 1
    assert pretraining.train(recipe, rows, out, teacher=teacher).state == "finished"
    with pytest.raises(UserError, match="out of reach"):
        run_folder.push(out, "owner/name")
    distiller = Distiller(bert(2), bert(4), recipe)
    (tmp_path / "saved").mkdir()
    distiller.save(str(tmp_path / "saved"))
    distiller.load(str(tmp_path / "saved"))
    assert loading.find(str(tmp_path / "out")).config.num_hidden_layers == 2


def test_models_are_compared_profiled_and_exported(made, tagger, tmp_path):
    out = str(tmp_path / "compared")
    plans = suite.load(str(made / "suite.yaml"))
    comparing.check(plans, out)
    done = comparing.run_suite(plans, out, report=lambda line: None)
    assert [run.state for run in done] == [run.state for run in comparing.kept_runs(plans, out)] == ["done"]
    report.write("made", build(done, "one"), done, {}, out)
    assert (tmp_path / "compared" / "table.md").is_file()
    [one] = profile([tagger], sentences=1, baseline=str(tagger))
    assert one.parameters > 0
    exported = export(tagger, "onnx", str(tmp_path / "exported"), data=str(made / "data"))
    assert exported.file == "model.onnx"


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "", "--model", "{tagger}"),
        ("evaluate", "{data}", "--model", ""),
        ("finetune", "", "--model", "{tagger}", "--out", "made"),
        ("finetune", "{data}", "--model", "{tagger}", "--teacher", "", "--out", "made"),
        ("finetune", "{data}", "--model", "{tagger}", "--teacher", "{tagger}", "--unlabelled", "", "--out", "made"),
        ("annotate", "", "--model", "{tagger}", "--out", "made.jsonl"),
        ("corpus", "build", "", "--tokenizer", "{tagger}", "--out", "made"),
        ("profile", ""),
    ],
)
def test_an_empty_name_is_not_the_current_folder(cli, tagger, tmp_path, monkeypatch, arguments):
    folder = ner_folder(tmp_path / "data", {"train": 4, "devel": 2, "test": 2})
    monkeypatch.chdir(folder)
    outcome = cli(*(one.format(tagger=tagger, data=folder) for one in arguments))
    one_sentence(outcome, "is empty")


@pytest.mark.parametrize("files", [{}, {"tst": "test.tsv"}, {"test": ""}, {"test": None}])
def test_files_of_a_data_set_are_named_by_split(tagger, files):
    with pytest.raises(UserError, match=r"named by split|is empty|is None"):
        scoring.evaluate(tagger, files)
