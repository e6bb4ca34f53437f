"""Scores of generated predictions equal those of seqeval and of the official rules, written here once more and plainly.

The official evaluators' own figures for real systems are held by `test_tasks_ner.py`, `test_tasks_qa.py` and
`test_tasks_relation.py` where those data are; these checks run everywhere.
"""

import json
import random
import warnings

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2
from sklearn.metrics import precision_recall_fscore_support

from compactbio import formats
from compactbio.documents import Document, Question, Span
from compactbio.tasks import ner, qa

many = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

# Mentions over words


def seqeval(gold, predicted) -> dict[str, float]:
    """What seqeval gives in its own mode, which is conlleval's, and in strict IOB2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where there is nothing to divide by
        measures = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
        found = {name: measure(gold, predicted) for name, measure in measures.items()}
        return {**found, "strict_f1": f1_score(gold, predicted, mode="strict", scheme=IOB2)}


def pairs_of(tags: list[str]):
    """Sentences of tags: the gold and what a system gave."""
    words = st.lists(st.tuples(st.sampled_from(tags), st.sampled_from(tags)), min_size=1, max_size=9)
    return st.lists(words, min_size=1, max_size=5)


@pytest.mark.parametrize("tags", [["B", "I", "O"], ["O", "B-Drug", "I-Drug", "B-Gene", "I-Gene"]])
def test_mentions_are_scored_as_by_seqeval(tags):
    bare = tags[0] == "B"
    # seqeval takes a bare tag for one of a type that is its own prefix.
    typed = (lambda tag: tag if tag == "O" else f"{tag}-X") if bare else str
    first = tags[0] if bare else "B-Drug"

    @many
    @given(pairs_of(tags))
    @example([[("O", "O")]])
    @example([[(first, "O")]])
    @example([[("O", first)]])
    @example([[(first, first), (first.replace("B", "I", 1), "O")]])
    @example([[(first, first.replace("B", "I", 1)), ("O", "O"), (first.replace("B", "I", 1), first)]])
    @example([[(first, first)], [(first.replace("B", "I", 1), first.replace("B", "I", 1))]])
    def check(sentences):
        gold, predicted = ([[pair[side] for pair in sentence] for sentence in sentences] for side in (0, 1))
        ours = ner.score(gold, predicted)
        theirs = seqeval(*([[typed(tag) for tag in own] for own in side] for side in (gold, predicted)))
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, abs=1e-12)
        right = sum(a == b for sentence in sentences for a, b in sentence)
        assert ours["accuracy"] == pytest.approx(right / sum(map(len, sentences)))

    check()


# Mentions over characters: BioCreative


def biocreative(gold: list[Document], predicted: list[Document]) -> tuple[list[int], dict[str, float]]:
    """BioCreative V CDR's mention level: sets of (document, start, end, type), compared exactly, summed over all."""
    wanted, found = ({(d.id, s.start, s.end, s.type) for d in side for s in d.spans} for side in (gold, predicted))
    tp, fp, fn = len(wanted & found), len(found - wanted), len(wanted - found)
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return [tp, fp, fn], {"precision": precision, "recall": recall, "f1": f1}


TEXT = "Aspirin and metformin cured advanced lung cancer but aspirin did not cure this fever"
WORDS = TEXT.split(" ")
# The first word of a mention, how many it has, and its type.
MENTION = st.tuples(st.integers(0, len(WORDS) - 1), st.integers(1, 4), st.sampled_from(["Chemical", "Disease"]))


def spans(drawn) -> tuple[Span, ...]:
    """Mentions in the order of a file, which holds each as often as it was drawn."""
    starts = [len(" ".join([*WORDS[:i], ""])) for i in range(len(WORDS))]
    ends = [start + len(word) for start, word in zip(starts, WORDS, strict=True)]
    return tuple(Span(starts[a], ends[min(a + n, len(WORDS)) - 1], kind) for a, n, kind in drawn)


