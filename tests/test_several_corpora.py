"""One tagger from several corpora that are each labelled for their own types."""

import json
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import small_models
from compactbio import Annotator, formats
from compactbio.deploy.gate import gate
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.evaluation.scoring import evaluate
from compactbio.modeling import loading, runtimes
from compactbio.modeling.packing import Row, pack
from compactbio.modeling.tokenizers import load_tokenizer
from compactbio.tasks import data as datasets
from compactbio.tasks import ner_encoding, units
from compactbio.tasks.calibration import Findings, calibration_error, together
from compactbio.tasks.outcome import interval_of
from compactbio.tasks.registry import TASKS
from compactbio.tasks.settings import Decoding, settings
from compactbio.training import corpora
from compactbio.training.corpora import partly_labelled
from compactbio.training.finetuning import finetune
from compactbio.training.grid_search import search
from compactbio.training.soft_labels import find_teachers
from compactbio.training.task_model import partial_loss
from task_data import DRUGS, FILL, relation_folder

QUICK = {"epochs": 6, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}
SIZES = {"train": 60, "devel": 20, "test": 30}


def corpus(folder: Path, kinds: dict[str, str], seed: int, sizes: dict[str, int] = SIZES) -> Path:
    """Sentences with drugs and cancers, of which only those in `kinds` are tagged, under the name given there."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)

    def tags(what: str, words: list[str]) -> list[tuple[str, str]]:
        if what not in kinds:
            return [(word, "O") for word in words]
        suffix = f"-{kinds[what]}" if kinds[what] else ""
        return [(word, f"{'I' if i else 'B'}{suffix}") for i, word in enumerate(words)]

    for split, size in sizes.items():
        blocks = []
        for _ in range(size):
            rows = [(word, "O") for word in draw.choices(FILL, k=draw.randint(4, 8))]
            if draw.random() < 0.7:
                rows[1:1] = tags("drug", [draw.choice(DRUGS)])
            if draw.random() < 0.7:
                rows += tags("cancer", [draw.choice(("breast", "lung")), "cancer"])
            blocks.append("".join(f"{word}\t{tag}\n" for word, tag in rows))
        (folder / f"{split}.tsv").write_text("\n".join(blocks) + "\n")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A corpus of drugs, one of cancers without the name of a type, and one of both."""
    folder = tmp_path_factory.mktemp("made")
    corpus(folder / "drugs", {"drug": "Drug"}, 1)
    corpus(folder / "cancers", {"cancer": ""}, 2)
    corpus(folder / "both", {"drug": "Drug", "cancer": "Cancer"}, 3)
    return folder


@pytest.fixture(scope="module")
def tagger(made, start, tmp_path_factory):
    """A tagger of both types from the two corpora of one type each."""
    out = tmp_path_factory.mktemp("out") / "tagger"
    data = [made / "drugs", f"Cancer={made / 'cancers'}"]
    return finetune(data, start, out, overrides=QUICK)


def test_the_loss_sums_what_a_label_may_stand_for():
    torch.manual_seed(0)
    logits = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    labels = np.array([0, 4, 5, 6, -100, 2])
    allowed = torch.cat([torch.eye(5, dtype=torch.bool), torch.tensor([[1, 1, 0, 0, 1], [0, 0, 1, 1, 1]]).bool()])
    (batch,) = pack([Row(np.arange(6), labels)], 64)
    at = torch.tensor([0, 1, 2, 3, 5])
    found = partial_loss(logits, batch, at, allowed)
    p = logits.softmax(-1)
    wanted = -(
        p[0, 0].log() + p[1, 4].log() + p[2, [0, 1, 4]].sum().log() + p[3, [2, 3, 4]].sum().log() + p[5, 2].log()
    )
    assert torch.allclose(found, wanted)
    assert torch.autograd.gradcheck(lambda x: partial_loss(x, batch, at, allowed), logits)
    ordinary = torch.tensor([0, 1, 5])
    plain = cross_entropy(logits[ordinary], torch.tensor([0, 4, 2]), reduction="sum")
    assert torch.allclose(partial_loss(logits, batch, ordinary, allowed), plain)


