"""NER: scores as conlleval and seqeval give them, words and windows that lose nothing, offsets that hold."""

import json
import random
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from compactbio import formats
from compactbio.documents import Document, Span
from compactbio.documents.tags import chunks, iob2, repaired
from compactbio.documents.words import sentences, words
from compactbio.errors import UserError
from compactbio.modeling.tokenizers import load_tokenizer
from compactbio.tasks import ner, ner_encoding
from compactbio.tasks.settings import Decoding
from conftest import SHARED


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder):
    return load_tokenizer(tokenizer_folder)


TYPED = ["O", "O", "B-Gene", "I-Gene", "B-Drug", "I-Drug"]


def _random_tags(draw, number, tags):
    return [[draw.choice(tags) for _ in range(draw.randint(1, 12))] for _ in range(number)]


@pytest.mark.parametrize("tags", [TYPED, ["O", "O", "B-X", "I-X"], ["O", "B-A", "I-A", "E-A", "S-A", "S-B", "E-B"]])
def test_scores_equal_those_of_seqeval(tags):
    draw = random.Random(3)
    gold = _random_tags(draw, 300, tags)
    predicted = [[tag if draw.random() < 0.6 else draw.choice(tags) for tag in own] for own in gold]
    ours = ner.score(gold, predicted)
    assert ours["precision"] == pytest.approx(precision_score(gold, predicted), abs=1e-12)
    assert ours["recall"] == pytest.approx(recall_score(gold, predicted), abs=1e-12)
    assert ours["f1"] == pytest.approx(f1_score(gold, predicted), abs=1e-12)
    if not any(tag[0] in "ES" for tag in tags):
        strict = f1_score(gold, predicted, mode="strict", scheme=IOB2)
        assert ours["strict_f1"] == pytest.approx(strict, abs=1e-12)


@pytest.mark.skipif(not SHARED.exists(), reason="real system output is not here (../shared/data)")
def test_conlleval_on_real_output_is_reproduced_to_the_printed_digit():
    path = SHARED / "ner_predictions" / "s800_test_conlleval" / "NER_result_conll.txt"
    blocks = [block.split("\n") for block in path.read_text().strip("\n").split("\n\n")]
    rows = [[line.split(" ") for line in block if line] for block in blocks if block]
    gold, predicted = ([[row[i] for row in block] for block in rows] for i in (1, 2))
    official = json.loads((SHARED / "expected_scores.json").read_text())[str(path.relative_to(SHARED))]
    ours = ner.score(gold, predicted)
    assert sum(map(len, gold)) == official["tokens"]
    assert sum(len(chunks(own)) for own in gold) == official["gold_phrases"]
    assert sum(len(chunks(own)) for own in predicted) == official["found_phrases"]
    for name in ("precision", "recall", "f1", "accuracy"):
        assert round(100 * ours[name], 2) == official[f"{name}_percent"]


def test_the_published_protocol_counts_pieces_and_says_another_number():
    gold, predicted = [["B", "O", "B", "I"]], [["B", "O", "O", "B"]]
    word = ner.score(gold, predicted)
    published = ner.score(gold, predicted, "published", piece_counts=[[3, 1, 1, 1]])
    assert word["f1"] == pytest.approx(0.5)
    assert published["f1"] == pytest.approx(6 / 8)  # three right mentions of a piece each, one wrong on either side
    expanded = [["B", "B", "B", "O", "B", "I"]], [["B", "B", "B", "O", "O", "B"]]
    assert ner.score(*expanded, "published")["f1"] == published["f1"]


def test_sides_of_different_length_are_refused_with_both_lengths():
    with pytest.raises(UserError, match="gold has 2 sentences, the predictions 1"):
        ner.score([["O"], ["B"]], [["O"]])
    with pytest.raises(UserError, match="Sentence 1 has 2 words in the gold and 1"):
        ner.score([["O", "B"]], [["O"]])


def test_iob_schemes_stand_for_the_same_mentions():
    assert chunks(["I", "I", "O", "I"]) == chunks(["B", "I", "O", "B"]) == [(0, 2, ""), (3, 4, "")]
    assert chunks(["B-X", "E-X", "S-X", "O-MISC"]) == chunks(["B-X", "L-X", "U-X", "O"]) == [(0, 2, "X"), (2, 3, "X")]
    assert chunks(["I-X", "I-Y", "B-Y"]) == [(0, 1, "X"), (1, 2, "Y"), (2, 3, "Y")]
    assert repaired(["I-X", "I-Y", "O"]) == ["B-X", "B-Y", "O"]
    with pytest.raises(ValueError, match="is not a tag"):
        chunks(["Q-X"])


TEXT = "IL-2 rises (p < 0.05) in E. coli. Aspirin, e.g. 5 mg, helps.\nNew line"


