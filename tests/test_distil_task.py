"""Fine-tuning with teachers end to end: learnt from labelled and unlabelled texts, resumed, recorded, refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import ConcatDataset
from transformers import BertTokenizerFast

import small_models
from compactbio import formats
from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.evaluation.scoring import add_to_card, evaluate
from compactbio.tasks.settings import settings
from compactbio.training import engine, grid_search, run_folder, soft_labels, unlabelled
from compactbio.training.finetuning import collect, finetune
from compactbio.training.unlabelled import HeldOut
from conftest import VOCABULARY, one_sentence
from interruptions import killed_at_file, stopping_at
from task_data import ner_folder, qa_folder, relation_folder, start_folder, texts_file

QUICK = {"epochs": 2, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}
SIZES = {"train": 16, "devel": 6, "test": 6}


@pytest.fixture
def texts(tmp_path):
    """Sentences like those of the data set, one per line."""
    return texts_file(tmp_path / "more.txt", 60)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def equal(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_without_a_share_of_the_teacher_training_is_plain_to_the_bit(tagger, start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    finetune(data, start, tmp_path / "plain", overrides=QUICK)
    given = {"teachers": [tagger], "overrides": {**QUICK, "distil_weight": 0.0}}
    finetune(data, start, tmp_path / "taught", **given)
    assert equal(tmp_path / "plain", tmp_path / "taught")
    finetune(data, start, tmp_path / "half", teachers=[tagger], overrides=QUICK)
    assert not equal(tmp_path / "plain", tmp_path / "half")


def test_a_student_learns_from_unlabelled_texts_what_few_labels_do_not_teach(tagger, start, texts, tmp_path):
    data = ner_folder(tmp_path / "made", {"train": 4, "devel": 30, "test": 40}, kind="Drug")
    few = {**QUICK, "epochs": 6}
    finetune(data, start, tmp_path / "plain", overrides=few)
    taught = finetune(data, start, tmp_path / "taught", teachers=[tagger], unlabelled=[texts], overrides=few)
    plain, better = (evaluate(tmp_path / name, data).record()["f1"] for name in ("plain", "taught"))
    assert better > 0.9 > plain + 0.2
    assert taught.unlabelled["used"] == 60 - taught.unlabelled.get("excluded by text", 0)
    assert not (tmp_path / "taught" / "rows").exists()
    record = json.loads((tmp_path / "taught" / "run.json").read_text())["identity"]
    assert record["teachers"][0]["name"] == "tagger" and [file["name"] for file in record["unlabelled"]] == ["more.txt"]
    assert record["settings"]["distil_weight"] == 0.5 and record["settings"]["temperature"] == 2.0
    card = (tmp_path / "taught" / "README.md").read_text()
    assert "It learnt from tagger beside the labels, and from unlabelled texts." in card
    assert f"| teacher | tagger, {record['teachers'][0]['runtime']} |" in card and "| unlabelled: read | 60 |" in card
    add_to_card(tmp_path / "taught", evaluate(tmp_path / "taught", data))
    assert "| unlabelled: read | 60 |" in (tmp_path / "taught" / "README.md").read_text()


@pytest.mark.parametrize("make", [relation_folder, qa_folder])
def test_relations_and_questions_are_learnt_from_a_teacher(make, start, tmp_path):
    data = make(tmp_path / "made", {"train": 120, "devel": 20, "test": 30})
    finetune(data, start, tmp_path / "teacher", overrides={**QUICK, "epochs": 5})
    more = make(tmp_path / "more", {"train": 40, "devel": 2, "test": 2}, seed=5)
    few = make(tmp_path / "few", {"train": 6, "devel": 6, "test": 30}, seed=3)
    (file,) = more.glob("train*")
    # Its questions have ids of their own.
    file.write_text(file.read_text().replace('"id": "0', '"id": "f'))
    result = finetune(
        few, start, tmp_path / "out", teachers=[tmp_path / "teacher"], unlabelled=[file],
        overrides={**QUICK, "epochs": 5, "distil_weight": 0.8},
    )  # fmt: skip
    assert result.unlabelled["rows trained on"] >= 20
    assert evaluate(tmp_path / "out", few).outcome.main > 0.6
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert all(any(line.get(term, 0) > 0 for line in lines) for term in ("teacher", result.task))


def test_teachers_of_other_families_and_tokenizers_teach_together(tagger, start, texts, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    other = small_models.save("roberta", "ner", tmp_path / "other", ["O", "B-DRUG", "I-DRUG"])
    given = {"teachers": [tagger, other], "unlabelled": [texts], "overrides": QUICK}
    finetune(data, start, tmp_path / "both", **given)
    finetune(data, start, tmp_path / "one", **{**given, "teachers": [tagger]})
    assert not equal(tmp_path / "both", tmp_path / "one")
    finetune(data, start, tmp_path / "again", **given)
    assert equal(tmp_path / "both", tmp_path / "again")


def test_files_of_one_name_are_all_recorded(tagger, start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    for number, text in enumerate(["the dose of insulin was in the study", "patients had aspirin"]):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "texts.txt").write_text(f"{text}\n")
    given = {
        "teachers": [tagger],
        "unlabelled": [tmp_path / "0" / "texts.txt", tmp_path / "1" / "texts.txt"],
        "overrides": QUICK,
    }
    finetune(data, start, tmp_path / "out", **given)
    files = run_folder.record(tmp_path / "out")["identity"]["unlabelled"]
    assert [file["name"] for file in files] == ["texts.txt"] * 2 and files[0]["sha256"] != files[1]["sha256"]
    # The run of another text under the same name is another run.
    (tmp_path / "0" / "texts.txt").write_text("the control group had no insulin\n")
    with pytest.raises(UserError):
        finetune(data, start, tmp_path / "out", **given)


def test_a_search_of_changed_teachers_or_texts_is_another_search(tagger, start, texts, tmp_path, monkeypatch):
    data, teacher = ner_folder(tmp_path / "made", SIZES, kind="Drug"), tmp_path / "teacher"
    shutil.copytree(tagger, teacher)
    fixed = {**QUICK, "epochs": 1}
    given = {"teachers": [teacher], "unlabelled": [texts], "overrides": fixed}
    monkeypatch.setattr(grid_search, "RATES", (1.0,))
    assert grid_search.search(data, start, tmp_path / "out", **given).state == "finished"
    monkeypatch.chdir(tmp_path)
    same = {**given, "teachers": ["teacher"], "unlabelled": [texts.name]}
    assert grid_search.search(data, start, tmp_path / "out", **same).state == "already finished"
    texts.write_text(texts.read_text() + "patients had aspirin\n")
    with pytest.raises(UserError, match="out holds a search of another grid"):
        grid_search.search(data, start, tmp_path / "out", **given)
    small_models.save("bert", "ner", teacher, ["B-Drug", "I-Drug", "O"])
    with pytest.raises(UserError, match="out holds a search of another grid"):
        grid_search.search(data, start, tmp_path / "out", teachers=[teacher], overrides=fixed)


def test_types_that_only_the_teacher_knows_are_reported(start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    labels = ["O", "B-Drug", "I-Drug", "B-Gene", "I-Gene"]
    teacher = small_models.save("roberta", "ner", tmp_path / "teacher", labels)
    result = finetune(data, start, tmp_path / "out", teachers=[teacher], overrides=QUICK)
    assert "teacher also finds Gene, which counts as no mention here." in result.notes


def test_workers_without_a_teacher_are_refused(start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    with pytest.raises(UserError, match="compute what teachers say: name a teacher"):
        finetune(data, start, tmp_path / "out", workers=2, overrides=QUICK)


def test_documents_of_test_and_devel_are_left_out_by_id_and_by_text(tagger, start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    kept = "the dose of insulin was in the study"
    held = [document.text for split in ("test", "devel") for document in formats.read(data / f"{split}.tsv")]
    own = next(iter(formats.read(data / "train.tsv"))).text
    file = tmp_path / "texts.txt"
    file.write_text("\n".join([kept, *(text.upper().replace(" ", "  ") for text in held), own]) + "\n")
    result = finetune(data, start, tmp_path / "out", teachers=[tagger], unlabelled=[file], overrides=QUICK)
    assert result.unlabelled["excluded by text"] == 12 and result.unlabelled["used"] == 2
    assert any("12 were left out because they are in the test or devel split" in note for note in result.notes)
    trained = {"train_on": "train+devel", "teachers": [tagger], "unlabelled": [file], "overrides": QUICK}
    assert finetune(data, start, tmp_path / "all", **trained).unlabelled["excluded by text"] == 6


def test_texts_that_enter_the_test_split_are_not_trained_on_unseen(tagger, start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    texts = ["the dose of insulin was in the study", "the daily dose of aspirin was in the group"]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    given = {"teachers": [tagger], "unlabelled": [tmp_path / "texts.txt"], "overrides": QUICK}
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):  # after the teachers
        patched.setattr("compactbio.training.engine.fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        finetune(data, start, tmp_path / "out", **given)
    with (data / "test.tsv").open("a") as file:
        file.write("\n" + "".join(f"{word}\tO\n" for word in texts[0].split()))
    found = finetune(data, start, tmp_path / "out", **given)
    assert found.unlabelled["used"] == found.unlabelled["rows"] == 1
    with (data / "test.tsv").open("a") as file:
        file.write("\n" + "".join(f"{word}\tO\n" for word in texts[1].split()))
    with pytest.raises(UserError, match="another test or devel split"):
        finetune(data, start, tmp_path / "out", **given)


def test_what_is_held_out_is_known_by_id_text_and_long_sentences():
    long = "Mutations of the p53 gene were found in human and mouse cells."
    known = HeldOut.of("ner", [Document("12345", f"{long} Methods ."), Document("3", "A dose", tokenised=True)])
    why = {
        "id": Document("12345", "other words"),
        "text": Document("", f"Something else. {long} And more."),
        "": Document("99", "Methods ."),
    }
    assert {known.why("ner", document): document for document in why.values()} == why
    assert known.why("ner", Document("f:3", "a  DOSE")) == "text" and known.why("ner", Document("3", "b")) == ""


def test_a_run_begun_again_with_another_student_has_rows_of_its_own(tagger, start, texts, tmp_path, monkeypatch):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    other = shutil.copytree(start, tmp_path / "other")
    special = [word for word in VOCABULARY if word.startswith("[")]
    (other / "vocab.txt").write_text("\n".join([*special, *(w for w in reversed(VOCABULARY) if w not in special)]))
    BertTokenizerFast(vocab=str(other / "vocab.txt")).save_pretrained(other)
    given = {"teachers": [tagger], "unlabelled": [texts], "overrides": QUICK}
    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(engine, "fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        finetune(data, start, tmp_path / "out", **given)
    finetune(data, other, tmp_path / "out", **given)
    finetune(data, other, tmp_path / "straight", **given)
    assert equal(tmp_path / "straight", tmp_path / "out")


def test_a_teacher_reads_longer_rows_than_its_student_can(tagger, start, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    config = json.loads((start / "config.json").read_text())
    short = shutil.copytree(start, tmp_path / "short")
    (short / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 32}))
    found = collect(data, short, teachers=[tagger])
    assert found.settings.max_length == 32 and found.teaching.teachers[0].settings.max_length == 64


def test_rows_on_disk_are_those_in_memory(tagger, tmp_path, start, monkeypatch):
    """A sentence, labelled or not, has the same targets but for rounding to half precision."""
    monkeypatch.setattr(soft_labels, "CHUNK", 5)
    monkeypatch.setattr(unlabelled, "_MAPPED", 1)  # of four files one is open
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    kept = {}

    class Kept(ConcatDataset):
        def __init__(self, *given):
            super().__init__(*given)
            kept["rows"] = [self[i] for i in range(len(self))]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("compactbio.training.teaching.ConcatDataset", Kept)
        finetune(data, start, tmp_path / "out", teachers=[tagger], unlabelled=[data / "train.tsv"], overrides=QUICK)
    labelled, stored = kept["rows"][:16], kept["rows"][16:]
    assert len(stored) == 16
    for one, other in zip(labelled, stored, strict=True):
        assert np.array_equal(one.input_ids, other.input_ids) and (other.labels == -100).all()
        assert np.array_equal(one.soft.pieces, other.soft.pieces)
        assert np.allclose(one.soft.targets, other.soft.targets, atol=1e-3)
        assert np.allclose(other.soft.targets.sum(-1), 1, atol=1e-6)


def test_a_stated_sample_has_its_share_of_mentions_and_the_most_uncertain():
    facts = np.stack([np.linspace(0, 1, 20), np.arange(20) % 4 == 0], axis=1).astype(np.float32)

    def of(**more):
        return unlabelled.choose(facts, settings("ner", 32, more))

    assert len(of()) == 20 and len(of(sample=50)) == 20
    some = of(sample=8, sample_mentions=0.5)
    assert len(set(some)) == 8 and facts[some, 1].sum() == 4
    assert facts[of(sample=8, sample_mentions=1.0), 1].sum() == 5
    assert of(sample=3, sample_by="uncertainty").tolist() == [17, 18, 19]
    assert of(sample=4, sample_by="uncertainty", sample_mentions=0.25).tolist() == [16, 17, 18, 19]
    assert of(sample=8).tolist() == of(sample=8).tolist() != of(sample=8, seed=1).tolist()


def test_a_stopped_run_resumes_to_the_same_bits_without_computing_again(tagger, start, texts, tmp_path, monkeypatch):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    given = {"teachers": [tagger], "unlabelled": [texts], "overrides": {**QUICK, "epochs": 3}}
    finetune(data, start, tmp_path / "straight", **given)
    with stopping_at(5):
        assert finetune(data, start, tmp_path / "out", **given).state == "stopped"
    assert list((tmp_path / "out" / "rows").rglob("*.arrow"))
    monkeypatch.setattr(soft_labels.runtimes, "load", lambda *_: pytest.fail("computed again"))
    assert finetune(data, start, tmp_path / "out", resume=True, **given).state == "finished"
    assert equal(tmp_path / "straight", tmp_path / "out")


@pytest.mark.parametrize("number", [2, 5])
def test_a_run_killed_while_it_caches_computes_what_is_missing(number, tagger, start, tmp_path, monkeypatch, cli):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"a dose of aspirin in group {n}\n" for n in range(2 * soft_labels.CHUNK + 20)))
    sets = [
        part for key, value in {**QUICK, "epochs": 1, "batch_size": 64}.items() for part in ("--set", f"{key}={value}")
    ]
    command = ["finetune", data, "--model", start, "--teacher", tagger, "--unlabelled", texts, *sets, "--out"]
    monkeypatch.setenv("COMPACTBIO_CACHE", str(tmp_path / "straight-cache"))
    assert cli(*command, tmp_path / "straight")[0] == 0
    monkeypatch.setenv("COMPACTBIO_CACHE", str(tmp_path / "cache"))
    killed_at_file(number, [*map(str, command), str(tmp_path / "out")])
    kept = len(list((tmp_path / "cache" / "teachers").rglob("[!.]*.arrow")))
    # The labelled documents' file, then for each chunk of texts the teacher's file and the student's rows.
    assert kept == {2: 1, 5: 3}[number]
    assert cli(*command, tmp_path / "out", "--resume")[0] == 0
    assert equal(tmp_path / "straight", tmp_path / "out")
    assert len(list((tmp_path / "cache" / "teachers").rglob("*"))) == len(
        list((tmp_path / "straight-cache" / "teachers").rglob("*"))
    )


@pytest.mark.slow
@pytest.mark.parametrize(("more", "left"), [({"workers": 2}, 0), ({"workers": 1, "on_cluster": True}, 1)])
def test_workers_compute_what_one_process_does(more, left, tagger, start, tmp_path, monkeypatch):
    if "on_cluster" in more:
        pytest.importorskip("ray", reason="Ray is not installed")
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"a dose of aspirin in group {number}\n" for number in range(soft_labels.CHUNK + 20)))
    given = {"teachers": [tagger], "unlabelled": [texts], "overrides": {**QUICK, "epochs": 1, "batch_size": 64}}
    finetune(data, start, tmp_path / "one", **given)
    monkeypatch.setenv("COMPACTBIO_CACHE", str(tmp_path / "cache"))
    calls, load = [], soft_labels.runtimes.load
    monkeypatch.setattr(soft_labels.runtimes, "load", lambda *given: calls.append(given) or load(*given))
    finetune(data, start, tmp_path / "out", **given, **more)
    assert equal(tmp_path / "one", tmp_path / "out")
    assert len(calls) == left  # a cluster leaves the few labelled texts to this process
    assert len(list((tmp_path / "cache" / "teachers").rglob("*.arrow"))) == 3


def test_a_student_starts_from_every_second_layer_with_its_head(tokenizer_folder, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    whole = start_folder(tmp_path / "whole", tokenizer_folder, layers=4)
    finetune(data, whole, tmp_path / "teacher", overrides=QUICK)
    still = {**QUICK, "epochs": 1, "learning_rate": 1e-12}
    given = {"teachers": [tmp_path / "teacher"], "layers": 2, "overrides": still}
    finetune(data, tmp_path / "teacher", tmp_path / "out", **given)
    before, after = weights(tmp_path / "teacher"), weights(tmp_path / "out")
    for name, weight in after.items():
        source = name.replace("layer.1.", "layer.2.")
        assert torch.allclose(weight, before[source], atol=1e-6), name
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_hidden_layers"] == 2
    assert "of which 2 layers are kept" in (tmp_path / "out" / "README.md").read_text()


def test_mistakes_are_one_sentence(cli, tagger, start, texts, tmp_path):
    data = ner_folder(tmp_path / "made", SIZES, kind="Drug")
    out = tmp_path / "out"
    command = ["finetune", data, "--model", start, "--out", out]
    one_sentence(cli(*command, "--unlabelled", texts), "Unlabelled texts are for a student with a teacher")
    one_sentence(cli(*command, "--set", "temperature=3"), "temperature is for a student with a teacher")
    taught = [*command, "--teacher", tagger]
    one_sentence(cli(*taught, "--set", "distil_weight=2"), "distil_weight", "less than or equal to 1")
    one_sentence(cli(*taught, "--set", "sample=5"), "sample is for unlabelled texts")
    one_sentence(cli(*taught, "--unlabelled", texts, "--set", "distil_weight=0"), "distil_weight is 0")
    one_sentence(cli(*taught, "--unlabelled", tmp_path / "none.txt"), "none.txt")
    one_sentence(cli(*taught, "--layers", 3), "The model has 2 layers, so a student of it cannot have 3", "--layers")
    genes = ner_folder(tmp_path / "genes", SIZES, kind="Gene")
    one_sentence(
        cli("finetune", genes, "--model", start, "--out", out, "--teacher", tagger),
        "does not know B-Gene, I-Gene of the data, it knows B-Drug, I-Drug, O",
    )
    pairs = relation_folder(tmp_path / "pairs", SIZES)
    one_sentence(cli("finetune", pairs, "--model", start, "--out", out, "--teacher", tagger), "fine-tuned for ner")
    folder = tmp_path / "records"
    folder.mkdir()
    (folder / "several.jsonl").write_text('{\n  "text": "patients had aspirin"\n}\n')
    one_sentence(cli(*taught, "--unlabelled", folder), "several.jsonl holds a JSON object on several lines")
    # What a run writes must not become a text of its own.
    inside = ["finetune", data, "--model", start, "--out", folder / "out", "--teacher", tagger, "--unlabelled", folder]
    (folder / "several.jsonl").write_text('{"text": "patients had aspirin"}\n')
    one_sentence(cli(*inside), "which is read as data: choose a place outside it")
    held = tmp_path / "held.txt"
    held.write_text("".join(f"{document.text}\n" for document in formats.read(data / "test.tsv")))
    one_sentence(cli(*taught, "--unlabelled", held), "6 documents read: 6 excluded by text", "not in the test or devel")
    (folder / "notes.pdf").write_bytes(b"%PDF-1.4")
    given = ("--unlabelled", texts, "--unlabelled", folder)
    status, stdout, messages = cli(*taught, *given, "--set", "epochs=1", "--set", "batch_size=64")
    assert "passed over, not sources: notes.pdf" in messages and "notes.pdf" in (out / "README.md").read_text()
    assert status == 0 and "unlabelled documents" in stdout
    assert "test    read only to leave its documents out" in stdout
