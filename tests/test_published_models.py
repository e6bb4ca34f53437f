"""The models of the field as they lie on the hub: each is a teacher or start, fine-tuned, scored, run and exported."""

import json

import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoModelForTokenClassification

from compactbio import Annotator, corpus, recipes
from compactbio.deploy.export import export
from compactbio.errors import UserError
from compactbio.evaluation.scoring import evaluate
from compactbio.modeling import loading
from compactbio.modeling.families import depth, mlm_logits
from compactbio.modeling.packing import Packed, encode
from compactbio.modeling.tokenizers import load_tokenizer
from compactbio.training.finetuning import finetune
from compactbio.training.pretraining import train
from published_layouts import CASED, LAYOUTS, UNCASED, write
from task_data import ner_folder

# A tagger has the layout of ours, whatever it was made of: one of each family is enough to export.
EXPORTED = ("dmis-lab/biobert-base-cased-v1.2", "nlpie/bio-distilbert-cased", "nlpie/bio-mobilebert")
TEXT = "Aspirin and metformin daily for patients with breast cancer."


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    place = tmp_path_factory.mktemp("hub")
    return {name: write(place / name.replace("/", "--"), layout) for name, layout in LAYOUTS.items()}


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    path = tmp_path_factory.mktemp("documents") / "made.jsonl"
    words = [piece for piece in UNCASED[5:] if piece.isalpha() and len(piece) > 1]
    lines = [{"pmid": str(i + 1), "title": "", "abstract": " ".join(words[i : i + 20])} for i in range(24)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def mentions(tmp_path_factory):
    return ner_folder(tmp_path_factory.mktemp("ner") / "made", {"train": 16, "devel": 6, "test": 8}, kind="Drug")


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_repository_passes_through_every_command(name, repositories, documents, mentions, tmp_path):
    folder, layout = repositories[name], LAYOUTS[name]
    corpus.build([documents], tmp_path / "corpus", tokenizer=folder, max_length=32, holdout=4, workers=1)
    small = {"steps": 2, "warmup_steps": 1, "batch_size": 4, "max_length": 32, "eval_every": 2, "save_every": 2}
    continued = recipes.load("bio-tinybert", **small)
    assert train(continued, tmp_path / "corpus", tmp_path / "continued", init=str(folder)).state == "finished"
    distilled = recipes.load("distil-biobert", layers=1, **small)
    if layout.has_head:
        assert train(distilled, tmp_path / "corpus", tmp_path / "student", teacher=str(folder)).state == "finished"
    else:
        with pytest.raises(UserError, match="no MLM head"):
            train(distilled, tmp_path / "corpus", tmp_path / "student", teacher=str(folder))
    settings = {"epochs": 1, "batch_size": 8, "max_length": 32}
    finetune(mentions, str(folder), tmp_path / "tagger", overrides=settings)
    scored = evaluate(str(tmp_path / "tagger"), mentions, precision="fp32").outcome.main
    by_torch = Annotator.from_pretrained(tmp_path / "tagger", runtime="torch-fp32")
    if name not in EXPORTED:
        return
    exported = export(str(tmp_path / "tagger"), "onnx", tmp_path / "onnx", data=mentions, split="test")
    assert scored == exported.original.score == exported.exported.score
    by_onnx = Annotator.from_pretrained(tmp_path / "onnx", runtime="onnx-fp32")
    places = [[(e.start, e.end, e.type) for e in one([TEXT])[0]] for one in (by_torch, by_onnx)]
    assert places[0] == places[1]


@pytest.mark.parametrize("name", LAYOUTS)
def test_case_is_kept_as_the_vocabulary_keeps_it(name, repositories, mentions, tmp_path):
    cased = LAYOUTS[name].cased
    wanted = ["Aspirin", "E", "##G", "##F", "##R"] if cased else ["aspirin", "e", "##g", "##f", "##r"]
    tokenizer = load_tokenizer(repositories[name])
    assert tokenizer.tokenize("Aspirin EGFR") == wanted
    assert len(tokenizer) == len(CASED if cased else UNCASED)


@pytest.mark.parametrize("name", [name for name, layout in LAYOUTS.items() if layout.has_head])
def test_weights_give_the_logits_of_plain_transformers(name, repositories):
    source = loading.find(str(repositories[name]))
    model, has_head = loading.load(source, seed=0)
    plain = AutoModelForMaskedLM.from_pretrained(repositories[name], dtype=torch.float32).eval()
    assert has_head
    ids = torch.randint(5, source.config.vocab_size, (1, 20), generator=torch.Generator().manual_seed(0))
    row = Packed.from_padded(ids, None, torch.full_like(ids, -100))
    model.eval()
    with torch.no_grad():
        hidden = encode(model, row, {depth(model)}, set()).hidden[depth(model)]
        torch.testing.assert_close(mlm_logits(model, hidden), plain(ids).logits[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYOUTS)
def test_an_encoder_is_the_one_of_plain_transformers(name, repositories):
    source = loading.find(str(repositories[name]))
    ours = loading.load_for(source, "ner", ["O", "B", "I"], new_head=True)
    plain = AutoModelForTokenClassification.from_pretrained(repositories[name], dtype=torch.float32)
    theirs = plain.base_model.state_dict()
    assert theirs.keys() == ours.base_model.state_dict().keys()
    for key, value in ours.base_model.state_dict().items():
        assert torch.equal(value, theirs[key]), key
