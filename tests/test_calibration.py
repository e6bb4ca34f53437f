"""Scores that mean how often a finding is right: the temperature, its error, curves of precision, and their file."""

import json
import math
import shutil

import numpy as np
import pytest

from compactbio import Annotator, annotate_files, evaluate, read
from compactbio.annotate.models import scoring_of
from compactbio.documents import Document, Relation, Span
from compactbio.errors import UserError
from compactbio.modeling import loading, runtimes
from compactbio.tasks import calibration, calibration_file, ner_encoding, relation
from compactbio.tasks.calibration import Calibration, Curve, Point
from compactbio.tasks.registry import TASKS
from compactbio.training.finetuning import finetune
from conftest import one_sentence
from task_data import DRUGS, FILL, start_folder

pytestmark = pytest.mark.usefixtures("pictures")
WRONG = 0.3  # the share of drugs that the noisy data do not annotate


def drawn(seed: int = 0, size: int = 400, sharpness: float = 3.0):
    """Logits of findings that are `sharpness` times as sure as they should be, and whether each is right."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(1.0, 1.5, size)
    right = draw.random(size) < 1 / (1 + np.exp(-logits))
    return (lambda temperature: 1 / (1 + np.exp(-sharpness * logits / temperature))), right


def likelihood_of(right, scores):
    """The mean log likelihood of Platt's targets."""
    positives, negatives = right.sum(), (~right).sum()
    targets = np.where(right, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    scores = np.clip(scores, 1e-7, 1 - 1e-7)
    return float(np.mean(targets * np.log(scores) + (1 - targets) * np.log(1 - scores)))


def test_the_temperature_is_the_likeliest_of_a_fine_grid_and_undoes_what_was_done_to_logits():
    for sharpness in (0.5, 1.0, 3.0):
        scores, right = drawn(size=4000, sharpness=sharpness)
        found = calibration.fit_temperature(scores, right)
        best = max(likelihood_of(right, scores(temperature)) for temperature in np.geomspace(0.1, 15, 500))
        assert likelihood_of(right, scores(found)) >= best - 1e-9
        assert found == pytest.approx(sharpness, rel=0.15)


def test_a_few_findings_that_are_all_right_do_not_make_a_model_certain():
    scores = lambda temperature: np.full(20, 1 / (1 + math.exp(-2 / temperature)))  # noqa: E731
    found = calibration.fit_temperature(scores, np.ones(20, dtype=bool))
    assert scores(found) == pytest.approx(21 / 22, abs=1e-3)


def test_the_temperature_stays_in_its_range_where_the_likeliest_is_outside():
    for sharpness, bound in ((1000.0, 20.0), (0.001, 1 / 20)):
        scores, right = drawn(sharpness=sharpness)
        with np.errstate(over="ignore"):
            assert calibration.fit_temperature(scores, right) == pytest.approx(bound, abs=0, rel=1e-9)


def test_the_calibration_error_is_that_of_a_plain_loop():
    scores, right = drawn()
    values = np.append(scores(1.0), [0.0, 1.0, 0.5])
    right = np.append(right, [False, True, True])
    total = 0.0
    for number in range(10):
        inside = [
            i
            for i, value in enumerate(values)
            if number / 10 <= value < (number + 1) / 10 or (number == 9 and value == 1)
        ]
        if inside:
            confidence = sum(values[i] for i in inside) / len(inside)
            share = sum(bool(right[i]) for i in inside) / len(inside)
            total += len(inside) / len(values) * abs(share - confidence)
    assert calibration.calibration_error(values, right) == pytest.approx(total, abs=1e-12)


def test_calibrated_scores_of_an_overconfident_model_are_nearer_to_the_truth():
    scores, right = drawn(size=2000)
    found = calibration.calibrate(
        calibration.Findings(("A",) * 2000, right, {"A": 2000}, scores), {"name": "made", "split": "devel"}
    )
    assert found.error_after < 0.5 * found.error_before
    assert found.error_after == calibration.calibration_error(scores(found.temperature), right)
    for bins, values in ((found.bins_before, scores(1.0)), (found.bins_after, scores(found.temperature))):
        assert sum(one.found for one in bins) == 2000
        assert sum(one.found * one.right for one in bins) == pytest.approx(right.sum())
        assert sum(one.found * one.score for one in bins) == pytest.approx(values.sum())


@pytest.mark.parametrize("precision", [0.5, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_the_lowest_score_for_a_precision_is_that_of_a_plain_search(precision):
    scores, right = drawn(size=300)
    values = np.round(scores(3.0), 2)  # with ties
    found = calibration.curve(values, right, 250)
    lowest = None
    for value in sorted(set(values)):
        kept = right[values >= value]
        if len(kept) >= calibration.FEWEST and kept.mean() >= precision:
            lowest = value
            break
    point = found.point_for(precision)
    score = point.score if point else None
    if lowest is None:
        assert score is None
        return
    assert (values >= score).tolist() == (values >= lowest).tolist()
    point = next(point for point in found.points if point.score == score)
    assert (point.kept, point.precision) == (int((values >= score).sum()), right[values >= score].mean())
    assert point.recall == right[values >= score].sum() / 250


def test_a_precision_is_not_measured_on_a_few_findings():
    few = calibration.curve(
        np.linspace(0.5, 1, calibration.FEWEST - 1), np.ones(calibration.FEWEST - 1, dtype=bool), 30
    )
    assert (few.found, few.points, few.point_for(0.1)) == (calibration.FEWEST - 1, (), None)
    enough = calibration.curve(np.linspace(0.5, 1, calibration.FEWEST), np.ones(calibration.FEWEST, dtype=bool), 30)
    assert enough.point_for(1.0).score == 0.0


def noisy(folder, sizes, seed=3):
    """Sentences whose words around a drug say how often it is annotated, of two types; cancers never are mistaken."""
    draw = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for split, size in sizes.items():
        blocks = []
        for _ in range(size):
            before = str(draw.choice(FILL[:6]))
            rows = [(word, "O") for word in draw.choice(FILL, 3)]
            share = 0.95 if before in FILL[:3] else 1 - 2 * WRONG
            tag = "B-Drug" if draw.random() < share else "O"
            rows += [(before, "O"), (str(draw.choice(DRUGS)), tag), ("and", "O"), ("cancer", "B-Disease")]
            blocks.append("".join(f"{word}\t{tag}\n" for word, tag in rows))
        (folder / f"{split}.tsv").write_text("\n".join(blocks) + "\n")
    return folder


@pytest.fixture(scope="module")
def made(tokenizer_folder, tmp_path_factory):
    """Noisy data, and a model that is fine-tuned on them."""
    place = tmp_path_factory.mktemp("noisy")
    data = noisy(place / "made", {"train": 150, "devel": 200, "test": 60})
    start = start_folder(place / "start", tokenizer_folder)
    settings = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "max_length": 32}
    finetune(data, str(start), place / "tagger", overrides=settings)
    return data, place / "tagger"


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the model, and its data."""
    data, model = made
    return data, shutil.copytree(model, tmp_path / "copy")


def stored(model, runtime="torch-fp32") -> Calibration:
    return calibration_file.read(model)[runtime].calibration


def kept(found, documents):
    """By type the (right, kept) numbers of what an annotator finds."""
    counts = {}
    for document, entities in zip(documents, found, strict=True):
        gold = {(span.start, span.end, span.type) for span in document.spans}
        for one in entities:
            right, all_ = counts.get(one.type, (0, 0))
            counts[one.type] = (right + ((one.start, one.end, one.type) in gold), all_ + 1)
    return counts


def test_a_fine_tuned_model_is_calibrated_on_devel_as_its_card_says(made):
    data, model = made
    found = stored(model)
    documents = list(read(data / "devel.tsv"))
    assert set(found.types) == {"Disease", "Drug"} and found.data["split"] == "devel"
    counts = kept(Annotator.from_pretrained(model)(documents), documents)
    assert {kind: curve.found for kind, curve in found.types.items()} == {kind: n for kind, (_, n) in counts.items()}
    assert found.error_after <= found.error_before + 0.01
    card = (model / "README.md").read_text()
    assert f"| {found.temperature:.2f} | {found.error_before:.3f} | {found.error_after:.3f} |" in card


def test_the_card_shows_the_picture_and_the_lowest_scores(made):
    _, model = made
    card = (model / "README.md").read_text()
    (kept,) = calibration_file.read(model).values()
    assert "![Reliability, and precision against recall by type](calibration.png)" in card
    picture = (model / "calibration.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    for kind, curve in kept.calibration.types.items():
        point = next((point for point in curve.points if point.precision >= 0.9), None)
        shown = f"{point.score:.3f}, recall {100 * point.recall:.2f}" if point else "none"
        assert f"\n| {kind} | {shown} |" in card


def test_scores_are_of_logits_divided_by_the_temperature(copy):
    _, model = copy
    text = Document("", " ".join(("the", DRUGS[0], "and", "cancer")), tokenised=True)
    temperature = stored(model).temperature
    found = Annotator.from_pretrained(model)(text)
    (model / calibration_file.NAME).unlink()
    plain = Annotator.from_pretrained(model)
    loaded = plain.taggers[0].model
    encoded = ner_encoding.encode([text], loaded.tokenizer, {}, loaded.max_length)
    [logits] = loaded.logits(encoded.rows)
    for entity, before in zip(found, plain(text), strict=True):
        word = text.text[: entity.start].count(" ")
        weights = np.exp(logits[1 + word] / temperature)
        inside = [label.endswith(entity.type) for label in loaded.labels]
        assert entity.score == pytest.approx(weights[inside].sum() / weights.sum(), abs=1e-5)
        assert abs(entity.score - before.score) > 1e-3 or abs(temperature - 1) < 0.05
        assert (entity.start, entity.end, entity.type) == (before.start, before.end, before.type)


def test_calibration_changes_no_f1(copy):
    data, model = copy
    before = evaluate(data, model).record()
    calibration_file.keep(loading.find(model), "torch-fp32", replaced(stored(model), 7.5))
    assert evaluate(data, model).record() == before
    (model / calibration_file.NAME).unlink()
    assert evaluate(data, model).record() == before


def replaced(found: Calibration, temperature: float, **types: Curve) -> Calibration:
    return Calibration(
        temperature, found.found, found.error_before, found.error_after, types or found.types, found.data
    )


@pytest.mark.parametrize("precision", [0.6, 0.8, 0.9])
def test_what_is_kept_on_devel_has_the_precision_that_was_asked_for(made, precision):
    data, model = made
    documents = list(read(data / "devel.tsv"))
    whole = kept(Annotator.from_pretrained(model)(documents), documents)
    annotator = Annotator.from_pretrained(model, min_precision=precision)
    counts = kept(annotator(documents), documents)
    for kind, curve in stored(model).types.items():
        point = next((point for point in curve.points if point.precision >= precision), None)
        right, all_ = counts.get(kind, (0, 0))
        assert all_ == (point.kept if point else 0)
        assert point is None or right / all_ == pytest.approx(point.precision)
    assert counts["Disease"] == whole["Disease"]
    share = whole["Drug"][0] / whole["Drug"][1]
    assert 0.6 < share < 0.9
    assert (counts.get("Drug") == whole["Drug"]) == (precision <= share)


def test_a_type_that_never_reaches_the_precision_is_left_out_and_reported(copy, caplog, cli, tmp_path):
    data, model = copy
    drug = Curve(150, 120, (Point(0.0, 0.8, 0.9, 150), Point(0.7, 0.875, 0.5, 40)))
    disease = Curve(200, 200, (Point(0.0, 1.0, 1.0, 200),))
    changed = replaced(stored(model), 1.0, Drug=drug, Disease=disease)
    calibration_file.keep(loading.find(model), "torch-fp32", changed)
    found = Annotator.from_pretrained(model, min_precision=0.95)(list(read(data / "devel.tsv")))
    assert {entity.type for one in found for entity in one} == {"Disease"}
    [note] = caplog.messages
    assert (
        "copy gives no Drug at a precision of 0.95" in note
        and "of 150 found the 40 of the highest scores have the best precision, 0.875" in note
    )
    text = tmp_path / "in.txt"
    text.write_text("the study patients of the daily aspirin and cancer\n")
    out = tmp_path / "out.jsonl"
    status, _, stderr = cli(
        "annotate", text, "--model", model, "--min-precision", "0.95", "--out", out, "--workers", "1"
    )
    assert status == 0 and "gives no Drug" in " ".join(stderr.split())
    assert {span.type for document in read(out) for span in document.spans} == {"Disease"}
    with pytest.raises(UserError, match="is not the output of this run"):
        annotate_files(text, out, models=model, min_precision=0.8, workers=1)


def test_a_precision_needs_a_calibration_of_these_weights_and_this_runtime(copy, cli, tmp_path):
    _, model = copy
    for wrong in (0.0, 1.5, math.nan):
        with pytest.raises(UserError, match="above 0 and at most 1"):
            Annotator.from_pretrained(model, min_precision=wrong)
    text = tmp_path / "in.txt"
    text.write_text("aspirin\n")
    given = ("annotate", text, "--model", model, "--min-precision", "0.9", "--out", tmp_path / "out.jsonl")
    (model / calibration_file.NAME).rename(model / "kept.json")
    one_sentence(
        cli(*given),
        "no calibration on torch-fp32",
        f"evaluate DATA --model {model} --split",
        "--calibrate",
        "not trained on",
    )
    (model / "kept.json").rename(model / calibration_file.NAME)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "id2label": {**config["id2label"], "0": "B-Other"}}))
    one_sentence(cli(*given), "is of other weights, or of another config.json, than torch-fp32 reads", "--calibrate")


def test_a_calibration_of_another_tokenizer_is_not_used(copy, cli, tmp_path):
    _, model = copy
    assert scoring_of(loading.find(model), "torch-fp32").temperature != 1.0
    # One of an earlier version does not say of which tokenizer it is.
    kept = json.loads((model / calibration_file.NAME).read_text())
    (model / calibration_file.NAME).write_text(json.dumps({k: {**v, "reading": None} for k, v in kept.items()}))
    assert scoring_of(loading.find(model), "torch-fp32").temperature != 1.0
    (model / calibration_file.NAME).write_text(json.dumps(kept))
    rules, names = (json.loads((model / f"{name}.json").read_text()) for name in ("tokenizer", "tokenizer_config"))
    lower = rules["normalizer"]["lowercase"] = not rules["normalizer"]["lowercase"]
    (model / "tokenizer.json").write_text(json.dumps(rules))
    (model / "tokenizer_config.json").write_text(json.dumps({**names, "do_lower_case": lower}))
    found = scoring_of(loading.find(model), "torch-fp32")
    assert found.temperature == 1.0 and "is of another tokenizer than its own" in found.notes[0]
    (tmp_path / "text.jsonl").write_text('{"id": "1", "text": "aspirin"}')
    given = ("annotate", tmp_path / "text.jsonl", "--model", model, "--min-precision", "0.9", "--out", "-")
    one_sentence(cli(*given), "is of another tokenizer than its own", "--calibrate` first")


def test_a_calibration_of_other_weights_or_a_damaged_one_is_ignored_with_a_note(copy, caplog):
    _, model = copy
    (plain,) = {scoring_of(loading.find(model), "torch-fp32").temperature}
    assert plain == stored(model).temperature != 1.0 and not caplog.messages
    original = json.loads((model / calibration_file.NAME).read_text())
    for runtime, change, word in (
        ("torch-fp32", {"digest": "0" * 64}, "of other weights"),
        ("torch-bf16", {}, "is of torch-fp32"),
        ("torch-fp32", {"calibration": {**original["torch-fp32"]["calibration"], "temperature": -1}}, "cannot be read"),
    ):
        changed = {"torch-fp32": {**original["torch-fp32"], **change}}
        (model / calibration_file.NAME).write_text(json.dumps(changed))
        found = scoring_of(loading.find(model), runtime)
        assert found.temperature == 1.0 and word in found.notes[0]
    Annotator.from_pretrained(model)
    assert "cannot be read" in caplog.messages[0]


def test_a_model_from_elsewhere_is_calibrated_by_evaluate(copy, cli):
    data, model = copy
    wanted = stored(model)
    for name in (calibration_file.NAME, "run.json", "README.md"):
        (model / name).unlink()
    status, stdout, _ = cli("evaluate", data, "--model", model, "--split", "devel", "--calibrate")
    assert status == 0 and f"temperature {wanted.temperature:.2f}" in stdout
    found = stored(model)
    assert found.temperature == pytest.approx(wanted.temperature, rel=1e-3)
    assert {kind: curve.found for kind, curve in found.types.items()} == {
        kind: curve.found for kind, curve in wanted.types.items()
    }
    assert Annotator.from_pretrained(model, min_precision=0.9)("the cancer")
    one_sentence(cli("evaluate", data, "--model", model, "--untyped", "--calibrate"), "with their types")
    one_sentence(cli("evaluate", data, "--predictions", data / "test.tsv", "--calibrate"), "Only a model's scores")


def test_types_that_the_data_do_not_hold_are_neither_fitted_nor_kept(copy):
    data, model = copy
    source = loading.find(model)
    documents = [
        Document(d.id, d.text, tuple(s for s in d.spans if s.type == "Drug"), tokenised=True)
        for d in read(data / "devel.tsv")
    ]
    kind = TASKS["ner"]
    labels = kind.model_labels(source.config, source.name, documents)
    tokenizer = loading.tokenizer_of(source)
    encoded = ner_encoding.encode(documents, tokenizer, {}, 32)
    logits = runtimes.load(source, "torch-fp32").logits(encoded.rows)
    found = calibration.findings("ner", documents, encoded, logits, labels, source.config, source.name)
    assert set(found.types) == {"Drug"} == set(found.gold)
    fitted = calibration.calibrate(found, {"name": "made", "split": "devel"})
    assert fitted.score_for("Disease", 0.1) == math.inf and "none to measure" in fitted.shortfall("Disease", 0.1)


def test_types_are_kept_as_the_model_spells_them(copy):
    data, model = copy
    source = loading.find(model)
    documents = [
        Document(d.id, d.text, tuple(Span(s.start, s.end, s.type.upper()) for s in d.spans), tokenised=True)
        for d in read(data / "devel.tsv")
    ]
    labels = TASKS["ner"].model_labels(source.config, source.name, documents)
    encoded = ner_encoding.encode(documents, loading.tokenizer_of(source), {}, 32)
    logits = runtimes.load(source, "torch-fp32").logits(encoded.rows)
    found = calibration.findings("ner", documents, encoded, logits, labels, source.config, source.name)
    assert "B-DRUG" in labels and set(found.types) == {"Drug", "Disease"} and found.right.mean() > 0.5
    bare = [Document(d.id, d.text, tuple(Span(s.start, s.end, "") for s in d.spans), tokenised=True) for d in documents]
    labels = TASKS["ner"].model_labels(source.config, source.name, bare)
    with pytest.raises(UserError, match="do not tell the model's types apart"):
        calibration.findings("ner", bare, encoded, logits, labels, source.config, source.name)


def test_relations_are_calibrated_by_class():
    draw = np.random.default_rng(0)
    labels = ["A", "B", "none"]
    logits = draw.normal(0, 3, (500, 3)).astype(np.float32)
    truth = [str(draw.choice(labels, p=row)) for row in np.exp(logits / 3) / np.exp(logits / 3).sum(-1, keepdims=True)]
    documents = [Document(str(i), "x", (), (Relation("a", "b", label),)) for i, label in enumerate(truth)]
    scheme = relation.scheme(labels)
    found = calibration.relation_findings(documents, logits, labels, scheme, independent=False)
    predicted = relation.decode(logits, labels, scheme)
    reported = [label for label in predicted if label != "none"]
    assert list(found.types) == reported and found.gold == {kind: truth.count(kind) for kind in ("A", "B")}
    assert found.right.tolist() == [a == b for a, b in zip(predicted, truth, strict=True) if a != "none"]
    assert calibration.calibrate(found, {}).temperature == pytest.approx(3, rel=0.35)
    one = relation.scheme(["0", "1"])
    binary = [Document(str(i), "x", (), (Relation("a", "b", "1"),)) for i in range(2)]
    single = calibration.relation_findings(
        binary, np.array([[2.0], [-2.0]], dtype=np.float32), ["0", "1"], one, independent=False
    )
    assert single.types == ("1",) and single.scores(2.0) == pytest.approx([1 / (1 + math.exp(-1))])


def test_a_class_of_relations_that_the_split_lacks_counts_as_wrong_as_in_the_score():
    logits = np.eye(3, dtype=np.float32) * 4
    documents = [
        Document(str(i), "x", (), (Relation("a", "b", label),)) for i, label in enumerate(("A", "none", "none"))
    ]
    found = calibration.relation_findings(
        documents, logits, ["A", "B", "none"], relation.scheme(["A", "B", "none"]), independent=False
    )
    assert (found.types, found.right.tolist(), found.gold) == (("A", "B"), [True, False], {"A": 1, "B": 0})


def test_questions_have_no_calibration(tokenizer_folder, tmp_path):
    start = start_folder(tmp_path / "start", tokenizer_folder)
    source = loading.find(start)
    loading.load_for(source, "qa", new_head=True).save_pretrained(tmp_path / "reader")
    loading.tokenizer_of(source).save_pretrained(tmp_path / "reader")
    reader = loading.find(tmp_path / "reader")
    assert scoring_of(reader, "torch-fp32").temperature == 1.0
    with pytest.raises(UserError, match="answers questions"):
        scoring_of(reader, "torch-fp32", 0.9)
