"""Recipes hold the published numbers, refuse what they do not know, and can be overridden field by field."""

from fractions import Fraction

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from compactbio import recipes
from compactbio.errors import UserError
from compactbio.files import read_yaml

# The table of the paper's settings: (learning rate, warm-up, weight decay, steps, loss, temperature).
PUBLISHED = {
    "distil-biobert": (5e-4, 5_000, 0.0, 100_000, {"logits_kl": 5, "mlm": 2, "last_hidden_cosine": 1}, 2),
    "compact-biobert": (
        5e-4, 5_000, 1e-4, 100_000, {"mlm": 1, "attention_kl": 3, "hidden_cosine": 3, "logits_kl": 5}, 1,
    ),
    "tiny-biobert": (5e-4, 10_000, 1e-4, 100_000, {"attention_mse": 1, "hidden_mse": 1, "soft_targets": 1}, 1),
    "bio-distilbert-cased": (1e-4, 10_000, 0.01, 200_000, {"mlm": 1}, 1),
    "bio-distilbert-uncased": (1e-4, 10_000, 0.01, 200_000, {"mlm": 1}, 1),
    "bio-tinybert": (1e-4, 10_000, 0.01, 200_000, {"mlm": 1}, 1),
    "bio-mobilebert": (1e-4, 10_000, 0.01, 200_000, {"mlm": 1}, 1),
}  # fmt: skip


def test_there_are_the_seven_published_recipes_and_one_of_ours():
    assert recipes.names() == sorted([*PUBLISHED, "relation-biobert"])
    assert {name for name in recipes.names() if recipes.is_published(name)} == set(PUBLISHED)


def test_the_relation_recipe_holds_the_numbers_of_minilm():
    recipe = recipes.load("relation-biobert")
    assert (recipe.layers, recipe.hidden_size, recipe.intermediate_size, recipe.heads) == (6, 384, 1536, 12)
    assert (recipe.learning_rate, recipe.warmup_steps, recipe.weight_decay, recipe.steps) == (6e-4, 4000, 0.01, 400_000)
    assert (recipe.batch_size, recipe.adam_epsilon) == (256, 1e-6)
    assert recipe.loss == {"attention_relations": 1.0, "mlm": 1.0} and "own" in recipe.source


@pytest.mark.parametrize(("name", "numbers"), PUBLISHED.items())
def test_recipes_hold_the_published_numbers(name, numbers):
    recipe = recipes.load(name)
    found = (recipe.learning_rate, recipe.warmup_steps, recipe.weight_decay, recipe.steps)
    assert (*found, {term.value: weight for term, weight in recipe.loss.items()}, recipe.temperature) == numbers
    assert (recipe.batch_size, recipe.max_length, recipe.mlm_probability) == (192, 256, 0.15)
    assert (recipe.adam_beta1, recipe.adam_beta2, recipe.adam_epsilon, recipe.max_grad_norm) == (0.9, 0.999, 1e-8, 1.0)
    assert not recipe.published and recipe.source


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_true_restores_all_six_behaviours(name):
    ours, published = recipes.load(name), recipes.load(name, published=True)
    corrected = {key for key, value in recipes.CORRECTIONS.items() if getattr(ours, key) != value}
    assert corrected == set(recipes.CORRECTIONS) and len(corrected) == 6
    assert {key: getattr(published, key) for key in recipes.CORRECTIONS} == recipes.CORRECTIONS
    one_back = recipes.load(name, published=True, attention_dropout=0.0)
    assert one_back.attention_dropout == 0.0 and one_back.teacher_dropout


