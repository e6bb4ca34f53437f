"""The names from the top: there, light, typed, and as their documentation shows them."""

import doctest
import importlib
import inspect
import io
import json
import os
import pkgutil
import shutil
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import compactbio
from compactbio import UserError, api, documents, hub, recipes
from compactbio.annotate import annotator, files
from compactbio.corpus import building
from compactbio.files import locked
from compactbio.progress import Silent
from task_data import ner_folder, qa_folder, relation_folder, start_folder

CONTRACT = [
    *("Annotator", "RelationAnnotator", "QuestionAnnotator", "build_corpus", "distil", "pretrain", "finetune"),
    *("evaluate", "compare", "export", "annotate_files", "load_recipe", "read", "write", "UserError"),
]
QUICK = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}


def test_every_name_of_the_contract_is_there_and_no_folder_has_it():
    folders = {module.name for module in pkgutil.iter_modules(compactbio.__path__)}
    for name in compactbio.__all__:
        found = getattr(compactbio, name)
        assert name not in folders or inspect.ismodule(found)
    assert set(CONTRACT) <= set(compactbio.__all__) == set(dir(compactbio))
    assert compactbio.load_recipe is recipes.load and issubclass(UserError, ValueError)
    assert compactbio.Document is documents.Document and compactbio.recipes is recipes
    with pytest.raises(AttributeError, match="no attribute 'distill'"):
        compactbio.distill  # noqa: B018


def test_every_import_of_a_folder_leaves_the_names_as_they_are():
    for name in ("annotate", "comparison", "corpus", "deploy.export", "evaluation.scoring", "recipes", "training.plan"):
        importlib.import_module(f"compactbio.{name}")
    assert all(callable(getattr(compactbio, name)) for name in CONTRACT)


