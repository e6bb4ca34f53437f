"""Words of a text: what is invisible divides none, and signs stay in words as they did in the training data."""

import json
import random
import shutil
import tempfile
import unicodedata
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactbio import Annotator, formats
from compactbio.documents import Document, Passage
from compactbio.documents.words import joined_signs, sentences, visible, words
from compactbio.evaluation.predictions import write
from compactbio.evaluation.scoring import evaluate
from compactbio.tasks import ner
from compactbio.training.finetuning import finetune
from task_data import FILL, start_folder

INVISIBLE = ["\u200b", "\u200c", "\u200d", "\u00ad", "\u2060", "\ufeff", "\u200e", "\u202c"]


def cut(text, joined=frozenset()):
    return [text[start:end] for start, end in words(Document("", text), joined)]


def token_file(*sentences):
    return [Document(str(i), " ".join(own.split()), tokenised=True) for i, own in enumerate(sentences)]


def test_signs_stand_alone_where_no_rule_says_otherwise():
    assert cut("IL-2, 2.5 mg (TNF_a)") == ["IL", "-", "2", ",", "2", ".", "5", "mg", "(", "TNF", "_", "a", ")"]


@pytest.mark.parametrize("sign", INVISIBLE)
def test_what_is_invisible_divides_no_word_and_is_none(sign):
    assert cut(f"Sjo{sign}gren {sign} syndrome{sign}.") == [f"Sjo{sign}gren", "syndrome", "."]
    assert visible(f"Sjo{sign}gren") == "Sjogren"


def test_more_marks_in_a_row_than_any_script_has_stay_as_they_are():
    # To compose them takes a time that grows as the square of their number.
    assert visible("e" + "\u0301\u0316" * 16) == "e" + "\u0301\u0316" * 16
    assert visible("e" + "\u0301\u0316" * 15) == unicodedata.normalize("NFC", "e" + "\u0301\u0316" * 15)
    assert visible("e\u0301" * 40) == "é" * 40


def test_accents_that_are_characters_of_their_own_belong_to_their_letter():
    text = unicodedata.normalize("NFD", "Sjögren café é")
    assert cut(text) == text.split(" ") and [visible(word) for word in cut(text)] == ["Sjögren", "café", "é"]


@pytest.mark.parametrize("word", ["कैंसर", "سَرَطان", "סַרְטָן", "ক্যান্সার", "มะเร็ง", "naïve"])
def test_vowel_signs_belong_to_their_letter(word):
    assert words(Document("", word)) == [(0, len(word))]


LINE = "She has a long history of breast"


@pytest.mark.parametrize(("text", "found"), [
    (f"{LINE}\ncancer. Then it rained.", [f"{LINE}\ncancer. ", "Then it rained."]),
    (f"{LINE}\r\n  cancer", [f"{LINE}\r\n  cancer"]),
    (f"{LINE}\nIt rained.", [f"{LINE}\n", "It rained."]),
    (f"{LINE}\n\ncancer", [f"{LINE}\n", "cancer"]),
    (f"{LINE}\n- cancer", [f"{LINE}\n", "- cancer"]),
    ("aspirin\nmetformin\ninsulin", ["aspirin\n", "metformin\n", "insulin"]),
    *((f"{LINE}{sign}cancer", [f"{LINE}{sign}", "cancer"]) for sign in "\x0b\x0c\x85\u2028\u2029"),
    *((f"asthma{sign}cancer", [f"asthma{sign}", "cancer"]) for sign in ("\n", "\r", "\r\n", "\x0c")),
])  # fmt: skip
def test_a_line_break_ends_a_sentence_unless_it_wraps_a_line(text, found):
    assert [text[start:end] for start, end in sentences(text)] == found


def test_a_passage_begins_a_sentence():
    text = "A review of breast cancer Cystic fibrosis"
    passages = (Passage(0, 25, "title"), Passage(26, len(text), "abstract"))
    assert [text[start:end] for start, end in sentences(text, passages)] == [text[:26], text[26:]]
    document = Document("1", text, passages=passages)
    assert [len(sentence.words) for sentence in ner.split([document])] == [5, 2]


def test_a_mention_does_not_go_on_from_a_title_into_the_abstract(tagger):
    text = "the risk of breast cancer"
    document = Document("1", f"{text} cancer of the lung", passages=(Passage(0, len(text)), Passage(len(text) + 1, 45)))
    found = Annotator.from_pretrained(tagger)(document)
    assert found and all(entity.end <= len(text) or entity.start > len(text) for entity in found)


def test_the_rule_is_learned_from_the_words_of_a_token_file():
    data = token_file(
        "IL-2 and TNF-alpha rose by 2.5 mg , e.g. in CD4+ T cells .", "p53 / MDM2 ( 1,000 cells ) .", "no IL-6 , no ."
    )
    rule = joined_signs(data)
    assert {"L-D", "L-L", "D.D", "D,D", "D+ "} <= rule and not {"L. ", "L, ", " (D", "L/L"} & rule
    assert cut("TGF-beta and IL-10, 3.5 mg (CD8+ cells).", rule) == [
        "TGF-beta", "and", "IL-10", ",", "3.5", "mg", "(", "CD8+", "cells", ")", ".",
    ]  # fmt: skip


