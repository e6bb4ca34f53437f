"""Another system's files: what is right counts whatever its blanks and letters, what is wrong always costs."""

import json
import os
from dataclasses import replace

import pytest

from compactbio import formats
from compactbio.documents import Document, Span
from compactbio.tasks import ner
from conftest import SHARED, one_sentence

GOLD = (
    "1|t|Zinc cures rash.\n1|a|Iron helps itch and rash.\n1\t0\t4\tZinc\tDrug\n1\t11\t15\trash\tDisease\n"
    "1\t17\t21\tIron\tDrug\n1\t37\t41\trash\tDisease\n\n2|t|Gold and pain.\n2|a|\n2\t9\t13\tpain\tDisease\n\n"
)


@pytest.fixture
def scored(cli, tmp_path):
    """Write gold and predictions, score them, and give the record."""

    def run(gold, predicted, *more, names=("gold.pubtator", "predicted.pubtator")):
        places = [tmp_path / name for name in names]
        for place, content in zip(places, (gold, predicted), strict=True):
            if isinstance(content, str):
                place.write_text(content, encoding="utf-8")
            else:
                formats.write(content, place, "jsonl")
        status, printed, messages = cli("evaluate", places[0], "--predictions", places[1], *more, "--json")
        assert status == 0, messages
        return json.loads(printed)

    return run


@pytest.fixture
def refused(cli, tmp_path):
    def run(gold, predicted, *words, names=("gold.pubtator", "predicted.pubtator")):
        places = [tmp_path / name for name in names]
        for place, content in zip(places, (gold, predicted), strict=True):
            place.write_text(content, encoding="utf-8")
        one_sentence(cli("evaluate", places[0], "--predictions", places[1]), *words)

    return run


def sums(record):
    return [int(sum(column)) for column in zip(*record["units"], strict=True)]


def noted(record, *words):
    assert any(all(word in note for word in words) for note in record["notes"]), record["notes"]


JSONL = ("gold.jsonl", "predicted.jsonl")


# Mentions: where


def test_the_gold_itself_has_all_points(scored):
    record = scored(GOLD, GOLD)
    assert sums(record) == [5, 0, 0] and record["notes"] == []


@pytest.mark.parametrize("blank", ["  ", "\n", "\u00a0", "\t \u2009", ""])
def test_offsets_are_compared_through_the_text_without_blanks(scored, blank):
    gold = [Document("1", "Zinc cures breast cancer.", (Span(0, 4, "Drug"), Span(11, 24, "Disease")))]
    text = f"{blank}Zinc{blank}cures{blank}breast{blank}cancer."
    start, end = text.index("breast"), text.index("cancer") + 6
    at = len(blank)
    predicted = [Document("1", text, (Span(at, at + 4, "Drug"), Span(start, end, "Disease")))]
    record = scored(gold, predicted, names=JSONL)
    assert sums(record) == [2, 0, 0]
    noted(record, "1 documents have other blanks")
    shifted = [replace(predicted[0], spans=(Span(at, at + 4, "Drug"), Span(start, end - 1, "Disease")))]
    assert sums(scored(gold, shifted, names=JSONL)) == [1, 1, 1]


def test_a_mention_of_nothing_but_blanks_is_wrong(scored):
    gold = [Document("1", "Zinc  cures.", (Span(0, 4, "Drug"),))]
    predicted = [Document("1", "Zinc   cures.", (Span(0, 4, "Drug"), Span(4, 6, "Drug")))]
    assert sums(scored(gold, predicted, names=JSONL)) == [1, 1, 0]


def test_a_mention_in_parts_keeps_its_parts_through_other_blanks(scored):
    gold = [Document("1", "breast or lung cancer", (Span(0, 21, "D", fragments=((0, 6), (15, 21))),))]
    predicted = [Document("1", "breast  or  lung  cancer", (Span(0, 24, "D", fragments=((0, 6), (18, 24))),))]
    assert sums(scored(gold, predicted, names=JSONL)) == [1, 0, 0]


