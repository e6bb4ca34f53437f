"""Tokenizers of every kind: rows as plain transformers makes them, offsets that hold, corpora, files of other names."""

import io
import json
import re
import unicodedata

import numpy as np
import pytest
import sentencepiece
from tokenizers import AddedToken, Tokenizer, models, processors
from transformers import AutoTokenizer, BertConfig, PreTrainedTokenizerFast, XLMRobertaTokenizer

from compactbio import corpus
from compactbio.documents import Document, Question, Relation, Span
from compactbio.errors import UserError
from compactbio.modeling import loading
from compactbio.modeling.tokenizers import (
    for_words,
    load_tokenizer,
    special_ids,
    template,
    tokenizer_rules,
    word_pieces,
)
from compactbio.tasks import ner_encoding, qa, relation
from compactbio.training.batches import Masking
from small_tokenizers import KINDS, SENTENCES, save

# Several blanks, a no-break one, a zero-width one, a tab, an accent of its own, a ligature, emoji.
HARD = (
    "  Heart\u00a0 attack (TNF-\u03b1),\tne\u0301phritis \u200bIL-2 \u00bd \ufb01brosis "
    "\U0001f642\U0001f468\u200d\u2695\ufe0f caf\u0065\u0301  end. "
)
QUESTION = "Which gene is associated with breast cancer?"
WORDS = ["Heart", "attack", "(", "IL", "-", "2", ")", ",", "na\u00efve", "\U0001f642", "p53", "<", "0.05"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: save(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def plain(kind, folders):
    """The tokenizer as transformers loads it."""
    return AutoTokenizer.from_pretrained(folders[kind])


@pytest.fixture
def tokenizer(kind, folders):
    return load_tokenizer(folders[kind])


def types_of(plain: PreTrainedTokenizerFast, kind: str, *texts: str):
    """The token types that a model of this kind is given; ALBERT's, which its class leaves out, are asked for."""
    asked = {"return_token_type_ids": True} if kind == "albert" else {}
    return plain(*texts, **asked).get("token_type_ids")


@pytest.mark.parametrize("text", [*SENTENCES[:2], HARD, ""])
def test_a_row_of_one_text_is_that_of_transformers(kind, tokenizer, plain, text):
    document = Document("d", text, relations=(Relation(0, 0, "1"),))
    (row,) = relation.encode([document], tokenizer, {"0": 0, "1": 1}, relation.scheme(["0", "1"]), 512).rows
    assert row.input_ids.tolist() == plain(text)["input_ids"]
    assert row.segments is None and row.labels.tolist() == [1, *[-100] * (len(row) - 1)]


@pytest.mark.parametrize("text", [SENTENCES[1], HARD])
def test_a_row_of_question_and_text_is_that_of_transformers(kind, tokenizer, plain, text):
    document = Document("d", text, questions=(Question(QUESTION, (("zebra",),), "q", ()),))
    (window,) = qa.encode([document], tokenizer, 512).windows
    assert window.row.input_ids.tolist() == plain(QUESTION, text)["input_ids"]
    types = types_of(plain, kind, QUESTION, text)
    assert (window.row.segments is None) == (not any(types or []))
    if window.row.segments is not None:
        assert window.row.segments.tolist() == types
    sources = plain(QUESTION, text).sequence_ids()
    assert (window.offsets[:, 0] >= 0).tolist() == [source == 1 for source in sources]
    place = 0 if plain.cls_token_id is None else plain(QUESTION, text)["input_ids"].index(plain.cls_token_id)
    assert np.flatnonzero(window.row.labels != -100).tolist() == [place]


@pytest.mark.parametrize(("length", "stride"), [(16, 2), (40, 8)])
def test_windows_of_a_text_are_those_of_transformers(tokenizer, plain, length, stride):
    text = " ".join(SENTENCES)
    document = Document("d", text, questions=(Question("of", (), "q"),))
    room = length - len(plain("of", "")["input_ids"])
    encoded = qa.encode([document], tokenizer, length, stride)
    asked = {"max_length": length, "truncation": "only_second", "return_overflowing_tokens": True}
    wanted = plain("of", text, stride=min(stride, room // 2), **asked)["input_ids"]
    assert [row.input_ids.tolist() for row in encoded.rows] == wanted


def test_the_shortest_rows_of_a_question_hold_some_of_it_and_all_of_the_text(tokenizer):
    document = Document("d", SENTENCES[0], questions=(Question(QUESTION, (), "q"),))
    encoded = qa.encode([document], tokenizer, 8)
    assert max(map(len, encoded.rows)) <= 8
    seen = {int(start) for window in encoded.windows for start in window.offsets[:, 0]}
    assert {word[0] for word in seen_words(SENTENCES[0])} <= seen


def test_the_token_types_are_two_where_the_family_has_two(folders):
    typed = {kind for kind in KINDS if template(load_tokenizer(folders[kind]), 2).segments([9], [9]) is not None}
    assert typed == {"wordpiece", "unigram_deberta", "albert"}


def test_saved_again_a_tokenizer_gives_transformers_the_same_rows_and_types(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again, special = AutoTokenizer.from_pretrained(tmp_path), template(tokenizer, 2)
    found = again(QUESTION, HARD)
    texts = [pieces.ids for pieces in word_pieces([QUESTION, HARD], tokenizer)]
    assert found["input_ids"] == special.ids(*texts).tolist()
    types = special.segments(*texts)
    assert not any(found.get("token_type_ids") or []) if types is None else found["token_type_ids"] == types.tolist()


def test_words_are_cut_as_transformers_cuts_words_with_the_tokenizer_that_is_saved(tokenizer, tmp_path):
    for_words(tokenizer).save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    document = Document("d", " ".join(WORDS), tokenised=True)
    encoded = ner_encoding.encode([document], tokenizer, {"O": 0}, 512)
    (window,) = encoded.windows
    wanted = again(WORDS, is_split_into_words=True)
    assert window.row.input_ids.tolist() == wanted["input_ids"]
    sources = wanted.word_ids()
    assert window.first_pieces.tolist() == [sources.index(word) for word in window.words]
    assert list(encoded.piece_counts[0]) == [sources.count(word) for word in range(len(WORDS))]
    # Read from there the model's words are cut the same way, and nothing is put before them twice.
    loaded = load_tokenizer(tmp_path)
    assert for_words(loaded) is loaded
    (row,) = ner_encoding.encode([document], loaded, {"O": 0}, 512).rows
    assert row.input_ids.tolist() == wanted["input_ids"]


def test_the_offsets_of_words_begin_at_their_first_character(tokenizer):
    found = for_words(tokenizer)(WORDS, is_split_into_words=True, return_offsets_mapping=True)
    for number, word in enumerate(WORDS):
        covered = {
            at
            for source, (start, end) in zip(found.word_ids(), found["offset_mapping"], strict=True)
            if source == number
            for at in range(start, end)
        }
        assert covered == set(range(len(word)))


def test_a_word_has_the_pieces_that_it_has_within_a_text(tokenizer):
    """Without the mark of their start, "heart" and "attack" would be read as "heartattack"."""
    words = ["patients", "with", "heart", "attack", "received", "aspirin"]
    (row,) = ner_encoding.encode([Document("d", " ".join(words), tokenised=True)], tokenizer, {"O": 0}, 512).rows
    inside = word_pieces([" " + " ".join(words)], tokenizer)[0].ids
    assert row.input_ids.tolist() == template(tokenizer).ids(inside).tolist()


def test_words_of_raw_text_are_read_as_those_of_a_token_file(tokenizer):
    raw = Document("r", "TNF-alpha (p < 0.05).")
    (row,) = ner_encoding.encode([raw], tokenizer, {"O": 0}, 512).rows
    split = Document("s", "TNF - alpha ( p < 0 . 05 ) .", tokenised=True)
    (same,) = ner_encoding.encode([split], tokenizer, {"O": 0}, 512).rows
    assert row.input_ids.tolist() == same.input_ids.tolist()


def test_windows_of_words_hold_no_more_tokens_than_the_model(tokenizer):
    document = Document("d", " ".join(WORDS * 8), tokenised=True)
    encoded = ner_encoding.encode([document], tokenizer, {"O": 0}, 24)
    assert max(map(len, encoded.rows)) <= 24
    decided = sorted(word for window in encoded.windows for word in window.words)
    assert decided == [word for word, count in enumerate(encoded.piece_counts[0]) if count]


def seen_words(text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(r"[^\s\u200b\u200d\ufe0f]+", text)]


def test_an_answer_comes_back_as_it_stands_in_the_text(tokenizer):
    for start, end in seen_words(HARD):
        answer = HARD[start:end]
        if not any(map(str.isalnum, answer)):
            continue  # such answers are left out
        document = Document("d", HARD, questions=(Question("which", ((answer,),), "q", (start,)),))
        encoded = qa.encode([document], tokenizer, 512)
        (row,) = encoded.rows
        ((first, last),) = [np.flatnonzero(row.labels != -100)[[0, -1]]]
        logits = np.zeros((len(row), 2), dtype=np.float32)
        logits[first, 0] = logits[last, 1] = 50
        ((found, _), *_) = qa.decode(encoded, [logits], [document])["q"]
        assert found == answer


def test_offsets_hold_no_blank_at_their_ends_and_follow_each_other(tokenizer):
    (pieces,) = word_pieces([HARD], tokenizer)
    covered = np.zeros(len(HARD), dtype=bool)
    for start, end in pieces.offsets.tolist():
        assert HARD[start:end] == HARD[start:end].strip()
        covered[start:end] = True
    assert (np.diff(pieces.offsets, axis=0) >= 0).all()
    missed = {HARD[at] for at in np.flatnonzero(~covered) if not HARD[at].isspace()}
    assert {unicodedata.category(character) for character in missed} <= {"Cf", "Mn"}  # what WordPiece drops


@pytest.mark.parametrize("form", ["@GENE$", "<< TNF-\u03b1 >>", "[[ ne\u0301phritis ]]"])
def test_a_long_sentence_keeps_its_marks(tokenizer, form):
    other = "@DISEASE$"
    text = f"{'before  ' * 60}{form}\u00a0 between {other}{' after' * 60}"
    document = Document("d", text, relations=(Relation(0, 0, "1"),))
    encoded = relation.encode([document], tokenizer, {"1": 1}, relation.scheme(["0", "1"]), 80)
    (row,), (pieces,) = encoded.rows, word_pieces([text], tokenizer)
    assert encoded.shortened == 1 and len(row) <= 80
    kept = row.input_ids.tolist()
    for mark in (form, other):
        start = text.index(mark)
        touching = (pieces.offsets[:, 1] > start) & (pieces.offsets[:, 0] < start + len(mark))
        wanted = pieces.ids[touching].tolist()
        assert any(kept[i : i + len(wanted)] == wanted for i in range(len(kept)))


def test_related_mentions_are_found_by_their_characters(tokenizer):
    text = f"{'before  ' * 60}aspirin  and insulin{' after' * 60}"
    spans = tuple(Span(text.index(word), text.index(word) + len(word), "Drug") for word in ("aspirin", "insulin"))
    document = Document("d", text, spans, relations=(Relation(0, 1, "1"),))
    (row,) = relation.encode([document], tokenizer, {"1": 1}, relation.scheme(["0", "1"]), 60).rows
    assert "aspirin and insulin" in " ".join(tokenizer.decode(row.input_ids).split())


def test_the_place_of_no_answer_is_that_of_the_cls_token(folders):
    own = load_tokenizer(folders["byte_level_modernbert"])
    ids = [(token, own.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")]
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[SEP] [CLS] $A", pair="[SEP] [CLS] $A [SEP] $B", special_tokens=ids
    )
    document = Document("d", "aspirin", questions=(Question("which", (("zebra",),), "q", ()),))
    (row,) = qa.encode([document], own).rows
    assert np.flatnonzero(row.labels != -100).tolist() == [1] and row.input_ids[1] == own.cls_token_id


def test_a_tokenizer_without_special_tokens_gives_rows_without_them(folders):
    own = load_tokenizer(folders["llama_like"])
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    (row,) = ner_encoding.encode([Document("d", "heart", tokenised=True)], own, {"O": 0}, 16).rows
    assert row.input_ids.tolist() == own.encode(" heart") and row.labels[0] == 0
    # No model reads an empty row.
    (empty,) = ner_encoding.encode([Document("d", "\u200b", tokenised=True)], own, {"O": 0}, 16).rows
    assert empty.input_ids.tolist() == [own.pad_token_id] and empty.labels.tolist() == [-100]
    document = Document("d", SENTENCES[0], relations=(Relation(0, 0, "1"),))
    (row,) = relation.encode([document], own, {"1": 1}, relation.scheme(["0", "1"]), 8).rows
    assert row.input_ids.tolist() == own.encode(SENTENCES[0])[:8]


def test_token_types_of_texts_without_special_tokens_are_kept(folders):
    own = load_tokenizer(folders["wordpiece"])
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B:1")
    assert template(own, 2).segments([7, 8], [9]).tolist() == own("a b", "c")["token_type_ids"] == [0, 0, 1]


# Corpora


@pytest.fixture
def citations(tmp_path):
    path = tmp_path / "made.jsonl"
    with path.open("w") as file:
        for number, text in enumerate([*SENTENCES, HARD, " ".join(SENTENCES)]):
            file.write(json.dumps({"pmid": str(number + 1), "title": "", "abstract": text}) + "\n")
    return path


def built(citations, tokenizer, out):
    record = corpus.build([citations], out, tokenizer=tokenizer, max_length=32, workers=1)
    rows = corpus.open(out)["train"]
    return record, {row["pmid"]: row["input_ids"] for row in rows}


def test_rows_of_a_corpus_are_those_of_transformers(kind, plain, folders, citations, tmp_path):
    record, rows = built(citations, folders[kind], tmp_path / "corpus")
    texts = [*SENTENCES, " ".join(HARD.split()), " ".join(SENTENCES)]
    wanted = plain(texts, truncation=True, max_length=32)["input_ids"]
    assert [rows[str(number + 1)] for number in range(8)] == wanted[:8]
    assert rows["10"] == wanted[9] and len(rows["10"]) == 32
    named = {key: record["tokenizer"][f"{key}_id"] for key in ("pad", "cls", "sep", "mask")}
    assert named == {key: getattr(plain, f"{key}_token_id") for key in named}
    # A model with this tokenizer may be trained on the corpus.
    source = loading.Source(kind, folders[kind], BertConfig(vocab_size=len(plain) + 8))
    loading.check_tokenizer(source, corpus.tokenizer(tmp_path / "corpus"), record)
    assert tokenizer_rules(corpus.tokenizer(tmp_path / "corpus").backend_tokenizer) == tokenizer_rules(
        loading.tokenizer_of(source).backend_tokenizer
    )


def test_ids_beyond_16_bits_are_kept(citations, tmp_path):
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"\u2581filler{i}", -20.0) for i in range(66_000)]
    pieces += [(piece, -5.0) for piece in ("\u2581", *map(chr, range(33, 127)))] + [("<mask>", 0.0)]
    XLMRobertaTokenizer(vocab=pieces).save_pretrained(tmp_path / "wide")
    _, rows = built(citations, tmp_path / "wide", tmp_path / "corpus")
    plain = AutoTokenizer.from_pretrained(tmp_path / "wide")
    assert rows["1"] == plain(SENTENCES[0], truncation=True, max_length=32)["input_ids"] and max(rows["1"]) > 1 << 16
    assert corpus.tokenizer(tmp_path / "corpus").mask_token_id == len(pieces) - 1
    masking = Masking.of(corpus.tokenizer(tmp_path / "corpus"), 0.5, 0)
    masked, _ = masking.apply(np.array(rows["1"]), 0, 0)
    assert len(pieces) - 1 in masked


def test_masking_touches_no_special_token_and_draws_pieces_of_the_vocabulary(tokenizer):
    special = template(tokenizer, 2)
    texts = [pieces.ids for pieces in word_pieces(SENTENCES[:2], tokenizer)]
    row = special.ids(*texts)
    spared = np.isin(row, [id for gap in special.gaps for id in gap])
    assert spared.sum() == special.size
    masking, drawn = Masking.of(tokenizer, 0.9, 3), set()
    for number in range(200):
        masked, labels = masking.apply(row, 0, number)
        assert (masked[spared] == row[spared]).all() and (labels[spared] == -100).all()
        drawn |= set(masked.tolist())
    assert tokenizer.mask_token_id in drawn and max(drawn) <= max(tokenizer.get_vocab().values())
    assert len(drawn) > len(tokenizer) / 2


def test_special_are_named_tokens_those_of_the_template_and_those_marked_so(folders):
    own = load_tokenizer(folders["llama_like"])
    own.bos_token = own.eos_token = None
    own.backend_tokenizer.add_special_tokens(["<|other|>"])
    assert not {"<|begin|>", "<|other|>"} & set(own.all_special_tokens)
    names = {"<|begin|>", "<|end|>", "<|pad|>", "<|mask|>", "<|other|>"}
    assert set(own.convert_ids_to_tokens(special_ids(own))) == names


@pytest.mark.parametrize(("model", "made", "words"), [
    ("unigram_deberta", "albert", "(the corpus's lowers case)"),
    ("albert", "unigram_deberta", "(the model's lowers case)"),
    ("byte_level", "wordpiece", "differ in vocabulary"),
    ("llama_like", "byte_level_modernbert", "normalizer"),
])  # fmt: skip
def test_a_corpus_of_another_kind_is_refused_in_a_sentence(folders, model, made, words):
    source = loading.Source(model, folders[model], BertConfig(vocab_size=1000))
    other = load_tokenizer(folders[made])
    with pytest.raises(UserError) as refused:
        loading.check_tokenizer(source, other, {"tokenizer": {"name": made, "vocab_size": len(other)}})
    assert words in str(refused.value)


@pytest.mark.parametrize("flag", ["single_word", "lstrip", "rstrip"])
def test_a_corpus_whose_added_tokens_are_found_in_other_places_is_refused(folders, tmp_path, flag):
    found = []
    for name, flags in (("plain", {}), (flag, {flag: True})):
        tokenizer = load_tokenizer(folders["wordpiece"])
        tokenizer.add_tokens([AddedToken("@GENE$", **flags)])
        tokenizer.save_pretrained(tmp_path / name)
        found.append(load_tokenizer(tmp_path / name))
    assert found[0].tokenize("a @GENE$b @GENE$ c") == found[0].tokenize("a @GENE$ b @GENE$ c")
    source = loading.Source("m", tmp_path / "plain", BertConfig(vocab_size=1000))
    record = {"tokenizer": {"name": "n", "vocab_size": len(found[0])}}
    loading.check_tokenizer(source, found[0], record)
    with pytest.raises(UserError, match="differ in added tokens"):
        loading.check_tokenizer(source, found[1], record)


def test_a_corpus_with_other_special_tokens_is_refused(folders):
    source = loading.Source("m", folders["byte_level_modernbert"], BertConfig(vocab_size=1000))
    other = load_tokenizer(folders["byte_level_modernbert"])
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B")
    with pytest.raises(UserError, match="special tokens"):
        loading.check_tokenizer(source, other, {"tokenizer": {"name": "n", "vocab_size": len(other)}})


# Vocabulary and model


def test_padded_vocabularies_are_taken_and_those_of_another_model_refused(kind, folders):
    pieces = max(load_tokenizer(folders[kind]).get_vocab().values()) + 1
    for rows in (pieces, pieces + pieces // 12):
        loading.tokenizer_of(loading.Source(kind, folders[kind], BertConfig(vocab_size=rows)))
    for rows in (pieces - 1, 2 * pieces):
        with pytest.raises(UserError, match="belong together"):
            loading.tokenizer_of(loading.Source(kind, folders[kind], BertConfig(vocab_size=rows)))


# Files


def edited(folder, file="tokenizer_config.json", **changes):
    path = folder / file
    found = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in {**found, **changes}.items() if value is not None}))
    return folder


def test_without_a_padding_token_the_end_of_text_pads(tmp_path):
    folder = edited(save("llama_like", tmp_path / "a"), pad_token=None)
    assert load_tokenizer(folder).pad_token == "<|end|>"
    with pytest.raises(UserError, match="does not name its pad_token"):
        load_tokenizer(edited(folder, eos_token=None))


def test_a_corpus_needs_a_mask_token_of_whatever_name(tmp_path, citations, cli):
    folder = edited(save("byte_level_modernbert", tmp_path / "a"), mask_token=None)
    status, _, stderr = cli("corpus", "build", citations, "--tokenizer", folder, "--out", tmp_path / "corpus")
    assert status == 2 and "mask_token" in stderr and "\n" not in stderr.strip()


@pytest.mark.parametrize("beside", ["config", "tokenizer_config", None])
def test_vocab_json_and_merges_make_the_tokenizer_of_a_roberta(tmp_path, beside):
    whole = save("byte_level", tmp_path / "whole")
    model = json.loads((whole / "tokenizer.json").read_text())["model"]
    place = tmp_path / "bare"
    place.mkdir()
    (place / "vocab.json").write_text(json.dumps(model["vocab"]))
    (place / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))
    stated = {"config": {"model_type": "roberta"}, "tokenizer_config": {"tokenizer_class": "RobertaTokenizer"}}
    if beside:
        (place / f"{beside}.json").write_text(json.dumps(stated[beside]))
    assert load_tokenizer(place)(HARD)["input_ids"] == AutoTokenizer.from_pretrained(whole)(HARD)["input_ids"]
    (place / "vocab.json").write_text(json.dumps({key: id for key, id in model["vocab"].items() if key != "<mask>"}))
    with pytest.raises(UserError, match="<mask>"):
        load_tokenizer(place)
    (place / "merges.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError):
        load_tokenizer(place)


def test_a_folder_without_any_vocabulary_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(UserError, match=r"tokenizer\.json, vocab\.txt, or vocab\.json"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.bpe.model", "spm.model"])
def test_a_sentencepiece_model_without_a_kind_or_that_is_none_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"a model")
    with pytest.raises(UserError, match=r"no config\.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "xlm-roberta"}')
    with pytest.raises(UserError, match=r"cannot be loaded|not that of a XLMRobertaTokenizer"):
        load_tokenizer(tmp_path)


_OF_DEBERTA = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3, "pad_piece": "[PAD]", "bos_piece": "[CLS]"}
_OF_DEBERTA |= {"eos_piece": "[SEP]", "unk_piece": "[UNK]"}


@pytest.mark.parametrize(
    ("kind", "file", "options"),
    [
        ("deberta-v2", "spm.model", _OF_DEBERTA),
        ("xlm-roberta", "sentencepiece.bpe.model", {}),
        ("camembert", "sentencepiece.bpe.model", {}),
    ],
)
def test_a_sentencepiece_model_alone_gives_the_pieces_of_sentencepiece(kind, file, options, tmp_path):
    """As DeBERTa-v3 is published: no tokenizer.json."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=model, vocab_size=130, minloglevel=2, **options
    )
    (tmp_path / file).write_bytes(model.getvalue())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    tokenizer = load_tokenizer(tmp_path, ("pad_token", "mask_token"))
    official = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    for text in SENTENCES:
        assert tokenizer.tokenize(text) == official.encode(text, out_type=str)


@pytest.mark.parametrize("stated", [True, False])
def test_a_prefix_that_the_configuration_states_counts_as_in_transformers(tmp_path, stated):
    folder = edited(save("byte_level", tmp_path / "a"), add_prefix_space=stated)
    plain = AutoTokenizer.from_pretrained(folder)
    assert load_tokenizer(folder)("heart")["input_ids"] == plain("heart")["input_ids"]
    assert (for_words(load_tokenizer(folder)).add_prefix_space, plain.add_prefix_space) == (True, stated)


def test_scores_that_change_in_their_last_digit_are_no_other_rules():
    scores = [(f"piece{i}", -7 - i / 3) for i in range(300)]
    own = Tokenizer(models.Unigram([("<unk>", 0.0), *scores], unk_id=0))
    again = Tokenizer.from_str(own.to_str())
    assert own.to_str() != again.to_str() and tokenizer_rules(own) == tokenizer_rules(again)