def test_a_file_whose_words_hold_no_sign_teaches_that_none_does():
    assert joined_signs(token_file("IL - 2 rises ( 2 . 5 ) .")) == frozenset()
    assert joined_signs([Document("", "IL-2 rises")]) == frozenset()


@given(
    st.text(alphabet="aB1-./(), \u0301\u200b\n", max_size=30), st.sets(st.sampled_from(["L-L", "D.D", " -D", "S-S"]))
)
def test_words_cover_all_that_is_visible_in_order(text, joined):
    found = words(Document("", text), frozenset(joined))
    assert found == sorted(found) and all(a[1] <= b[0] for a, b in pairwise(found))
    seen = "".join(text[a:b] for a, b in found)
    assert bare(seen) == bare(text)


def bare(text):
    return "".join(sign for sign in text if not sign.isspace() and sign not in "\u0301\u200b")


@pytest.fixture(scope="module")
def cut_by_blanks(tokenizer_folder, tmp_path_factory):
    """A model fine-tuned on sentences whose words keep their signs, and these data."""
    place = tmp_path_factory.mktemp("cut")
    draw = random.Random(0)
    (place / "data").mkdir()
    for split, size in {"train": 80, "test": 30}.items():
        blocks = []
        for _ in range(size):
            rows = [f"{word}\tO\n" for word in draw.choices(FILL, k=draw.randint(2, 6))]
            rows.insert(draw.randint(0, len(rows)), f"{draw.choice(('a-1', 'b-2', 'c-3'))}\tB-Gene\n")
            blocks.append("".join(rows) + draw.choice(("0.5\tO\n", "")))
        (place / "data" / f"{split}.tsv").write_text("\n".join(blocks) + "\n")
    start = start_folder(place / "start", tokenizer_folder)
    settings = {"epochs": 8, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}
    finetune(place / "data", str(start), place / "tagger", overrides=settings)
    return place / "tagger", place / "data"


def test_raw_text_is_cut_as_the_training_data_were(cut_by_blanks):
    tagger, data = cut_by_blanks
    scores = evaluate(str(tagger), data).outcome
    documents = list(formats.read(data / "test.tsv"))
    found = Annotator.from_pretrained(tagger)([document.text for document in documents])
    right = [{(e.start, e.end) for e in own} == {(s.start, s.end) for s in document.spans} for own, document in
             zip(found, documents, strict=True)]  # fmt: skip
    assert scores.main > 0.9 and sum(right) / len(right) >= scores.main
    raw = [replace(document, tokenised=False) for document in documents]
    assert evaluate_raw(tagger, raw) == scores.main


def test_written_predictions_for_raw_text_have_the_offsets_of_the_models_words(cut_by_blanks, tmp_path):
    tagger, data = cut_by_blanks
    raw = [replace(document, tokenised=False) for document in formats.read(data / "test.tsv")]
    formats.write(raw, tmp_path / "raw.jsonl", "jsonl")
    write(evaluate(str(tagger), tmp_path / "raw.jsonl"), tmp_path / "found.jsonl")
    found = Annotator.from_pretrained(tagger)([document.text for document in raw])
    written = [[(s.start, s.end) for s in document.spans] for document in formats.read(tmp_path / "found.jsonl")]
    assert written == [[(e.start, e.end) for e in own] for own in found] and any(written)


def evaluate_raw(tagger, documents):
    """The F1 of a model on documents of raw text."""
    with tempfile.TemporaryDirectory() as place:
        formats.write(documents, Path(place) / "raw.jsonl", "jsonl")
        return evaluate(str(tagger), Path(place) / "raw.jsonl").outcome.main


def test_the_rule_goes_with_the_model_and_its_want_is_said(cut_by_blanks, tmp_path, caplog, cli):
    tagger, _ = cut_by_blanks
    text = "the a-1 dose"
    wanted = Annotator.from_pretrained(tagger)([text])
    assert [e.text for e in wanted[0]] == ["a-1"] and not caplog.records
    copied = shutil.copytree(tagger, tmp_path / "elsewhere")
    config = json.loads((copied / "config.json").read_text())
    del config["joined_signs"]
    (copied / "config.json").write_text(json.dumps(config))
    found = Annotator.from_pretrained(copied)([text])
    assert [e.text for e in found[0]] != ["a-1"] and "joined_signs" in caplog.text
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": text}) + "\n")
    status, _, stderr = cli(
        "annotate", "--model", copied, tmp_path / "text.jsonl", "--out", tmp_path / "o.jsonl", "--workers", 1
    )
    assert status == 0 and stderr.count("joined_signs") == 1


@pytest.mark.parametrize("sign", [*INVISIBLE, "\u0308"])
def test_a_mention_with_something_invisible_is_found_whole(tagger, sign):
    annotator = Annotator.from_pretrained(tagger, runtime="torch-fp32")
    [plain] = annotator(["the aspirin dose"])
    [entities] = annotator([f"the aspi{sign}rin dose"])
    assert [(e.start, e.end, e.type) for e in entities] == [(4, 12, "Drug")] and [e.text for e in plain] == ["aspirin"]


def test_a_word_without_pieces_within_a_mention_belongs_to_it(tagger):
    annotator = Annotator.from_pretrained(tagger, runtime="torch-fp32")
    [entities] = annotator([Document("", "the breast \x07 cancer dose \x07", tokenised=True)])
    assert [e.text for e in entities] == ["breast \x07 cancer"]
