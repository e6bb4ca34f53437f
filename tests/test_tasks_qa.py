"""Question answering: the official scores, windows that lose nothing, spans and snippets ranked as by hand."""

import json
from itertools import pairwise

import numpy as np
import pytest
from transformers import AutoTokenizer

from compactbio.documents import Document, Question
from compactbio.errors import UserError
from compactbio.tasks import qa
from conftest import SHARED

CONTEXT = "the study showed aspirin in the blood of patients with cancer"


def asked(text: str = CONTEXT, answers=(), starts=(), id: str = "q1", question: str = "which drug") -> Document:
    return Document("d", text, questions=(Question(question, tuple((a,) for a in answers), id, tuple(starts)),))


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    return AutoTokenizer.from_pretrained(tokenizer_folder)


def read(name: str):
    if not SHARED.exists():
        pytest.skip("the shared data are not here")
    return json.loads((SHARED / name).read_text(encoding="utf-8"))


def factoids(name: str) -> dict[str, list[list[str]]]:
    return {q["id"]: q["exact_answer"] for q in read(name)["questions"] if q["type"] == "factoid"}


@pytest.mark.parametrize("system", ["4B1_systemA", "4B1_systemB", "5B1_systemA"])
def test_real_answers_have_their_official_scores(system):
    expected = read("expected_scores.json")["qa/BioASQ_predictions"][system]
    gold = factoids(expected["golden"])
    predicted = factoids(f"qa/BioASQ_predictions/{system}/BioASQform_BioASQ-answer.json")
    assert len(gold) == expected["questions"]
    found = qa.score(list(gold.values()), [predicted[key] for key in gold])
    wanted = {"strict_accuracy": "strict_acc", "lenient_accuracy": "lenient_acc", "mrr": "mrr"}
    assert found == pytest.approx({ours: expected[theirs] for ours, theirs in wanted.items()}, abs=1e-12)


@pytest.mark.parametrize("system", ["abstract", "snippets"])
def test_real_submissions_of_2024_have_their_official_factoid_scores(system):
    expected = read("expected_scores.json")["qa/BioASQ_12b"][system]
    gold = factoids("qa/BioASQ_12b/12B1_golden.json")
    predicted = factoids(f"qa/BioASQ_12b/bioasq_task_12b_phase_b_batch_1_mibi_rag_{system}.json")
    found = qa.score(list(gold.values()), [predicted[key] for key in gold])
    wanted = {"strict_accuracy": "strict", "lenient_accuracy": "lenient", "mrr": "mrr"}
    assert found == pytest.approx({ours: expected[f"factoid_{theirs}"] for ours, theirs in wanted.items()}, abs=1e-12)


@pytest.mark.parametrize(
    ("gold", "predicted", "rank"),
    [
        ([["aspirin", "ASA"]], ["asa"], 1),
        ([["aspirin"], ["insulin"]], ["dose", "insulin"], 2),
        (["aspirin"], [["aspirin"]], 1),
        ([["aspirin"]], [["dose", "aspirin"]], 0),
        ([["aspirin"]], [[], "aspirin"], 2),
        ([["aspirin"]], ["aspirin."], 0),
        ([["aspirin"]], [" aspirin"], 0),
        ([["aspirin"]], ["a", "b", "c", "d", "aspirin"], 5),
        ([["aspirin"]], ["a", "b", "c", "d", "e", "aspirin"], 0),
        ([["aspirin"]], [], 0),
    ],
)
def test_an_answer_counts_at_its_first_right_place_among_five(gold, predicted, rank):
    found = qa.score([gold], [predicted])
    assert found == {"strict_accuracy": rank == 1, "lenient_accuracy": rank > 0, "mrr": 1 / rank if rank else 0}


def test_scores_are_means_over_all_questions():
    found = qa.score([["a"], ["b"], ["c"], ["d"]], [["a"], ["x", "b"], [], ["x"]])
    assert found == {"strict_accuracy": 0.25, "lenient_accuracy": 0.5, "mrr": 0.375}


def test_missing_questions_are_a_sentence_with_both_numbers():
    with pytest.raises(UserError, match=r"2 questions.* 1"):
        qa.score([["a"], ["b"]], [["a"]])


