"""Tokenizers keep what their files say: case, added tokens, special tokens, whatever is missing beside them."""

import json

import pytest
from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerFast

from compactbio.errors import UserError
from compactbio.modeling.tokenizers import load_tokenizer, tokenizer_rules
from conftest import VOCABULARY

CASED = [*VOCABULARY, "E", "##G", "##F", "##R", "Aspirin"]
TEXT = "EGFR in Aspirin trials, naïve."


@pytest.fixture
def folder(tmp_path):
    """A folder with a vocab.txt, cased or not, and any JSON files beside it."""

    def make(pieces=CASED, **files):
        place = tmp_path / "tokenizer"
        place.mkdir()
        (place / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
        for name, content in files.items():
            (place / f"{name}.json").write_text(json.dumps(content))
        return place

    return make


def saved(folder, *, lower, keep_vocabulary=False):
    """Write the tokenizer.json of the folder's vocabulary, and no word on its case elsewhere."""
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=lower).save_pretrained(folder)
    (folder / "tokenizer_config.json").unlink()
    if not keep_vocabulary:
        (folder / "vocab.txt").unlink()
    return folder


def test_a_cased_vocabulary_alone_keeps_case(folder):
    assert load_tokenizer(folder()).tokenize("EGFR Aspirin") == ["E", "##G", "##F", "##R", "Aspirin"]


def test_a_lower_case_vocabulary_alone_lowers(folder):
    assert load_tokenizer(folder(VOCABULARY)).tokenize("Aspirin") == ["aspirin"]


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize(
    "beside", [{"config": {"model_type": kind}} for kind in ("bert", "distilbert", "mobilebert")]
    + [{"tokenizer_config": {"tokenizer_class": kind}} for kind in ("BertTokenizer", "DistilBertTokenizerFast")]
)  # fmt: skip
def test_a_tokenizer_json_alone_keeps_its_own_case(folder, lower, beside):
    place = saved(folder(), lower=lower)
    for name, content in beside.items():
        (place / f"{name}.json").write_text(json.dumps(content))
    wanted = Tokenizer.from_file(str(place / "tokenizer.json")).encode(TEXT).tokens
    loaded = load_tokenizer(place)
    assert loaded(TEXT).tokens() == wanted and ("E" in wanted) is not lower


@pytest.mark.parametrize("lower", [True, False])
def test_a_case_left_open_with_null_is_that_of_the_other_file(folder, lower):
    place = saved(folder(), lower=lower)
    (place / "tokenizer_config.json").write_text('{"do_lower_case": null, "tokenizer_class": "BertTokenizer"}')
    assert load_tokenizer(place).backend_tokenizer.normalizer.lowercase is lower
    (place / "tokenizer.json").unlink()
    (place / "vocab.txt").write_text("\n".join(VOCABULARY if lower else CASED) + "\n", encoding="utf-8")
    assert load_tokenizer(place).backend_tokenizer.normalizer.lowercase is lower


@pytest.mark.parametrize("stated", [True, False])
def test_what_the_configuration_states_counts_as_in_plain_transformers(folder, stated):
    place = saved(folder(), lower=not stated)
    config = {"do_lower_case": stated, "strip_accents": False, "tokenize_chinese_chars": False}
    (place / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "BertTokenizer"}))
    assert load_tokenizer(place)(TEXT).tokens() == AutoTokenizer.from_pretrained(place)(TEXT).tokens()


def test_added_tokens_beside_a_vocabulary_are_kept(folder):
    place = folder(added_tokens={"<e1>": len(CASED), "</e1>": len(CASED) + 1})
    loaded = load_tokenizer(place)
    assert loaded.tokenize("the <e1>Aspirin</e1> dose") == ["the", "<e1>", "Aspirin", "</e1>", "dose"]
    assert len(loaded) == len(CASED) + 2


def test_added_tokens_in_a_tokenizer_json_are_kept(folder):
    place = folder()
    whole = BertTokenizerFast(vocab=str(place / "vocab.txt"), do_lower_case=False)
    whole.add_tokens(["@GENE$"])
    whole.save_pretrained(place)
    (place / "tokenizer_config.json").unlink()
    (place / "config.json").write_text('{"model_type": "bert"}')
    assert "@GENE$" in load_tokenizer(place).tokenize("the @GENE$ dose")


def added(**tokens):
    flags = {"lstrip": False, "rstrip": False, "normalized": False, "single_word": False, "special": True}
    return {str(id): {"content": content, **flags} for content, id in tokens.items()}


@pytest.mark.parametrize("class_name", ["BertTokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"added_tokens_decoder": added(E1=len(CASED), dose=CASED.index("dose"))}},
        {"tokenizer_config": {"additional_special_tokens": ["E1", "dose"]}},
        {"special_tokens_map": {"additional_special_tokens": ["E1", "dose"]}},
        {"added_tokens": {"E1": len(CASED), "dose": CASED.index("dose")}},
    ],
    ids=["decoder", "special in the configuration", "special in the map", "added_tokens.json"],
)
def test_added_tokens_beside_a_tokenizer_json_are_those_of_transformers(folder, tmp_path, class_name, files):
    place = saved(folder(), lower=False)
    named = {"tokenizer_class": class_name, "pad_token": "[PAD]", "do_lower_case": False}
    files = {**files, "tokenizer_config": {**named, **files.get("tokenizer_config", {})}}
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content))
    text = "the E1xdosed Aspirin"
    plain, loaded = AutoTokenizer.from_pretrained(place), load_tokenizer(place)
    assert loaded(text).tokens() == plain(text).tokens() and {"E1", "dose"} <= set(loaded.tokenize(text))
    assert loaded.get_vocab() == plain.get_vocab()
    loaded.save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again")(text).tokens() == plain(text).tokens()