def test_of_a_mention_in_parts_the_parts_count_and_a_line_break_makes_none(scored):
    text = "breast and\novarian cancer"
    gold = [Document("1", text, (Span(0, 25, "D", fragments=((0, 6), (19, 25))),))]
    whole = scored(gold, [Document("1", text, (Span(0, 25, "D"),))], names=JSONL)
    assert sums(whole) == [0, 1, 1]
    noted(whole, "1 gold mentions are in several parts")
    other = [Document("1", text, (Span(0, 25, "D", fragments=((0, 10), (19, 25))),))]
    assert sums(scored(gold, other, names=JSONL)) == [0, 1, 1]
    broken = [Document("1", text, (Span(0, 25, "D", fragments=((0, 10), (11, 25))),))]
    assert sums(scored(broken, [Document("1", text, (Span(0, 25, "D"),))], names=JSONL)) == [1, 0, 0]


def test_nested_and_overlapping_mentions_are_each_compared(scored):
    text = "breast cancer risk"
    gold = [Document("1", text, (Span(0, 13, "D"), Span(7, 13, "D"), Span(0, 18, "P")))]
    predicted = [Document("1", text, (Span(0, 13, "D"), Span(7, 18, "D"), Span(0, 18, "P")))]
    assert sums(scored(gold, predicted, names=JSONL)) == [2, 1, 1]


# Mentions that stand nowhere

WRONG = "1\t0\t4\tZinc\tDrug\n1\t1\t5\tZinc\tDrug\n1\t900\t904\trash\tDisease\n1\t12\t16\trash\tDisease\n"
BIOC_HEAD = "<?xml version='1.0'?><collection><source/><date/><key/><document><id>1</id>"
TEXT = "Zinc cures rash. Iron helps itch and rash."


def bioc(*places: tuple[int, int, str, str]) -> str:
    found = "".join(
        f"<annotation id='T{i}'><infon key='type'>{kind}</infon><location offset='{start}' length='{end - start}'/>"
        f"<text>{text}</text></annotation>"
        for i, (start, end, text, kind) in enumerate(places)
    )
    passage = f"<passage><offset>0</offset><text>{TEXT}</text>{found}</passage>"
    return f"{BIOC_HEAD}{passage}</document></collection>"


PLACES = ((0, 4, "Zinc", "Drug"), (1, 5, "Zinc", "Drug"), (900, 904, "rash", "Disease"), (12, 16, "rash", "Disease"))


def test_predictions_that_do_not_stand_at_their_offsets_are_wrong(scored, cli, tmp_path):
    gold = f"1|t|{TEXT}\n1|a|\n1\t0\t4\tZinc\tDrug\n1\t11\t15\trash\tDisease\n\n"
    brat = tmp_path / "predicted"
    brat.mkdir()
    (brat / "1.txt").write_text(TEXT)
    (brat / "1.ann").write_text("".join(f"T1\t{kind} {a} {b}\t{text}\n" for a, b, text, kind in PLACES))
    records = [
        scored(gold, f"1|t|{TEXT}\n1|a|\n{WRONG}\n"),
        scored(gold, bioc(*PLACES), names=("gold.pubtator", "predicted.xml")),
        json.loads(cli("evaluate", tmp_path / "gold.pubtator", "--predictions", brat, "--json")[1]),
    ]
    for record in records:
        assert sums(record) == [1, 3, 1] and record["precision"] == 0.25
        assert record["per_type"]["Drug"]["precision"] == 0.5 and record["per_type"]["Disease"]["precision"] == 0
        noted(record, "3 predicted mentions do not match the text", "wrong")
        assert "data were left out" not in " ".join(record["notes"])


def test_they_are_wrong_without_types_too(scored):
    gold = f"1|t|{TEXT}\n1|a|\n1\t0\t4\tZinc\tDrug\n\n"
    record = scored(gold, f"1|t|{TEXT}\n1|a|\n{WRONG}\n", "--untyped")
    assert sums(record) == [1, 3, 0] and list(record["per_type"]) == [""]