def test_snippets_are_merged_by_summed_probability_under_the_likeliest_wording():
    merged = qa.merge([[("aspirin", 0.3), ("insulin", 0.5)], [(" (Aspirin). ", 0.4), ("dose", 0.1)]])
    assert [text for text, _ in merged] == [" (Aspirin). ", "insulin", "dose"]
    assert [probability for _, probability in merged] == pytest.approx([0.7, 0.5, 0.1])


def test_signs_that_tell_answers_apart_are_kept_apart():
    assert len(qa.merge([[("CD4+", 0.5), ("CD4-", 0.3), ("CD4", 0.2)]])) == 3


def test_at_most_five_answers_stay_and_punctuation_is_none():
    merged = qa.merge(
        [[("b", 0.1), ("a", 0.1), ("c", 0.2), ("d", 0.1), ("e", 0.1), ("f", 0.1), ("). ", 0.9), ("+", 0.9)]]
    )
    assert merged == [("c", 0.2), ("a", 0.1), ("b", 0.1), ("d", 0.1), ("e", 0.1)]


def test_a_row_has_question_and_context_with_segments_offsets_and_marks(tokenizer):
    encoded = qa.encode([asked(answers=["aspirin in the blood"], starts=[17])], tokenizer)
    (window,) = encoded.windows
    tokens = tokenizer.convert_ids_to_tokens(window.row.input_ids)
    first = tokens.index("aspirin")
    head = tokens.index("[SEP]") + 1
    assert tokens[head:-1] == CONTEXT.split()
    assert window.row.segments.tolist() == [0] * head + [1] * (len(tokens) - head)
    assert (window.offsets[:head] == -1).all()
    assert (window.offsets[-1] == -1).all()
    assert [CONTEXT[a:b] for a, b in window.offsets[head:-1]] == CONTEXT.split()
    assert np.flatnonzero(window.row.labels != -100).tolist() == [first, first + 3]
    assert window.row.labels[[first, first + 3]].tolist() == [qa.START, qa.END]
    assert (window.document, window.question, encoded.misplaced, encoded.shortened) == (0, "q1", 0, 0)


@pytest.mark.parametrize(
    ("answers", "starts", "first", "misplaced"),
    [
        (["aspirin"], [17], "aspirin", 0),
        (["aspirin"], [3], "aspirin", 1),
        (["aspirin"], [], "aspirin", 0),
        (["insulin", "cancer"], [4, 55], "cancer", 1),
        (["insulin"], [4], "[CLS]", 1),
        ([" aspirin "], [16], "aspirin", 0),
    ],
)
def test_the_answer_is_marked_where_it_is(tokenizer, answers, starts, first, misplaced):
    encoded = qa.encode([asked(answers=answers, starts=starts)], tokenizer)
    (row,) = encoded.rows
    assert encoded.misplaced == misplaced
    (place,) = np.flatnonzero(row.labels != -100)
    assert tokenizer.convert_ids_to_tokens(row.input_ids)[place] == first
    assert row.labels[place] == qa.BOTH


@pytest.mark.parametrize("document", [asked(), asked(answers=["the"], starts=[1])])
def test_a_question_without_answer_or_with_no_telling_where_has_no_labels(tokenizer, document):
    (row,) = qa.encode([document], tokenizer).rows
    assert set(row.labels.tolist()) == {-100}


def test_only_factoid_questions_become_rows(tokenizer):
    questions = (Question("is it so", (("yes",),), "q5", kind="yesno"), Question("which drug", (), "q1"))
    encoded = qa.encode([Document("d", CONTEXT, questions=questions)], tokenizer)
    assert [window.question for window in encoded.windows] == ["q1"]


def test_windows_cover_all_of_a_context_overlap_by_the_stride_and_mark_the_answer_where_it_is_whole(tokenizer):
    words = [f"{word} cells" for word in CONTEXT.split()] * 5
    text = " ".join([*words, "metformin and insulin", *words])
    start = text.index("metformin")
    document = asked(text, ["metformin and insulin"], [start])
    encoded = qa.encode([document], tokenizer, max_length=32, stride=10)
    parts = [window.offsets[window.offsets[:, 0] >= 0] for window in encoded.windows]
    assert all(len(row) <= 32 for row in encoded.rows)
    assert [text[a:b] for a, b in np.unique(np.concatenate(parts), axis=0)] == text.split()
    for one, two in pairwise(parts):
        assert one[-10:].tolist() == two[:10].tolist()
    whole = [part[0][0] <= start and part[-1][1] >= start + 21 for part in parts]
    assert any(whole)
    assert not all(whole)
    assert [row.labels[0] == -100 for row in encoded.rows] == whole
    for row in encoded.rows:
        assert row.labels[row.labels != -100].tolist() in ([qa.BOTH], [qa.START, qa.END])


