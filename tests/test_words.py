"""Words of a text: what is invisible divides none, and signs stay in words as they did in the training data."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compactbio.documents import Document
from compactbio.documents.words import joined_signs, visible, words

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


def test_accents_that_are_characters_of_their_own_belong_to_their_letter():
    text = unicodedata.normalize("NFD", "Sjögren café é")
    assert cut(text) == text.split(" ") and [visible(word) for word in cut(text)] == ["Sjögren", "café", "é"]


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
