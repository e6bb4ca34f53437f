"""Checkpoints of other families that cannot serve are refused in one sentence; texts are never cut at their limits."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, ElectraForPreTraining

import small_models
from compactbio import Annotator, corpus, recipes
from compactbio.deploy.onnx_programs import program_of, save_program
from compactbio.errors import UserError
from compactbio.modeling import build_student, loading, runtimes
from compactbio.modeling.students import with_fewer_layers
from compactbio.objectives import Distiller
from compactbio.training.pretraining import train
from small_tokenizers import SENTENCES

LABELS = ["O", "B-Drug", "I-Drug"]


class _Vocabulary:
    """As much of a tokenizer as a configuration asks for."""

    pad_token_id, bos_token_id, eos_token_id, cls_token_id, sep_token_id = 1, 0, 2, 0, 2

    def __len__(self) -> int:
        return 60


@pytest.fixture(scope="module")
def tagger(tmp_path_factory):
    place = tmp_path_factory.mktemp("taggers")

    def make(family):
        folder = place / family
        return folder if folder.exists() else small_models.save(family, "ner", folder, LABELS, balanced=True)

    return make


def _changed(folder, place, **values):
    """A copy of a model with other values in its configuration."""
    shutil.copytree(folder, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, **values}))
    return place


def test_a_model_with_code_of_its_own_is_refused(tagger, tmp_path):
    """Nothing of the repository's code runs."""
    folder = _changed(tagger("roberta"), tmp_path / "own", model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UserError, match=r"needs code from its own repository .*, which is never run"):
        loading.find(folder)
    assert not (tmp_path / "ran").exists()
    (folder / "config.json").write_text("[" * 9999)
    with pytest.raises(UserError, match=r"its config\.json cannot be read"):
        loading.find(folder)


def test_a_model_type_without_the_head_of_the_task_is_refused(tmp_path):
    source = loading.find(small_models.save("eurobert", "ner", tmp_path / "model", LABELS))
    with pytest.raises(UserError, match="'eurobert', of which transformers has no model for QuestionAnswering"):
        loading.load_for(source, "qa", new_head=True)


def test_a_model_with_a_decoder_is_refused(tagger, tmp_path):
    with pytest.raises(UserError, match="a roberta has a decoder beside its encoder"):
        loading.find(_changed(tagger("roberta"), tmp_path / "both", is_encoder_decoder=True))


def test_positions_that_follow_padding_need_its_id(tagger, tmp_path):
    with pytest.raises(UserError, match="pad_token_id is null, and a roberta counts its positions from it"):
        loading.find(_changed(tagger("roberta"), tmp_path / "roberta", pad_token_id=None))
    assert loading.find(_changed(tagger("albert"), tmp_path / "albert", pad_token_id=None)).weights


@pytest.mark.parametrize("family", ["roberta", "deberta-v2", "modernbert"])
def test_a_tokenizer_of_another_model_is_refused(family, tagger, tmp_path):
    folder = shutil.copytree(tagger(family), tmp_path / "mixed")
    for file in folder.glob("*token*"):
        file.unlink()
    small_models.small_tokenizers.save("llama_like" if family == "deberta-v2" else "wordpiece", folder)
    with pytest.raises(UserError, match=r"its tokenizer has [\d,]+ pieces, its configuration"):
        Annotator.from_pretrained(folder)


@pytest.mark.parametrize("family", ["roberta", "deberta-v2", "modernbert", "albert"])
def test_weights_that_the_model_does_not_use_are_refused(family, tagger, tmp_path):
    folder = shutil.copytree(tagger(family), tmp_path / "crf")
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "crf.transitions": torch.ones(3, 3)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"weights that a \w+ForTokenClassification does not use \(crf.transitions"):
        runtimes.load(loading.find(folder), "torch-fp32")


def test_the_classifier_of_another_task_is_not_one_of_words(tmp_path):
    """A RoBERTa of sentences has a head of two layers."""
    folder = small_models.save("roberta", "relation", tmp_path / "model", ["no", "yes"])
    source = loading.find(folder)
    assert runtimes.task_of(source) == "relation"
    with pytest.raises(UserError, match="weights that a RobertaForTokenClassification does not use"):
        loading.load_for(source, "ner")
    # As a start for another task its encoder serves.
    loading.load_for(source, "ner", LABELS, new_head=True)


