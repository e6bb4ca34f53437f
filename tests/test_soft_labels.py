"""Units that models with different tokenizers share, the losses on them, and teachers' outputs in the cache."""

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn import functional as F

import small_models
from compactbio import formats
from compactbio.documents import Document, Question
from compactbio.errors import UserError
from compactbio.modeling import loading
from compactbio.modeling.packing import AUTO, pack, predictor_of
from compactbio.modeling.sharing import evaluating
from compactbio.objectives import labelled
from compactbio.objectives.terms import probabilities_kl
from compactbio.tasks import relation_classes, units
from compactbio.tasks.registry import TASKS
from compactbio.tasks.settings import settings
from compactbio.training import array_files, soft_labels
from compactbio.training.soft_labels import Ensemble, find_teachers
from compactbio.training.task_model import TaskModel
from conftest import randomize
from task_data import ner_folder, qa_folder, relation_folder

MAKERS = {"ner": ner_folder, "relation": relation_folder, "qa": qa_folder}
LABELS = {"ner": ["B", "I", "O"], "relation": ["0", "1"], "qa": []}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    return {
        task: list(formats.read(make(place / task, {"train": 20, "devel": 2, "test": 2}) / TRAIN[task]))
        for task, make in MAKERS.items()
    }


TRAIN = {"ner": "train.tsv", "relation": "train.tsv", "qa": "train.json"}


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPACTBIO_CACHE", str(tmp_path / "cache"))


def model(place, task, family="bert", seed=0, labels=None):
    """A folder with a random model of a family with the head of a task."""
    return redrawn(small_models.save(family, task, place, labels or LABELS[task] or None), task, seed)


def redrawn(folder, task, seed):
    """The folder with other weights: trained again, a tokenizer may cut words in another way."""
    drawn = randomize(AUTO[task].from_pretrained(folder), seed)
    with torch.no_grad():
        # Random models are hardly surer of one label than of another.
        for name, weight in drawn.named_parameters():
            if name.startswith(("classifier", "qa_outputs")):
                weight *= 8 if task != "qa" else 60
    drawn.save_pretrained(folder)
    return folder


def chosen(task, **more):
    return settings(task, 32, {"max_length": 32, "stride": 8, **more})


def encoded_by(folder, task, documents, **more):
    source = loading.find(folder)
    tokenizer = loading.tokenizer_of(source)
    encoded = TASKS[task].encode(documents, tokenizer, LABELS[task], chosen(task, **more))
    loaded = loading.load_for(source, task)
    return loaded, encoded, predictor_of(loaded, task, 512, "fp32")(encoded.rows)


def test_a_question_with_an_empty_passage_has_nothing_to_learn_from():
    asked = (Question("Which drug?", ()),)
    assert units.has_units("qa", Document("1", "Aspirin.", questions=asked))
    assert not units.has_units("qa", Document("1", " ", questions=asked))
    assert not units.has_units("qa", Document("1", "Aspirin."))


def test_the_kl_of_probabilities_is_hintons_formula():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(5, 3, generator=generator), torch.randn(5, 3, generator=generator)
    for temperature in (0.5, 1.0, 4.0):
        p, q = F.softmax(teacher / temperature, -1), F.softmax(student / temperature, -1)
        wanted = temperature**2 * (p * (p.log() - q.log())).sum()
        assert torch.allclose(probabilities_kl(student, p, temperature), wanted, atol=1e-5)
    one_hot = F.one_hot(torch.tensor([0, 1, 2, 0, 1]), 3).float()
    assert torch.allclose(probabilities_kl(student, one_hot, 1.0), F.cross_entropy(student, one_hot.argmax(-1)) * 5)
    assert probabilities_kl(teacher, F.softmax(teacher / 2, -1), 2.0).abs() < 1e-6