def test_added_tokens_with_rules_of_their_own_keep_both(folder):
    place = saved(folder(), lower=False)
    whole = json.loads((place / "tokenizer.json").read_text())
    whole["pre_tokenizer"] = {"type": "WhitespaceSplit"}
    (place / "tokenizer.json").write_text(json.dumps(whole))
    (place / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    (place / "added_tokens.json").write_text(json.dumps({"E1": len(CASED)}))
    assert load_tokenizer(place).tokenize("E1the-dose dose") == ["E1", "[UNK]", "dose"]


def test_an_added_token_whose_files_differ_in_its_id_is_refused(folder):
    place = saved(folder(), lower=False)
    whole = json.loads((place / "tokenizer.json").read_text())
    whole["added_tokens"].append({"id": len(CASED), **added(E1=len(CASED))[str(len(CASED))]})
    (place / "tokenizer.json").write_text(json.dumps(whole))
    config = {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": added(E2=len(CASED), E1=len(CASED) + 1)}
    (place / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=f"the added token E2 the id {len(CASED) + 1}, the files beside it say"):
        load_tokenizer(place)


def test_rules_that_the_class_would_lose_are_kept_and_saved(folder, tmp_path):
    place = folder()
    own = Tokenizer(WordPiece({piece: i for i, piece in enumerate(CASED)}, unk_token="[UNK]"))
    own.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("Aspirin", "aspirin")])
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    own.save(str(place / "tokenizer.json"))
    (place / "config.json").write_text('{"model_type": "bert"}')
    (place / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    loaded = load_tokenizer(place)
    assert loaded("Aspirin dose").tokens() == ["[CLS]", "aspirin", "dose", "[SEP]"]
    loaded.save_pretrained(tmp_path / "again")
    for again in (AutoTokenizer.from_pretrained(tmp_path / "again"), load_tokenizer(tmp_path / "again")):
        assert again(TEXT).tokens()[1:-1] == own.encode(TEXT).tokens


def test_what_was_loaded_is_the_same_after_saving(folder, tmp_path):
    place = saved(folder(), lower=False)
    (place / "config.json").write_text('{"model_type": "bert"}')
    load_tokenizer(place).save_pretrained(tmp_path / "again")
    plain = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert plain(TEXT).tokens() == load_tokenizer(place)(TEXT).tokens()


def test_special_tokens_that_nobody_names_are_refused(folder, cli, tmp_path):
    place = saved(folder(), lower=True)
    (place / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(UserError, match=r"does not name its pad_token;"):
        load_tokenizer(place)
    assert PreTrainedTokenizerFast.from_pretrained(place).cls_token is None
    (place / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": "[CLS]", "sep_token": "[SEP]", '
        '"pad_token": "[PAD]", "unk_token": "[UNK]"}'
    )
    assert load_tokenizer(place).cls_token_id == 2
    source = tmp_path / "text.txt"
    source.write_text("the dose\n")
    status, _, stderr = cli("corpus", "build", source, "--tokenizer", place, "--out", tmp_path / "corpus")
    assert status == 2 and "mask_token" in stderr and not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(
    "files, sentence",
    [
        ({"tokenizer_config": {"do_lower_case": "false"}}, "do_lower_case must be true or false"),
        ({"tokenizer_config": {"model_max_length": "512"}}, "model_max_length must be a number, not '512'"),
        ({"tokenizer_config": ["a list"]}, "must hold one JSON object"),
        ({"tokenizer": {"model": {"type": "WordPiece"}}}, "tokenizer.json cannot be loaded"),
        ({"tokenizer_config": {"tokenizer_class": "BertJapaneseTokenizer"}}, "BertJapaneseTokenizer"),
        (
            {"tokenizer": {"added_tokens": []}, "tokenizer_config": {"tokenizer_class": "CanineTokenizer"}},
            "no fast version",
        ),
        ({"added_tokens": ["<e1>"]}, "cannot be loaded"),
    ],
)
def test_files_that_are_not_a_tokenizers_are_refused_in_a_sentence(folder, files, sentence):
    with pytest.raises(UserError, match=sentence):
        load_tokenizer(folder(**files))


def test_vocabularies_that_lack_what_a_tokenizer_needs_are_refused(folder):
    place = folder([piece for piece in CASED if piece != "[MASK]"])
    with pytest.raises(UserError, match=r"\[MASK\] missing"):
        load_tokenizer(place)
    (place / "vocab.txt").write_text("\ufeff" + "\n".join(CASED), encoding="utf-8")
    with pytest.raises(UserError, match="byte order mark"):
        load_tokenizer(place)


def test_equal_rules_mean_equal_ids_whatever_file_they_came_from(folder, tmp_path):
    place = folder()
    bare = load_tokenizer(place)
    bare.save_pretrained(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved")
    assert tokenizer_rules(bare.backend_tokenizer) == tokenizer_rules(again.backend_tokenizer)
    lowered = BertTokenizerFast(vocab=str(place / "vocab.txt"), do_lower_case=True)
    differing = tokenizer_rules(lowered.backend_tokenizer)
    assert [key for key, value in tokenizer_rules(bare.backend_tokenizer).items() if differing[key] != value] == [
        "normalizer"
    ]