def test_nothing_is_learnt_of_a_type_from_a_corpus_that_is_not_labelled_for_it(made, start):
    found = corpora.read([made / "drugs", f"Cancer={made / 'cancers'}"], None, None, format=None, train_on="train")
    labels = TASKS["ner"].labels(found.train, settings("ner", 48, {}))
    assert labels == ["B-Cancer", "B-Drug", "I-Cancer", "I-Drug", "O"]
    tokenizer = loading.tokenizer_of(loading.find(start))
    encoded = TASKS["ner"].encode(found.train, tokenizer, labels, settings("ner", 48, {"max_length": 32}))
    rows, allowed = partly_labelled(encoded, found, labels)
    assert allowed.int().tolist()[5:] == [[1, 0, 1, 0, 1], [0, 1, 0, 1, 1]]
    drugs = len(found.parts[0].train)
    for window in rows.windows:
        present = set(window.row.labels.tolist()) - {-100}
        own = {1, 3, 5} if rows.sentences[window.sentence].document < drugs else {0, 2, 6}
        assert present <= own
    both, none = partly_labelled(
        encoded, corpora.read(made / "both", None, None, format=None, train_on="train"), labels
    )
    assert both is encoded and none is None


def read_alone(folder: Path) -> corpora.Corpora:
    return corpora.read(folder, None, None, format=None, train_on="train")


@pytest.mark.parametrize("bare", ["train", "devel"])
def test_mentions_without_a_type_are_of_the_only_type_of_the_others(made, tmp_path, bare):
    whole, mixed = read_alone(made / "drugs"), shutil.copytree(made / "drugs", tmp_path / "mixed")
    (mixed / f"{bare}.tsv").write_text((mixed / f"{bare}.tsv").read_text().replace("-Drug", ""))
    found = read_alone(mixed)
    assert found.parts[0].types == {"Drug"}
    assert [d.spans for d in (*found.parts[0].train, *found.parts[0].devel)] == [
        d.spans for d in (*whole.parts[0].train, *whole.parts[0].devel)
    ]
    assert re.search(r"mixed: [0-9]+ of the [0-9]+ mentions .* taken for Drug", "".join(found.notes))


def test_mentions_without_a_type_among_those_of_several_are_refused(made, tmp_path):
    mixed = shutil.copytree(made / "both", tmp_path / "mixed")
    lines = (mixed / "train.tsv").read_text()
    (mixed / "train.tsv").write_text(lines.replace("B-Drug", "B", 3))
    with pytest.raises(UserError, match=r"3 of the [0-9]+ mentions .* no type, the others are of Cancer, Drug"):
        read_alone(mixed)


def test_mixed_tags_are_reported_where_they_are_scored(tagger, made, tmp_path):
    mixed = shutil.copytree(made / "both", tmp_path / "mixed")
    (mixed / "test.tsv").write_text((mixed / "test.tsv").read_text().replace("B-Drug", "B", 3))
    assert any(
        note.startswith("3 mentions of the data have no type") for note in evaluate(tagger.out, mixed).outcome.notes
    )


def test_a_split_of_zero_bytes_is_reported(made, tmp_path):
    data = shutil.copytree(made / "drugs", tmp_path / "data")
    (data / "devel.tsv").write_text("")
    assert "data: devel.tsv is empty, and taken for no split." in read_alone(data).notes
    (data / "train.tsv").write_text("")
    with pytest.raises(UserError, match=r"no train file .*of zero bytes: devel\.tsv, train\.tsv"):
        read_alone(data)
    (data / "test.tsv").write_text("")
    with pytest.raises(UserError, match=r"train\.tsv in it are empty"):
        read_alone(data)


def test_a_text_without_annotations_is_not_an_empty_split(tmp_path):
    folder = tmp_path / "brat"
    folder.mkdir()
    for number in range(30):
        (folder / f"train{number}.txt").write_text("aspirin daily")
        (folder / f"train{number}.ann").write_text("T1\tDrug 0 7\taspirin\n" if number % 3 else "")
    assert not read_alone(folder).notes


def test_one_tagger_finds_the_types_of_all_corpora(tagger, made):
    result = evaluate(tagger.out, made / "both")
    assert result.outcome.scores["f1"] > 0.9
    assert set(result.outcome.per_type) == {"Drug", "Cancer"} and not result.outcome.notes
    (found,) = Annotator.from_pretrained(tagger.out)(["patients aspirin daily dose of lung cancer"])
    assert [(entity.text, entity.type) for entity in found] == [("aspirin", "Drug"), ("lung cancer", "Cancer")]


def test_a_corpus_of_fewer_types_counts_those_alone_and_says_so(tagger, made):
    drugs = evaluate(tagger.out, made / "drugs")
    assert drugs.outcome.scores["f1"] > 0.9 and list(drugs.outcome.per_type) == ["Drug"]
    (note,) = drugs.outcome.notes
    assert re.fullmatch("[0-9]+ mentions of Cancer were not counted, as the data are not labelled for them.", note)
    named = evaluate(tagger.out, f"Cancer={made / 'cancers'}")
    assert named.outcome.scores["f1"] > 0.9 and list(named.outcome.per_type) == ["Cancer"]
    # Without a name all types count as one, and that is said.
    bare = evaluate(tagger.out, made / "cancers")
    assert bare.outcome.scores["f1"] < named.outcome.scores["f1"]
    assert any(note.startswith("All types of the model count as one (Cancer, Drug)") for note in bare.outcome.notes)


