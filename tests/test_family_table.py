"""The table of families: what each gives in each task and runtime, beside transformers' own code on the same texts.

`python -m pytest -q -s tests/test_family_table.py` prints it as it stands in docs/families.md.
"""

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

import small_models
from compactbio import Annotator
from compactbio.deploy.onnx_programs import Quantiser, program_of, save_program
from compactbio.documents import Document, Question, Relation
from compactbio.documents.tags import chunks, repaired
from compactbio.modeling import loading, runtimes
from compactbio.modeling.onnx import OnnxRuntime
from compactbio.modeling.packing import pack, task_logits
from compactbio.modeling.tokenizers import for_words, load_tokenizer
from compactbio.objectives import labelled
from compactbio.tasks import ner_encoding, qa, relation
from compactbio.tasks.relation_classes import Scheme
from compactbio.training.task_model import LOSSES
from onnx_variants import plain, rows_of

pytestmark = pytest.mark.slow
# Two types stand for those that the package does not name.
ALL = [*small_models.FAMILIES, "eurobert", "mpnet"]
LABELS = {"ner": ["O", "B-Drug", "I-Drug", "B-Gene", "I-Gene"], "relation": ["0", "1", "2"], "qa": []}
TEXTS = [
    "Aspirin lowers the risk of heart attack.",
    "IL-2 and TNF-alpha (5 mg) were increased  in tumor cells, but not in β-cells of the control group; p < 0.05 ...",
    "Metformin",
]
QUESTION = "Which drug lowers the risk?"
# The largest difference of a logit, a loss or a gradient, as a share of the largest one.
BOUNDS = {
    "PyTorch fp32": 1e-5, "PyTorch bf16": 0.1, "ONNX fp32": 1e-5, "ONNX int8": 0.25, "loss": 1e-5, "gradient": 1e-4,
}  # fmt: skip
SCHEME = Scheme("labels", ("0", "1", "2"), ("1", "2"), "0", "")
CASES = [(family, task) for family in ALL for task in LABELS if (family, task) != ("eurobert", "qa")]
# An export takes seconds: each family is exported for one task, each task from four families; the rest is exhaustive.
_TASK_OF = dict(zip(ALL, [*LABELS] * len(ALL), strict=False))
EXPORTS = [pytest.param(*case, marks=() if _TASK_OF[case[0]] == case[1] else pytest.mark.exhaustive) for case in CASES]


@dataclass(frozen=True)
class Case:
    """A random model of a family for a task: its folder, and transformers' own logits of the texts.

    Of NER they are those at the first piece of each word.
    """

    folder: Path
    task: str
    logits: list[torch.Tensor]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    @cache
    def make(family, task, *, balanced=False):
        folder = tmp_path_factory.mktemp(f"{family}-{task}")
        # One layer, where families have one kind of them: what is exported costs seconds for each.
        depth = {"n_layers": 1} if family == "distilbert" else {"num_hidden_layers": 2 if family == "modernbert" else 1}
        small_models.save(family, task, folder, LABELS[task] or None, balanced=balanced, **depth)
        # As `finetune` saves it: of byte-level vocabularies with a blank before each word, of ALBERT with token types.
        tokenizer = load_tokenizer(folder)
        (for_words(tokenizer) if task == "ner" else tokenizer).save_pretrained(folder)
        return Case(folder, task, _plain(folder, task))

    return make


@pytest.fixture(scope="module")
def table():
    """What the tests find, by family, task and column; printed at the end."""
    found = defaultdict(dict)
    yield found
    columns = (*BOUNDS, "entities")
    print(f"\n| family | task | {' | '.join(columns)} |\n| --- | --- |{' --- |' * len(columns)}")  # noqa: T201
    for (family, task), row in found.items():
        print(f"| {family} | {task} | {' | '.join(row.get(column, '') for column in columns)} |")  # noqa: T201


def _words(text):
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


def _plain(folder, task):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), small_models.AUTO[task].from_pretrained(folder).eval()
    found = []
    for text in TEXTS:
        if task == "ner":
            words = [text[start:end] for start, end in _words(text)]
            given = tokenizer(words, is_split_into_words=True, return_tensors="pt")
            at = [given.word_ids().index(word) for word in range(len(words))]
        else:
            given = tokenizer(*([QUESTION, text] if task == "qa" else [text]), return_tensors="pt")
        with torch.no_grad():
            out = model(**given)
        logits = torch.stack([out.start_logits, out.end_logits], -1) if task == "qa" else out.logits
        found.append(logits[0][at] if task == "ner" else logits[0])
    return found