def test_a_mention_given_twice_counts_once_and_is_reported(scored):
    twice = GOLD.replace("1\t0\t4\tZinc\tDrug\n", "1\t0\t4\tZinc\tDrug\n1\t0\t4\tZinc\tDrug\tD1\n1\t0\t3\tZin\tDrug\n")
    record = scored(GOLD, twice)
    assert sums(record) == [5, 1, 0]
    noted(record, "1 predicted mentions are given more than once")


# Types


@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("Disease", "DISEASE"), ("Disease", "disease "), ("Disease", "\u00a0Disease"), ("cell line", "Cell\u00a0Line"),
        ("cell line", "cell  line"), ("Disease", "Dis\u00adease"), ("Disease", "Disease\ufeff"), ("Straße", "STRASSE"),
    ],
)  # fmt: skip
def test_a_type_is_the_same_in_other_letters_and_blanks(scored, own, other):
    def text(kind):
        return f"1|t|Zinc and rash.\n1|a|\n1\t9\t13\trash\t{kind}\n1\t0\t4\tZinc\tDrug\n\n"

    for sides in ((own, other), (other, own)):
        record = scored(*map(text, sides))
        assert sums(record) == [2, 0, 0] and len(record["per_type"]) == 2


def test_a_type_is_the_same_in_other_letters_in_token_files(scored):
    gold = "rash\tB-Disease\nof\tO\nZinc\tB-Drug\n"
    record = scored(gold, "rash\tB-DISEASE\nof\tO\nZinc\tB-drug \n", names=("gold.tsv", "predicted.tsv"))
    assert sums(record) == [2, 0, 0] and list(record["per_type"]) == ["Disease", "Drug"]


def test_one_side_with_a_type_in_two_spellings_has_one_type(scored):
    mixed = GOLD.replace("rash\tDisease", "rash\tDISEASE", 1)
    assert list(scored(mixed, GOLD)["per_type"]) == ["Disease", "Drug"]
    assert sums(scored(GOLD, mixed)) == [5, 0, 0]


def test_a_type_that_the_gold_lacks_is_wrong_and_reported(scored):
    record = scored(GOLD, GOLD.replace("Zinc\tDrug", "Zinc\tChemical"))
    assert sums(record) == [4, 1, 1]
    noted(record, "1 predicted mentions are of type Chemical", "wrong")


# Documents


def test_single_type_outputs_one_after_the_other_are_joined(scored):
    lines = GOLD.splitlines(keepends=True)
    drugs, diseases = ("".join(line for line in lines if kind not in line) for kind in ("\tDisease", "\tDrug"))
    record = scored(GOLD, drugs + "\n" + diseases)
    assert sums(record) == [5, 0, 0]
    noted(record, "2 documents are in the predictions more than once")
    assert sums(scored(GOLD, diseases + "\n" + GOLD.replace("\t0\t4\tZinc", "\t0\t3\tZin"))) == [4, 1, 1]


def test_one_id_of_two_texts_is_refused(refused):
    refused(GOLD, GOLD + "1|t|Something else.\n1|a|\n\n", "'1'", "another text")
    refused(GOLD + "1|t|Something else.\n1|a|\n\n", GOLD, "'1'", "another text")


def test_a_gold_document_that_occurs_twice_is_scored_twice(scored):
    record = scored(GOLD + GOLD, GOLD)
    assert sums(record) == [10, 0, 0]
    assert sums(scored(GOLD + GOLD, GOLD + GOLD)) == [10, 0, 0]


def test_missing_documents_count_as_missed_and_further_ones_are_left_out(scored, refused):
    first, _, second = GOLD.partition("\n\n")
    record = scored(GOLD, first + "\n\n9|t|Lead.\n9|a|\n9\t0\t4\tLead\tDrug\n\n")
    assert sums(record) == [4, 0, 1]
    noted(record, "1 documents of the data are not in the predictions", "missed")
    noted(record, "1 documents of the predictions are not in the data")
    refused(first, second, "None of the 1 documents", "'1'")