def test_a_type_that_a_split_lacks_by_chance_still_counts(tagger, made, tmp_path):
    folder = tmp_path / "chance"
    corpus(folder, {"drug": "Drug", "cancer": "Cancer"}, 4)
    lines = (folder / "test.tsv").read_text().splitlines()
    (folder / "test.tsv").write_text(
        "\n".join(line for line in lines if "Cancer" not in line) + "\nlung\tO\ncancer\tO\n"
    )
    result = evaluate(tagger.out, folder)
    assert result.outcome.per_type["Cancer"]["support"] == 0 and result.outcome.scores["precision"] < 1


def test_the_card_says_by_corpus_and_type_what_it_scores(tagger):
    card = (Path(tagger.out) / "README.md").read_text()
    assert "By data set and type, on devel; each data set counts only the types that it is labelled for:" in card
    rows = [line for line in card.splitlines() if line.startswith(("| drugs |", "| cancers |"))]
    assert [row.split("|")[2].strip() for row in rows] == ["Drug", "Cancer"]
    assert "| data | drugs, labelled for Drug |" in card and "| data | cancers, labelled for Cancer |" in card
    scores = [part["score"] for part in tagger.corpora]
    assert tagger.devel == pytest.approx(sum(scores) / 2)
    assert tagger.interval[0] <= tagger.devel <= tagger.interval[1]
    assert f"The mean of the devel scores, {100 * tagger.devel:.2f}, chose the epoch." in card
    kept = json.loads((Path(tagger.out) / "calibration.json").read_text())
    ((_, entry),) = kept["runtimes"].items() if "runtimes" in kept else kept.items()
    assert "Drug" in json.dumps(entry) and "Cancer" in json.dumps(entry)


def test_the_same_command_finds_its_run_finished_and_another_type_is_another_run(tagger, made, start):
    data = [made / "drugs", f"Cancer={made / 'cancers'}"]
    assert finetune(data, start, tagger.out, overrides=QUICK).state == "already finished"
    with pytest.raises(UserError, match="holds"):
        finetune([made / "drugs", f"Tumour={made / 'cancers'}"], start, tagger.out, overrides=QUICK)


def test_taggers_of_single_types_teach_a_student_of_all(tagger, made, start, tmp_path):
    finetune(made / "drugs", start, tmp_path / "drug", overrides=QUICK)
    finetune(made / "cancers", start, tmp_path / "bare", overrides=QUICK)
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"{d.text}\n" for d in formats.read(corpus(tmp_path / "more", {}, 9) / "train.tsv")))
    few = {"train": 3, "devel": 6, "test": 6}
    small = [
        corpus(tmp_path / "few" / "drugs", {"drug": "Drug"}, 5, few),
        corpus(tmp_path / "few" / "cancers", {"cancer": "Cancer"}, 6, few),
    ]
    result = finetune(
        small, start, tmp_path / "student", teachers=[tmp_path / "drug", f"Cancer={tmp_path / 'bare'}"],
        unlabelled=[texts], overrides={**QUICK, "epochs": 8},
    )  # fmt: skip
    assert result.unlabelled["rows with something found"] > 30
    assert evaluate(tmp_path / "student", made / "both").outcome.scores["f1"] > 0.85
    plain = finetune(small, start, tmp_path / "plain", overrides={**QUICK, "epochs": 8})
    assert evaluate(plain.out, made / "both").outcome.scores["f1"] < 0.7


def test_taggers_of_different_types_are_combined_as_if_each_decided_alone():
    # Columns: B-Drug, I-Drug, B-Gene, I-Gene, O; a tagger does not know those of 0.
    def log(values):
        return np.log(values, where=np.array(values) > 0, out=np.full(np.shape(values), -np.inf))

    drug = log([[0.6, 0.1, 0, 0, 0.3], [0.1, 0.1, 0, 0, 0.8]])
    gene = log([[0, 0, 0.2, 0, 0.8], [0, 0, 0.5, 0.25, 0.25]])
    other = log([[0.2, 0.3, 0, 0, 0.5], [0.1, 0.3, 0, 0, 0.6]])
    p, q = np.exp((drug, other)).mean(0), np.exp(gene)
    wanted = np.stack(
        [p[:, 0] * q[:, 4], p[:, 1] * q[:, 4], q[:, 2] * p[:, 4], q[:, 3] * p[:, 4], p[:, 4] * q[:, 4]], -1
    )
    wanted /= wanted.sum(-1, keepdims=True)
    gene[0, 3] = -80  # a small probability is not a type that is unknown
    found = units._softened(np.stack([drug, gene, other]), 1.0)
    assert np.allclose(found, wanted, atol=1e-6)
    assert np.allclose(units._softened(np.stack([drug, other]), 1.0), p, atol=1e-6)


