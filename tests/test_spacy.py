"""The spaCy component sets `doc.ents`, in one process and in several, and goes where its pipeline goes."""

import copy
import multiprocessing
import pickle

import pytest
import torch

from compactbio import UserError
from compactbio.annotate import Entity
from compactbio.annotate.spacy import _set
from serving import watched

spacy = pytest.importorskip("spacy", reason="spaCy is not installed")

TEXTS = [
    "the patients of aspirin and daily lung cancer",
    "the group",
    "",
    "insulin",
    " \n ",
    "aspirin and insulin " * 400,
]


@pytest.fixture(scope="module")
def nlp(tagger):
    own = spacy.blank("en")
    own.add_pipe("compactbio", config={"model": str(tagger), "runtime": "torch-fp32"})
    return own


def found(docs) -> list[list[tuple[str, str, int, float]]]:
    return [[(e.text, e.label_, e.start_char, round(e._.score, 4)) for e in doc.ents] for doc in docs]


def test_the_component_sets_entities_with_scores(nlp):
    docs = list(nlp.pipe(TEXTS[:3]))
    assert [[(e.text, e.label_) for e in doc.ents] for doc in docs] == [
        [("aspirin", "Drug"), ("lung cancer", "Drug")], [], [],
    ]  # fmt: skip
    assert all(0.5 < e._.score <= 1 for e in docs[0].ents)
    assert [(e.start_char, e.end_char) for e in nlp(TEXTS[0]).ents] == [(16, 23), (34, 45)]


@pytest.mark.parametrize("score", [-0.1, 1.5])
def test_a_lowest_score_that_is_none_is_refused_when_the_pipe_is_made(tagger, score):
    with pytest.raises(UserError, match="min_score is"):
        spacy.blank("en").add_pipe("compactbio", config={"model": str(tagger), "min_score": score})


def test_entities_within_a_token_take_all_of_it_and_others_stay(tagger):
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "GROUP", "pattern": "group"}, {"label": "WRONG", "pattern": "aspirin"}])
    nlp.add_pipe("compactbio", config={"model": [f"Thing={tagger}"], "runtime": "torch-fp32"})
    assert [(e.text, e.label_) for e in nlp("group aspirin").ents] == [("group", "GROUP"), ("aspirin", "Thing")]


def test_of_two_entities_in_one_token_the_kept_one_has_its_own_score(nlp):
    doc = spacy.tokens.Doc(nlp.vocab, words=["IL-2/IL-4", "rose"])
    _set(doc, [Entity(0, 4, "IL-2", "Gene", 0.9), Entity(5, 9, "IL-4", "Protein", 0.31)])
    assert [(entity.label_, entity._.score) for entity in doc.ents] == [("Gene", 0.9)]


def test_a_long_document_and_empty_ones_are_annotated(nlp):
    [long] = nlp.pipe(["aspirin and the group " * 8_000])
    assert [e.start_char for e in long.ents] == list(range(0, 22 * 8_000, 22))
    assert found(nlp.pipe(iter(TEXTS), batch_size=2)) == found(map(nlp, TEXTS))


@pytest.fixture
def started_by(request):
    """How multiprocessing starts processes, on two threads, for the time of a test."""
    before, threads = multiprocessing.get_start_method(), torch.get_num_threads()
    multiprocessing.set_start_method(request.param, force=True)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)
    multiprocessing.set_start_method(before, force=True)


# To a process of the fork server all is pickled, as to a spawned one.
@pytest.mark.parametrize("started_by", ["fork", "forkserver"], indirect=True)
def test_processes_started_after_a_first_use_find_the_same(nlp, started_by):
    wanted = found(map(nlp, TEXTS))
    # Enough work that PyTorch starts its threads.
    torch.randn(600, 600).softmax(-1)
    assert found(nlp.pipe(TEXTS, n_process=2, batch_size=2)) == wanted


def test_a_pipeline_is_written_read_copied_and_pickled(nlp, tmp_path):
    wanted = found(map(nlp, TEXTS))
    nlp.to_disk(tmp_path / "nlp")
    loaded = spacy.load(tmp_path / "nlp")
    loaded.from_disk(tmp_path / "nlp")
    from_bytes = spacy.blank("en").from_config(nlp.config).from_bytes(nlp.to_bytes())
    for other in (loaded, from_bytes, copy.deepcopy(nlp), pickle.loads(pickle.dumps(nlp))):  # noqa: S301
        assert found(map(other, TEXTS)) == wanted and other.pipe_names == nlp.pipe_names


def test_a_document_that_fails_is_left_to_the_pipelines_handler_and_leaves_the_others_alone(nlp, tagger):
    own = copy.deepcopy(nlp)
    bad = own.get_pipe("compactbio")._annotator.taggers[0].model.tokenizer.convert_tokens_to_ids("placebo")

    def before(rows):
        if any(bad in row.input_ids for row in rows):
            raise ValueError("no placebo")

    own.get_pipe("compactbio")._annotator = watched(own.get_pipe("compactbio")._annotator, before)
    with pytest.raises(ValueError, match="no placebo"):
        list(own.pipe(["aspirin", "placebo"]))
    failed = []
    own.set_error_handler(lambda name, component, docs, error: failed.append((name, docs[0].text, str(error))))
    texts = ["aspirin", "placebo", "insulin", "", "lung cancer"]
    assert [doc.text for doc in own.pipe(texts) if doc.ents] == ["aspirin", "insulin", "lung cancer"]
    assert failed == [("compactbio", "placebo", "no placebo")]
