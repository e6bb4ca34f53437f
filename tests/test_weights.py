"""Weights and configurations as users bring them: what is not what it says is refused, and nothing in it runs."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, BertConfig, BertForQuestionAnswering, BertForTokenClassification

import small_models
from compactbio import Annotator, recipes
from compactbio.annotate import QuestionAnnotator
from compactbio.errors import UserError
from compactbio.modeling import build_student, loading
from compactbio.modeling.families import is_untied
from compactbio.objectives import Distiller
from compactbio.training.task_model import TaskModel
from conftest import VOCABULARY, bert, distilbert, mobilebert, randomize

LABELS = {"id2label": {0: "O", 1: "B-Drug", 2: "I-Drug"}, "label2id": {"O": 0, "B-Drug": 1, "I-Drug": 2}}


@pytest.fixture
def ner_model(tokenizer_folder, tmp_path) -> Path:
    """A random tagger that finds something everywhere."""
    folder = shutil.copytree(tokenizer_folder, tmp_path / "model")
    model = randomize(BertForTokenClassification(BertConfig(**{**bert(layers=2).config.to_dict(), **LABELS})))
    with torch.no_grad():
        model.classifier.bias.copy_(torch.tensor([-1.0, 0.5, 0.5]))
    model.save_pretrained(folder)
    return folder


def refused(folder: Path, *words: str) -> None:
    """Assert that a tagger is refused in one sentence that holds all `words`."""
    with pytest.raises(UserError) as refusal:
        Annotator.from_pretrained(folder, runtime="torch-fp32")
    sentence = str(refusal.value)
    assert "\n" not in sentence and all(word in sentence for word in words), sentence


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def change_config(folder: Path, **values) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


def as_bin(folder: Path, **options) -> Path:
    """Replace a folder's safetensors by what torch.save writes."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin", **options)
    (folder / "model.safetensors").unlink()
    return folder


