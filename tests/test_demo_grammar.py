"""The synthetic corpus: deterministic, exactly annotated, true to its tables, and honest about what is held out."""

import os
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from random import Random
from statistics import mean

import pytest

from compactbio.demo import biology, facts, rendering
from compactbio.demo.cases import PARTS, difference_p, pairs, percent
from compactbio.demo.drugs import DRUGS
from compactbio.demo.genes import GENES
from compactbio.demo.grammar import SCHEMES, SENTENCES, abstracts, title_and_abstract
from compactbio.demo.lexicon import DISEASES, HELD_OUT, NAMES, ONE_SEX, SPECIES
from compactbio.demo.settings import CELLS, FIELDS
from compactbio.documents import Document

TYPES = ("Chemical", "Disease", "Gene", "Species")


@pytest.fixture(scope="module")
def train() -> list[Document]:
    return list(abstracts(1000))


@pytest.fixture(scope="module")
def unseen() -> list[Document]:
    return list(abstracts(600, part="test"))


def wording(document: Document, place: int) -> str:
    span = document.spans[place]
    return document.text[span.start : span.end]


def pattern(names: frozenset[str], flags: int = 0) -> re.Pattern[str]:
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return re.compile(r"(?<!\w)(?:" + "|".join(map(re.escape, longest_first)) + r")(?!\w)", flags)


def test_the_lexicon_is_large_and_its_tables_name_only_what_it_holds() -> None:
    sizes = {"drugs": len(DRUGS), "diseases": len(DISEASES), "genes": len(GENES), "species": len(SPECIES)}
    assert sizes["drugs"] >= 120 and sizes["diseases"] >= 90 and sizes["genes"] >= 90 and sizes["species"] >= 40, sizes
    tables = {
        "treats": facts.TREATS,
        "targets": facts.TARGETS,
        "induces": facts.INDUCES,
        "active_against": biology.ACTIVE_AGAINST,
        "associated_with": biology.ASSOCIATED,
        "causes": biology.CAUSES,
    }
    for relation, table in tables.items():
        head, tail = facts.RELATION_TYPES[relation]
        assert set(table) <= NAMES[head], relation
        assert {name for names in table.values() for name in names} <= NAMES[tail], relation
    assert set(biology.CLEARANCE) <= set(DRUGS) and {gene for gene, _ in biology.CLEARANCE.values()} <= set(GENES)
    assert set(CELLS) | set(ONE_SEX) <= set(DISEASES)
    assert {disease.field for disease in DISEASES.values()} <= set(FIELDS)


def test_a_wording_means_one_thing() -> None:
    shorts = [disease.short for disease in DISEASES.values()] + [species.short for species in SPECIES.values()]
    names = [
        *DRUGS,
        *DISEASES,
        *GENES,
        *(name for name in SPECIES if name != SPECIES[name].short),
        *filter(None, shorts),
    ]
    assert [name for name, times in Counter(name.casefold() for name in names).items() if times > 1] == []


def test_a_quarter_to_a_third_of_each_type_is_held_out() -> None:
    for type_ in TYPES:
        assert HELD_OUT[type_] < NAMES[type_]
        assert 0.25 <= len(HELD_OUT[type_]) / len(NAMES[type_]) <= 0.34, type_


def test_same_seed_same_documents_and_another_seed_others() -> None:
    assert list(abstracts(40, seed=3)) == list(abstracts(40, seed=3))
    ours, theirs = ([document.text for document in abstracts(40, seed=seed)] for seed in (3, 4))
    assert not set(ours) & set(theirs)
    assert not set(ours) & {document.text for document in abstracts(40, seed=3, part="test")}


def test_document_i_does_not_depend_on_the_count() -> None:
    assert list(abstracts(60, seed=1))[:7] == list(abstracts(7, seed=1))