def test_a_student_that_says_what_its_teachers_say_together_decides_each_type_as_they_do(tokenizer_folder):
    draw = np.random.default_rng(5)
    tokenizer = load_tokenizer(tokenizer_folder)
    text = " ".join(["cell"] * 9)
    documents = [Document(str(i), text, tokenised=True) for i in range(40)]
    encoded = ner_encoding.encode(documents, tokenizer, {}, 32)
    labels, types = ["O", "B-Drug", "I-Drug", "B-Gene", "I-Gene"], ("Drug", "Gene")
    known = np.array([[True, True, True, False, False], [True, False, False, True, True]])
    rows, alone = [], [[], []]
    for row in encoded.rows:
        teachers = np.where(known[:, None], draw.dirichlet([0.5] * 5, size=(2, len(row))), 0)
        teachers /= teachers.sum(-1, keepdims=True)
        with np.errstate(divide="ignore"):
            rows.append(np.log(units.combined(teachers, known)).astype(np.float32))
            for own, said in zip(alone, np.log(teachers).astype(np.float32), strict=True):
                own.append(said)
    by_type = Decoding(valid=True, by_type=True)
    layers = ner_encoding.decode(encoded, rows, labels, by_type)
    found, overlapping = ner_encoding.mentions(encoded, rows, labels, by_type), 0
    singles = []
    for layer, own, kind, columns in zip(layers, alone, types, ([0, 1, 2], [0, 3, 4]), strict=True):
        names, values = [labels[i] for i in columns], [row[:, columns] for row in own]
        assert [layer] == ner_encoding.decode(encoded, values, names, Decoding(valid=True))
        single = ner_encoding.mentions(encoded, values, names, Decoding(valid=True))
        mine = [place for place in found.places if place[1].type == kind]
        assert mine == list(single.places)
        scores = found.scores(1.5)[[span.type == kind for _, span in found.places]]
        assert scores == pytest.approx(single.scores(1.5), abs=1e-6)
        singles.append(single.places)
    for document, span in singles[0]:
        overlapping += any(d == document and s.start < span.end and span.start < s.end for d, s in singles[1])
    assert overlapping > 20
    (joint,) = ner_encoding.decode(encoded, rows, labels, Decoding(valid=True))
    assert sum(tag != "O" for tags in joint for tag in tags) < sum(
        tag != "O" for layer in layers for tags in layer for tag in tags
    )


def test_each_type_of_several_corpora_is_decided_alone(tagger, made, start, tmp_path, cli):
    config = json.loads((Path(tagger.out) / "config.json").read_text())
    assert config["independent_types"] is True
    assert "mentions of different types may overlap" in (Path(tagger.out) / "README.md").read_text()
    model = shutil.copytree(tagger.out, tmp_path / "copy")
    weights = loading.load_for(loading.find(model), "ner")
    # A model that is torn between the types on every word: it finds both, where a joint decision would find one.
    with torch.no_grad():
        weights.classifier.weight.zero_()
        bias = dict.fromkeys(weights.config.label2id, 0.0) | {"B-Drug": 2.0, "B-Cancer": 1.0, "O": 0.5}
        weights.classifier.bias.copy_(torch.tensor([bias[weights.config.id2label[i]] for i in range(5)]))
    weights.save_pretrained(model)
    (found,) = Annotator.from_pretrained(model)(["daily dose"])
    assert [(e.text, e.type) for e in found] == [
        ("daily", "Drug"), ("daily", "Cancer"), ("dose", "Drug"), ("dose", "Cancer"),
    ]  # fmt: skip
    assert found[1].score == pytest.approx(1 - float(torch.tensor([1.0, 0.0, 0.5]).softmax(0)[2]), abs=1e-5)
    both = evaluate(model, made / "both")
    words = sum(len(document.text.split()) for document in both.documents)
    for kind, name in (("Drug", "drugs"), ("Cancer", "cancers")):
        rates = both.outcome.per_type[kind]
        assert rates["precision"] * words == pytest.approx(rates["recall"] * rates["support"])
        single = evaluate(model, f"{kind}={made / name}").outcome
        assert list(single.per_type) == [kind] and (kind == "Cancer" or single.scores["recall"] == 1)
    assert both.outcome.scores["strict_f1"] == both.outcome.scores["f1"]
    assert both.outcome.scores["accuracy"] == 0
    published = evaluate(model, made / "both", protocol="published").outcome
    assert 0 < published.main < 1
    # A token file cannot hold what overlaps, which is said before the model is run.
    line = ["evaluate", "--model", model, "--write-predictions"]
    status, printed, messages = cli(*line, tmp_path / "both.tsv", made / "both")
    assert status == 2 and not printed and "both.tsv: a token file cannot hold mentions that overlap" in messages
    assert cli(*line, tmp_path / "drugs.tsv", made / "drugs")[0] == 0
    assert cli(*line, tmp_path / "untyped.jsonl", made / "both", "--untyped")[0] == 0
    for written in formats.read(tmp_path / "untyped.jsonl"):
        assert len(set(written.spans)) == len(written.spans)
    # Trained further on data of all types, it decides between them again.
    again = finetune(made / "both", tagger.out, tmp_path / "again", overrides={**QUICK, "epochs": 1})
    assert json.loads((Path(again.out) / "config.json").read_text())["independent_types"] is False


