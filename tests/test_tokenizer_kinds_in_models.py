"""A model whose tokenizer is not a BERT's: fine-tuned, annotating, exported, and read by plain transformers."""

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from compactbio import Annotator
from compactbio.deploy.export import export
from compactbio.training.finetuning import finetune
from small_tokenizers import save
from task_data import ner_folder

WORDS = ["patients", "(", "breast", "cancer", ")", "aspirin"]


def own_cut(folder) -> list[str]:
    return AutoTokenizer.from_pretrained(folder)(WORDS, is_split_into_words=True).tokens()


@pytest.fixture(scope="module", params=["byte_level", "unigram_xlmr"])
def start(request, tmp_path_factory):
    """A small BERT with a tokenizer of another kind."""
    folder = save(request.param, tmp_path_factory.mktemp(request.param))
    torch.manual_seed(0)
    pieces = len(AutoTokenizer.from_pretrained(folder))
    BertForMaskedLM(
        BertConfig(
            vocab_size=pieces, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=64,
        )
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def tagger(start, tmp_path_factory):
    place = tmp_path_factory.mktemp("tagger")
    data = ner_folder(place / "data", {"train": 120, "devel": 20, "test": 20}, kind="Drug")
    settings = {"epochs": 10, "batch_size": 8, "learning_rate": 5e-3, "max_length": 48}
    finetune(data, str(start), place / "tagger", overrides=settings)
    return place / "tagger"


def test_the_tokenizer_saved_with_a_tagger_cuts_words_with_the_mark_of_their_start(tagger):
    tokens = own_cut(tagger)
    assert {token[0] for token in tokens} & {"\u0120", "\u2581"}
    assert sum(token.startswith(("\u0120", "\u2581")) for token in tokens) == len(WORDS)


def test_a_tagger_finds_mentions_by_their_characters(tagger):
    text = "study of  the aspirin\u00a0and results breast\tcancer"
    found = Annotator.from_pretrained(tagger)(text)
    assert [(entity.text, text[entity.start : entity.end]) for entity in found] == [
        ("aspirin", "aspirin"),
        ("breast\tcancer", "breast\tcancer"),
    ]


@pytest.mark.parametrize("start", ["byte_level"], indirect=True)
def test_an_exported_tagger_of_others_is_saved_with_the_mark_too(start, tagger, tmp_path):
    """Where its own files cut the words of a list as if they were one."""
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for file in ("config.json", "model.safetensors"):
        (foreign / file).write_bytes((tagger / file).read_bytes())
    AutoTokenizer.from_pretrained(start).save_pretrained(foreign)
    export(str(foreign), "onnx", tmp_path / "exported")
    assert own_cut(tmp_path / "exported") == own_cut(tagger)