def test_documents_are_the_same_whatever_the_hash_seed() -> None:
    code = (
        "from compactbio.demo.grammar import abstracts\n"
        "import hashlib, sys\n"
        "sys.stdout.write(hashlib.sha256(repr(list(abstracts(60))).encode()).hexdigest())"
    )
    digests = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        digests.add(run.stdout)
    assert len(digests) == 1


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match="count"):
        abstracts(-1)
    with pytest.raises(ValueError, match="part"):
        abstracts(1, part="dev")
    assert list(abstracts(0)) == []


def test_ids_and_no_two_documents_alike(train: list[Document]) -> None:
    assert train[12].id == "synthetic-train-000012"
    assert len({document.id for document in train}) == len({document.text for document in train}) == len(train)


def test_lengths_are_those_of_short_abstracts(train: list[Document]) -> None:
    words = [len(document.text.split()) for document in train]
    assert 110 <= mean(words) <= 170
    assert min(words) >= 50 and max(words) <= 260
    assert sum(85 <= count <= 220 for count in words) >= 0.95 * len(words)


def test_the_words_are_many(train: list[Document]) -> None:
    words = {word for document in train for word in re.findall(r"[a-z][a-z0-9-]*", document.text.lower())}
    assert len(words) > 1800


def test_no_sentence_frame_rules_the_corpus(train: list[Document]) -> None:
    """With names and numbers taken out, an opening of ten words is still rare."""
    frames: Counter[str] = Counter()
    for document in train:
        text = document.text
        for span in reversed(document.spans):
            text = text[: span.start] + span.type + text[span.end :]
        frames[" ".join(re.sub(r"\d+", "0", text).split()[:10])] += 1
    assert max(frames.values()) < 0.03 * len(train)


@pytest.mark.parametrize("part", PARTS)
def test_spans_are_names_of_their_type(part: str) -> None:
    known = {type_: {name.casefold() for name in names} for type_, names in NAMES.items()}
    seen = Counter()
    for document in abstracts(500, seed=2, part=part):
        for place, span in enumerate(document.spans):
            assert 0 <= span.start < span.end <= len(document.text)
            assert wording(document, place).casefold() in known[span.type], (document.id, wording(document, place))
            seen[span.type] += 1
        assert all(left.end <= right.start for left, right in pairwise(document.spans)), document.id
    assert set(seen) == set(TYPES) and min(seen.values()) > 300


@pytest.mark.parametrize("part", PARTS)
def test_no_mention_is_left_out(part: str) -> None:
    """Names that are written as such (genes, abbreviations) are looked for as written, the others in either case."""
    every = frozenset().union(*NAMES.values())
    plain = frozenset(name for name in every if name.islower() and len(name) > 3)
    looked_at = 0
    for document in abstracts(400, seed=5, part=part):
        covered = {place for span in document.spans for place in range(span.start, span.end)}
        for names in (pattern(every), pattern(plain, re.IGNORECASE)):
            for found in names.finditer(document.text):
                assert found.start() in covered, (document.id, found.group())
                looked_at += 1
    assert looked_at > 4000


def test_relations_join_the_right_types_and_are_facts(train: list[Document], unseen: list[Document]) -> None:
    full = {species.short: name for name, species in SPECIES.items() if species.short}
    full |= {disease.short: name for name, disease in DISEASES.items() if disease.short}
    true = {
        kind: {(head.casefold(), tail.casefold()) for head, tail in pairs(kind, "test")}
        for kind in facts.RELATION_TYPES
    }
    kinds: Counter[str] = Counter()
    for document in train + unseen:
        for relation in document.relations:
            ends = document.spans[relation.head].type, document.spans[relation.tail].type
            assert ends == facts.RELATION_TYPES[relation.type]
            names = [wording(document, place) for place in (relation.head, relation.tail)]
            head, tail = (full.get(name, name).casefold() for name in names)
            assert (head, tail) in true[relation.type], (document.id, relation.type, head, tail)
            kinds[relation.type] += 1
    assert set(kinds) == set(facts.RELATION_TYPES) and min(kinds.values()) > 100


