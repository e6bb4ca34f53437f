"""The spaCy component sets `doc.ents`."""

import pytest

spacy = pytest.importorskip("spacy", reason="spaCy is not installed")


def test_the_component_sets_entities_with_scores(tagger):
    nlp = spacy.blank("en")
    nlp.add_pipe("compactbio", config={"model": str(tagger), "runtime": "torch-fp32"})
    texts = ["the patients of aspirin and daily lung cancer", "the group", ""]
    docs = list(nlp.pipe(texts))
    assert [[(e.text, e.label_) for e in doc.ents] for doc in docs] == [
        [("aspirin", "Drug"), ("lung cancer", "Drug")], [], [],
    ]  # fmt: skip
    assert all(0.5 < e._.score <= 1 for e in docs[0].ents)
    assert [(e.start_char, e.end_char) for e in nlp(texts[0]).ents] == [(16, 23), (34, 45)]


def test_entities_within_a_token_take_all_of_it_and_others_stay(tagger):
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "GROUP", "pattern": "group"}, {"label": "WRONG", "pattern": "aspirin"}])
    nlp.add_pipe("compactbio", config={"model": [f"Thing={tagger}"], "runtime": "torch-fp32"})
    assert [(e.text, e.label_) for e in nlp("group aspirin").ents] == [("group", "GROUP"), ("aspirin", "Drug")]
