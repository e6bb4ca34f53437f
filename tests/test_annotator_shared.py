"""Annotators as programs hold them: given any iterable, in threads, in copies, in forked and spawned processes."""

import copy
import multiprocessing
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import hypothesis
import numpy as np
import pandas
import pytest
import torch
import transformers
from hypothesis import strategies as st

from compactbio import Annotator
from compactbio.annotate import Marking, QuestionAnnotator, RelationAnnotator
from compactbio.annotate.annotator import _without_overlaps
from compactbio.deploy.export import export
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.evaluation import scoring
from compactbio.modeling import loading
from compactbio.modeling.packing import Packed, encode, predict
from compactbio.training import engine
from compactbio.training.finetuning import finetune
from conftest import batch, bert, distilbert, mobilebert
from counting import instructions
from task_data import DRUGS, FILL, ner_folder, qa_folder, relation_folder, start_folder

TEXTS = [
    f"{FILL[i % 12]} of {DRUGS[i % 3]} and {FILL[i % 7]} lung cancer " * (1 + i % 9) + "breast cancer" * (i % 2)
    for i in range(24)
]


@pytest.fixture(scope="module")
def annotator(tagger):
    return Annotator.from_pretrained(tagger, runtime="torch-fp32")


@pytest.fixture(scope="module")
def exported(tagger, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    export(str(tagger), "onnx", folder)
    return folder


@pytest.fixture(scope="module")
def tuned(tokenizer_folder, tmp_path_factory):
    """A relation model and a question answering model."""
    place = tmp_path_factory.mktemp("tuned")
    start = start_folder(place / "start", tokenizer_folder)
    for task, make in (("relation", relation_folder), ("qa", qa_folder)):
        data = make(place / f"{task}-data", {"train": 120, "test": 4})
        settings = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}
        finetune(data, str(start), place / task, task=task, overrides=settings)
    return place


def places(found) -> list[list[tuple[int, int, str, str]]]:
    return [[(e.start, e.end, e.text, e.type) for e in own] for own in found]


# What is given


@pytest.mark.parametrize(
    "make",
    [iter, tuple, dict.fromkeys, np.array, lambda t: np.array(t, dtype=object), pandas.Series, pandas.Index],
    ids=["generator", "tuple", "keys", "array of str", "array of objects", "column", "index"],
)
def test_any_iterable_of_texts_is_annotated(annotator, make):
    given = make(TEXTS[:4])
    wanted = places(annotator(TEXTS[:4]))
    assert places(annotator(given.keys() if isinstance(given, dict) else given)) == wanted and any(wanted)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["aspirin", None], "Text 1 (counted from 0) is None; give str or Document"),
        (["aspirin", "a", b"SECRET"], "Text 2 (counted from 0) is a value of type bytes"),
        (pandas.Series(["aspirin", float("nan")]), "Text 1 (counted from 0) is a value of type float"),
        ([["SECRET"]], "Text 0 (counted from 0) is a value of type list"),
        ((text for text in (7,)), "Text 0 (counted from 0) is a value of type int"),
        (b"SECRET", "list of texts, not a value of type bytes"),
        ({"SECRET": "a"}, "list of texts, not a value of type dict"),
        (pandas.DataFrame({"text": ["SECRET"]}), "list of texts, not a value of type DataFrame"),
        (np.array([["SECRET"]]), "list of texts, not a value of type ndarray"),
        (np.array("SECRET"), "list of texts, not a value of type ndarray"),
        (None, "list of texts, not None"),
        (7, "list of texts, not a value of type int"),
    ],
)
def test_what_is_not_a_list_of_texts_is_named_by_its_place(annotator, given, words):
    with pytest.raises(UserError) as messages:
        annotator(given)
    assert words in str(messages.value) and "SECRET" not in str(messages.value)


def test_relations_and_questions_take_any_iterable_and_name_what_is_wrong(tuned):
    marking = Marking("Gene", "Disease", ("@GENE$", "@DISEASE$"))
    relations = RelationAnnotator.from_pretrained(tuned / "relation", marking, runtime="torch-fp32")
    questions = QuestionAnnotator.from_pretrained(tuned / "qa", runtime="torch-fp32")
    document = Document("", "risk associated with cancer \ud800", (Span(0, 4, "Gene"), Span(21, 27, "Disease")))
    assert relations(iter([document])) == relations([document])
    asked = [("drug of the group", ["daily aspirin \udfff", "the dose of insulin"])]
    assert questions((question, iter(contexts)) for question, contexts in asked) == questions(asked)
    assert questions(np.array([("drug", ["aspirin"]), None], dtype=object)[:1])
    for wrong, words in [
        (lambda: relations([document, "SECRET"]), "Document 1 (counted from 0) is a value of type str"),
        (lambda: relations("SECRET"), "list of documents"),
        (lambda: questions(["SECRET", ["SECRET"]]), "Pair 0 (counted from 0) is a value of type str"),
        (lambda: questions([("SECRET", "SECRET")]), "list of texts"),
        (lambda: questions([("SECRET", ["a", None])]), "Text 1 (counted from 0) is None"),
        (lambda: questions([("a", ["b"]), (None, ["a"])]), "question of pair 1 (counted from 0) is None"),
        (lambda: questions([("SECRET",)]), "has 1 elements"),
    ]:
        with pytest.raises(UserError) as messages:
            wrong()
        assert words in str(messages.value) and "SECRET" not in str(messages.value)