def test_some_pairs_in_one_sentence_are_not_related(train: list[Document]) -> None:
    related = apart = 0
    for document in train:
        joined = {(relation.head, relation.tail) for relation in document.relations}
        for head, left in enumerate(document.spans):
            for tail, right in enumerate(document.spans):
                between = document.text[left.end : right.start]
                if (
                    left.type == "Chemical"
                    and right.type == "Disease"
                    and left.end < right.start
                    and ". " not in between
                ):
                    related += (head, tail) in joined
                    apart += (head, tail) not in joined
    assert related > 300 and apart > 300


def test_every_question_is_answered_by_the_text(train: list[Document], unseen: list[Document]) -> None:
    for document in train + unseen:
        assert 1 <= len(document.questions) <= 3, document.id
        for question in document.questions:
            assert question.answers and question.text.endswith("?") and "{" not in question.text
            for answer in question.answers[0]:
                assert re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", document.text), (document.id, answer)
                assert answer.casefold() not in question.text.casefold()
    assert len({question.text for document in train for question in document.questions}) > 500


@pytest.mark.parametrize("type_", TYPES)
def test_held_out_names_are_nowhere_in_the_training_part(type_: str, train: list[Document]) -> None:
    held_out = pattern(HELD_OUT[type_], re.IGNORECASE)
    found = {match.group() for document in train for match in held_out.finditer(document.text)}
    asked = {match.group() for document in train for q in document.questions for match in held_out.finditer(q.text)}
    assert found | asked == set()


@pytest.mark.parametrize("type_", TYPES)
def test_the_test_part_has_held_out_names_and_others(type_: str, unseen: list[Document]) -> None:
    names = {wording(d, place) for d in unseen for place, span in enumerate(d.spans) if span.type == type_}
    assert len(names & HELD_OUT[type_]) >= 0.6 * len(HELD_OUT[type_])
    assert len(names - HELD_OUT[type_]) > len(names & HELD_OUT[type_])


def test_percentages_are_of_the_numbers_beside_them(train: list[Document]) -> None:
    shape = re.compile(r"(\d+) of (?:the )?(\d+) [a-z ]*?\((\d+\.\d%)[;)]")
    checked = 0
    for document in train:
        for events, total, given in shape.findall(document.text):
            assert percent(int(events), int(total)) == given, document.id
            checked += 1
    assert checked > 300


def test_p_values_are_of_the_groups_before_them(train: list[Document]) -> None:
    group = r"(\d+) of (\d+) [a-z]+ \([\d.]+%"
    shape = re.compile(rf"{group}\)[^.;()]* {group}[;)][^().;]*\(?p ([<=]) (0\.\d+)\)")
    checked = 0
    for document in train:
        for *counts, sign, given in shape.findall(document.text):
            p = difference_p(*(int(count) for count in counts))
            assert p < 0.001 if sign == "<" else abs(p - float(given)) <= 0.0051, document.id
            checked += 1
    assert checked > 100


def test_groups_add_up(train: list[Document]) -> None:
    shapes = (
        re.compile(r"(\d+) (?:patients|subjects|adults)[^.]*\(n = (\d+)\)[^.]*\(n = (\d+)\)"),
        re.compile(r"enrolled (\d+) patients, of whom (\d+) received [^.]*? and (\d+) received"),
        re.compile(r"(\d+) subjects: (\d+) with [^.]* and (\d+) without"),
        re.compile(r"(\d+) isolates of [^.]*?, (\d+) susceptible and (\d+) resistant"),
        re.compile(r"(\d+) (?:adults|patients) \((\d+) women and (\d+) men\)"),
    )
    for shape in shapes:
        texts = [re.sub(r"\b([A-Z])\. ", r"\1 ", document.text) for document in train]
        triples = [triple for text in texts for triple in shape.findall(text)]
        assert len(triples) >= 5, shape.pattern
        assert all(int(total) == int(first) + int(second) for total, first, second in triples), shape.pattern