class Hostile:
    """Unpickled, it writes a file."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (Path.touch, (self.place,))


@pytest.mark.parametrize("legacy", [True, False])
def test_a_hostile_pickle_is_refused_and_nothing_runs(ner_model, tmp_path, legacy):
    weights = as_bin(ner_model) / "pytorch_model.bin"
    harm = tmp_path / "harm"
    whole = {**torch.load(weights), "more": Hostile(harm)}
    torch.save(whole, weights, _use_new_zipfile_serialization=not legacy)
    refused(ner_model, "pytorch_model.bin", "safetensors")
    weights.write_bytes(pickle.dumps(whole["more"]))
    refused(ner_model, "pytorch_model.bin")
    # Of several files that one is named which is hostile.
    first, second = (ner_model / f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2))
    weights.unlink()
    torch.save({"classifier.bias": whole["classifier.bias"]}, first)
    torch.save(whole, second, _use_new_zipfile_serialization=not legacy)
    places = dict.fromkeys(whole, second.name) | {"classifier.bias": first.name}
    (ner_model / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    refused(ner_model, f"{second.name} holds more than tensors")
    assert not harm.exists()


def test_weights_that_torch_saved_as_pairs_are_refused(ner_model):
    weights = as_bin(ner_model) / "pytorch_model.bin"
    torch.save(list(torch.load(weights).items()), weights)
    refused(ner_model, "pytorch_model.bin is not a dictionary of tensors")


def test_weights_of_another_variant_are_not_those_that_are_read(ner_model):
    shutil.copy(ner_model / "model.safetensors", ner_model / "model.fp16.safetensors")
    source = loading.find(as_bin(ner_model))
    assert [file.name for file in source.weights] == ["pytorch_model.bin"]
    before, weights = source.digest, torch.load(ner_model / "pytorch_model.bin")
    torch.save({**weights, "classifier.bias": weights["classifier.bias"] + 1}, ner_model / "pytorch_model.bin")
    assert loading.find(ner_model).digest != before


@pytest.mark.parametrize("legacy", [True, False])
def test_weights_that_torch_saved_give_the_same_entities(ner_model, legacy):
    texts = ["aspirin daily for patients with breast cancer", "metformin"]
    before = Annotator.from_pretrained(ner_model, runtime="torch-fp32")(texts)
    assert any(before)
    as_bin(ner_model, _use_new_zipfile_serialization=not legacy)
    assert Annotator.from_pretrained(ner_model, runtime="torch-fp32")(texts) == before


def test_weights_in_several_files_are_read(ner_model):
    source = loading.find(str(ner_model))
    whole = loading.load_for(source, "ner")
    weights = load_file(ner_model / "model.safetensors")
    (ner_model / "model.safetensors").unlink()
    names = sorted(weights)
    halves = {"pytorch_model-00001-of-00002.bin": names[::2], "pytorch_model-00002-of-00002.bin": names[1::2]}
    for file, keys in halves.items():
        torch.save({key: weights[key] for key in keys}, ner_model / file)
    index = {"metadata": {}, "weight_map": {key: file for file, keys in halves.items() for key in keys}}
    (ner_model / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    again = loading.load_for(loading.find(str(ner_model)), "ner")
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "git lfs pull"),
        (b"", "weights cannot be read"),
        (b"PK\x03\x04 cut off", "weights cannot be read"),
    ],
)
@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors"])
def test_files_that_are_not_weights_are_refused(ner_model, file, content, words):
    (ner_model / "model.safetensors").unlink()
    (ner_model / file).write_bytes(content)
    refused(ner_model, words)


@pytest.mark.parametrize(
    "key, shape",
    [
        ("crf.transitions", (3, 3)),
        ("lstm.weight_ih_l0", (4, 24)),
        ("classifier.norm.weight", (24,)),
        ("pre_classifier.weight", (24, 24)),
        ("bert.encoder.layer.0.attention.self.distance_embedding.weight", (127, 6)),
        ("bert.encoder.layer.2.output.dense.weight", (24, 48)),
    ],
)
def test_weights_that_the_model_has_no_place_for_are_refused(ner_model, key, shape):
    change_weights(ner_model, lambda weights: weights.update({key: torch.ones(shape)}))
    refused(ner_model, key, "does not use")


def test_heads_of_other_tasks_and_poolers_are_no_hindrance(ner_model):
    extra = {"cls.predictions.bias": (3,), "bert.pooler.dense.weight": (24, 24), "qa_outputs.weight": (2, 24)}
    change_weights(ner_model, lambda w: w.update({key: torch.ones(shape) for key, shape in extra.items()}))
    assert Annotator.from_pretrained(ner_model, runtime="torch-fp32")(["aspirin daily"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["classifier.bias", "bert.embeddings.word_embeddings.weight"])
def test_weights_that_are_not_finite_are_refused(ner_model, key, value):
    change_weights(ner_model, lambda weights: weights[key].view(-1)[:1].fill_(value))
    refused(ner_model, key, "not finite")


@pytest.mark.parametrize("saved", [lambda folder: folder, as_bin])
@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_weights_that_are_not_floating_point_numbers_are_refused(ner_model, dtype, saved):
    key = "bert.encoder.layer.0.attention.self.query.weight"
    change_weights(ner_model, lambda weights: weights.update({key: weights[key].to(dtype)}))
    saved(ner_model)
    refused(ner_model, key, "not floating-point numbers", "before it was quantised")


def test_logits_that_are_not_finite_are_refused(ner_model):
    change_weights(ner_model, lambda weights: weights["bert.encoder.layer.1.output.LayerNorm.weight"].fill_(3e38))
    with pytest.raises(UserError, match=r"model: it computes NaN or infinite logits; compute it in fp32"):
        Annotator.from_pretrained(ner_model, runtime="torch-fp32")(["aspirin daily"])


@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter_is_refused_with_the_model_beside_it_and_alone(ner_model, whole):
    (ner_model / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    if not whole:
        (ner_model / "config.json").unlink()
    refused(ner_model, "it holds a PEFT adapter", "merge_and_unload()")


@pytest.mark.parametrize(
    "values, words",
    [
        ({"hidden_size": 24.0}, "hidden_size"),
        ({"vocab_size": "137"}, "vocab_size"),
        ({"hidden_act": "gleu"}, "'gleu'"),
        ({"num_attention_heads": 5}, "multiple of"),
        ({"is_decoder": True}, "is_decoder"),
        ({"is_decoder": True, "add_cross_attention": True}, "is_decoder"),
        ({"position_embedding_type": "relative_key_query"}, "position_embedding_type"),
        ({"id2label": {"1": "O", "2": "B-Drug", "3": "I-Drug"}}, "id2label"),
        ({"id2label": ["O", "B-Drug", "I-Drug"]}, "config.json"),
        ({"id2label": {"O": "0", "B-Drug": "1"}}, "config.json"),
        ({"hidden_dropout_prob": "0.1"}, "hidden_dropout_prob"),
        ({"max_position_embeddings": None}, "max_position_embeddings"),
        ({"pad_token_id": 10_000}, "pad_token_id is 10000, which is not one of its"),
        ({"pad_token_id": -1}, "pad_token_id is -1"),
        ({"architectures": [None]}, "architectures must be a list of names, not [None]"),
        ({"architectures": 3}, "architectures must be a list of names, not 3"),
        ({"architectures": "BertForTokenClassification"}, "architectures must be a list of names"),
        ({"layer_norm_eps": float("nan")}, "layer_norm_eps must be a finite number"),
        ({"initializer_range": float("inf")}, "initializer_range must be a finite number"),
        ({"hidden_size": -24}, "hidden_size must be 1 or more"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        *(({size: -1}, f"{size} must be 1") for size in ("num_attention_heads", "hidden_size", "vocab_size")),
        ({"model_type": None}, "config.json"),
        ({"inner_group_num": 2}, "inner_group_num must be 1"),
        ({"vocab_size": 100}, "another shape"),
    ],
)
def test_wrong_configurations_are_refused_in_a_sentence(ner_model, values, words):
    change_config(ner_model, **values)
    refused(ner_model, words)


@pytest.mark.parametrize(
    "values",
    [
        {"return_dict": False},
        {"torchscript": True},
        {"output_attentions": True},
        {"output_hidden_states": True},
        {"chunk_size_feed_forward": 7},
        {"dtype": "float16"},
        {"torch_dtype": "bfloat16"},
        {"use_cache": True},
        {"gradient_checkpointing": True},
    ],
)
def test_how_results_are_handed_over_changes_none_of_them(ner_model, values):
    texts = ["aspirin daily for patients with breast cancer", "metformin and insulin"]
    wanted = Annotator.from_pretrained(ner_model, runtime="torch-fp32")(texts)
    change_config(ner_model, **values)
    assert Annotator.from_pretrained(ner_model, runtime="torch-fp32")(texts) == wanted


def test_questions_on_a_model_with_one_segment_type_are_refused(tokenizer_folder, tmp_path):
    folder = shutil.copytree(tokenizer_folder, tmp_path / "qa")
    config = BertConfig(**{**bert(layers=1).config.to_dict(), "type_vocab_size": 1})
    BertForQuestionAnswering(config).save_pretrained(folder)
    with pytest.raises(UserError, match="type_vocab_size"):
        QuestionAnnotator.from_pretrained(folder)


@pytest.mark.parametrize("made", [bert, distilbert, mobilebert])
@pytest.mark.parametrize("stated", [True, False])
def test_a_decoder_of_its_own_is_kept_by_teacher_and_student(made, stated, tokenizer_folder, tmp_path):
    """A checkpoint with a decoder that is not the word embeddings, whatever its configuration says of them."""
    folder = shutil.copytree(tokenizer_folder, tmp_path / "teacher")
    model = made(layers=2)
    decoder = model.get_output_embeddings().weight.detach().clone()
    model.get_output_embeddings().weight = torch.nn.Parameter(decoder + 1 + torch.arange(decoder.shape[1]))
    model.config.tie_word_embeddings = False
    model.save_pretrained(folder)
    change_config(folder, tie_word_embeddings=stated)
    teacher, has_head = loading.load(loading.find(str(folder)), seed=0)
    assert has_head and is_untied(teacher)
    student = build_student(recipes.load("distil-biobert", layers=2), teacher)
    ids = torch.randint(5, len(VOCABULARY), (1, 20))
    for one in (teacher, student):  # a parameter that no forward pass reads would stop several processes
        assert one(ids).logits.sum().backward() is None
        dead = [name for name, weight in one.named_parameters() if weight.grad is None]
        assert not [name for name in dead if "pooler" not in name and "seq_relationship" not in name]
    student.save_pretrained(tmp_path / "student")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "student").eval()
    with torch.no_grad():
        wanted = model(ids).logits
        for one in (teacher.eval(), student.eval(), again):
            torch.testing.assert_close(one(ids).logits, wanted)


def test_the_bias_of_a_robertas_own_decoder_is_found_under_its_other_name(tmp_path):
    folder = small_models.save("roberta", "mlm", tmp_path / "roberta")
    model = AutoModelForMaskedLM.from_pretrained(folder)
    decoder = model.get_output_embeddings()
    decoder.weight = torch.nn.Parameter(decoder.weight.detach() + 1)
    model.lm_head.bias = decoder.bias = torch.nn.Parameter(torch.randn(len(decoder.bias)))
    model.config.tie_word_embeddings = False
    model.save_pretrained(folder)
    change_weights(folder, lambda weights: weights.pop("lm_head.decoder.bias", None))
    again, has_head = loading.load(loading.find(folder), seed=0)
    assert has_head and torch.equal(again.lm_head.decoder.bias, decoder.bias)


def test_what_is_saved_of_a_start_with_the_names_of_tensorflow_is_read_again(tokenizer_folder, tmp_path):
    folder = shutil.copytree(tokenizer_folder, tmp_path / "start")
    bert(layers=2).save_pretrained(folder)

    def renamed(weights):
        for key in [key for key in weights if "LayerNorm" in key]:
            weights[key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("bias", "beta")] = weights.pop(key)

    change_weights(folder, renamed)
    model, _ = loading.load(loading.find(folder), seed=0)
    distiller = Distiller(model, None, recipes.load("bio-tinybert"))
    tagger = TaskModel(loading.load_for(loading.find(folder), "ner", ["B", "O"], new_head=True), "ner")
    for name, module in (("distiller", distiller), ("tagger", tagger)):
        (tmp_path / name).mkdir()
        module.save(tmp_path / name)
        before = {key: value.clone() for key, value in module.student.state_dict().items()}
        with torch.no_grad():
            for weight in module.student.parameters():
                weight += 1
        module.load(tmp_path / name)
        assert all(torch.equal(value, before[key]) for key, value in module.student.state_dict().items())


def test_a_home_folder_is_not_published(ner_model, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(ner_model.parent))
    assert loading.find(f"~/{ner_model.name}").public_name() == ner_model.name