@many
@given(
    st.lists(
        st.tuples(st.lists(MENTION, max_size=4), st.lists(MENTION, max_size=4), st.integers(0, 2**30)),
        min_size=1,
        max_size=4,
    )
)
@example([([(0, 1, "Chemical")], [(0, 1, "Chemical")], 0)])
@example([([(0, 1, "Chemical")], [(0, 1, "Disease")], 0)])
@example([([(5, 2, "Disease")], [(5, 1, "Disease"), (6, 1, "Disease"), (4, 3, "Disease")], 0)])
@example([([(0, 1, "Chemical")], [(0, 1, "Chemical"), (0, 1, "Chemical")], 0)])
@example([([(0, 1, "Chemical"), (0, 1, "Disease"), (5, 2, "Disease"), (6, 1, "Disease")], [(6, 1, "Disease")], 3)])
@example([([(0, 1, "Chemical")], [], 0), ([(5, 2, "Disease")], [(0, 1, "Chemical")], 0)])
def test_mentions_of_documents_are_scored_as_by_biocreative(drawn):
    gold, predicted = [], []
    for number, (wanted, own, seed) in enumerate(drawn):
        # Systems find much of the gold: some of it is given to the other side, at its place and elsewhere.
        draw = random.Random(seed)
        kept = [one for one in wanted if draw.random() < 0.7]
        moved = [(max(0, start - 1), length, kind) for start, length, kind in wanted if draw.random() < 0.2]
        gold.append(Document(str(number), TEXT, spans(wanted)))
        predicted.append(Document(str(number), TEXT, spans([*own, *kept, *moved])))
    if not any(d.spans for d in gold):
        return
    counts, scores = biocreative(gold, predicted)
    outcome = ner.outcome_of_documents(gold, predicted)
    assert outcome.units.sum(0).tolist() == counts
    assert {name: outcome.scores[name] for name in scores} == pytest.approx(scores, abs=1e-12)


# Answers: BioASQ


def bioasq(gold, predicted) -> dict[str, float]:
    """BioASQ's factoid measures: of at most five ranked answers the first that equals any synonym, but for case."""
    strict = lenient = reciprocal = 0.0
    for answers, ranked in zip(gold, predicted, strict=True):
        synonyms = []
        for answer in answers:
            synonyms += [answer] if isinstance(answer, str) else list(answer)
        for rank in (1, 2, 3, 4, 5):
            if rank > len(ranked):
                break
            given_ = ranked[rank - 1]
            first = given_ if isinstance(given_, str) else (given_[0] if given_ else None)
            if first is not None and any(first.lower() == synonym.lower() for synonym in synonyms):
                strict += rank == 1
                lenient += 1
                reciprocal += 1 / rank
                break
    total = len(gold)
    return {"strict_accuracy": strict / total, "lenient_accuracy": lenient / total, "mrr": reciprocal / total}


WORD = st.sampled_from(
    ["aspirin", "Aspirin", "ASA", "asa", "zinc", "zinc.", " zinc", "CD4+", "CD4-", "µ-opioid", "M-Opioid"]
)
GOLD = st.lists(WORD | st.lists(WORD, min_size=1, max_size=3), min_size=1, max_size=3)
RANKED = st.lists(WORD | st.lists(WORD, max_size=2), max_size=8)


@many
@given(st.lists(st.tuples(GOLD, RANKED), min_size=1, max_size=6))
@example([([["aspirin", "ASA"]], ["asa"])])
@example([([["aspirin"]], [["zinc", "aspirin"]])])
@example([([["aspirin"]], [[], "aspirin"])])
@example([([["aspirin"], "zinc"], ["ASA", "ZINC"])])
@example([([["aspirin"]], ["a", "b", "c", "d", "aspirin"])])
@example([([["aspirin"]], ["a", "b", "c", "d", "e", "aspirin"])])
@example([([["aspirin"]], ["zinc", "aspirin", "aspirin"]), ([["zinc"]], [])])
def test_answers_are_scored_as_by_bioasq(drawn):
    gold, predicted = [list(side) for side in zip(*drawn, strict=True)]
    wanted = bioasq(gold, predicted)
    assert qa.score(gold, predicted) == pytest.approx(wanted, abs=1e-12)
    answers = [tuple((one,) if isinstance(one, str) else tuple(one) for one in own) for own in gold]
    questions = tuple(Question("which", own, str(place)) for place, own in enumerate(answers))
    asked = [Document("d", TEXT, questions=(question,)) for question in questions]
    texts = [[one if isinstance(one, str) else next(iter(one), "") for one in own] for own in predicted]
    given_ = {str(i): [(text, 1 / place) for place, text in enumerate(own, 1)] for i, own in enumerate(texts)}
    outcome = qa.outcome(asked, given_)
    assert outcome.scores == pytest.approx(wanted, abs=1e-12) and outcome.main == pytest.approx(wanted["mrr"])
    assert outcome.units.sum(0)[:3].tolist() == pytest.approx([len(gold) * value for value in wanted.values()])


