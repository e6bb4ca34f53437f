"""Nothing of a step or a prediction waits for the device a row at a time: GPUs would stand idle.

Fake tensors have shapes and no numbers, so whatever would have to wait for one (`.item()`, `.tolist()`, `nonzero`, a
boolean mask, `.numpy()`) raises. They stand in for those of a GPU.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from compactbio import recipes
from compactbio.modeling import build_student
from compactbio.modeling.packing import Packed, PackedSoftLabels, Row, predict
from compactbio.objectives import Distiller, labelled
from compactbio.training.engine import arguments_for
from compactbio.training.step_trainer import StepTrainer
from compactbio.training.task_model import TaskModel
from conftest import TINY, batch, bert, distilbert, mobilebert

AUTO = {
    "ner": AutoModelForTokenClassification,
    "relation": AutoModelForSequenceClassification,
    "qa": AutoModelForQuestionAnswering,
}


def step(module: torch.nn.Module, packed: Packed, *others: torch.nn.Module) -> None:
    """A micro-batch forward and backward as the engine runs it, all its tensors without numbers."""
    counts, at = module.counts(packed).at_least_one(), labelled(packed)
    with FakeTensorMode() as mode:
        for part in (module, *others):
            for one in part.modules():
                for kept in (one._parameters, one._buffers):
                    kept |= {name: mode.from_tensor(tensor) for name, tensor in kept.items() if tensor is not None}
        ids, positions, labels, at = map(mode.from_tensor, (packed.input_ids, packed.position_ids, packed.labels, at))
        soft = packed.soft and replace(
            packed.soft,
            **{name: mode.from_tensor(getattr(packed.soft, name)) for name in ("pieces", "units", "targets")},
        )
        batch = Packed(ids, positions, labels, packed.borders, soft=soft)
        module.train()(batch=batch, at=at, counts=counts).loss.backward()
    assert any(p.grad is not None for p in module.parameters())


def test_fake_tensors_raise_where_a_number_would_be_waited_for():
    with FakeTensorMode() as mode:
        tensor = mode.from_tensor(torch.arange(5))
        for wait in (lambda: tensor.sum().item(), tensor.tolist, tensor.nonzero, lambda: tensor[tensor > 2]):
            with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
                wait()


@pytest.mark.parametrize("name", recipes.names())
def test_a_step_of_each_recipe_reads_no_number_off_the_device(name):
    shape = TINY if name in ("tiny-biobert", "relation-biobert") else {}
    continued = recipes.load(name).kind == "continue"
    start = mobilebert if name == "bio-mobilebert" else bert
    for published in (False, True):
        recipe = recipes.load(name, published=published, **({} if continued else {"layers": 2, **shape}))
        teacher = None if continued else bert(layers=4)
        student = start(layers=2) if continued else build_student(recipe, teacher)
        distiller = Distiller(student, teacher, recipe)
        step(distiller, Packed.from_padded(*batch([9, 4, 7])), *([] if teacher is None else [teacher]))


@pytest.mark.parametrize("family", [bert, distilbert, mobilebert])
@pytest.mark.parametrize("task", AUTO)
def test_a_step_of_fine_tuning_reads_no_number_off_the_device(task, family):
    packed = Packed.from_padded(*batch([9, 4, 7]))
    labels = torch.full_like(packed.labels, -100)
    labels[list(packed.borders[:-1])] = torch.tensor([0, 1, 1])
    spans = {"qa": torch.where(labels == -100, 0, 3)}
    packed = Packed(packed.input_ids, packed.position_ids, spans.get(task, labels), packed.borders)
    step(TaskModel(AUTO[task].from_config(family().config), task), packed)
    units = {"ner": [0, 1, 2], "relation": [0, 1, 2], "qa": [0, 0, 1, 2, 3]}[task]
    pieces = {"ner": [1, 2, 10], "relation": [0, 9, 13], "qa": [1, 2, 9, 13, 15]}[task]
    counts = {"ner": (2, 1, 0), "relation": (1, 1, 1), "qa": (1, 1, 2)}[task]
    targets = torch.full((units[-1] + 1, 2), 0.5)
    soft = PackedSoftLabels(torch.tensor(pieces), torch.tensor(units), targets, counts)
    step(TaskModel(AUTO[task].from_config(family().config), task, 0.5, 2.0), replace(packed, soft=soft))


def test_the_counts_of_a_step_are_numbers_of_the_host(tmp_path):
    distiller = Distiller(bert(layers=2), None, recipes.load("bio-tinybert"))
    arguments = arguments_for(recipes.load("bio-tinybert", steps=1), "fp32", tmp_path, validates=False, starts=True)
    engine = StepTrainer(distiller, [None], None, arguments, [], start=0)
    packed = [Packed.from_padded(*batch(lengths)) for lengths in ([9, 4], [7])]
    counts = engine._totals(packed)
    assert all(type(count) is float for count in counts)
    labels = torch.cat([one.labels for one in packed])
    assert counts == ((labels != -100).sum(), 20, 9 * 9 + 4 * 4 + 7 * 7)


@pytest.mark.parametrize("task", AUTO)
def test_predictions_come_off_the_device_once_a_batch(task, monkeypatch):
    model = AUTO[task].from_config(bert().config).eval()
    draw = np.random.default_rng(0)
    rows = [Row(draw.integers(5, 40, n), np.full(n, -100)) for n in (3, 17, 5, 5, 11, 8, 9)]
    calls = []
    real = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: calls.append(self.shape) or real(self))
    found = predict(model, task, rows, tokens=30, bf16=False)
    assert len(found) == len(rows) and len(calls) == 2  # 58 tokens, at most 30 a batch