def test_importing_it_loads_no_library_that_takes_seconds():
    code = """
        import sys
        import compactbio
        compactbio.read, compactbio.write, compactbio.load_recipe, compactbio.Document, compactbio.recipes.names()
        print([name for name in ("torch", "transformers", "pandas") if name in sys.modules])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"


def test_every_argument_is_documented():
    functions = [getattr(compactbio, name) for name in CONTRACT if inspect.isfunction(getattr(compactbio, name))]
    functions = [
        function
        for function in functions
        if function.__module__.startswith(("compactbio.api", "compactbio.ann", "compactbio.corpus"))
    ]
    methods = [compactbio.Annotator.from_pretrained, compactbio.Annotator.stream, compactbio.Annotator.__call__]
    assert len(functions) >= 8
    for function in [*functions, *methods, compactbio.Run.push_to_hub]:
        described = inspect.getdoc(function) or ""
        for name in inspect.signature(function).parameters:
            assert name == "self" or f"    {name}: " in described, f"{function.__qualname__}: {name}"


@pytest.fixture(scope="module")
def workspace(tagger, teacher_folder, token_corpus, tokenizer_folder, tmp_path_factory):
    """What the examples of the documentation name."""
    place = tmp_path_factory.mktemp("workspace")
    for name, folder in (("tagger", tagger), ("teacher", teacher_folder), ("corpus", token_corpus)):
        shutil.copytree(folder, place / name)
    start = start_folder(place / "start", tokenizer_folder)
    ner_folder(place / "NER" / "made", {"train": 120, "devel": 30, "test": 40}, kind="Drug")
    suite = "models: {start: start}\ndata: {made: NER/made}\nsettings: {epochs: 1, max_length: 32}\n"
    (place / "suite.yaml").write_text(suite)
    (place / "notes.txt").write_text("daily aspirin for the patients\nrisk of lung cancer\n")
    for task, make, name in (("relation", relation_folder, "relations"), ("qa", qa_folder, "reader")):
        data = make(place / f"{name}-data", {"train": 120, "test": 4})
        compactbio.finetune(data, start, place / name, task=task, **QUICK)
    return place


def examples():
    finder = doctest.DocTestFinder()
    for module in (api, api.evaluation, annotator, files, building):
        yield from (one for one in finder.find(module) if one.examples)


_SLOW = {"compactbio.api.evaluation.compare", "compactbio.api.evaluation.export"}


@pytest.mark.parametrize(
    "example",
    [pytest.param(one, id=one.name, marks=pytest.mark.slow if one.name in _SLOW else ()) for one in examples()],
)
def test_the_examples_of_the_documentation_run(example, workspace, monkeypatch, kept_programs):
    monkeypatch.chdir(workspace)
    example.globs = {}
    messages: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(example, out=messages.append).failed == 0, "".join(messages)


def test_every_function_of_work_has_an_example():
    shown = {one.name.rpartition(".")[2] for one in examples()}
    assert {"Annotator", "RelationAnnotator", "QuestionAnnotator", "annotate_files", "build_corpus"} <= shown
    assert {"distil", "pretrain", "finetune", "evaluate", "compare", "export"} <= shown


def test_a_run_is_annotated_with_scored_and_resumed_or_left_alone(workspace, tmp_path):
    data = str(workspace / "NER" / "made")
    run = compactbio.finetune(data, str(workspace / "start"), tmp_path / "run", device="cpu", **QUICK)
    assert run.finished and run.folder == tmp_path / "run" and run.result.devel > 0.9
    assert [entity.text for entity in run.annotator(device="cpu")("insulin of the group")] == ["insulin"]
    evaluation = run.evaluate(data, device="cpu")
    assert evaluation.outcome.main == compactbio.evaluate(data, run.folder).outcome.main > 0.9
    again = compactbio.finetune(data, str(workspace / "start"), tmp_path / "run", **QUICK)
    assert again.result.state == "already finished" and again.finished
    with pytest.raises(UserError, match="fine-tuned for ner"):
        run.annotator("qa")
    with pytest.raises(UserError, match="marking"):
        run.annotator("relation")
    reader = api.Run(workspace / "reader", run.result).annotator("qa", tokens_per_batch=64)
    assert reader(("drug of the group", ["the dose of daily aspirin in the study"]))[0].text == "aspirin"


def test_predictions_of_others_are_scored(workspace, tmp_path):
    data = workspace / "NER" / "made"
    evaluation = compactbio.evaluate(data, predictions=data / "test.tsv")
    assert evaluation.outcome.main == 1
    for given in ({}, {"model": "a", "predictions": "b"}):
        with pytest.raises(UserError, match="either a model or"):
            compactbio.evaluate(data, **given)


def test_what_does_not_fit_is_a_sentence(workspace, tmp_path):
    with pytest.raises(UserError, match="call pretrain"):
        compactbio.distil("bio-distilbert-cased", workspace / "corpus", tmp_path / "out")
    with pytest.raises(UserError, match="call distil"):
        compactbio.pretrain("distil-biobert", workspace / "corpus", tmp_path / "out")
    with pytest.raises(UserError, match="not a device"):
        compactbio.Annotator.from_pretrained(workspace / "tagger", device="tpu")
    with pytest.raises(UserError, match="learning_rat"):
        compactbio.distil("distil-biobert", workspace / "corpus", tmp_path / "out", learning_rat=1)
    with pytest.raises(UserError, match="must be 1 or more"):
        compactbio.Annotator.from_pretrained(workspace / "tagger", tokens_per_batch=0)


def test_numbers_and_names_that_cannot_be_meant_are_refused_before_any_work(workspace, tmp_path):
    data, start, out = workspace / "NER" / "made", workspace / "start", tmp_path / "out"
    taught = {"teachers": [workspace / "tagger"]}
    wrong = [{name: value} for name in ("layers", "workers", "tokens_per_batch") for value in (0, -1, True, 1.5, "1")]
    for given in wrong:
        with pytest.raises(UserError, match=f"{next(iter(given))} is .*; it must be 1 or more, a whole number"):
            compactbio.finetune(data, start, out, **taught, **given)
    for given in ({"precision": "fp16"}, {"tokens_per_batch": 0}):
        for runtime in (None, "torch-fp32"):
            with pytest.raises(UserError, match=r"is not a precision: take|must be 1 or more"):
                compactbio.evaluate(data, workspace / "tagger", runtime=runtime, **given)
        for work in (
            lambda given=given: compactbio.finetune(data, start, out, **given),
            lambda given=given: compactbio.distil("distil-biobert", workspace / "corpus", out, **given),
            lambda given=given: compactbio.compare(workspace / "suite.yaml", tmp_path / "compared", **given),
        ):
            with pytest.raises(UserError, match=r"is not a precision: take|must be 1 or more"):
                work()
    with pytest.raises(UserError, match="workers is 0"):
        compactbio.compare(workspace / "suite.yaml", tmp_path / "compared", workers=0)
    for work in (
        lambda: compactbio.build_corpus([data / "train.tsv"], tmp_path / "corpus", tokenizer=start, listener=print),
        lambda: compactbio.annotate_files(data, tmp_path / "spans.jsonl", models=workspace / "tagger", listener=print),
        lambda: compactbio.export(workspace / "tagger", tmp_path / "exported", listener=print),
        lambda: compactbio.compare(workspace / "suite.yaml", tmp_path / "compared", listener=print),
    ):
        with pytest.raises(UserError, match="builtin_function_or_method; it must be an object with"):
            work()
    with pytest.raises(UserError, match="listener is of type type; it must be an object with"):
        compactbio.compare(workspace / "suite.yaml", tmp_path / "compared", listener=Silent)
    with pytest.raises(UserError, match="None is neither a name or path"):
        compactbio.finetune(None, start, out)
    with pytest.raises(UserError, match="out is None: give text or a path"):
        compactbio.finetune(data, start, None)
    with pytest.raises(UserError, match="out is empty: name it"):
        compactbio.finetune(data, start, "")
    for wrong_recipe in ({"steps": -1}, {"foo": 1}):
        with pytest.raises(UserError, match=f"Recipe distil-biobert: .*{next(iter(wrong_recipe))}"):
            compactbio.distil(recipes.load("distil-biobert"), workspace / "corpus", out, **wrong_recipe)
    with pytest.raises(UserError, match="'train' is not a split to score"):
        compactbio.evaluate(data, workspace / "tagger", split="train")
    with pytest.raises(UserError, match="'foo' is not a task"):
        compactbio.Run(workspace / "tagger", None).annotator("foo")
    for value in ("1", -1, float("nan")):
        with pytest.raises(UserError, match=f"max_loss is {value!r}; it must be a number, 0 or more"):
            compactbio.export(workspace / "tagger", out, format="onnx-int8", data=data, max_loss=value)
    with pytest.raises(UserError, match="'dev' is not a split: take train, devel, test"):
        compactbio.export(workspace / "tagger", out, data=data, split="dev")
    with pytest.raises(UserError, match="A data set is named twice"):
        compactbio.export(workspace / "tagger", out, format="onnx-int8", data=[data, data])
    assert not out.exists()
    words = tmp_path / "words.jsonl"
    words.write_text('{"tokens": ["aspirin"], "ner_tags": [1]}\n')
    with pytest.raises(UserError, match="1 rejected, most for ner_tags holds numbers without names"):
        compactbio.finetune(data, start, out, **taught, unlabelled=words)


def test_numbers_of_other_libraries_count_as_the_same_plain_numbers(workspace, tmp_path):
    data, start, notes, tagger = (workspace / name for name in ("NER/made", "start", "notes.txt", "tagger"))
    given = {"workers": np.int64(1), "batch_size": np.int32(3), "min_score": Fraction(1, 4), "keep": np.bool_(False)}
    for precision in (np.float32(0.5), Fraction(1, 2), 0.5):
        found = compactbio.annotate_files(notes, tmp_path / "a.jsonl", models=tagger, min_precision=precision, **given)
    assert found.state == "already finished"
    corpus = {"tokenizer": start, "max_length": np.int64(32), "holdout": np.int64(1), "published": np.bool_(True)}
    made = compactbio.build_corpus(notes, tmp_path / "corpus", workers=np.int64(1), **corpus)
    corpus |= {"max_length": 32, "holdout": 1, "published": True}
    assert compactbio.build_corpus(notes, tmp_path / "corpus", workers=1, **corpus) == made
    tuned = {**QUICK, "epochs": 1, "batch_size": 60, "layers": 1, "tokens_per_batch": 512, "warmup": 0.5}
    numbers = {name: np.int64(value) if isinstance(value, int) else np.float64(value) for name, value in tuned.items()}
    compactbio.finetune(data, start, tmp_path / "run", **{**numbers, "warmup": Fraction(1, 2)})
    assert compactbio.finetune(data, start, tmp_path / "run", **tuned).result.state == "already finished"
    with pytest.raises(UserError, match="name a data set"):
        compactbio.export(tagger, tmp_path / "int8", format="onnx-int8", max_loss=np.float32(5))


def test_no_input_at_all_is_said(workspace, tmp_path):
    for work in (
        lambda: compactbio.annotate_files([], tmp_path / "a.jsonl", models=workspace / "tagger"),
        lambda: compactbio.build_corpus([], tmp_path / "corpus", tokenizer=workspace / "start"),
    ):
        with pytest.raises(UserError, match="No input is named: name at least one"):
            work()


def test_two_scores_of_one_model_are_equal(workspace):
    one, other = (compactbio.evaluate(workspace / "NER" / "made", workspace / "tagger") for _ in range(2))
    assert one == other and one != compactbio.evaluate(workspace / "NER" / "made", workspace / "tagger", split="devel")


def test_a_score_is_added_to_the_card_or_the_result_says_why_not(workspace, tmp_path):
    data, model = workspace / "NER" / "made", tmp_path / "tagger"
    shutil.copytree(workspace / "tagger", model)
    (model / "evaluations.json").unlink(missing_ok=True)
    run = compactbio.Run(model, compactbio.finetune(data, workspace / "start", tmp_path / "run", **QUICK).result)
    run.evaluate(data, runtime="torch-fp32")
    assert not (model / "evaluations.json").exists()
    found = run.evaluate(data)
    (kept,) = json.loads((model / "evaluations.json").read_text())
    assert kept["f1"] == found.outcome.main and f"{100 * found.outcome.main:.2f}" in (model / "README.md").read_text()
    (model / "evaluations.json").unlink()
    (model / "evaluations.json").mkdir()
    assert "The score was not added to the model's card" in run.evaluate(data).outcome.notes[-1]


def test_two_processes_do_not_export_into_one_folder(workspace, tmp_path):
    with locked(tmp_path / "out"), pytest.raises(UserError, match="another run is writing it"):
        compactbio.export(workspace / "tagger", tmp_path / "out")


def test_one_path_counts_as_one_and_any_iterable_as_several(workspace, tmp_path):
    data, start, notes = workspace / "NER" / "made", workspace / "start", workspace / "notes.txt"
    once = {**QUICK, "epochs": 1, "batch_size": 32}
    tagger = workspace / "tagger"
    wanted = compactbio.finetune(data, start, tmp_path / "list", teachers=[tagger], unlabelled=[notes], **once)
    for name, kind in (("str", str), ("path", Path), ("made", lambda path: (one for one in [path]))):
        given = {"teachers": kind(tagger), "unlabelled": kind(notes), **once}
        result = compactbio.finetune(kind(data), start, tmp_path / name, **given).result
        assert (result.devel, result.unlabelled) == (wanted.result.devel, wanted.result.unlabelled)
    for wrong in ({"Drug": tagger}, b"tagger"):
        with pytest.raises(compactbio.UserError, match="neither a name or path nor a list"):
            compactbio.finetune(data, start, tmp_path / "mapped", teachers=wrong, **once)


def test_columns_and_arrays_of_paths_count_as_lists_of_them(workspace, tmp_path):
    data, start, notes, tagger = (str(workspace / name) for name in ("NER/made", "start", "notes.txt", "tagger"))
    once = {**QUICK, "epochs": 1, "batch_size": 32}
    found = [
        compactbio.finetune(
            several([data]), start, tmp_path / name, teachers=column([tagger]), unlabelled=several([notes]), **once
        )
        for name, several, column in (("list", list, list), ("columns", np.array, pd.Series))
    ]
    assert found[0].result.devel == found[1].result.devel
    assert found[0].result.unlabelled == found[1].result.unlabelled
    for several in (pd.Series([data, data]), np.array([data, data])):
        with pytest.raises(UserError, match="A data set is named twice"):
            compactbio.export(tagger, tmp_path / "out", data=several)
    for none in (None, (), pd.Series([]), np.array([])):
        with pytest.raises(UserError, match="name a data set of the model's kind"):
            compactbio.export(tagger, tmp_path / "out", format="onnx-int8", data=none)
        with pytest.raises(UserError, match="compute what teachers say: name a teacher"):
            compactbio.finetune(data, start, tmp_path / "out", teachers=none, unlabelled=none, workers=1)
    for wrong in (pd.DataFrame({"path": [notes]}), np.array(notes), np.array([[notes]]), io.StringIO("a line\n")):
        words = (
            "a value of type .* is neither a name or path nor a list|is a value of type ndarray: give text or a path"
        )
        with pytest.raises(UserError, match=words):
            compactbio.build_corpus(wrong, tmp_path / "corpus", tokenizer=start)
        with pytest.raises(UserError, match=words):
            compactbio.annotate_files(wrong, tmp_path / "out.jsonl", models=tagger)


def test_an_entry_of_a_folder_is_a_path_wherever_a_path_is_taken(workspace, tmp_path):
    found = {entry.name: entry for place in (workspace, workspace / "NER") for entry in os.scandir(place)}
    data, tagger, notes = found["made"], found["tagger"], found["notes.txt"]
    score = compactbio.evaluate(workspace / "NER" / "made", workspace / "tagger").outcome.main
    assert compactbio.evaluate(data, tagger).outcome.main == score
    assert compactbio.Annotator.from_pretrained(tagger)("daily aspirin")
    result = compactbio.annotate_files(notes, tmp_path / "out.jsonl", models=tagger, workers=1)
    assert result.documents == 2
    corpus = compactbio.build_corpus(notes, tmp_path / "corpus", tokenizer=found["start"], max_length=32, workers=1)
    assert corpus["tokenizer"]["name"] == "start"
    once = {**QUICK, "epochs": 1, "batch_size": 32}
    run = compactbio.finetune(data, found["start"], tmp_path / "run", teachers=tagger, unlabelled=notes, **once)
    with pytest.raises(UserError, match="another run is writing it"), locked(tmp_path / "onnx"):
        compactbio.export(tagger, tmp_path / "onnx", data=data)
    with pytest.raises(UserError, match="was trained on made, train"):
        compactbio.export(run.folder, tmp_path / "onnx", data=data, split="train")


_SECRET = [documents.Document("1", "SECRET of a patient"), documents.Document("2", "SECRET")]


@pytest.mark.parametrize("given", [_SECRET, _SECRET[0], {"a": _SECRET}, b"SECRET", "SECRET " * 50, None])
def test_what_is_not_a_path_is_refused_in_a_sentence_that_does_not_repeat_it(workspace, tmp_path, given):
    data, start, notes, tagger = (workspace / name for name in ("NER/made", "start", "notes.txt", "tagger"))
    run, out, taught = compactbio.Run(tagger, _SECRET), tmp_path / "out", {"teachers": tagger}
    calls = [
        lambda: compactbio.evaluate(data, run),
        lambda: compactbio.export(run, out),
        lambda: compactbio.evaluate(given, tagger),
        lambda: compactbio.finetune(given, start, out),
        lambda: compactbio.finetune([given], start, out),
        lambda: compactbio.finetune(data, given, out),
        lambda: compactbio.finetune(data, start, given),
        lambda: compactbio.finetune(data, start, out, teachers=[given]),
        lambda: compactbio.finetune(data, start, out, **taught, unlabelled=[given]),
        lambda: compactbio.export(given, out),
        lambda: compactbio.export(tagger, out, data=[given]),
        lambda: compactbio.compare(given, out),
        lambda: compactbio.build_corpus(given, out, tokenizer=start),
        lambda: compactbio.build_corpus(notes, out, tokenizer=given),
        lambda: compactbio.distil("distil-biobert", given, out),
        lambda: compactbio.distil(given, workspace / "corpus", out),
        lambda: compactbio.load_recipe(given),
        lambda: compactbio.read(given),
        lambda: compactbio.write([], given, "jsonl"),
        lambda: compactbio.annotate_files(notes, given, models=tagger),
        lambda: compactbio.annotate_files(given, out, models=tagger),
        lambda: compactbio.annotate_files(notes, out, models=given),
        lambda: compactbio.Annotator.from_pretrained(given),
    ]
    if given is not None:  # which is the default of these
        calls += [
            lambda: compactbio.evaluate(data, given),
            lambda: compactbio.evaluate(data, predictions=given),
            lambda: compactbio.evaluate(workspace / "reader-data", workspace / "reader", gold=given),
            lambda: compactbio.build_corpus(notes, out, tokenizer=start, exclude=given),
            lambda: compactbio.distil("distil-biobert", workspace / "corpus", out, teacher=given),
            lambda: compactbio.finetune(data, start, out, teachers=given),
        ]
    for place, call in enumerate(calls):
        with pytest.raises(UserError) as refused:
            call()
            raise AssertionError(f"call {place} passed")
        assert "SECRET" not in str(refused.value), (place, refused.value)
    assert not out.exists()


def test_texts_stream_through_an_annotator_a_batch_at_a_time(workspace):
    annotator = compactbio.Annotator.from_pretrained(workspace / "tagger", tokens_per_batch=16, threads=1)
    texts = [f"the {'group ' * (i % 5)}of aspirin" for i in range(20)]
    read = []

    def source():
        for text in texts:
            read.append(text)
            yield text

    found = annotator.stream(source(), batch_size=4)
    first = next(found)
    assert len(read) == 4
    assert [[(e.start, e.end) for e in own] for own in [first, *found]] == [
        [(e.start, e.end) for e in own] for own in annotator(texts)
    ]
    with pytest.raises(UserError, match=r"Text 5 \(counted from 0\) is None"):
        list(annotator.stream([*texts[:5], None], batch_size=2))
    with pytest.raises(UserError, match="batch_size"):
        annotator.stream(texts, batch_size=0)


def test_a_model_is_pushed_with_its_privacy(workspace, monkeypatch, tmp_path):
    pushed = []
    monkeypatch.setattr(hub, "push", lambda folder, name, **more: pushed.append((folder, name, more)) or "address")
    result = compactbio.finetune(workspace / "NER" / "made", workspace / "start", tmp_path / "run", epochs=1).result
    assert api.Run(tmp_path / "run", result).push_to_hub("owner/name") == "address"
    assert pushed[0][:2] == (tmp_path / "run", "owner/name") and pushed[0][2]["private"] is True
    assert "checkpoints/*" in pushed[0][2]["ignore"]


PROGRAM = """
    from pathlib import Path

    from compactbio import (
        Annotator, Document, Entity, QuestionAnnotator, RelationAnnotator, Run, UserError, annotate_files, build_corpus,
        compare, corpus, distil, evaluate, export, finetune, load_recipe, pretrain, read, recipes, write,
    )

    annotator = Annotator.from_pretrained("tagger", device="cpu")
    one: list[Entity] = annotator("aspirin")
    several: list[list[Entity]] = annotator(["aspirin", "insulin"])
    scores: list[float] = [entity.score for entities in annotator.stream(iter(["a"])) for entity in entities]
    run: Run = finetune("data", model="start", out=Path("out"), epochs=3)
    more: list[Entity] = run.annotator()("aspirin")
    answers = run.annotator("qa")(("what?", ["text"]))
    text: str = answers[0].text
    address: str = run.push_to_hub("owner/name", private=True)
    main: float = run.evaluate("data").outcome.main
    steps: int = load_recipe("distil-biobert", steps=10).steps
    documents: list[Document] = list(read("a.jsonl"))
    names: list[str] = recipes.names()
    reveal_type(distil("distil-biobert", "corpus", "out", teacher="teacher").folder)
    annotator(7)
"""


@pytest.mark.slow
def test_a_program_that_uses_it_is_typed(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    # With the settings of the package, whose types `make test` has just checked and kept.
    command = [sys.executable, "-m", "mypy", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    lines = [line.partition("program.py:")[2] for line in done.stdout.splitlines() if "program.py:" in line]
    assert len(lines) == 5 and "Path" in lines[0], done.stdout + done.stderr
    assert 'No overload variant of "__call__" of "InputAnnotator" matches argument type "int"' in lines[1], done.stdout
