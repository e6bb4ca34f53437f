"""Fine-tuning's forward on packed rows equals the models' own on padded batches, losses included."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from compactbio.modeling.packing import Packed, Row, predict, row_logits
from compactbio.objectives import labelled
from compactbio.training.task_model import TaskModel
from conftest import batch, bert, distilbert, mobilebert, randomize

FAMILIES = [bert, distilbert, mobilebert]
LENGTHS = [13, 5, 9, 2]
AUTO = {
    "ner": AutoModelForTokenClassification,
    "relation": AutoModelForSequenceClassification,
    "qa": AutoModelForQuestionAnswering,
}


def _model(family, task, labels=3):
    config = family().config
    if task != "qa":
        config.num_labels = labels
    return randomize(AUTO[task].from_config(config)).eval()


def _inputs(family):
    ids, mask, _ = batch(LENGTHS)
    segments = torch.zeros_like(ids)
    segments[:, 2:] = 1
    segments *= mask
    return ids, mask, None if family is distilbert else segments


def _padded(model, ids, mask, segments, **labels):
    types = {} if segments is None else {"token_type_ids": segments}
    return model(ids, attention_mask=mask, **types, **labels)


def _packed(ids, mask, segments, labels):
    keep = mask.bool()
    plain = Packed.from_padded(ids, mask, labels)
    return Packed(
        plain.input_ids,
        plain.position_ids,
        plain.labels,
        plain.borders,
        None if segments is None else segments[keep],
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_row_logits_equal_the_models_own_for_each_row_alone(family):
    ids, mask, segments = _inputs(family)
    for task in AUTO:
        model = _model(family, task)
        with torch.no_grad():
            ours = row_logits(model, task, _packed(ids, mask, segments, ids))
        for row, length in enumerate(LENGTHS):
            at = (slice(row, row + 1), slice(length))
            with torch.no_grad():
                own = _padded(model, ids[at], mask[at], None if segments is None else segments[at])
            expected = torch.stack([own.start_logits, own.end_logits], -1)[0] if task == "qa" else own.logits[0]
            assert torch.allclose(torch.from_numpy(ours[row]), expected, atol=1e-5), (task, row)


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_equal_the_models_own(family):
    ids, mask, segments = _inputs(family)
    draw = torch.Generator().manual_seed(1)
    tokens = torch.where(torch.rand(ids.shape, generator=draw) < 0.6, torch.randint(3, ids.shape, generator=draw), -100)
    tokens = torch.where(mask.bool(), tokens, -100)
    classes = torch.tensor([0, 2, 1, 1])
    at_first = torch.full_like(ids, -100)
    at_first[:, 0] = classes
    starts, ends = torch.tensor([3, 0, 4, 1]), torch.tensor([7, 0, 4, 1])
    spans = torch.where(mask.bool(), 0, -100)
    spans[torch.arange(4), starts] += 1
    spans[torch.arange(4), ends] += 2
    cases = {
        "ner": (tokens, {"labels": tokens}),
        "relation": (at_first, {"labels": classes}),
        "qa": (spans, {"start_positions": starts, "end_positions": ends}),
    }
    for task, (labels, own_labels) in cases.items():
        model = _model(family, task)
        packed = _packed(ids, mask, segments, labels)
        tuner = TaskModel(model, task)
        with torch.no_grad():
            own = _padded(model, ids, mask, segments, **own_labels).loss
            ours = tuner(packed, labelled(packed), tuner.counts(packed))
        if task == "qa":
            # transformers leaves padding in the softmax; ours has none, so its logits are taken out first.
            with torch.no_grad():
                out = _padded(model, ids, mask, segments)
            own = sum(
                torch.nn.functional.cross_entropy(side.masked_fill(mask == 0, -torch.inf), at)
                for side, at in ((out.start_logits, starts), (out.end_logits, ends))
            ) / 2  # fmt: skip
        assert ours.loss.item() == pytest.approx(own.item(), rel=1e-5), task


def test_predictions_do_not_depend_on_how_rows_are_batched():
    model = _model(bert, "ner")
    draw = np.random.default_rng(0)
    rows = [Row(draw.integers(5, 40, n), np.full(n, -100)) for n in (3, 17, 5, 5, 11)]
    whole, single = (predict(model, "ner", rows, tokens=tokens, bf16=False) for tokens in (1000, 1))
    for a, b, row in zip(whole, single, rows, strict=True):
        assert a.shape == (len(row), 3) and np.allclose(a, b, atol=1e-5)