def test_words_and_sentences_cover_a_text_and_respect_abbreviations():
    parts = sentences(TEXT)
    assert [TEXT[a:b].strip() for a, b in parts] == [
        "IL-2 rises (p < 0.05) in E. coli.",
        "Aspirin, e.g. 5 mg, helps.",
        "New line",
    ]
    assert [TEXT[a:b] for a, b in words(Document("1", TEXT))][:6] == ["IL", "-", "2", "rises", "(", "p"]


def test_mentions_survive_tags_and_back():
    document = Document("1", TEXT, (Span(0, 4, "Gene"), Span(25, 32, "Species"), Span(34, 41, "Drug")))
    found = {span for part in ner.split([document]) for span in ner.spans(part, ner.tags(part, document.spans))}
    assert found == set(document.spans)


def test_tags_of_other_words_than_a_sentence_has_are_refused():
    (sentence,) = ner.split([Document("1", "IL-2 rises")])
    with pytest.raises(ValueError, match="4 words has 2 tags"):
        ner.spans(sentence, ["B", "O"])


def _tokenised(text, tags):
    own = words(Document("x", text, tokenised=True))
    spans = tuple(Span(own[a][0], own[b - 1][1], kind) for a, b, kind in chunks(tags))
    return Document("x", text, spans, tokenised=True)


def test_long_sentences_are_covered_by_windows_and_every_word_is_decided_once(tokenizer):
    draw = random.Random(0)
    pool = ["cell", "the", "protein", "binding", "unaffable", "\x07", "zebra"]
    for length in (1, 5, 40, 200):
        text = " ".join(draw.choice(pool) for _ in range(length))
        document = _tokenised(text, ["B"] + ["O"] * (length - 1))
        encoded = ner_encoding.encode([document], tokenizer, {"B": 0, "I": 1, "O": 2}, max_length=24)
        assert max(len(row) for row in encoded.rows) <= 24
        decided = [word for window in encoded.windows for word in window.words]
        with_pieces = [word for word, count in enumerate(encoded.piece_counts[0]) if count]
        assert sorted(decided) == with_pieces
        assert sum(int((row.labels != -100).sum()) for row in encoded.rows) == len(with_pieces)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from([0, 0, 1, 1, 1, 2, 3, 7, 8, 30]), min_size=1, max_size=60), st.sampled_from([6, 10, 18])
)
def test_each_word_is_decided_in_the_window_where_it_is_most_central(tokenizer, sizes, length):
    """Against a plain rewriting that asks every window about every word."""
    # A letter that is no word of the vocabulary gives a piece each time it stands there, a control character none.
    text = " ".join("q" * size or "\x01" for size in sizes)
    encoded = ner_encoding.encode([Document("", text, tokenised=True)], tokenizer, {}, length)
    ids = [tokenizer("q" * size, add_special_tokens=False)["input_ids"][: length - 2] if size else [] for size in sizes]
    wanted = {}
    for word, window in _plain_windows([len(own) for own in ids], length - 2).items():
        if ids[word]:
            row = [tokenizer.cls_token_id, *(piece for i in window for piece in ids[i]), tokenizer.sep_token_id]
            wanted[word] = (row, 1 + sum(len(ids[i]) for i in window if i < word))
    found = {
        word: (window.row.input_ids.tolist(), at)
        for window in encoded.windows
        for word, at in zip(window.words, window.first_pieces.tolist(), strict=True)
    }
    assert found == wanted


def _plain_windows(lengths: list[int], room: int) -> dict[int, range]:
    """The window that decides each word: of those with the most pieces between it and the nearer cut the first."""
    windows, start = [], 0
    while not windows or windows[-1].stop < len(lengths):
        end = start
        while end < len(lengths) and sum(lengths[start : end + 1]) <= room:
            end += 1
        windows.append(range(start, end))
        back = end
        while back - 1 > start and sum(lengths[back - 1 : end]) <= room / 4:
            back -= 1
        start = back

    def margin(word: int, place: int) -> float:
        window = windows[place]
        left = sum(lengths[window.start : word]) if place else float("inf")
        right = sum(lengths[word + 1 : window.stop]) if place < len(windows) - 1 else float("inf")
        return min(left, right)

    return {
        word: windows[max((i for i, own in enumerate(windows) if word in own), key=lambda i: margin(word, i))]
        for word in range(len(lengths))
    }