@pytest.mark.parametrize("task", list(MAKERS))
@pytest.mark.parametrize("max_length", [20, 128])
def test_a_student_equal_to_its_teacher_has_a_kl_of_0(task, max_length, data, tmp_path):
    student, encoded, logits = encoded_by(model(tmp_path / "m", task), task, data[task], max_length=max_length)
    found = [scores.astype(np.float16) for scores in units.scores(task, data[task], encoded, logits)]
    rows = units.soft_rows(task, data[task], encoded, [found], 2.0)
    module = TaskModel(student, task, 1.0, 2.0)
    with evaluating(student), torch.no_grad():
        terms = [module(batch, labelled(batch), module.counts(batch)).terms for batch in pack(rows, 256)]
    # Of a passage in several windows a word has the scores of one of them.
    bound = 1e-5 if task != "qa" or max_length > 64 else 0.1
    assert max(abs(float(part["teacher"])) for part in terms) < bound and all(part[task] == 0 for part in terms)
    surer = units.scores(task, data[task], encoded, [4 * values for values in logits])
    rows = units.soft_rows(task, data[task], encoded, [surer], 2.0)
    with evaluating(student), torch.no_grad():
        terms = [module(batch, labelled(batch), module.counts(batch)).terms for batch in pack(rows, 256)]
    assert min(float(part["teacher"]) for part in terms) > 1e-3


@pytest.mark.parametrize("task", list(MAKERS))
def test_the_loss_is_the_formula_on_plain_transformers(task, data, tmp_path):
    """(1 - w) * cross-entropy + w * T^2 * KL with the mean of two teachers, from the models' own forward passes."""
    documents, weight, temperature = data[task], 0.3, 2.0
    student, encoded, _ = encoded_by(model(tmp_path / "s", task), task, documents, max_length=128)
    taught = []
    for seed in (1, 2):
        teacher, _, logits = encoded_by(redrawn(tmp_path / "s", task, seed), task, documents, max_length=128)
        taught.append((teacher.eval(), units.scores(task, documents, encoded, logits)))
    rows = units.soft_rows(task, documents, encoded, [scores for _, scores in taught], temperature)
    rows = [row for row in rows if (row.labels != -100).any()]
    gold = kl = count = 0.0
    for row in rows:
        own, *others = (_plain(m, task, row) for m in (student.eval(), *(teacher for teacher, _ in taught)))
        if task == "qa":
            own, *others = (_by_word(logits, row) for logits in (own, *others))
        probabilities = [F.softmax(logits / temperature, -1) for logits in others]
        target = (probabilities[0] + probabilities[1]) / 2
        log_q = F.log_softmax(own / temperature, -1)
        at = row.labels != -100
        if task == "qa":
            kl += float((target * (target.log() - log_q)).sum()) / 2
            count += 1
            continue
        labels = torch.from_numpy(row.labels[at])
        keep = torch.from_numpy(at) if task == "ner" else slice(None)
        gold += float(F.cross_entropy(own[keep], labels, reduction="sum"))
        kl += float((target * (target.log() - log_q))[keep].sum())
        count += len(labels)
    module = TaskModel(student, task, weight, temperature)
    (batch,) = pack(rows, 100_000)
    with evaluating(student), torch.no_grad():
        found = module(batch, labelled(batch), module.counts(batch))
    assert float(found.terms["teacher"]) == pytest.approx(weight * temperature**2 * kl / count, rel=1e-4)
    if task != "qa":
        assert float(found.terms[task]) == pytest.approx((1 - weight) * gold / count, rel=1e-4)
    assert torch.equal(found.loss, found.terms[task] + found.terms["teacher"])


def _plain(network, task, row):
    """The logits of a row by transformers alone."""
    inputs = {"input_ids": torch.from_numpy(row.input_ids)[None]}
    if row.segments is not None:
        inputs["token_type_ids"] = torch.from_numpy(row.segments)[None]
    with torch.no_grad():
        out = network(**inputs)
    if task == "qa":
        return torch.stack([out.start_logits[0], out.end_logits[0]])  # (2, length)
    return out.logits[0] if task == "ner" else out.logits


def _by_word(logits, row):
    """(2, length) to (2, units): the passage's words are its pieces here but for "##" ones, which the row tells."""
    order = np.argsort(row.soft.pieces)
    at, unit = row.soft.pieces[order], row.soft.units[order]
    return torch.stack([logits[:, at[unit == u]].logsumexp(-1) for u in range(unit.max() + 1)], -1)