def test_training_documents_that_another_corpus_is_scored_on_are_left_out(made, tmp_path):
    leaking = corpus(tmp_path / "leaking", {"cancer": "Cancer"}, 8, {"train": 5, "devel": 2, "test": 2})
    sentences = [block for block in (made / "drugs" / "test.tsv").read_text().split("\n\n") if len(block) > 60]
    same = "\n\n".join(sentences[:3]).replace("B-Drug", "O")
    (leaking / "train.tsv").write_text((leaking / "train.tsv").read_text() + "\n" + same + "\n")
    found = corpora.read([made / "drugs", leaking], None, None, format=None, train_on="train")
    (note,) = found.notes
    assert note.startswith("3 training documents of leaking are left out")
    assert len(found.parts[1].train) == 5
    # A corpus alone keeps its repeats, as the published sets have them.
    assert len(corpora.read(leaking, None, None, format=None, train_on="train").train) == 8


def test_types_that_differ_in_case_are_one_and_reported(made, tmp_path):
    other = corpus(tmp_path / "other", {"drug": "DRUG", "cancer": "Cancer"}, 5)
    found = corpora.read([made / "drugs", other], None, None, format=None, train_on="train")
    assert found.notes[0] in ("Drug and DRUG are one type, DRUG.", "DRUG and Drug are one type, Drug.")
    kinds = {span.type for part in found.parts for d in (*part.train, *part.devel) for span in d.spans}
    assert len(kinds) == 2 and "Cancer" in kinds
    # Also where one data set spells a type otherwise in devel.
    case = shutil.copytree(made / "drugs", tmp_path / "case")
    (case / "devel.tsv").write_text((case / "devel.tsv").read_text().replace("Drug", "DRUG"))
    alone = corpora.read(case, None, None, format=None, train_on="train")
    assert alone.notes == ("DRUG and Drug are one type, Drug.",)
    assert {span.type for d in alone.parts[0].devel for span in d.spans} == {"Drug"}


def test_findings_of_several_corpora_are_calibrated_together():
    one = Findings(("Drug",), np.array([True]), {"Drug": 2}, lambda t: np.array([0.9 / t]))
    two = Findings(
        ("Gene", "Drug"), np.array([False, True]), {"Gene": 1, "Drug": 1}, lambda t: np.array([0.5, 0.7]) / t
    )
    both = together([one, two])
    assert both.types == ("Drug", "Gene", "Drug") and dict(both.gold) == {"Drug": 3, "Gene": 1}
    assert np.allclose(both.scores(2.0), [0.45, 0.25, 0.35])
    assert calibration_error(both.scores(1.0), both.right) > 0


def test_a_calibration_counts_what_is_found_of_a_type_that_one_devel_split_lacks_by_chance(made, start, tmp_path):
    chance = corpus(tmp_path / "chance", {"drug": "Drug", "cancer": "Cancer"}, 4)
    lines = (chance / "devel.tsv").read_text().replace("B-Cancer", "O").replace("I-Cancer", "O")
    (chance / "devel.tsv").write_text(lines)
    data = [chance, f"Cancer={made / 'cancers'}"]
    tagger = finetune(data, start, tmp_path / "out", overrides={**QUICK, "epochs": 4})
    found = json.loads((tmp_path / "out" / "calibration.json").read_text())["torch-fp32"]["calibration"]["types"]
    annotator = Annotator.from_pretrained(tagger.out)
    types = [
        e.type for p in (chance, made / "cancers") for es in annotator(list(formats.read(p / "devel.tsv"))) for e in es
    ]
    assert found["Cancer"]["found"] == types.count("Cancer") > found["Cancer"]["gold"]
    (tmp_path / "out" / "calibration.json").unlink()
    evaluate(tagger.out, chance, split="devel", calibrate=True)
    found = json.loads((tmp_path / "out" / "calibration.json").read_text())["torch-fp32"]["calibration"]["types"]
    assert found["Cancer"]["found"] > 0 == found["Cancer"]["gold"]
    assert not any(point["precision"] for point in found["Cancer"]["points"])