def _encoded(case):
    """The rows of the texts, and where in each the logits are that `Case` holds."""
    tokenizer = loading.tokenizer_of(loading.find(case.folder))
    documents = [
        Document(str(i), text, relations=(Relation("a", "b", "1"),), questions=(Question(QUESTION, (), str(i)),))
        for i, text in enumerate(TEXTS)
    ]
    if case.task == "ner":
        encoded = ner_encoding.encode(documents, tokenizer, {}, 120)
        return encoded.rows, [window.first_pieces for window in encoded.windows]
    if case.task == "relation":
        return list(relation.encode(documents, tokenizer, {}, SCHEME, 120).rows), [...] * len(TEXTS)
    return qa.encode(documents, tokenizer, 120).rows, [...] * len(TEXTS)


def _share(found, wanted):
    """The largest difference, as a share of the largest value."""
    pairs = list(zip(found, wanted, strict=True))
    worst = max(float(np.abs(np.asarray(a) - np.asarray(b)).max()) for a, b in pairs)
    return worst / max(float(np.abs(np.asarray(b)).max()) for _, b in pairs)


def _check(table, family, task, column, share):
    table[family, task][column] = f"{share:.0e}"
    assert share <= BOUNDS[column], (family, task, column)


@pytest.mark.parametrize("runtime", ["torch-fp32", "torch-bf16"])
@pytest.mark.parametrize(("family", "task"), CASES)
def test_pytorch_gives_the_logits_of_transformers(family, task, runtime, case, table):
    case = case(family, task)
    rows, at = _encoded(case)
    logits = runtimes.load(loading.find(case.folder), runtime).logits(rows)
    found = [values[place] for values, place in zip(logits, at, strict=True)]
    _check(table, family, task, f"PyTorch {runtime[-4:]}", _share(found, case.logits))


@pytest.mark.parametrize(("family", "task"), EXPORTS)
def test_onnx_gives_the_logits_of_transformers(family, task, case, table, tmp_path):
    case = case(family, task)
    source = loading.find(case.folder)
    model = loading.load_for(source, task)
    rows, at = _encoded(case)
    with loading.quiet():
        program = program_of(model, task)
    save_program(program, tmp_path / "model.onnx")
    fp32 = OnnxRuntime(tmp_path / "model.onnx", task, "onnx-fp32", source.config)
    int8 = Quantiser(program, model, task, tmp_path).make(per_channel=False)
    for column, runtime in (("ONNX fp32", fp32), ("ONNX int8", int8)):
        found = [values[place] for values, place in zip(runtime.logits(rows), at, strict=True)]
        _check(table, family, task, column, _share(found, case.logits))
    # Rows of random pieces and of any lengths together are each row alone.
    drawn = rows_of(task)
    assert _share(fp32.logits(drawn), plain(case.folder, task, drawn)) <= BOUNDS["ONNX fp32"]


@pytest.mark.parametrize("family", ALL)
def test_entities_and_offsets_are_those_of_transformers(family, case, table):
    # Most random models give one label to every word.
    case = case(family, "ner", balanced=True)
    found = Annotator.from_pretrained(case.folder)(TEXTS)
    count = 0
    for text, logits, entities in zip(TEXTS, case.logits, found, strict=True):
        words, tags = _words(text), repaired([LABELS["ner"][i] for i in logits.argmax(-1).tolist()])
        wanted = [(words[first][0], words[end - 1][1], kind) for first, end, kind in chunks(tags)]
        assert [(entity.start, entity.end, entity.type) for entity in entities] == wanted
        assert all(entity.text == text[entity.start : entity.end] for entity in entities)
        count += len(wanted)
    assert count
    table[family, "ner"]["entities"] = f"{count} of {count}"


@pytest.mark.parametrize(("family", "task"), CASES)
def test_losses_and_gradients_are_those_of_transformers(family, task, case, table):
    """Of the texts as one packed micro-batch, beside one text at a time."""
    case = case(family, task)
    rows, _ = _encoded(case)
    model = loading.load_for(loading.find(case.folder), task)
    for row in rows:
        row.labels[0] = 1 if task != "qa" else qa.BOTH
    batch = next(pack(rows, 10_000))
    loss = LOSSES[task](task_logits(model, task, batch), batch, labelled(batch))
    loss.backward()
    ours = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    losses = []
    for row in rows:
        types = {} if row.segments is None else {"token_type_ids": torch.from_numpy(row.segments)[None]}
        if task == "qa":
            answer = {"start_positions": torch.tensor([0]), "end_positions": torch.tensor([0])}
        else:
            answer = {"labels": torch.tensor([1]) if task == "relation" else torch.from_numpy(row.labels)[None]}
        out = model(torch.from_numpy(row.input_ids)[None], **types, **answer)
        out.loss.backward()
        losses.append(out.loss.detach())
    _check(table, family, task, "loss", _share([loss.detach()], [sum(losses)]))
    theirs = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    assert ours.keys() == theirs.keys()
    _check(table, family, task, "gradient", _share(ours.values(), theirs.values()))