def test_a_discriminator_has_no_mlm_head_to_teach_with(tmp_path):
    """ELECTRA's larger model is published without one."""
    folder = small_models.save("electra", "mlm", tmp_path / "model")
    config = loading.find(folder).config
    ElectraForPreTraining(config).save_pretrained(folder)
    path = tmp_path / "made.jsonl"
    path.write_text("\n".join(json.dumps({"pmid": str(i), "abstract": text}) for i, text in enumerate(SENTENCES)))
    corpus.build([path], tmp_path / "corpus", tokenizer=folder, max_length=32, holdout=2, workers=1)
    recipe = recipes.load("distil-biobert", layers=1, steps=1, batch_size=2, max_length=32)
    with pytest.raises(UserError, match="has no MLM head, which the recipe's loss reads from the teacher"):
        train(recipe, tmp_path / "corpus", tmp_path / "student", teacher=str(folder))


@pytest.mark.parametrize(
    ("family", "sentence"),
    [
        ("deberta", "attention_kl reads queries and keys, which a deberta does not give"),
        ("deberta-v2", "attention_kl reads queries and keys, which a deberta-v2 does not give"),
        ("modernbert", "some layers of a modernbert attend to near ones alone: take attention_relations"),
    ],
)
def test_an_attention_term_of_a_family_that_does_not_give_it_is_refused(family, sentence, tmp_path):
    teacher, _ = loading.load(loading.find(small_models.save(family, "mlm", tmp_path / "model")), 0)
    recipe = recipes.load("compact-biobert", layers=1, pick="first", layer_map=[0])
    with pytest.raises(UserError, match=sentence):
        Distiller(build_student(recipe, teacher), teacher, recipe)


def test_a_student_of_layers_that_share_their_weights_is_refused(tmp_path):
    teacher, _ = loading.load(loading.find(small_models.save("albert", "mlm", tmp_path / "model")), 0)
    with pytest.raises(UserError, match="layers of type 'albert' cannot be taken apart, as they share their weights"):
        build_student(recipes.load("distil-biobert", layers=1), teacher)


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "deberta-v2", "modernbert", "albert", "electra"])
def test_text_beyond_the_positions_is_covered_by_windows(family, tagger):
    """Every word is decided, up to the last position; a row that is one token longer would fail in RoBERTa."""
    annotator = Annotator.from_pretrained(tagger(family), runtime="torch-fp32")
    text = " ".join(word for sentence in SENTENCES for word in sentence.split() if word.isalpha())
    texts = [text, text * 3]
    found = annotator(texts)
    for whole, entities in zip(texts, found, strict=True):
        assert all(entity.text == whole[entity.start : entity.end] for entity in entities)
    assert max(entity.end for entity in found[1]) > 2 * len(text)


@pytest.mark.parametrize(
    ("family", "key"),
    [
        ("bert", "head.dense.weight"),
        ("bert", "lm_head.dense.weight"),
        ("roberta", "head.weight"),
        ("deberta-v2", "predictions.bias"),
    ],
)
def test_weights_of_a_head_that_the_family_does_not_have_are_refused(family, key, tagger, tmp_path):
    """A layer of someone's own before the classifier, under a name that another family pre-trains with."""
    folder = shutil.copytree(tagger(family), tmp_path / "own")
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, key: torch.ones(3, 3)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"ForTokenClassification does not use \({key}"):
        runtimes.load(loading.find(folder), "torch-fp32")


def test_an_onnx_file_without_token_types_is_refused_for_questions_where_the_model_has_them(tmp_path):
    """Of a type that the package does not name, too."""
    folder = small_models.save("rembert", "qa", tmp_path / "model")
    source = loading.find(folder)
    model = loading.load_for(source, "qa")
    model.config.type_vocab_size = 1  # so that the exporter takes it for one without
    save_program(program_of(model, "qa"), folder / "model.onnx")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="it has no input token_type_ids"):
        runtimes.load(loading.configured(folder), "onnx-fp32")


@pytest.mark.parametrize("family", ["bert", "electra", "albert", "rembert"])
def test_a_model_with_one_segment_is_refused_for_questions_where_its_tokenizer_makes_two(family, tmp_path):
    source = loading.find(small_models.save(family, "qa", tmp_path / "model", type_vocab_size=1))
    with pytest.raises(UserError, match="type_vocab_size 1, and a question and its text are two segments"):
        loading.load_for(source, "qa")


def test_layers_in_several_lists_are_not_taken_apart(tmp_path):
    """An XLM has a list of attentions and one of feed-forward layers."""
    model = AutoModelForTokenClassification.from_config(small_models.config_of("xlm", _Vocabulary()))
    with pytest.raises(UserError, match="layers of type 'xlm' cannot be taken apart"):
        with_fewer_layers(model, 1, 0)


def test_settings_by_layer_follow_the_layers():
    """A Longformer has a window for each."""
    config = small_models.config_of("longformer", _Vocabulary(), attention_window=[4, 8, 12])
    student = with_fewer_layers(AutoModelForTokenClassification.from_config(config), 2, 0)
    assert student.config.attention_window == [4, 12]