def test_title_and_abstract_are_read_off(train: list[Document], unseen: list[Document]) -> None:
    for document in train + unseen:
        title, abstract = title_and_abstract(document)
        assert document.text == f"{title} {abstract}"
        assert title.endswith(".") and 3 <= len(title.split()) <= 35
        sentences = re.split(r"(?<=[^A-Z.])\. (?=[A-Z0-9])", abstract)
        assert SENTENCES[0] <= len(sentences) <= SENTENCES[1] + 1, document.id
    with pytest.raises(ValueError, match="no title"):
        title_and_abstract(Document("x", "no full stop"))


def test_the_text_reads_well(train: list[Document], unseen: list[Document]) -> None:
    wrong = re.compile(
        r"  | [,.;)]|\(\s|\.\.|[{}\[\]|]|=>|\b(\w+) \1\b"
        r"|(?:\ba|\. A) [aeio]|\b[Aa]n [bcdfgjklmnpqrstvwxyz][a-z]|\ba 8\d|synthetic"
    )
    for document in train + unseen:
        assert not (found := wrong.search(document.text)), (document.id, found)
        assert document.text[0].isupper() or document.text[0].isdigit()
        assert document.text.endswith(".")
        assert not re.search(r"[^A-Z.]\. [a-z]", document.text), document.id


def test_patients_of_one_sex_are_not_of_two() -> None:
    found = [
        document
        for part in PARTS
        for document in abstracts(1000, seed=9, part=part)
        if "prostate cancer" in document.text and "volunteers" not in document.text
    ]
    assert len(found) >= 10
    for document in found:
        assert not re.search(r"\bwom[ae]n\b", document.text), document.id


def test_every_template_can_be_used_and_names_only_known_slots() -> None:
    random = Random(0)
    idle, used = set[str](), set[str]()
    drawn = {scheme.name: [scheme.case(random, "test") for _ in range(300)] for scheme in SCHEMES}
    slots = {slot for contexts in drawn.values() for context in contexts for slot in context}
    for scheme in SCHEMES:
        contexts = drawn[scheme.name]
        for template in [*scheme.titles, *(template for part in scheme.parts for template in part[2])]:
            (used if any(rendering.fits(template, context) for context in contexts) else idle).add(template)
            for fact in template.partition(" => ")[2].split("; "):
                head, relation, tail = fact.split() if fact else ("drug", "treats", "disease")
                assert relation in facts.RELATION_TYPES and {head, tail} <= slots, template
        asked = {slot for text, answer in scheme.questions for slot in [answer, *re.findall(r"{!?(\w+)}", text)]}
        assert asked <= {slot for context in contexts for slot in context}, scheme.name
    assert idle - used == set()


def test_article() -> None:
    spoken = ["an inhibitor", "a kinase", "an 82-year-old", "a 19-year-old", "an 18-year-old", "an SGLT2 inhibitor"]
    spoken += ["a DPP-4 inhibitor", "a urate transporter", "an RNA demethylase", "a 5-alpha blocker"]
    assert [f"{rendering.article(text.split(' ', 1)[1])} {text.split(' ', 1)[1]}" for text in spoken] == spoken


def test_a_page_keeps_offsets_and_introduces_an_abbreviation_once() -> None:
    page = rendering.Page()
    disease = rendering.Entity("chronic myeloid leukemia", "Disease", "CML")
    drug = rendering.Entity("imatinib", "Chemical")
    context: rendering.Context = {"drug": drug, "disease": disease}
    page.write("{drug} for {disease}.", context, Random(0), title=True)
    page.write("{drug} [|] is used in {disease}[ {missing}|]. => drug treats disease", context, Random(0))
    assert page.text == "Imatinib for chronic myeloid leukemia. Imatinib is used in chronic myeloid leukemia (CML)."
    assert [page.text[span.start : span.end] for span in page.spans][-2:] == ["chronic myeloid leukemia", "CML"]
    assert [(relation.head, relation.tail) for relation in page.relations] == [(2, 3)]
    assert page.wordings(disease) == ("chronic myeloid leukemia", "CML")
    assert not rendering.fits("{missing} {drug}.", context)
    with pytest.raises(ValueError, match="brackets"):
        rendering.fits("{drug} [a|b.", context)