def test_predictions_without_a_mention_are_reported(scored):
    record = scored(GOLD, "".join(line for line in GOLD.splitlines(keepends=True) if "\t" not in line))
    assert sums(record) == [0, 0, 5] and record["f1"] == 0
    noted(record, "hold no mention")


def test_a_folder_of_texts_without_annotations_finds_nothing(scored, cli, tmp_path):
    scored(GOLD, GOLD)
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "2.txt").write_text("Gold and pain. ")
    record = json.loads(cli("evaluate", tmp_path / "gold.pubtator", "--predictions", tmp_path / "found", "--json")[1])
    assert sums(record) == [0, 0, 5] and record["model"]["name"] == "found"


def test_predictions_in_a_pipe_are_refused_whatever_the_task(cli, tmp_path):
    """A record names the SHA-256 of what was scored, and a pipe is read once."""
    os.mkfifo(tmp_path / "predicted.txt")
    for name, content in (
        ("gold.tsv", "Zinc\tB\n"),
        ("pairs.tsv", "@DISEASE$ and @GENE$ here\t1\n@DISEASE$ or @GENE$ there\t0\n"),
        ("asked.json", '{"data": [{"paragraphs": [{"context": "Zinc", "qas": [{"id": "1", "question": "?", '
         '"answers": [{"text": "Zinc", "answer_start": 0}]}]}]}]}'),
    ):  # fmt: skip
        (tmp_path / name).write_text(content)
        done = cli("evaluate", tmp_path / name, "--predictions", tmp_path / "predicted.txt")
        one_sentence(done, "predicted.txt: it is a pipe or a device")


def test_empty_cut_and_other_predictions_are_refused(refused):
    refused(GOLD, "", "empty")
    refused(GOLD, GOLD.replace("Iron helps", "Iron help"), "another text")
    refused(GOLD, GOLD[: GOLD.index("|a|Iron")], "line 2")
    names = ("gold.tsv", "predicted.tsv")
    refused("Zinc\tB\ncures\tO\n", "Zinc\tB\ncure\tO\n", "other words", names=names)
    refused("Zinc\tB\n\nIron\tB\n", "Zinc\tB\n", "2 sentences", names=names)


@pytest.mark.skipif(not SHARED.exists(), reason="real system output is not here (../shared/data)")
def test_the_official_counts_stay_where_text_ids_and_types_are_written_otherwise():
    folder = SHARED / "pubtator" / "BC5CDR" / "eval_sample"
    gold = list(formats.read(folder / "gold" / "CDR_sample.gold.PubTator"))
    found = list(formats.read(folder / "system" / "CDR_sample.test.CID.PubTator"))
    official = ner.outcome_of_documents(gold, found).units.sum(0).tolist()
    assert official == [758, 113, 176]
    halves = [
        [
            replace(d, spans=tuple(replace(s, type=f"{s.type.upper()} ") for s in d.spans if s.type == kind))
            for d in found
        ]
        for kind in ("Chemical", "Disease")
    ]
    assert ner.outcome_of_documents(gold, [*halves[1], *halves[0]]).units.sum(0).tolist() == official
    spread = [
        Document(d.id, d.text.replace(" ", " \n"), tuple(replace(s, **_spread(d.text, s)) for s in d.spans))
        for d in found
    ]
    assert ner.outcome_of_documents(gold, spread).units.sum(0).tolist() == official


def _spread(text, span):
    return {"start": span.start + text[: span.start].count(" "), "end": span.end + text[: span.end].count(" ")}


# Questions

ASKED = [("drug", "Which drug?", [["aspirin", "ASA"]]), ("gene", "Which gene?", [["p53"]])]
QA = ("gold.json", "predicted.json")