def test_words_are_the_units_of_models_with_other_tokenizers(tmp_path):
    text = "Metformin (500 mg) lowers IL-2 in patients; p<0.05."
    documents = [Document("1", text, questions=(Question("What lowers IL-2?", (("Metformin",),), "q"),))]
    for task in ("ner", "qa"):
        found = []
        for family in ("bert", "roberta", "xlm-roberta"):
            _, encoded, logits = encoded_by(model(tmp_path / f"{task}-{family}", task, family), task, documents)
            found.append((encoded, units.scores(task, documents, encoded, logits)))
        shapes = {scores.shape for _, (scores,) in found}
        assert len(shapes) == 1 and shapes.pop()[0] == 18
        encoded, _ = found[0]
        rows = units.soft_rows(task, documents, encoded, [scores for _, scores in found], 1.0)
        for row in rows:
            sums = row.soft.targets.sum(0 if task == "qa" else 1)
            assert np.allclose(sums, 1, atol=1e-5) and len(row.soft.targets) >= 10
        if task == "ner":
            wanted = np.mean([np.exp(scores[0]) for _, scores in found], axis=0)
            assert np.allclose(np.concatenate([row.soft.targets for row in rows]), wanted, atol=1e-5)


def test_a_words_odds_are_the_sum_over_its_pieces(tmp_path):
    documents = [Document("1", "unheardof tumor", questions=(Question("drug of the study", (), "q"),))]
    _, encoded, logits = encoded_by(model(tmp_path / "m", "qa"), "qa", documents)
    (window,), (values,) = encoded.windows, logits
    starts = window.offsets[:, 0]
    first = (starts >= 0) & (starts < 9)
    assert first.sum() > 2
    odds = np.exp(values).astype(float)
    wanted = np.log(odds[first].sum(0) / odds[starts < 0].sum(0))
    (scores,) = units.scores("qa", documents, encoded, logits)
    assert np.allclose(scores[0], wanted, atol=1e-5)


def teachers_of(names, task, labels=None, **more):
    scheme = TASKS[task].scheme([], chosen(task)) if task != "relation" else None
    labels = LABELS[task] if labels is None else labels
    return find_teachers(names, task, labels, chosen(task, **more), scheme, "fp32")


def folder_of(teacher):
    return Ensemble([teacher]).folder(teacher)


def test_outputs_are_computed_once_and_kept_in_half_precision(data, tmp_path, monkeypatch):
    folder = model(tmp_path / "m", "ner")
    (teacher,) = teachers_of([folder], "ner", max_length=32)
    first = Ensemble([teacher]).scores(data["ner"])
    (file,) = folder_of(teacher).glob("*.arrow")
    with pa.memory_map(str(file)) as mapped:
        assert pa.ipc.open_stream(mapped).read_all().schema.field("scores").type == pa.list_(pa.float16())
    with monkeypatch.context() as patched:
        patched.setattr(soft_labels.runtimes, "load", lambda *_: pytest.fail("computed again"))
        again = Ensemble(teachers_of([folder], "ner", max_length=32)).scores(data["ner"])
    for a, b in zip(first[0], again[0], strict=True):
        assert np.array_equal(a, b)
    changed = model(tmp_path / "changed", "ner", seed=1)
    (other,) = teachers_of([changed], "ner", max_length=32)
    assert other.digest != teacher.digest and folder_of(other) != folder_of(teacher)
    (longer,) = teachers_of([folder], "ner", max_length=20)
    assert longer.digest != teacher.digest
    shifted = [*data["ner"][1:], data["ner"][0]]
    assert Ensemble([teacher]).scores(shifted)[0][0].shape == first[0][1].shape
    assert len(list(folder_of(teacher).glob("*.arrow"))) == 2


def test_teachers_compute_in_the_precision_of_the_run_and_keep_it_apart(data, tmp_path):
    folder = model(tmp_path / "m", "ner")
    scores = {}
    for precision in ("fp32", "bf16"):
        (teacher,) = find_teachers([folder], "ner", LABELS["ner"], chosen("ner"), None, precision)
        assert teacher.runtime == f"torch-{precision}"
        scores[precision] = np.concatenate(Ensemble([teacher]).scores(data["ner"])[0]).astype(np.float32)
    assert np.abs(np.exp(scores["fp32"]) - np.exp(scores["bf16"])).max() < 0.02
    assert not np.array_equal(scores["fp32"], scores["bf16"])