def test_the_command_takes_several_corpora(made, start, tmp_path, cli):
    data, out = [made / "drugs", f"Cancer={made / 'cancers'}"], tmp_path / "out"
    quick = ["--set", "epochs=1", "--set", "max_length=32"]
    status, stdout, _ = cli("finetune", *data, "--model", start, "--out", out, *quick)
    assert status == 0 and "the mean of the data sets" in stdout and "drugs (Drug) " in stdout
    status, stdout, stderr = cli("evaluate", f"Cancer={made / 'cancers'}", "--model", out)
    assert status == 0 and "mentions of Drug were not counted, as the data are not labelled for them" in stdout + stderr


def test_mistakes_are_one_sentence(made, start, tmp_path):
    def refused(data, **options):
        with pytest.raises(UserError) as error:
            finetune(data, start, tmp_path / "out", overrides=QUICK, **options)
        (sentence,) = str(error.value).splitlines()
        return sentence

    assert "cancers: its mentions have no type" in refused([made / "drugs", made / "cancers"])
    assert "Disease=cancers" in refused([made / "drugs", made / "cancers"])
    assert "named twice" in refused([made / "drugs", made / "drugs"])
    assert "Name a data set" in refused([])
    relation = relation_folder(tmp_path / "relation", {"train": 20, "test": 5})
    assert "relation is of relation: several data sets" in refused([made / "drugs", relation])
    assert "a type is for mentions" in refused(f"Cancer={relation}")
    assert "have types already (Drug)" in refused(f"Cancer={made / 'drugs'}")
    assert "there is no such data set" in refused(f"Cancer={tmp_path / 'missing'}")
    data = [made / "drugs", f"Cancer={made / 'cancers'}"]
    drug = small_models.save("bert", "ner", tmp_path / "drug", ["O", "B-Drug", "I-Drug"])
    both = small_models.save("bert", "ner", tmp_path / "both", ["O", "B-Drug", "I-Drug", "B-Cancer", "I-Cancer"])
    assert "No teacher knows Cancer" in refused(data, teachers=[drug])
    assert "'drug' and 'both' know Drug, and one of them more" in refused(data, teachers=[drug, both])
    assert "The data have no Gene to teach, they have Cancer, Drug" in refused(data, teachers=[f"Gene={both}", drug])
    three = small_models.save("bert", "ner", tmp_path / "three", ["O", "B-Gene", "I-Gene", "B-Cell", "I-Cell"])
    assert "does not know Drug, it knows Cell, Gene" in refused(data, teachers=[f"Drug={three}", drug])
    assert "the data name no type: say which of them" in refused(made / "cancers", teachers=[both])
    assert "name one type" in refused(f"Drug=Cancer={made / 'cancers'}")
    assert "a type is for mentions" in refused(relation, teachers=[f"Drug={both}"])


def test_a_teacher_of_several_types_may_teach_one(tmp_path):
    drug = small_models.save("bert", "ner", tmp_path / "drug", ["O", "B-Chemical", "I-Chemical"])
    both = small_models.save("bert", "ner", tmp_path / "both", ["O", "B-Drug", "I-Drug", "B-Cancer", "I-Cancer"])
    labels = ["B-Cancer", "B-Drug", "I-Cancer", "I-Drug", "O"]
    found = find_teachers([f"Drug={drug}", f"cancer={both}"], "ner", labels, settings("ner", 48, {}), None, "fp32")
    assert [teacher.columns for teacher in found] == [(4, 1, 3), (4, 4, 4, 0, 2)]
    scores = np.log(np.full((2, 5), 0.2, dtype=np.float32))
    assert np.allclose(np.exp(found[1].arranged(scores)), [[0.2, 0, 0.2, 0, 0.6]] * 2)


def test_a_teacher_that_decides_each_type_for_itself_teaches_one_as_it_decides(tmp_path):
    names = ["O", "B-Drug", "I-Drug", "B-Cancer", "I-Cancer"]
    both = small_models.save("bert", "ner", tmp_path / "both", names, independent_types=True)
    (found,) = find_teachers([f"Drug={both}"], "ner", ["B", "I", "O"], settings("ner", 48, {}), None, "fp32")
    assert found.columns == (2, 0, 1, None, None) and not found.foreign
    each = [f"Drug={both}", f"Cancer={both}"]
    found, other = find_teachers(each, "ner", names, settings("ner", 48, {}), None, "fp32")
    assert (found.columns, other.columns) == ((0, 1, 2, None, None), (0, None, None, 3, 4))
    scores = np.log(np.array([[0.1, 0.3, 0.1, 0.4, 0.1]], dtype=np.float32))
    assert np.allclose(units._softened(found.arranged(scores)[None], 1.0), [[0.2, 0.6, 0.2, 0, 0]])
    single = small_models.save("bert", "ner", tmp_path / "single", ["O", "B-Drug", "I-Drug"], independent_types=True)
    (found,) = find_teachers([single], "ner", names[:3], settings("ner", 48, {}), None, "fp32")
    assert found.columns == (0, 1, 2)