# Time

_SPANS = st.builds(lambda start, size, kind: Span(start, start + size, kind), st.integers(0, 40), st.integers(1, 9),
                   st.sampled_from(["A", "B"]))  # fmt: skip


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(st.tuples(st.sampled_from([0.3, 0.6, 0.9]), _SPANS), max_size=25))
def test_of_overlapping_mentions_of_a_type_those_are_kept_that_a_plain_search_keeps(found):
    ranked = sorted(
        ((score, place, span) for place, (score, span) in enumerate(found)),
        key=lambda one: (-one[0], one[2].start - one[2].end, one[1]),
    )
    kept = []
    for score, _, span in ranked:
        if all(span.end <= other.start or other.end <= span.start for other, _ in kept if other.type == span.type):
            kept.append((span, score))
    kept.sort(key=lambda one: (one[0].start, -one[0].end))
    assert _without_overlaps([(score, place, span) for place, (score, span) in enumerate(found)]) == kept


@pytest.mark.parametrize(
    "part",
    ["aspirin of the lung cancer ", "aspirin.\n", "The aspirin. ", "q", "q ", "\x01 ", '."" ', ".  ", "\ud800", "é́ "],
)
def test_twice_the_text_is_twice_the_work(annotator, part):
    annotator([part])
    once, twice = (instructions(lambda count=count: annotator([part * count])) for count in (150, 300))
    assert twice < 2.2 * once, "the work grows faster than the text"


def test_twice_the_mentions_of_a_document_are_twice_the_work(tuned):
    marking = Marking("Gene", "Disease", ("@GENE$", "@DISEASE$"))
    relations = RelationAnnotator.from_pretrained(tuned / "relation", marking, runtime="torch-fp32")

    def work(count: int) -> int:
        sentence = "Risk associated with cancer.\n"
        spans = [
            span
            for start in range(0, count * len(sentence), len(sentence))
            for span in (Span(start, start + 4, "Gene"), Span(start + 21, start + 27, "Disease"))
        ]
        return instructions(lambda: relations([Document("", sentence * count, tuple(spans))]))

    work(1)
    assert work(160) < 2.2 * work(80), "the work grows faster than the document"


# Threads


def in_threads(function, many, threads: int = 6) -> list[object]:
    """The results of a function on many inputs, all threads starting at once."""
    start = threading.Barrier(threads)

    def run(one):
        start.wait()
        return function(one)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, many))


def test_threads_find_what_one_thread_finds(annotator):
    # Texts of several lines, whose rows are packed: scores tell whether one attended over the border of another.
    texts = [f"{text}\n{other}" for text, other in zip(TEXTS, reversed(TEXTS), strict=True)]
    alone = [annotator([text]) for text in texts]
    for _ in range(8):
        assert in_threads(lambda text: annotator([text]), texts) == alone
    assert all(found for [found] in alone)


def test_threads_find_the_relations_and_answers_that_one_thread_finds(tuned):
    marking = Marking("Gene", "Disease", ("@GENE$", "@DISEASE$"))
    relations = RelationAnnotator.from_pretrained(tuned / "relation", marking, runtime="torch-fp32")
    questions = QuestionAnnotator.from_pretrained(tuned / "qa", runtime="torch-fp32")
    spans = (Span(0, 4, "Gene"), Span(21, 27, "Disease"))
    documents = [Document("", f"risk associated with cancer {' '.join(FILL[: i % 12])}", spans) for i in range(24)]
    asked = [(f"drug of {FILL[i % 12]}", [text]) for i, text in enumerate(TEXTS)]
    for function, inputs in ((relations, documents), (questions, asked)):
        alone = [function([one]) for one in inputs]
        assert any(own for found in alone for own in found)
        for _ in range(3):
            assert in_threads(lambda one, function=function: function([one]), inputs) == alone


@pytest.mark.parametrize("family", [bert, distilbert, mobilebert])
def test_a_callers_model_is_encoded_in_threads_and_stays_as_it_was(family):
    model = family()
    model.set_attn_implementation("eager")
    rows = [[5 + i % 20 for i in range(seed, seed + 3 + seed % 9)] for seed in range(24)]

    def states(own: list[int]) -> torch.Tensor:
        both = [torch.tensor(own), torch.tensor(rows[0])]
        packed = Packed.from_rows(both, [torch.full_like(one, -100) for one in both])
        with torch.no_grad():
            return encode(model, packed, {2}, set()).hidden[2]

    alone = [states(own) for own in rows]
    for _ in range(4):
        for found, wanted in zip(in_threads(states, rows), alone, strict=True):
            torch.testing.assert_close(found, wanted)
        configs = [module.config for module in model.modules() if hasattr(module, "config")]
        assert {config._attn_implementation for config in configs} == {"eager"}
    with torch.no_grad():
        assert model(torch.tensor([rows[0]]), output_attentions=True).attentions