def test_labels_come_back_from_logits_through_windows(tokenizer):
    draw = random.Random(1)
    names = ["B", "I", "O"]
    documents = []
    for _ in range(20):
        length = draw.randint(1, 90)
        text = " ".join(draw.choice(["cell", "the", "protein", "binding"]) for _ in range(length))
        documents.append(_tokenised(text, repaired([draw.choice("OOBI") for _ in range(length)])))
    encoded = ner_encoding.encode(documents, tokenizer, {name: i for i, name in enumerate(names)}, max_length=32)
    logits = [np.eye(3, dtype=np.float32)[np.where(row.labels < 0, 2, row.labels)] for row in encoded.rows]
    (predicted,) = ner_encoding.decode(encoded, logits, names, Decoding())
    gold = [ner.tags(part, documents[part.document].spans) for part in encoded.sentences]
    assert predicted == gold
    outcome = ner.outcome(documents, encoded.sentences, [predicted])
    assert outcome.main == 1.0 and outcome.unit == "sentence" and not outcome.mistakes
    assert outcome.units[:, 0].sum() == sum(len(d.spans) for d in documents)


def valid_iob2(tags):
    pairs = zip(["O", *tags], tags, strict=False)
    return all(to[0] != "I" or (one[0] != "O" and one[1:] == to[1:]) for one, to in pairs)


@pytest.mark.parametrize("names", [["B", "I", "O"], ["O", "B-Drug", "I-Drug", "B-Gene", "I-Gene"]])
def test_the_most_probable_valid_tags_are_those_of_a_plain_search(names, tokenizer):
    draw = np.random.default_rng(0)
    documents = [_tokenised(" ".join(["cell"] * n), ["O"] * n) for n in (1, 2, 3, 4, 5) for _ in range(12)]
    encoded = ner_encoding.encode(documents, tokenizer, {}, max_length=32)
    logits = [draw.normal(size=(len(row), len(names))).astype(np.float32) for row in encoded.rows]
    (predicted,) = ner_encoding.decode(encoded, logits, names, Decoding(valid=True))
    changed = 0
    for document, window, values, tags in zip(documents, encoded.windows, logits, predicted, strict=True):
        words = values[window.first_pieces]
        count = len(document.text.split())
        sequences = [s for s in product(range(len(names)), repeat=count) if valid_iob2([names[i] for i in s])]
        best = max(sequences, key=lambda s: sum(words[k, i] for k, i in enumerate(s)))
        assert tags == [names[i] for i in best]
        changed += list(best) != words.argmax(-1).tolist()
    assert changed > 10
    found = ner_encoding.mentions(encoded, logits, names, Decoding(valid=True))
    spans = ner.document_spans(documents, encoded.sentences, [predicted])
    assert set(found.places) == {(i, span) for i, own in enumerate(spans) for span in own}


def test_valid_tags_are_found_across_the_windows_of_a_long_sentence(tokenizer):
    names = ["B", "I", "O"]
    document = _tokenised(" ".join(["cell"] * 70), ["O"] * 70)
    encoded = ner_encoding.encode([document], tokenizer, {}, max_length=32)
    assert len(encoded.windows) > 2
    logits = [np.zeros((len(row), 3), dtype=np.float32) for row in encoded.rows]
    # The last word of one window is O by a little, the first of the next I: together they are B I.
    first = encoded.windows[0].words[-1]
    for window, values in zip(encoded.windows, logits, strict=True):
        values[:, 2] = 5.0
        for word, piece in zip(window.words, window.first_pieces, strict=True):
            if word == first:
                values[piece] = [1.9, 0.0, 2.0]
            elif word == first + 1:
                values[piece] = [0.0, 9.0, 2.0]
    ((tags,),) = ner_encoding.decode(encoded, logits, names, Decoding(valid=True))
    assert tags[first : first + 2] == ["B", "I"] and set(tags[:first] + tags[first + 2 :]) == {"O"}
    ((plain,),) = ner_encoding.decode(encoded, logits, names, Decoding())
    assert plain[first : first + 2] == ["O", "B"]


def test_a_word_without_a_piece_is_counted_as_missed(tokenizer):
    document = _tokenised("the \x07 cell", ["O", "B", "B"])
    encoded = ner_encoding.encode([document], tokenizer, {"B": 0, "I": 1, "O": 2}, max_length=24)
    assert encoded.piece_counts[0][1] == 0
    logits = [np.eye(3, dtype=np.float32)[np.where(row.labels < 0, 2, row.labels)] for row in encoded.rows]
    outcome = ner.outcome(
        [document], encoded.sentences, ner_encoding.decode(encoded, logits, ["B", "I", "O"], Decoding())
    )
    assert (outcome.units.sum(0) == [1, 0, 1]).all()