# The same by the command, from files


@pytest.mark.parametrize("seed", [1, 2])
def test_the_command_gives_the_scores_of_the_plain_rules(cli, tmp_path, seed):
    draw = random.Random(seed)

    def scored(predicted, gold) -> dict:
        status, printed, messages = cli("evaluate", tmp_path / gold, "--predictions", tmp_path / predicted, "--json")
        assert status == 0, messages
        return json.loads(printed)

    tags = [[draw.choice("OOBI") for _ in range(draw.randint(1, 9))] for _ in range(60)]
    found = [[tag if draw.random() < 0.7 else draw.choice("OBI") for tag in own] for own in tags]
    for name, side in (("gold.tsv", tags), ("found.tsv", found)):
        blocks = ("".join(f"word\t{tag}\n" for tag in own) for own in side)
        (tmp_path / name).write_text("\n".join(blocks) + "\n")
    typed = ([[tag if tag == "O" else f"{tag}-X" for tag in own] for own in side] for side in (tags, found))
    wanted = seqeval(*typed)
    del wanted["strict_f1"]  # it is of tags, and the command compares the documents
    record = scored("found.tsv", "gold.tsv")
    assert {name: record[name] for name in wanted} == pytest.approx(wanted, abs=1e-12) and 0.1 < record["f1"] < 0.9

    def mentions():
        count = draw.randint(1, 4)
        return [(draw.randrange(len(WORDS)), draw.randint(1, 3), draw.choice(["Gene", "Drug"])) for _ in range(count)]

    gold = [Document(str(i), TEXT, tuple(dict.fromkeys(spans(mentions())))) for i in range(30)]
    given_ = [Document(d.id, TEXT, tuple(dict.fromkeys([*d.spans[1:], *spans(mentions())]))) for d in gold]
    for name, side in (("gold.pubtator", gold), ("found.pubtator", given_)):
        formats.write(side, tmp_path / name, "pubtator")
    _, wanted = biocreative(gold, given_)
    record = scored("found.pubtator", "gold.pubtator")
    assert {name: record[name] for name in wanted} == pytest.approx(wanted, abs=1e-12) and 0.1 < record["f1"] < 0.9

    words = ["aspirin", "ASA", "zinc", "iron", "insulin", "metformin"]
    right = [[draw.sample(words, draw.randint(1, 2))] for _ in range(40)]
    ranked = [[[word] for word in draw.sample(words, draw.randint(0, 5))] for _ in range(40)]
    for name, side in (("golden.json", right), ("found.json", ranked)):
        asked = [
            {"id": f"{i:024x}", "type": "factoid", "body": f"Which {i}?", "exact_answer": own}
            for i, own in enumerate(side)
        ]
        (tmp_path / name).write_text(json.dumps({"questions": asked}))
    wanted = bioasq(right, ranked)
    record = scored("found.json", "golden.json")
    assert {name: record[name] for name in wanted} == pytest.approx(wanted, abs=1e-12) and 0.1 < record["mrr"] < 0.9

    labels = [draw.randint(0, 1) for _ in range(50)]
    shares = [draw.random() * 0.6 + 0.3 * label for label in labels]
    lines = [f"{i}\t@GENE$ and @DISEASE$ {i} .\t{label}\n" for i, label in enumerate(labels)]
    (tmp_path / "test.tsv").write_text("".join(["index\tsentence\tlabel\n", *lines]))
    (tmp_path / "test_results.tsv").write_text("".join(f"{1 - share}\t{share}\n" for share in shares))
    own = [int(share > 0.5) for share in shares]
    values = precision_recall_fscore_support(labels, own, average="binary")[:3]
    record = scored("test_results.tsv", "test.tsv")
    assert [record[name] for name in ("precision", "recall", "f1")] == pytest.approx(values) and 0.1 < record[
        "f1"
    ] < 0.95