def test_threads_that_score_one_model_leave_it_in_the_mode_it_had(annotator):
    model = bert(hidden_dropout_prob=0.5)
    model.train()
    packed = Packed.from_padded(*batch([9, 4, 7]))
    alone = engine.score_heldout(model, [packed], bf16=False)
    for found in in_threads(lambda _: engine.score_heldout(model, [packed], bf16=False), range(24)):
        assert found == pytest.approx(alone)
    assert all(module.training for module in model.modules())


def test_models_loaded_in_threads_are_those_loaded_alone_and_the_log_stays_as_it_was(tagger, teacher_folder):
    source = loading.find(str(teacher_folder))
    before = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    ties, draws = transformers.PreTrainedModel.tie_weights, torch.nn.init.normal_

    def head(seed: int) -> torch.Tensor:
        return loading.load_for(source, "ner", ["O", "B-X", "I-X"], seed, new_head=True).classifier.weight

    alone = [head(seed) for seed in range(12)]
    state = torch.get_rng_state()
    for found, wanted in zip(in_threads(head, range(12), threads=4), alone, strict=True):
        assert torch.equal(found, wanted)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(alone[0], alone[1])

    def annotated(_) -> object:
        return places(Annotator.from_pretrained(tagger, runtime="torch-fp32")(TEXTS[:3]))

    assert in_threads(annotated, range(4), threads=4) == [annotated(None)] * 4
    assert (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()) == before
    # What transformers patches while it loads is as it was.
    assert (transformers.PreTrainedModel.tie_weights, torch.nn.init.normal_) == (ties, draws)


def test_training_beside_annotating_and_scoring_threads_is_as_alone(annotator, tagger, tokenizer_folder, tmp_path):
    data = ner_folder(tmp_path / "data", {"train": 24, "devel": 8, "test": 8}, kind="Drug")
    start = start_folder(tmp_path / "start", tokenizer_folder)
    settings = {"epochs": 2, "batch_size": 8, "max_length": 32}
    wanted, scored = annotator(TEXTS), scoring.evaluate(tagger, data).outcome.scores
    finetune(data, start, tmp_path / "alone", overrides=settings)
    ended, found = threading.Event(), []

    def work() -> None:
        while not ended.is_set():
            found.append(annotator(TEXTS) == wanted and scoring.evaluate(tagger, data).outcome.scores == scored)

    with ThreadPoolExecutor(2) as pool:
        working = [pool.submit(work) for _ in range(2)]
        finetune(data, start, tmp_path / "beside", overrides=settings)
        ended.set()
        for one in working:
            one.result()
    assert found and all(found)
    alone, beside = (tmp_path / name / "model.safetensors" for name in ("alone", "beside"))
    assert alone.read_bytes() == beside.read_bytes()


def test_quiet_ends_with_the_last_thread_that_asked_for_it():
    before = transformers.logging.get_verbosity()
    one, other = ExitStack(), ExitStack()
    one.enter_context(loading.quiet())
    other.enter_context(loading.quiet())
    one.close()
    assert transformers.logging.get_verbosity() > before
    other.close()
    assert transformers.logging.get_verbosity() == before


# Copies and processes


def test_a_copy_shares_the_model_and_a_pickle_loads_it_again(annotator, exported, tuned):
    for one in (annotator, Annotator.from_pretrained(exported, runtime="onnx-fp32")):
        wanted = one(TEXTS)
        for other in (copy.deepcopy(one), copy.copy(one), pickle.loads(pickle.dumps(one))):  # noqa: S301
            assert other(TEXTS) == wanted
    questions = QuestionAnnotator.from_pretrained(tuned / "qa", runtime="torch-fp32")
    asked = [("drug", [TEXTS[0]])]
    assert pickle.loads(pickle.dumps(questions))(asked) == questions(asked)  # noqa: S301


def test_a_forked_process_finds_the_same_after_the_models_ran_on_threads(tagger, exported):
    before = torch.get_num_threads()
    try:
        for folder, runtime in ((tagger, "torch-fp32"), (exported, "onnx-fp32")):
            annotator = Annotator.from_pretrained(folder, runtime=runtime, threads=2)
            wanted = places(annotator(TEXTS))
            # Enough work that PyTorch starts its threads.
            torch.randn(600, 600).softmax(-1)
            context = multiprocessing.get_context("fork")
            queue = context.Queue()
            processes = [context.Process(target=_annotate, args=(annotator, queue)) for _ in range(2)]
            for process in processes:
                process.start()
            assert [queue.get() for _ in processes] == [wanted] * 2
            for process in processes:
                process.join()
            assert [process.exitcode for process in processes] == [0, 0]
    finally:
        torch.set_num_threads(before)


def _annotate(annotator: Annotator, queue) -> None:
    queue.put([places(annotator(TEXTS)) for _ in range(2)][1])


def test_predictions_of_a_model_in_training_leave_its_mode(tagger):
    source = loading.find(str(tagger))
    model = loading.load_for(source, "ner").train()
    assert predict(model, "ner", [], tokens=100, bf16=False) == [] and model.training
