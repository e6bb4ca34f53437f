"""A checkpoint of each family passes through the commands: corpus, train, finetune, evaluate, annotate, profile."""

import json

import pytest
import torch
import yaml
from transformers import AutoModelForMaskedLM, AutoModelForTokenClassification, AutoTokenizer

import small_models
from compactbio import Annotator, corpus, recipes
from compactbio.annotate.server import create
from compactbio.deploy import profile as profiling
from compactbio.deploy.export import export
from compactbio.errors import UserError
from compactbio.evaluation.scoring import evaluate
from compactbio.modeling import build_student, loading
from compactbio.objectives import Distiller
from compactbio.training.finetuning import finetune
from compactbio.training.pretraining import train
from serving import here
from small_tokenizers import SENTENCES
from task_data import ner_folder, qa_folder, relation_folder

spacy = pytest.importorskip("spacy", reason="spaCy is not installed")

FAMILIES = [family for family in small_models.FAMILIES if family not in ("bert", "distilbert", "mobilebert")]
SMALL = {"steps": 2, "warmup_steps": 1, "batch_size": 4, "max_length": 48, "eval_every": 2, "save_every": 2}
TUNED = {"epochs": 1, "batch_size": 8, "max_length": 64}


@pytest.fixture(scope="module")
def documents(tmp_path_factory):
    path = tmp_path_factory.mktemp("documents") / "made.jsonl"
    texts = [f"{first} {second}" for first in SENTENCES for second in SENTENCES[:3]]
    lines = [json.dumps({"pmid": str(i), "title": "", "abstract": text}) for i, text in enumerate(texts, 1)]
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random masked-LM models by family."""
    place = tmp_path_factory.mktemp("checkpoints")

    def make(family):
        folder = place / family
        return folder if folder.exists() else small_models.save(family, "mlm", folder)

    return make


@pytest.fixture(scope="module")
def mentions(tmp_path_factory):
    return ner_folder(tmp_path_factory.mktemp("ner") / "made", {"train": 16, "devel": 6, "test": 8}, kind="Drug")


@pytest.fixture(scope="module")
def corpora(documents, checkpoint, tmp_path_factory):
    """Corpora by family."""
    place = tmp_path_factory.mktemp("corpora")

    def make(family):
        if not (place / family).exists():
            corpus.build([documents], place / family, tokenizer=checkpoint(family), max_length=48, holdout=4, workers=1)
        return place / family

    return make


def _same_as_plain(folder):
    """What was saved is what was trained: plain transformers finds every weight, and knows all that are there."""
    model, report = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_is_trained_further_and_is_a_teacher(family, checkpoint, corpora, tmp_path):
    folder, rows = checkpoint(family), corpora(family)
    start = {key: value.clone() for key, value in AutoModelForMaskedLM.from_pretrained(folder).state_dict().items()}
    # Steps enough that the student with the lowest held-out loss is not the start.
    continued = recipes.load("bio-tinybert", **{**SMALL, "steps": 10, "learning_rate": 5e-3})
    result = train(continued, rows, tmp_path / "continued", init=str(folder), precision="fp32")
    assert result.state == "finished" and result.heldout_loss > 0
    trained = _same_as_plain(tmp_path / "continued").state_dict()
    assert trained.keys() == start.keys()
    assert any(not torch.equal(value, start[key]) for key, value in trained.items())
    mask = AutoTokenizer.from_pretrained(tmp_path / "continued").mask_token
    assert f'fill("The patients received {mask} daily.")' in (tmp_path / "continued" / "README.md").read_text()
    # A student of the teacher's layers where it has layers of its own, else a random one.
    drawn = {"hidden_size": 32, "intermediate_size": 48, "heads": 4, "start": "random"} if family == "albert" else {}
    distilled = recipes.load("distil-biobert", layers=2, **drawn, **SMALL)
    made = train(distilled, rows, tmp_path / "student", teacher=str(folder), precision="fp32")
    assert made.state == "finished" and made.teacher_heldout_loss > 0
    assert _same_as_plain(tmp_path / "student").config.num_hidden_layers == 2


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "albert"])
def test_a_student_of_all_layers_is_its_teacher(family, checkpoint):
    teacher, _ = loading.load(loading.find(checkpoint(family)), 0)
    recipe = recipes.load("distil-biobert", layers=3)
    student = build_student(recipe, teacher).eval()
    ids = torch.randint(8, teacher.config.vocab_size - 8, (2, 20), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(student(ids).logits, teacher.eval()(ids).logits)
        labels = torch.where(torch.arange(20) % 4 == 1, ids, -100)
        terms = Distiller(student, teacher, recipe).eval()(ids, torch.ones_like(ids), labels).terms
    assert float(terms["logits_kl"]) == pytest.approx(0, abs=1e-5)
    assert float(terms["last_hidden_cosine"]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_is_fine_tuned_scored_and_run(family, checkpoint, mentions, tmp_path):
    folder = checkpoint(family)
    finetune(mentions, str(folder), tmp_path / "tagger", overrides={**TUNED, "epochs": 3, "learning_rate": 3e-3})
    score = evaluate(str(tmp_path / "tagger"), mentions, precision="fp32").outcome.main
    text = "daily aspirin and metformin in patients with breast cancer"
    # Without the scheme of its tags, each word's own best tag is taken, as transformers does.
    config = json.loads((tmp_path / "tagger" / "config.json").read_text())
    assert config.pop("tag_scheme") == "IOB2"
    (tmp_path / "tagger" / "config.json").write_text(json.dumps(config))
    found = Annotator.from_pretrained(tmp_path / "tagger", runtime="torch-fp32")(text)
    # Plain transformers on the saved folder gives the same.
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tagger")
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "tagger")
    given = tokenizer(text.split(), is_split_into_words=True, return_tensors="pt")
    with torch.no_grad():
        labels = model(**given).logits[0].argmax(-1).tolist()
    tags = [model.config.id2label[labels[given.word_ids().index(word)]] for word in range(len(text.split()))]
    inside = {word for word, tag in zip(text.split(), tags, strict=True) if tag != "O"}
    assert {word for entity in found for word in entity.text.split()} == inside
    assert 0 <= score <= 1


@pytest.mark.parametrize("family", ["roberta", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("task", ["relation", "qa"])
def test_relations_and_questions_are_fine_tuned_and_scored(family, task, checkpoint, tmp_path):
    data = {"relation": relation_folder, "qa": qa_folder}[task](tmp_path / "data", {"train": 12, "test": 8})
    finetune(data, str(checkpoint(family)), tmp_path / "tuned", overrides=TUNED)
    assert 0 <= evaluate(str(tmp_path / "tuned"), data).outcome.main <= 1


@pytest.fixture
def no_fresh_processes(monkeypatch):
    """Models are not loaded in processes of their own to measure their memory."""
    monkeypatch.setattr(profiling, "peak_memory", lambda *_: 1_000_000)


def test_families_are_profiled_in_one_table(checkpoint, no_fresh_processes):
    families = [*FAMILIES, "mpnet"]
    found = profiling.profile([str(checkpoint(family)) for family in families], sentences=2, threads=1)
    assert [figures.family for figures in found] == families
    assert all(figures.flops_per_token > 0 and figures.embedding_parameters > 0 for figures in found)


def test_families_are_compared_in_one_table(cli, checkpoint, mentions, tmp_path, no_fresh_processes):
    suite = {
        "models": {family: str(checkpoint(family)) for family in FAMILIES},
        "data": {"tags": {"path": str(mentions), "seeds": [0]}},
        "settings": TUNED,
    }
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    status, printed, messages = cli("compare", tmp_path / "suite.yaml", "--out", tmp_path / "table")
    assert status == 0 and "failed" not in messages, messages
    rows = json.loads((tmp_path / "table" / "table.json").read_text())["rows"]
    assert [row["model"] for row in rows] == FAMILIES and all(0 <= row["mean"] <= 1 for row in rows)
    assert all(family in printed for family in FAMILIES)


def test_int8_of_another_family_goes_through_the_gate(checkpoint, tmp_path):
    data = ner_folder(tmp_path / "data", {"train": 80, "devel": 20, "test": 8}, kind="Drug")
    settings = {**TUNED, "epochs": 8, "learning_rate": 5e-3}
    finetune(data, str(checkpoint("modernbert")), tmp_path / "tagger", overrides=settings)
    made = export(tmp_path / "tagger", "onnx-int8", tmp_path / "int8", data=data)
    assert made.original.score > 0.8 and made.original.score - made.exported.score <= 0.003
    found = Annotator.from_pretrained(tmp_path / "int8")("daily aspirin in patients")
    assert [(entity.text, entity.type) for entity in found] == [("aspirin", "Drug")]


@pytest.fixture(scope="module")
def taggers(tmp_path_factory):
    place = tmp_path_factory.mktemp("taggers")
    return {
        family: small_models.save(family, "ner", place / family, ["O", "B-Drug", "I-Drug"], balanced=True)
        for family in FAMILIES
    }


def test_every_family_is_served_and_used_in_spacy(taggers):
    text = " ".join(SENTENCES)
    for family, folder in taggers.items():
        annotator = Annotator.from_pretrained(folder, runtime="torch-fp32")
        wanted = [(entity.start, entity.end, entity.type) for entity in annotator(text)]
        with here(create(annotator)) as server:
            status, answer = server.annotate({"text": text})
        assert status == 200
        assert [(one["start"], one["end"], one["type"]) for one in answer["entities"]] == wanted, family
        nlp = spacy.blank("en")
        nlp.add_pipe("compactbio", config={"model": str(folder), "runtime": "torch-fp32"})
        # spaCy's tokens are taken whole: of two entities that then share one the longer is kept.
        doc = nlp(text)
        kept = {token.i for entity in doc.ents for token in entity}
        found = [doc.char_span(start, end, alignment_mode="expand") for start, end, _ in wanted]
        assert found and all(kept.intersection(range(span.start, span.end)) for span in found), family


def test_a_deberta_is_not_trained_in_bf16(checkpoint, mentions, tmp_path):
    """transformers' code of DeBERTa v1 stops with an error there."""
    with pytest.raises(UserError, match="does not compute a deberta in bf16 beside float32: take fp32"):
        finetune(mentions, str(checkpoint("deberta")), tmp_path / "tagger", overrides=TUNED, precision="bf16")