def test_teachers_of_one_tokenizer_share_the_rows_of_a_chunk(data, tmp_path, monkeypatch):
    folders = [model(tmp_path / "one", "ner"), Path(shutil.copytree(tmp_path / "one", tmp_path / "two"))]
    redrawn(folders[1], "ner", seed=1)
    alone = [
        Ensemble(teachers_of([folder], "ner"), tmp_path / folder.name).scores(data["ner"])[0] for folder in folders
    ]
    calls, encode = [], TASKS["ner"].encode
    counted = replace(TASKS["ner"], encode=lambda *given: calls.append(given) or encode(*given))
    monkeypatch.setitem(soft_labels.TASKS, "ner", counted)
    both = Ensemble(teachers_of(folders, "ner"))
    for wanted, found in zip(alone, both.scores(data["ner"]), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(wanted, found, strict=True))
    assert len(calls) == 1
    both.scores(data["ner"][:1])
    assert len(calls) == 2


def test_teachers_that_mark_the_two_texts_of_a_row_otherwise_do_not_share_rows(data, tmp_path):
    """BERT and DistilBERT with the same pieces: only BERT tells question and passage apart by token types."""
    bert, distilbert = model(tmp_path / "bert", "qa"), model(tmp_path / "distilbert", "qa", "distilbert")
    shutil.copy(bert / "tokenizer.json", distilbert)
    config = json.loads((bert / "tokenizer_config.json").read_text())
    config["model_input_names"] = ["input_ids", "attention_mask"]
    (distilbert / "tokenizer_config.json").write_text(json.dumps(config))
    teachers = teachers_of([distilbert, bert], "qa")
    rules = [teacher.tokenizer.backend_tokenizer.to_str() for teacher in teachers]
    assert rules[0] == rules[1] and teachers[0].reading != teachers[1].reading
    wanted = Ensemble([teachers[1]], tmp_path / "alone").scores(data["qa"])[0]
    found = Ensemble(teachers, tmp_path / "together").scores(data["qa"])[1]
    assert all(np.array_equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_a_teacher_with_another_tokenizer_is_another_teacher(data, tmp_path):
    folder = model(tmp_path / "m", "ner")
    found = []
    for lower in ("true", "false"):
        (folder / "tokenizer_config.json").write_text(
            f'{{"tokenizer_class": "BertTokenizer", "do_lower_case": {lower}}}'
        )
        (teacher,) = teachers_of([folder], "ner")
        found.append((folder_of(teacher), teacher.record()))
    (place, record), (other_place, other) = found
    assert place != other_place and {key for key in record if record[key] != other[key]} == {"tokenizer", "cache"}


def test_a_cache_of_another_teacher_is_refused_and_named(data, tmp_path):
    (one,) = teachers_of([model(tmp_path / "one", "ner")], "ner")
    (two,) = teachers_of([model(tmp_path / "two", "ner", seed=1)], "ner")
    Ensemble([one]).scores(data["ner"])
    folder_of(one).rename(folder_of(two))
    with pytest.raises(UserError, match=r"\.arrow: it holds the outputs of another teacher than .*two; delete it"):
        Ensemble([two]).scores(data["ner"])


def _flipped(content):
    """A byte of the values is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _of_another_width(content):
    column = pa.array([[0.0] * 5], pa.list_(pa.float16()))
    table = pa.table({"scores": column}, metadata=pa.ipc.open_stream(content).schema.metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "damaged",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-9],
        lambda content: b"",
        _flipped,
        lambda content: content.replace(b"scores", b"others"),
        lambda content: content.replace(b"sha256", b"sha255"),
        _of_another_width,
    ],
)
def test_outputs_in_a_damaged_file_are_computed_again(damaged, data, tmp_path):
    (teacher,) = teachers_of([model(tmp_path / "m", "ner")], "ner")
    (mapped,) = Ensemble([teacher], tmp_path / "cache").scores(data["ner"])
    wanted = [scores.copy() for scores in mapped]
    (file,) = (tmp_path / "cache").rglob("*.arrow")
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(damaged(whole))
    assert file.read_bytes() != whole
    (found,) = Ensemble([teacher], tmp_path / "cache").scores(data["ner"])
    assert all(map(np.array_equal, wanted, found)) and file.read_bytes() == whole
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match=r"\.arrow: it is damaged; delete it, and what it held is computed again"):
        Ensemble([teacher], tmp_path / "cache").scores(data["ner"])


def test_files_that_the_system_does_not_let_us_map_are_not_called_damaged(tmp_path, monkeypatch):
    array_files.write(tmp_path / "rows.arrow", {"ids": [np.arange(3)]}, "me")

    def refused(_path):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(array_files.pa, "memory_map", refused)
    with pytest.raises(UserError, match="map no more memory") as caught:
        array_files.read(tmp_path / "rows.arrow", "me", "this run")
    assert not isinstance(caught.value, array_files.DamagedError)


def test_a_full_disk_is_one_sentence_and_loses_nothing(data, tmp_path, monkeypatch):
    (teacher,) = teachers_of([model(tmp_path / "m", "ner")], "ner")
    Ensemble([teacher]).scores(data["ner"][:5])

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(array_files.pa.ipc, "new_stream", full)
        with pytest.raises(UserError, match=r"no space is left on the device; free some space.*is kept"):
            Ensemble([teacher]).scores(data["ner"][5:])
    assert len(list(folder_of(teacher).iterdir())) == 1
    assert len(Ensemble([teacher]).scores(data["ner"][:5])[0]) == 5


@pytest.mark.parametrize(
    ("own", "wanted", "columns"),
    [
        (["O", "B-drug", "I-drug"], ["B-Drug", "I-Drug", "O"], (2, 0, 1)),
        (["B", "I", "O"], ["B-Drug", "I-Drug", "O"], (0, 1, 2)),
        (["B-Drug", "I-Drug", "O"], ["B", "I", "O"], (0, 1, 2)),
        (["B-Gene", "I-Gene", "B-Drug", "I-Drug", "O"], ["B-Drug", "I-Drug", "O"], (2, 2, 0, 1, 2)),
        (["O", "B-Drug", "I-Drug", "E-Drug", "S-Drug", "S-Gene"], ["B-Drug", "I-Drug", "O"], (2, 0, 1, 1, 0, 2)),
        (["U", "L", "I", "B", "O"], ["B-Drug", "I-Drug", "O"], (0, 1, 1, 0, 2)),
    ],
)
def test_labels_are_matched_by_name(own, wanted, columns, tmp_path):
    (teacher,) = teachers_of([model(tmp_path / "m", "ner", labels=own)], "ner", labels=wanted)
    assert teacher.columns == columns
    scores = np.log(np.random.default_rng(0).dirichlet(np.ones(len(own)), 4)).astype(np.float32)
    arranged = np.exp(teacher.arranged(scores))
    assert arranged.shape == (4, len(wanted)) and np.allclose(arranged.sum(-1), 1, atol=1e-5)
    places = [place for place, column in enumerate(columns) if column == 0]
    assert np.allclose(arranged[:, 0], np.exp(scores[:, places]).sum(-1), atol=1e-6)


def test_a_teacher_that_does_not_fit_is_refused_in_one_sentence(tmp_path):
    genes = model(tmp_path / "genes", "ner", labels=["B-Gene", "I-Gene", "O"])
    with pytest.raises(UserError, match=r"genes does not know B-Drug, I-Drug of the data, it knows .*B-Gene.*config"):
        teachers_of([genes], "ner", labels=["B-Drug", "I-Drug", "O"])
    inside = model(tmp_path / "inside", "ner", labels=["E-Drug", "I-Drug", "O"])
    with pytest.raises(UserError, match=r"inside does not know B-Drug of the data, it knows E-Drug, I-Drug, O"):
        teachers_of([inside], "ner", labels=["B-Drug", "I-Drug", "O"])
    groups = relation_classes.scheme(["CPR:3", "CPR:4", "false"])
    three = model(tmp_path / "three", "relation", labels=["CPR:3", "CPR:4", "false"])
    with pytest.raises(UserError, match=r"does not know CPR:5, CPR:6, CPR:9, it knows .* or set scheme=labels where"):
        find_teachers([three], "relation", groups.classes, chosen("relation"), groups, "fp32")
    relations = model(tmp_path / "relations", "relation")
    with pytest.raises(UserError, match=r"relations is fine-tuned for relation, the data are of ner: name a teacher"):
        teachers_of([relations], "ner")