def test_mistakes_are_named_by_what_is_wrong_with_them():
    text = "aspirin for severe headache and fever today"
    own = _tokenised(text, ["B-Drug", "O", "B-Sign", "I-Sign", "O", "B-Sign", "O"])
    predicted = [["B-Sign", "O", "O", "B-Sign", "O", "O", "B-Sign"]]
    outcome = ner.outcome([own], ner.split([own]), [predicted])
    assert {(m.kind, m.gold, m.predicted) for m in outcome.mistakes} == {
        ("type", "aspirin [Drug]", "aspirin [Sign]"),
        ("boundary", "severe headache [Sign]", "headache [Sign]"),
        ("missed", "fever [Sign]", ""),
        ("spurious", "", "today [Sign]"),
    }
    assert outcome.per_type["Sign"]["support"] == 2 and outcome.per_type["Drug"]["recall"] == 0


def test_overlapping_mentions_are_noted_and_count_as_missed():
    document = Document("1", "breast cancer risk", (Span(0, 13, "D"), Span(7, 18, "D"), Span(2, 6, "D")))
    part = ner.split([document])
    outcome = ner.outcome([document], part, [[ner.tags(part[0], document.spans)]])
    assert (outcome.units == [[1, 0, 2]]).all() and outcome.unit == "document"
    assert outcome.notes[0].startswith("2 gold mentions")
    (note,) = ner.unlearnable([document], part)
    assert note.startswith("2 mentions to train on overlap others")
    assert ner.unlearnable([replace(document, spans=document.spans[:1])], part) == ()


@pytest.mark.parametrize("protocol", ["word", "published"])
def test_layers_of_tags_are_scored_with_the_mentions_of_the_data_by_type(protocol):
    spans = (Span(0, 11, "Disease"), Span(0, 4, "Organ"), Span(16, 23, "Drug"))
    document = Document("1", "lung cancer and aspirin", spans, tokenised=True)
    layers = [
        [["B-Disease", "I-Disease", "O", "O"]],
        [["B-Organ", "O", "O", "O"]],
        [["O", "O", "O", "B-Drug"]],
        [["O", "O", "O", "O"]],  # a type that the data lack
    ]
    found = ner.outcome([document], ner.split([document]), layers, protocol, [[1, 2, 1, 1]])
    assert found.scores["f1"] == found.scores["strict_f1"] == found.scores["accuracy"] == 1
    assert not [note for note in found.notes if "overlap" in note]
    worse = ner.outcome([document], ner.split([document]), [layers[0], layers[2], layers[3]], protocol, [[1, 2, 1, 1]])
    assert worse.scores["recall"] == pytest.approx(2 / 3) and worse.scores["precision"] == 1
    assert worse.scores["accuracy"] == pytest.approx(3 / 4 if protocol == "word" else 4 / 5)


def test_of_predictions_that_overlap_a_mention_alike_that_of_its_type_is_its_boundary():
    gold = Document("1", "severe lung cancer", (Span(0, 18, "Disease"),))
    (boundary, spurious) = ner.outcome_of_spans([gold], [{Span(7, 18, "Organ"), Span(7, 18, "Disease")}]).mistakes
    assert (boundary.kind, boundary.predicted) == ("boundary", "lung cancer [Disease]")
    assert (spurious.kind, spurious.predicted) == ("spurious", "lung cancer [Organ]")


def test_overlaps_keep_the_first_then_the_longest():
    assert iob2([(0, 1, "A"), (0, 3, "A"), (2, 4, "B")], 5) == ["B-A", "I-A", "I-A", "O", "O"]


@pytest.mark.skipif(not SHARED.exists(), reason="real system output is not here (../shared/data)")
@pytest.mark.parametrize("run", ["CID", "DNER"])
@pytest.mark.parametrize("suffix", ["PubTator", "BioC.xml"])
def test_mentions_of_the_biocreative_sample_are_scored_as_the_official_evaluator_does(run, suffix):
    folder = SHARED / "pubtator" / "BC5CDR" / "eval_sample"
    official = json.loads((SHARED / "expected_scores.json").read_text())["pubtator/BC5CDR/eval_sample"]
    gold = list(formats.read(folder / "gold" / f"CDR_sample.gold.{suffix}"))
    found = list(formats.read(folder / "system" / f"CDR_sample.test.{run}.{suffix}"))
    for key, expected in official[f"system/CDR_sample.test.{run}.PubTator"].items():
        if not key.startswith("mention_"):
            continue
        kind = key.removeprefix("mention_")
        outcome = ner.outcome_of_documents(_only(gold, kind), _only(found, kind))
        assert outcome.units.sum(0).tolist() == [expected["tp"], expected["fp"], expected["fn"]]
        for name in ("precision", "recall", "f1"):
            assert outcome.scores[name] == pytest.approx(expected[name], abs=1e-12)


def _only(documents, kind):
    return [replace(d, spans=tuple(s for s in d.spans if s.type == kind), relations=()) for d in documents]