def test_a_shown_recipe_is_a_start_for_ones_own(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(recipes.text("compact-biobert"))
    assert recipes.load(mine) == recipes.load("compact-biobert")
    mine.write_text(recipes.text("compact-biobert").replace("published: false", "published: true"))
    assert recipes.load(mine) == recipes.load("compact-biobert", published=True)


def test_a_recipe_as_run_reads_back_as_it_was(tmp_path):
    layers = [2, 5, 8, 11]
    recipe = recipes.load("tiny-biobert", published=True, attention_dropout=0.0, steps=7, layer_map=layers)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert recipes.load(file) == recipe
    assert recipes.load(file, published=True).attention_dropout == 0.1


@pytest.mark.parametrize(
    ("name", "overrides", "words"),
    [
        ("distil-bobert", {}, "'distil-biobert'"),
        ("distil-biobert", {"lerning_rate": 1}, "'learning_rate'"),
        ("distil-biobert", {"loss": {"mml": 1}}, "'mlm'"),
        ("distil-biobert", {"batch_size": 0}, "batch_size"),
        ("distil-biobert", {"learning_rate": "fast"}, "learning_rate"),
        ("distil-biobert", {"learning_rate": float("nan")}, "learning_rate"),
        ("distil-biobert", {"published": 1}, "published"),
        ("distil-biobert", {"steps": "many"}, "steps"),
        ("distil-biobert", {"steps": True}, "steps: true and false are not numbers"),
        ("distil-biobert", {"layers": True}, "layers: true and false are not numbers"),
        ("distil-biobert", {"loss": {"mlm": True}}, "loss: true and false are not numbers"),
        ("distil-biobert", {"name": True}, "name: this must be text; put a word that YAML reads as true or false in"),
        ("distil-biobert", {"teacher": False}, "teacher: this must be text"),
        ("distil-biobert", {"kind": True}, "kind: input should be 'distil' or 'continue' "),
        ("distil-biobert", {"loss": {}}, "loss"),
        ("distil-biobert", {"warmup_steps": None, "steps": 5}, "warmup_steps"),
        ("distil-biobert", {"loss": 3}, "loss"),
        ("distil-biobert", {"hidden_size": 12}, "start 'random'"),
        ("tiny-biobert", {"heads": None}, "needs layers, hidden_size"),
        ("bio-tinybert", {"loss": {"logits_kl": 1}}, "mlm alone"),
        ("bio-tinybert", {"start": "teacher-layers"}, "'checkpoint' or 'random'"),
        ("distil-biobert", {"layer_map": "frist"}, "layer_map: take uniform, last, or a list .* 'frist'"),
        ("distil-biobert", {"layer_map": [2, 0]}, "in their order"),
        ("distil-biobert", {"layer_map": [0, 1.5]}, "layer_map"),
        ("distil-biobert", {"layer_map": []}, "layer_map"),
        ("distil-biobert", {"layer_map": 3}, "layer_map"),
        ("relation-biobert", {"relation_heads": 0}, "relation_heads"),
        ("distil-biobert", {"loss": {"mlm": 0, "logits_kl": 0, "last_hidden_cosine": 0}}, "at least one term"),
    ],
)
def test_mistakes_are_named_with_what_would_do(name, overrides, words):
    with pytest.raises(UserError, match=words):
        recipes.load(name, **overrides)


def test_a_file_that_is_not_a_recipe_is_refused(tmp_path):
    for content, words in (("- a\n- b\n", "mapping"), ("a: [1\n", "not YAML"), ("kind: distil\n", "start")):
        file = tmp_path / "mine.yaml"
        file.write_text(content)
        with pytest.raises(UserError, match=words):
            recipes.load(file)
    for content, words in (
        ("a: {c: 1,\n  'c': 2}", r"line 2 names 'c' a second time; keep one\.$"),
        ("a: 5\nb: 1\na: 6", "line 3 names 'a'"),
        ("a: {1: x, '1': y}", "names '1'"),
        ("a: {yes: x, true: y}", "names 'True'"),
        ("a: 2026-13-45", "not YAML: month"),
        ("a: " + "[" * 5000, "not YAML"),
    ):
        file.write_text(content)
        with pytest.raises(UserError, match=words):
            recipes.load(file)
    file.write_bytes(b"name: \xff\n")
    with pytest.raises(UserError, match="byte 6"):
        recipes.load(file)


def test_settings_are_yaml_values_and_reach_into_the_loss():
    assert recipes.parse_setting("learning_rate=5e-4") == {"learning_rate": 5e-4}
    assert recipes.parse_setting("published=true") == {"published": True}
    assert recipes.load("distil-biobert", **recipes.parse_setting("layer_map=last")).layer_map == "last"
    assert recipes.load("distil-biobert", **recipes.parse_setting("layer_map=[0,2,5]")).layer_map == (0, 2, 5)
    assert recipes.parse_setting("loss.mlm=2") == {"loss": {"mlm": 2}}
    changed = recipes.load("distil-biobert", **recipes.parse_setting("loss.mlm=0"))
    assert {term.value for term in changed.loss} == {"logits_kl", "last_hidden_cosine"}
    with pytest.raises(UserError, match="key=value"):
        recipes.parse_setting("steps")
    with pytest.raises(UserError, match="Setting loss: line 1 names 'mlm' a second time"):
        recipes.parse_setting("loss={mlm: 1, mlm: 2}")
    with pytest.raises(UserError, match="not a YAML value"):
        recipes.parse_setting("steps=2026-13-45")


def test_text_in_quotes_that_looks_like_a_number_stays_text(tmp_path):
    content = recipes.text("distil-biobert").replace("teacher: dmis-lab/biobert-base-cased-v1.2", 'teacher: "2022"')
    (tmp_path / "one.yaml").write_text(content.replace("name: distil-biobert", 'name: "1e3"'))
    found = recipes.load(tmp_path / "one.yaml")
    assert (found.name, found.teacher, found.learning_rate) == ("1e3", "2022", 5e-4)
    assert recipes.parse_setting('init="1e3"') == {"init": "1e3"}


def test_the_warm_up_keeps_its_share_of_the_steps():
    assert recipes.load("distil-biobert", steps=200).warmup_steps == 10
    assert recipes.load("distil-biobert", steps=200, warmup_steps=3).warmup_steps == 3
    for steps in (200.0, "200"):  # 2e2 of a command is 200.0
        assert recipes.load("distil-biobert", steps=steps) == recipes.load("distil-biobert", steps=200)


@pytest.mark.parametrize(
    "overrides",
    [
        {"published": True},
        {"published": True, "teacher_dropout": False},
        {"steps": 1000},
        {"steps": 1000.0},
        {"steps": 1000, "warmup_steps": 3},
        {"loss": {"mlm": 1.0}},
        {"loss": {"mlm": 0}},
    ],
)
def test_a_recipe_object_takes_settings_as_its_name_does(overrides):
    named = recipes.load("compact-biobert", **overrides)
    assert recipes.replaced(recipes.load("compact-biobert").model_dump(), "it", overrides) == named


def test_published_behaviour_can_be_taken_back():
    published = recipes.load("compact-biobert", published=True).model_dump()
    assert recipes.replaced(published, "it", {"published": False}) == recipes.load("compact-biobert")


def test_numbers_of_other_libraries_are_numbers():
    given = {
        "steps": np.int64(1000),
        "learning_rate": np.float32(0.5),
        "layers": np.int64(3),
        "temperature": Fraction(2),
    }
    plain = {"steps": 1000, "learning_rate": 0.5, "layers": 3, "temperature": 2.0}
    name = "distil-biobert"
    assert recipes.load(name, **given).model_dump() == recipes.load(name, **plain).model_dump()
    mapped = recipes.load(name, layer_map=np.array([1, 3, 5]), layers=3, loss={"mlm": np.float32(2)})
    assert mapped.layer_map == (1, 3, 5) and mapped.loss["mlm"] == 2


def test_a_recipe_is_frozen_and_lists_its_deviations():
    recipe = recipes.load("distil-biobert", learning_rate=3e-4)
    with pytest.raises(ValidationError):
        recipe.steps = 3
    assert recipes.deviations(recipe) == {"learning_rate": (5e-4, 3e-4)}
    assert recipes.deviations(recipe.model_copy(update={"name": "mine"})) == {}


def test_a_merged_yaml_mapping_may_set_its_keys_otherwise(tmp_path):
    file = tmp_path / "merged.yaml"
    file.write_text("one: &one {a: 1, b: 1}\ntwo: {<<: *one, a: 2}\n")
    assert read_yaml(file, "File") == {"one": {"a": 1, "b": 1}, "two": {"a": 2, "b": 1}}