def test_a_long_question_keeps_its_end_and_is_counted(tokenizer):
    document = asked(question=" ".join(["level"] * 30 + ["which", "drug"]))
    encoded = qa.encode([document], tokenizer, max_length=32, stride=10)
    row = encoded.rows[0]
    tokens = tokenizer.convert_ids_to_tokens(row.input_ids)
    question = tokens[1 : tokens.index("[SEP]")]
    assert len(question) == 16
    assert question[-1] == "drug"
    assert question[0] == "level"
    assert encoded.shortened == 1


def test_an_empty_context_gives_one_row_and_no_answer(tokenizer):
    encoded = qa.encode([asked("")], tokenizer)
    logits = [np.zeros((len(row), 2), np.float32) for row in encoded.rows]
    assert qa.decode(encoded, logits, [asked("")]) == {"q1": []}


def by_hand(windows, logits, text: str, n_best: int, longest: int) -> list[tuple[str, float]]:
    """The candidates of one snippet by plain loops."""
    best: dict[tuple[int, int], float] = {}
    for window, values in zip(windows, logits, strict=True):
        context = [i for i in range(len(values)) if window.offsets[i][0] >= 0]
        for i in context:
            for j in range(i, min(i + longest, context[-1] + 1)):
                span = (int(window.offsets[i][0]), int(window.offsets[j][1]))
                best[span] = max(best.get(span, -np.inf), float(values[i][0]) + float(values[j][1]))
    kept = sorted(best.items(), key=lambda item: (-item[1], item[0]))[:n_best]
    total = sum(np.exp(value) for _, value in kept)
    return [(text[a:b], np.exp(value) / total) for (a, b), value in kept]


@pytest.mark.parametrize(("n_best", "longest"), [(20, 30), (5, 3), (4, 1)])
def test_decoding_equals_plain_loops_over_all_spans(tokenizer, n_best, longest):
    documents = [asked(CONTEXT), asked("aspirin was in the liver. " * 4), asked("metformin", id="q2")]
    encoded = qa.encode(documents, tokenizer, max_length=24, stride=6)
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=(len(row), 2)).astype(np.float32) * 3 for row in encoded.rows]
    found = qa.decode(encoded, logits, documents, n_best, longest)
    wanted: dict[str, list] = {"q1": [], "q2": []}
    for place, document in enumerate(documents):
        own = [i for i, window in enumerate(encoded.windows) if window.document == place]
        parts = [encoded.windows[i] for i in own], [logits[i] for i in own]
        wanted[document.questions[0].id].append(by_hand(*parts, document.text, n_best, longest))
    assert found.keys() == wanted.keys()
    for key, candidates in wanted.items():
        merged = qa.merge(candidates)
        assert [text for text, _ in found[key]] == [text for text, _ in merged]
        assert [p for _, p in found[key]] == pytest.approx([p for _, p in merged], rel=1e-9)


def test_a_span_that_two_windows_hold_counts_once(tokenizer):
    document = asked("the dose of a drug in the blood", question="the drug")
    encoded = qa.encode([document], tokenizer, max_length=11, stride=2)
    held = [np.flatnonzero(window.offsets[:, 0] == document.text.index("drug")) for window in encoded.windows]
    assert [len(places) for places in held] == [1, 1]
    logits = [np.zeros((len(row), 2), np.float32) for row in encoded.rows]
    for values, places, height in zip(logits, held, (2.0, 1.5), strict=True):
        values[places] = height
    ranked = qa.decode(encoded, logits, [document], n_best=2)["q1"]
    assert len(ranked) == 2
    assert ranked[0] == ("drug", pytest.approx(np.exp(4) / (np.exp(4) + np.exp(2))))