def test_a_corpus_of_which_nothing_is_left_to_learn_from_is_refused(made, tmp_path):
    leaking = corpus(tmp_path / "leaking", {"cancer": "Cancer"}, 8, {"train": 5, "devel": 2, "test": 2})
    sentences = [block for block in (made / "drugs" / "test.tsv").read_text().split("\n\n") if len(block) > 90]
    (leaking / "train.tsv").write_text("\n\n".join(sentences).replace("Drug", "Cancer") + "\n")
    with pytest.raises(UserError, match="leaking: all its training documents with Cancer are in another data set's"):
        corpora.read([made / "drugs", leaking], None, None, format=None, train_on="train")


def test_documents_that_are_only_numbered_alike_are_not_the_same(tmp_path):
    for folder, kind, word in (("one", "Drug", "aspirin"), ("two", "Cancer", "tumor")):
        (tmp_path / folder).mkdir()
        for split in ("train", "devel", "test"):
            lines = [
                {"id": str(n), "text": f"{word} in {split} {n} and {kind} of a group of patients",
                 "spans": [{"start": 0, "end": len(word), "type": kind}]}
                for n in range(5)
            ]  # fmt: skip
            (tmp_path / folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = corpora.read([tmp_path / "one", tmp_path / "two"], None, None, format=None, train_on="train")
    assert [len(part.train) for part in found.parts] == [5, 5] and not found.notes


def test_corpora_of_one_name_are_told_apart(tmp_path):
    places = [corpus(tmp_path / name / "ner", {"drug": "Drug"}, seed) for seed, name in enumerate("ab")]
    assert [data.name for data in datasets.find_all(places)] == ["a/ner", "b/ner"]
    files = [place / "train.tsv" for place in places]
    assert [data.name for data in datasets.find_all(files)] == ["a/ner/train.tsv", "b/ner/train.tsv"]


def test_a_type_that_only_devel_has_is_learnt_from_another_corpus_and_scored(made, start, tmp_path):
    folder = corpus(tmp_path / "late", {"drug": "Drug"}, 5)
    (folder / "devel.tsv").write_text((made / "both" / "devel.tsv").read_text())
    data = [folder, f"Cancer={made / 'cancers'}"]
    found = corpora.read(data, None, None, format=None, train_on="train")
    assert found.parts[0].types == {"Drug", "Cancer"}
    # No corpus has it in train: that it counts as missed is noted.
    alone = finetune([folder, made / "drugs"], start, tmp_path / "out", overrides={**QUICK, "epochs": 1})
    assert any(note.startswith("late, devel: The model knows no Cancer") for note in alone.notes)


def test_the_type_that_a_teacher_teaches_belongs_to_the_run(made, start, tmp_path):
    quick = {**QUICK, "epochs": 1}
    one = small_models.save("bert", "ner", tmp_path / "one", ["O", "B", "I"])
    two = small_models.save("bert", "ner", tmp_path / "two", ["O", "B", "I"], seed=1)
    data = [made / "drugs", f"Cancer={made / 'cancers'}"]
    finetune(data, start, tmp_path / "out", teachers=[f"Drug={one}", f"Cancer={two}"], overrides=quick)
    with pytest.raises(UserError, match="holds"):
        finetune(data, start, tmp_path / "out", teachers=[f"Cancer={one}", f"Drug={two}"], overrides=quick)
    with pytest.raises(UserError, match="holds"):
        search(f"Drug={made / 'cancers'}", start, tmp_path / "search", overrides={**quick, "batch_size": 16})
        search(f"Cancer={made / 'cancers'}", start, tmp_path / "search", overrides={**quick, "batch_size": 16})


def test_int8_is_held_to_each_data_set_and_says_what_is_not_compared(tagger, made, tmp_path, cli):
    pytest.importorskip("onnxruntime")
    both = ["--data", made / "drugs", "--data", f"Cancer={made / 'cancers'}"]
    command = ["export", tagger.out, "--format", "onnx-int8", "--max-loss", "50", "--out"]
    status, stdout, stderr = cli(*command, tmp_path / "int8", *both)
    assert status == 0 and "drugs, cancers, devel" in stdout and "not compared" not in stdout
    record = json.loads((tmp_path / "int8" / "export.json").read_text())["exports"]["model_int8.onnx"]
    assert [data["name"] for data in record["data"]["data"]] == ["drugs", "cancers"]
    scored = [evaluate(tagger.out, one, split="devel", precision="fp32") for one in both[1::2]]
    assert record["original"]["interval"] == list(interval_of(*(one.outcome for one in scored)))
    # Logits of int8 depend on what else is in the batch: those of a data set are as `evaluate` computes them.
    scored = gate(loading.find(tagger.out), "ner", both[1::2], None)
    runtime = runtimes.load(runtimes.find(tmp_path / "int8"), "onnx-int8")
    for part, logits in zip(scored.parts, scored.logits(runtime), strict=True):
        assert all(map(np.array_equal, logits, runtime.logits(part.encoded.rows)))
    kept = json.loads((tmp_path / "int8" / "calibration.json").read_text())
    assert set(kept["onnx-int8"]["calibration"]["types"]) == {"Drug", "Cancer"}
    assert evaluate(tmp_path / "int8", made / "both", runtime="onnx-int8").outcome.scores["f1"] > 0.9
    status, stdout, stderr = cli(*command, tmp_path / "drugs", "--data", made / "drugs")
    assert status == 0 and "not compared Cancer" in stdout and "no data set named is labelled for it: Cancer" in stderr
    assert "Not compared: Cancer." in (tmp_path / "drugs" / "README.md").read_text()
    # A type that a data set spells otherwise is the same.
    upper = shutil.copytree(made / "both", tmp_path / "upper")
    for path in upper.iterdir():
        path.write_text(path.read_text().replace("Cancer", "CANCER"))
    status, stdout, _ = cli(*command, tmp_path / "spelt", "--data", made / "drugs", "--data", upper)
    assert status == 0 and "not compared" not in stdout


def test_a_calibration_of_fewer_types_does_not_replace_one_of_all(tagger, made, tmp_path):
    model = shutil.copytree(tagger.out, tmp_path / "copy")
    before = (model / "calibration.json").read_bytes()
    with pytest.raises(UserError, match="is calibrated for Cancer too, which these data do not hold"):
        evaluate(model, made / "drugs", split="devel", calibrate=True)
    assert (model / "calibration.json").read_bytes() == before


def test_mentions_of_two_types_stay_two_where_types_are_not_compared(tokenizer_folder):
    tokenizer = load_tokenizer(tokenizer_folder)
    document = Document("1", "aspirin lung cancer", (Span(0, 7, ""), Span(8, 19, "")), tokenised=True)
    own, labels = ["O", "B-Drug", "I-Drug", "B-Cancer", "I-Cancer"], ["O", "B", "I", "B", "I"]
    encoded = ner_encoding.encode([document], tokenizer, {}, 32)
    logits = [np.zeros((len(row), 5), dtype=np.float32) for row in encoded.rows]
    (window,) = encoded.windows
    # The second mention begins with an I, which belongs to another type than the first.
    for piece, label in zip(window.first_pieces, (1, 4, 4), strict=True):
        logits[0][piece, label] = 9
    (tags,) = ner_encoding.decode_as(encoded, logits, own, labels, Decoding())
    assert tags == [["B", "B", "I"]]


def test_the_order_of_labels_in_a_configuration_does_not_matter(tagger, made, tmp_path):
    model = shutil.copytree(tagger.out, tmp_path / "copy")
    config = json.loads((model / "config.json").read_text())
    config["id2label"] = dict(reversed(config["id2label"].items()))
    (model / "config.json").write_text(json.dumps(config))
    assert evaluate(model, made / "both").record()["f1"] == evaluate(tagger.out, made / "both").record()["f1"]


def test_the_rules_by_which_raw_text_is_divided_belong_to_a_run(tmp_path, monkeypatch, made):
    spans = (Span(0, 7, "Drug"),)
    for split in ("train", "devel"):
        documents = [Document(f"{split}{i}", f"Aspirin of day {i}.", spans) for i in range(3)]
        formats.write(documents, tmp_path / f"{split}.jsonl", "jsonl")

    def records():
        read = (corpora.read(data, "ner", None, format=None, train_on="train") for data in (tmp_path, made / "drugs"))
        return [one.record() for one in read]

    raw, tokens = records()
    monkeypatch.setattr(corpora, "RULES", corpora.RULES + 1)
    assert records()[0] != raw and records()[1] == tokens


def test_a_path_with_an_equals_sign_is_a_path(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus(tmp_path / "seed=1", {"drug": "Drug"}, 5)
    assert datasets.find("seed=1").type is None and datasets.find(f"{tmp_path}/seed=1").type is None
