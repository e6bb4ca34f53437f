"""What is written in a format is read back the same, and what a format cannot say is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compactbio.documents import Document, Question, Relation, Span
from compactbio.errors import UserError
from compactbio.formats import FORMATS, read, recognise, write
from compactbio.tasks.alignment import comparable

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# All but half surrogate pairs, and what a line cannot hold.
LETTERS = st.characters(blacklist_categories=("Cs",))
INLINE = st.characters(blacklist_categories=("Cs",), blacklist_characters="\t\n\r")
LINES = st.text(INLINE, min_size=1, max_size=30)
TEXTS = st.text(LETTERS, min_size=1, max_size=30)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.-]{0,9}", fullmatch=True)
# Words of every script with what other libraries take for blanks or line ends.
INWORD = st.characters(blacklist_categories=("Cs",), blacklist_characters=" \t\n\r")
WORDS = st.text(INWORD | st.sampled_from("\x0b\x1c\x85\xa0\u2028"), min_size=1, max_size=6)
# XML has no place for most control characters.
PRINTED = st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff")
XML_TEXTS = st.text(PRINTED | st.sampled_from("\t\n\r\x85"), min_size=1, max_size=20)


@st.composite
def spans_of(draw, text, types, identifiers, fragments):
    """Some mentions of a text, perhaps in several parts."""
    found = []
    for _ in range(draw(st.integers(0, 3))):
        borders = sorted(draw(st.sets(st.integers(0, len(text)), min_size=2, max_size=6)))
        parts = tuple(zip(borders[::2], borders[1::2], strict=False))
        more = parts if fragments and len(parts) > 1 else ()
        end = parts[-1][1] if more else parts[0][1]
        found.append(Span(parts[0][0], end, draw(types), draw(identifiers), more))
    return tuple(found)


@st.composite
def standoff(draw, texts, types, identifiers, ends, fragments=True, names=NAMES):
    """A document with mentions, and relations between mentions ("places"), concepts ("concepts"), or either."""
    text = draw(texts)
    spans = draw(spans_of(text, types, identifiers, fragments))
    places = st.integers(0, len(spans) - 1) if spans else st.nothing()
    sides = {"places": st.tuples(places, places), "concepts": st.tuples(identifiers, identifiers)}
    sides["either"] = sides["places"] | sides["concepts"]
    relations = st.builds(lambda pair, kind: Relation(*pair, kind), sides[ends], types)
    return Document(draw(names), text, spans, tuple(draw(st.lists(relations, max_size=2))))


def unrelated(document):
    return replace(document, relations=())


@st.composite
def sentences(draw):
    """A tokenised document with mentions of whole words."""
    words = draw(st.lists(WORDS.filter(lambda word: word != "-DOCSTART-"), min_size=1, max_size=8))
    borders = sorted(draw(st.sets(st.integers(0, len(words)), max_size=6)))
    starts = [sum(len(word) + 1 for word in words[:number]) for number in range(len(words) + 1)]
    pairs = zip(borders[::2], borders[1::2], strict=False)
    types = st.sampled_from(["", "Gene", "cell_line", "B-cell"])
    spans = tuple(Span(starts[a], starts[b] - 1, draw(types)) for a, b in pairs)
    return Document("", " ".join(words), spans, tokenised=True)


@st.composite
def pairs(draw):
    """A context and a factoid question as SQuAD has them."""
    name = draw(NAMES)
    answers = tuple((text,) for text in draw(st.lists(TEXTS.filter(str.strip), max_size=2)))
    starts = tuple(draw(st.integers(0, 40)) for _ in answers) if draw(st.booleans()) else ()
    return Document(f"{name}_001", draw(TEXTS), questions=(Question(draw(TEXTS), answers, name, starts),))


@st.composite
def asked(draw):
    """The snippets of one BioASQ question."""
    kind = draw(st.sampled_from(["factoid", "list", "yesno", "summary"]))
    name = draw(NAMES)
    wordings = TEXTS.filter(str.strip)
    given_answers = st.lists(st.lists(wordings, min_size=1, max_size=2).map(tuple), max_size=2).map(tuple)
    answers = {"yesno": st.sampled_from([(), (("yes",),), (("no",),)]), "summary": st.just(())}
    question = Question(draw(TEXTS), draw(answers.get(kind, given_answers)), name, kind=kind)
    snippets = draw(st.lists(TEXTS, min_size=1, max_size=3) | st.just([""]))
    return [Document(f"{name}_{n:03}", text, questions=(question,)) for n, text in enumerate(snippets, 1)]


@st.composite
def marked(draw):
    """A sentence with two marks, and its class."""
    filler = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\t\n\r@$"), max_size=10)
    parts = [draw(filler), "@GENE$", draw(filler), "@DISEASE$", draw(filler)]
    starts = [len(parts[0]), len("".join(parts[:3]))]
    spans = (Span(starts[0], starts[0] + 6, "GENE"), Span(starts[1], starts[1] + 9, "DISEASE"))
    label = draw(st.sampled_from(["0", "1", "CPR:4", "false"]))
    return Document(draw(NAMES), "".join(parts), spans, (Relation(0, 1, label),))


@st.composite
def bracketed(draw):
    """A text with << first >> and [[ second ]], in either order, and its class."""
    filler = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="<>[]"), min_size=1, max_size=10)
    head, tail, between = draw(filler), draw(filler), draw(filler)
    first, second = (f"<< {head} >>", f"[[ {tail} ]]")
    swapped = draw(st.booleans())
    text = second + between + first if swapped else first + between + second
    starts = (text.index("<< ") + 3, text.index("[[ ") + 3)
    spans = (Span(starts[0], starts[0] + len(head), ""), Span(starts[1], starts[1] + len(tail), ""))
    return Document("", text, spans, (Relation(0, 1, draw(LINES)),))


QUESTIONS = st.builds(
    Question,
    text=TEXTS,
    answers=st.lists(st.lists(TEXTS, max_size=2).map(tuple), max_size=2).map(tuple),
    id=TEXTS,
    starts=st.lists(st.integers(0, 9), max_size=2).map(tuple),
    kind=st.sampled_from(["factoid", "yesno"]),
)
ANYTHING = st.builds(
    lambda document, questions, tokenised: replace(document, questions=tuple(questions), tokenised=tokenised),
    standoff(TEXTS, TEXTS, TEXTS, "either", names=TEXTS),
    st.lists(QUESTIONS, max_size=2),
    st.booleans(),
)
WORDS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters=" \t\n\r"), min_size=1, max_size=5)
SAYABLE = {
    "conll": st.lists(sentences(), min_size=1, max_size=3),
    "pubtator": st.lists(
        standoff(
            LINES, LINES.filter(lambda kind: not kind.lstrip("-").isdecimal()), LINES, "concepts", fragments=False
        ),
        min_size=1,
        max_size=3,
    ),
    "bioc": st.lists(standoff(XML_TEXTS, XML_TEXTS, XML_TEXTS, "either"), min_size=1, max_size=3),
    "brat": st.lists(
        standoff(TEXTS, WORDS, LINES, "places"),
        min_size=1,
        max_size=3,
        unique_by=lambda document: document.id.lower(),
    ).map(lambda found: sorted(found, key=lambda document: document.id)),
    "squad": st.lists(pairs(), min_size=1, max_size=3),
    "bioasq": st.lists(asked(), min_size=1, max_size=3, unique_by=lambda found: found[0].questions[0].id).map(
        lambda groups: [document for group in groups for document in group]
    ),
    "marked": st.lists(marked(), min_size=1, max_size=3),
    "marked-jsonl": st.lists(bracketed(), min_size=1, max_size=3),
    "jsonl": st.lists(ANYTHING, min_size=1, max_size=3),
    "parquet": st.lists(
        standoff(TEXTS, TEXTS, TEXTS, "concepts", fragments=False).map(unrelated), min_size=1, max_size=3
    ),
}


def without_parts_that_lines_divide(documents):
    """The documents, whose mentions have parts where more than blanks lie between them."""
    return [
        replace(d, spans=tuple(replace(s, fragments=comparable(s, d.text).fragments) for s in d.spans))
        for d in documents
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_read_back(format, tmp_path_factory):
    @quick
    @given(SAYABLE[format])
    def round_trip(documents):
        path = tmp_path_factory.mktemp("round") / "data"
        write(iter(documents), path, format)
        found = list(read(path, format))
        if format in ("conll", "marked-jsonl"):
            assert [document.id for document in found] == [str(number + 1) for number in range(len(documents))]
            found = [replace(document, id="") for document in found]
        if format == "brat":
            found, documents = map(without_parts_that_lines_divide, (found, documents))
        assert found == documents

    round_trip()


PLAIN = {
    "conll": Document("1", "bad rash", (Span(4, 8, "Sign"),), tokenised=True),
    "pubtator": Document("1", "On it. A rash.", (Span(9, 13, "Sign"),)),
    "bioc": Document("1", "A rash.", (Span(2, 6, "Sign"),)),
    "brat": Document("1", "A rash.", (Span(2, 6, "Sign"),)),
    "squad": Document("1", "A rash.", questions=(Question("What?", (("rash",),), "1", (2,)),)),
    "bioasq": Document("1_001", "A rash.", questions=(Question("What?", (("rash",),), "1"),)),
    "marked": Document("1", "So @A$ at @B$.", (Span(3, 6, "A"), Span(10, 13, "B")), (Relation(0, 1, "0"),)),
    "marked-jsonl": Document("1", "<< a >> [[ b ]]", (Span(3, 4, ""), Span(11, 12, "")), (Relation(0, 1, "X"),)),
    "jsonl": Document("1", "A rash.", (Span(2, 6, "Sign"),)),
    "parquet": Document("1", "A rash.", (Span(2, 6, "Sign"),)),
}


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_written_is_recognised(tmp_path, format):
    path = tmp_path / "data"
    write([PLAIN[format]], path, format)
    assert recognise(path) == format
    assert list(read(path)) == [PLAIN[format]]


TWO_PARTS = Document("d1", "A bad rash.", (Span(2, 10, "Sign", "", ((2, 5), (6, 10))),))
RELATED = Document("d1", "A rash.", (Span(2, 6, "Sign"),), (Relation(0, 0, "Is"),))
CONCEPTS = Document("d1", "A rash.", relations=(Relation("D1", "D2", "CID"),))
ASKED = Document("d1_001", "A rash.", questions=(Question("What?", (("rash", "it"),), "d1"),))


@pytest.mark.parametrize(
    ("format", "document", "said"),
    [
        ("conll", Document("d1", "bad rash", (Span(5, 8, ""),), tokenised=True), "begin and end with words"),
        ("conll", Document("d1", "bad rash", (Span(0, 8, ""), Span(4, 8, "")), tokenised=True), "overlap"),
        ("conll", Document("d1", "bad\nrash", tokenised=True), "line break"),
        ("conll", Document("d1", "bad  rash", tokenised=True), "a word is empty"),
        ("conll", Document("d1", "-DOCSTART- X", tokenised=True), "-DOCSTART-"),
        ("conll", TWO_PARTS, "mentions in several parts"),
        ("conll", RELATED, "relations"),
        ("conll", ASKED, "questions"),
        ("pubtator", Document("d1", "A\nrash."), "line break"),
        ("pubtator", Document("d1|t", "A rash."), "|"),
        ("pubtator", Document("d1", "A\trash.", (Span(0, 6, ""),)), "tab"),
        ("pubtator", TWO_PARTS, "mentions in several parts"),
        ("pubtator", RELATED, "relates mentions"),
        ("pubtator", ASKED, "questions"),
        ("bioc", Document("d1", "A\x0brash."), "XML"),
        ("bioc", replace(RELATED, relations=(Relation(0, "D1", "Is"),)), "relates a mention and a concept"),
        ("bioc", ASKED, "questions"),
        ("brat", Document("d1/x", "A rash."), "not a file name"),
        ("brat", Document("", "A rash."), "not a file name"),
        ("brat", replace(RELATED, spans=(Span(2, 6, ""),)), "not a single word"),
        ("brat", replace(RELATED, spans=(Span(2, 6, "a sign"),)), "not a single word"),
        ("brat", CONCEPTS, "relates concepts"),
        ("brat", ASKED, "questions"),
        ("squad", ASKED, "one wording"),
        ("squad", replace(ASKED, id="d2"), "under the document's id"),
        ("squad", Document("1", "A", questions=(Question("What?", ((" ",),), "1"),)), "an answer is blank"),
        ("squad", RELATED, "mentions"),
        ("squad", Document("d1", "A rash."), "0 questions"),
        ("bioasq", Document("d1", "A rash."), "0 questions"),
        ("bioasq", replace(ASKED, questions=(Question("What?", (("rash",),), "d1", (2,)),)), "starts"),
        ("bioasq", replace(ASKED, questions=(Question("What?", (("rash", "\r"),), "d1"),)), "an answer is blank"),
        ("bioasq", replace(ASKED, questions=(Question("Is it?", (("so",),), "d1", kind="yesno"),)), "not yes or no"),
        ("bioasq", replace(ASKED, questions=(Question("How?", (("so",),), "d1", kind="summary"),)), "summary"),
        ("marked", RELATED, "its marks"),
        ("marked", replace(PLAIN["marked"], id="d1", text="So @A$\tt @B$."), "tab"),
        ("marked", Document("d1", "A rash."), "0 relations"),
        ("marked-jsonl", replace(RELATED), "<< >>"),
        ("jsonl", Document("d1", "A rash.", (Span(2, 60, ""),)), "from 2 to 60"),
        ("parquet", TWO_PARTS, "it has mentions in several parts"),
        ("parquet", RELATED, "it has relations"),
        ("parquet", ASKED, "it has questions"),
        ("jsonl", Document("d1", "A rash.", relations=(Relation(0, 0, ""),)), "mention 0 of 0"),
        ("bioc", Document("d1", "A \ud800."), "surrogate"),
    ],
)
def test_what_a_format_cannot_say_is_refused_with_the_document_and_leaves_nothing(tmp_path, format, document, said):
    with pytest.raises(UserError) as raised:
        write([PLAIN[format], document], tmp_path / "data", format)
    assert said in str(raised.value)
    assert repr(document.id) in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_brat_folder_is_never_written_over(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").write_text("keep")
    with pytest.raises(UserError, match="name a new folder"):
        write([PLAIN["brat"]], tmp_path / "data", "brat")
    assert (tmp_path / "data" / "mine").read_text() == "keep"
    with pytest.raises(UserError, match="another document has its id"):
        write([PLAIN["brat"], PLAIN["brat"]], tmp_path / "twice", "brat")


@pytest.mark.parametrize("first", ["\ufeffzinc", "\ufeff\ufeff"])
def test_a_word_that_looks_like_a_bom_is_read_back(tmp_path, first):
    document = Document("1", f"{first} rash", tokenised=True)
    write([document], tmp_path / "data", "conll")
    assert list(read(tmp_path / "data")) == [document]


def test_raw_text_becomes_words_in_a_token_file(tmp_path):
    write([Document("1", "An IL-2 rash.", (Span(3, 7, "Gene"),))], tmp_path / "data", "conll")
    assert (tmp_path / "data").read_text() == "An\tO\nIL\tB-Gene\n-\tI-Gene\n2\tI-Gene\nrash\tO\n.\tO\n\n"


def test_line_formats_and_bioc_are_written_document_by_document(tmp_path):
    for format in ("conll", "pubtator", "bioc", "jsonl"):
        out = tmp_path / format
        sizes = []

        def given_slowly(format=format, sizes=sizes):
            for _ in range(2000):
                yield PLAIN[format]
                [partial] = tmp_path.glob(f".{format}.*.partial")
                sizes.append(partial.stat().st_size)

        write(given_slowly(), out, format)
        assert sizes[1500] > 0
        assert sum(1 for _ in read(out)) == 2000


# What is not a document


@pytest.mark.parametrize("format", ["jsonl", "parquet", "bioc", "brat", "pubtator"])
def test_numbers_of_other_libraries_are_written_as_numbers(tmp_path, format):
    score = np.float32(0.5) if format in ("jsonl", "bioc", "parquet") else None
    span = Span(np.int64(0), np.int32(4), "C", score=score)
    relations = (Relation(np.int64(0), np.int64(0), "x"),) if format in ("jsonl", "bioc", "brat") else ()
    write([Document("1", "Zinc helps.", (span,), relations)], tmp_path / "a", format)
    [found] = read(tmp_path / "a", format)
    assert found == Document("1", "Zinc helps.", (span,), relations)


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        (None, "documents is of type NoneType: give a list"),
        (Document("1", "x"), "documents is of type Document: give a list"),
        ("x", "documents is of type str: give a list"),
        (["x"], r"Document 0 \(counted from 0\) is of type str; give a Document"),
        ([Document(7, "x")], "Document 7 cannot be written: id: input should be a valid string"),
        ([Document("1", None)], "text: input should be a valid string"),
        ([Document("1", "x", (Span("a", 1, "C"),))], "spans.0.start: input should be a valid integer"),
        ([Document("1", "x", (Span(0.5, 1, "C"),))], "spans.0.start: input should be a valid integer"),
    ],
)
@pytest.mark.parametrize("format", ["jsonl", "bioc"])
def test_what_is_not_a_document_is_said(tmp_path, documents, said, format):
    with pytest.raises(UserError, match=said):
        write(documents, tmp_path / "a", format)
    assert not (tmp_path / "a").exists()


def test_what_is_not_a_path_is_said(tmp_path):
    for path in (None, 3):
        with pytest.raises(UserError, match=r"path is .*: give text or a path"):
            read(path)
        with pytest.raises(UserError, match=r"path is .*: give text or a path"):
            write([], path, "jsonl")
    with pytest.raises(UserError, match="path is empty"):
        read("")


@pytest.mark.parametrize("format", ["jsonl", "parquet", "bioc", "pubtator"])
def test_ids_keep_the_blanks_at_their_ends(tmp_path, format):
    ids = ["x", "x ", "\u00a0x"] + [" x", " "] * (format != "pubtator")
    write([Document(one, "Zinc") for one in ids], tmp_path / "a", format)
    assert [document.id for document in read(tmp_path / "a")] == ids