def bioasq(answers, kinds=None):
    entries = [
        {"id": name, "type": (kinds or {}).get(name, "factoid"), "body": text, "exact_answer": answers.get(name, gold)}
        for name, text, gold in ASKED
    ]
    return json.dumps({"questions": entries})


@pytest.mark.parametrize(
    ("answers", "mrr"),
    [
        ([["", "aspirin"], ["aspirin"]], 0.5),
        ([[""], ["aspirin"]], 0.5),
        ([[], ["aspirin"]], 0.5),
        ([["  "], [" "], ["aspirin"]], 1 / 3),
        (["", "aspirin"], 0.5),
        ([["x"], ["x"], ["asa"]], 1 / 3),
        ([[""]] * 5 + [["aspirin"]], 0),
        ([["aspirin."], ["aspirin"]], 0.5),
        ([["dose", "aspirin"]], 0),
        ("ASA", 1),
        ("", 0),
        ([], 0),
    ],
)
def test_every_answer_keeps_its_place_a_blank_one_too(scored, answers, mrr):
    record = scored(bioasq({}), bioasq({"drug": answers, "gene": []}), names=QA)
    assert record["mrr"] == pytest.approx(mrr / 2)


def test_questions_left_out_or_added_are_reported_or_refused(scored, refused):
    predicted = json.loads(bioasq({}))
    predicted["questions"].append({"id": "more", "type": "yesno", "exact_answer": "perhaps"})
    record = scored(bioasq({"gene": "yes"}, {"gene": "yesno"}), json.dumps(predicted), names=QA)
    assert len(record["units"]) == 1 and record["mrr"] == 1
    noted(record, "1 questions are not factoid")
    noted(record, "1 questions of the predictions are not in the data")
    twice = {"questions": [*predicted["questions"], *predicted["questions"]]}
    refused(bioasq({}), json.dumps(twice), "is in it 2 times", names=QA)
    refused(bioasq({}), bioasq({})[:-40], "JSON", names=QA)


def squad(*asked):
    pairs = [
        {
            "context": "Zinc and iron.",
            "qas": [{"id": name, "question": text, "answers": [{"text": answer, "answer_start": 0}]}],
        }
        for name, text, answer in asked
    ]
    return json.dumps({"version": "made", "data": [{"title": "made", "paragraphs": pairs}]})


BIOASQ_ID = "56bf3a79ef6e394741000010"


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ((("drug_001", "Which drug?", "a"), ("drug_002", "Which dose?", "b")), ["drug_001", "drug_002"]),
        ((("drug_001", "Which drug?", "a"), ("drug_002", "which  drug?", "b")), ["drug", "drug"]),
        ((("drug", "Which drug?", "a"), ("drug_002", "Which dose?", "b")), ["drug", "drug_002"]),
        (((f"{BIOASQ_ID}_001", "Which?", "a"), (f"{BIOASQ_ID}_1000", "Which ?", "b")), [BIOASQ_ID] * 2),
        (
            (("2019_001", "Who?", "a"), ("2019_002", "What?", "b"), ("2020_001", "Who?", "a")),
            ["2019_001", "2019_002", "2020"],
        ),
    ],
)
def test_squad_ids_are_one_question_where_they_are_bioasqs_or_ask_the_same(tmp_path, asked, ids):
    (tmp_path / "asked.json").write_text(squad(*asked))
    found = list(formats.read(tmp_path / "asked.json"))
    assert [d.questions[0].id for d in found] == ids and [d.id for d in found] == [name for name, _, _ in asked]
    formats.write(found, tmp_path / "written.json", "squad")
    assert list(formats.read(tmp_path / "written.json")) == found


def test_two_questions_of_one_id_are_refused(refused):
    gold = squad(("q1", "Which drug?", "Zinc"), ("q1", "Which metal?", "iron"))
    answered = {"questions": [{"id": "q1", "type": "factoid", "exact_answer": [["iron"]]}]}
    refused(gold, json.dumps(answered), "Two different questions", "'q1'", names=QA)