def test_labels_as_logits_decode_to_the_answer(tokenizer):
    document = asked(answers=["blood of patients"], starts=[32])
    encoded = qa.encode([document], tokenizer, max_length=14, stride=4)
    assert len(encoded.rows) > 1
    logits = [
        10.0 * np.stack([np.isin(row.labels, [1, 3]), np.isin(row.labels, [2, 3])], 1).astype(np.float32)
        for row in encoded.rows
    ]
    ((text, _), *_) = qa.decode(encoded, logits, [document])["q1"]
    assert text == "blood of patients"


def test_real_training_answers_survive_the_way_through_rows(tokenizer):
    documents = []
    for entry in read("qa/BioASQ/BioASQ-train-factoid-7b.json")["data"]:
        for paragraph in entry["paragraphs"][:200]:
            for q in paragraph["qas"]:
                answers = tuple((a["text"],) for a in q["answers"])
                starts = tuple(a["answer_start"] for a in q["answers"])
                documents.append(
                    Document(
                        q["id"], paragraph["context"], (), (), (Question(q["question"], answers, q["id"], starts),)
                    )
                )
    encoded = qa.encode(documents, tokenizer, max_length=128, stride=64)
    assert encoded.misplaced == 0
    found = {}
    for window in encoded.windows:
        labels = window.row.labels
        if labels[0] == -100:
            start, end = np.flatnonzero(np.isin(labels, [1, 3]))[0], np.flatnonzero(np.isin(labels, [2, 3]))[0]
            text = documents[window.document].text
            found[window.document] = text[window.offsets[start, 0] : window.offsets[end, 1]]
    wanted = {i: document.questions[0].answers[0][0] for i, document in enumerate(documents)}
    inside = [wanted[i].strip() in text for i, text in found.items()]
    assert all(inside)
    assert len(found) > 0.99 * len(wanted)


def test_an_outcome_adds_up_to_its_scores_and_names_its_mistakes():
    documents = [
        asked(answers=["aspirin"], id="q1"),
        asked("other snippet", answers=["ASA"], id="q1"),
        asked(answers=["cancer"], id="q2", question="which disease"),
        asked(answers=["blood"], id="q3", question="where"),
        asked(id="q4"),
        Document("d", "x", questions=(Question("is it so", (("yes",),), "q5", kind="yesno"),)),
    ]
    predictions = {"q1": [("asa", 0.9)], "q2": [("lung", 0.5), ("cancer", 0.4)]}
    found = qa.outcome(documents, predictions)
    assert found.units.tolist() == [[1, 1, 1, 1], [0, 1, 0.5, 1], [0, 0, 0, 1]]
    strict, lenient, reciprocal, count = found.units.sum(0)
    wanted = {"strict_accuracy": strict / count, "lenient_accuracy": lenient / count, "mrr": reciprocal / count}
    assert found.scores == pytest.approx(wanted)
    assert found.main == pytest.approx(0.5)
    assert [(m.kind, m.gold, m.predicted, m.context) for m in found.mistakes] == [
        ("ranked 2-5", "cancer", "lung", "which disease"),
        ("wrong", "blood", "", "where"),
    ]
    assert found.notes == (
        "1 questions are not factoid and are left out.",
        "1 questions have no gold answer and are left out.",
    )


def test_a_gold_file_says_what_is_scored():
    golden = {
        "q1": Question("which drug", (("aspirin", "asa"),), "q1"),
        "q9": Question("which gene", (("p53",),), "q9"),
    }
    found = qa.outcome([asked(), asked(id="q2")], {"q1": [("ASA", 1.0)], "q2": [("x", 1.0)]}, golden)
    assert found.units.tolist() == [[1, 1, 1, 1], [0, 0, 0, 1]]
    assert [note.split()[0] for note in found.notes] == ["1", "1"]
    assert "count as wrong" in found.notes[1]


def test_a_gold_file_of_another_batch_is_a_sentence():
    with pytest.raises(UserError, match="same test batch"):
        qa.outcome([asked()], {}, {"q9": Question("which gene", (("p53",),), "q9")})


def test_questions_without_id_are_distinguished_by_their_text():
    documents = [asked(answers=["aspirin"], id=""), asked(answers=["cancer"], id="", question="which disease")]
    assert len(qa.outcome(documents, {"which drug": [("aspirin", 1.0)]}).units) == 2
