"""Every family gives the logits, losses and gradients of transformers' own code, packed or padded."""

from functools import cache

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel, AutoTokenizer

import small_models
import small_tokenizers
from compactbio.errors import UserError
from compactbio.modeling.attention import packed_attention
from compactbio.modeling.families import FAMILIES, depth, longest, mlm_logits, packs, set_dropout
from compactbio.modeling.hardware import flops_per_token
from compactbio.modeling.packing import NO_LABEL, Packed, check_runs, encode, row_logits, task_logits
from compactbio.objectives import labelled
from compactbio.training.fast_steps import frozen_key_biases
from compactbio.training.task_model import LOSSES

ALL = [*small_models.FAMILIES, "camembert", "mpnet", "rembert", "eurobert"]
# transformers has no EuroBERT for questions.
CASES = [(family, task) for family in ALL for task in LOSSES if (family, task) != ("eurobert", "qa")]
LENGTHS = (13, 5, 40, 2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    @cache
    def load(family):
        kind = small_models.tokenizer_kind(family)
        return AutoTokenizer.from_pretrained(small_tokenizers.save(kind, tmp_path_factory.mktemp(kind)))

    return load


def _rows(tokenizer, lengths=LENGTHS):
    """Rows of random pieces; one holds the padding token, as a text that spells it does."""
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(8, len(tokenizer) - 8, (length,), generator=draw) for length in lengths]
    rows[0][4] = tokenizer.pad_token_id
    return rows


def _packed(rows, labels=None, *, segments=False):
    types = [(torch.arange(len(row)) >= len(row) // 2).long() for row in rows] if segments else None
    return Packed.from_rows(rows, labels or [torch.full_like(row, NO_LABEL) for row in rows], types)


def _alone(model, task, row, **more):
    out = model(input_ids=row[None], **more)
    return torch.stack([out.start_logits, out.end_logits], -1)[0] if task == "qa" else out.logits[0]


@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_logits_of_rows_together_are_the_models_own_for_each_row_alone(family, task, tokenizer):
    model, rows = small_models.model_of(family, task, tokenizer(family)), _rows(tokenizer(family))
    segments = family in ("bert", "electra", "albert", "mobilebert", "rembert") and task == "qa"
    batch = _packed(rows, segments=segments)
    with torch.no_grad():
        found = row_logits(model, task, batch)
        for row, logits in zip(rows, found, strict=True):
            types = {"token_type_ids": (torch.arange(len(row)) >= len(row) // 2).long()[None]} if segments else {}
            torch.testing.assert_close(torch.from_numpy(logits), _alone(model, task, row, **types), atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", small_models.FAMILIES)
def test_states_and_mlm_logits_are_the_models_own(family, tokenizer):
    model, rows = small_models.model_of(family, "mlm", tokenizer(family)), _rows(tokenizer(family))
    layers = range(depth(model) + 1)
    with torch.no_grad():
        found = encode(model, _packed(rows), set(layers), set())
        logits = mlm_logits(model, found.hidden[depth(model)]).split(LENGTHS)
        for i, row in enumerate(rows):
            wanted = model(input_ids=row[None], output_hidden_states=True)
            torch.testing.assert_close(logits[i], wanted.logits[0], atol=1e-6, rtol=0)
            for layer in layers:
                states = found.hidden[layer].split(LENGTHS)[i]
                torch.testing.assert_close(states, wanted.hidden_states[layer][0], atol=1e-6, rtol=0)


def test_the_newer_head_of_a_deberta_is_its_own(tokenizer):
    model = small_models.model_of("deberta-v2", "mlm", tokenizer("deberta-v2"), legacy=False)
    rows = _rows(tokenizer("deberta-v2"))
    with torch.no_grad():
        hidden = encode(model, _packed(rows), {3}, set()).hidden[3]
        wanted = torch.cat([model(input_ids=row[None]).logits[0] for row in rows])
        torch.testing.assert_close(mlm_logits(model, hidden), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", [*small_models.FAMILIES, "roformer"])
def test_biases_of_keys_are_frozen_only_where_they_change_nothing(family, tokenizer):
    """RoFormer turns keys by their positions, bias and all."""
    model = small_models.model_of(family, "ner", tokenizer(family))
    weights = dict(model.named_parameters())
    with frozen_key_biases(model):
        frozen = {name for name, weight in weights.items() if name.endswith("bias") and not weight.requires_grad}
    task_logits(model, "ner", _packed(_rows(tokenizer(family)))).square().sum().backward()
    largest = max(float(weight.grad.abs().max()) for weight in weights.values() if weight.grad is not None)
    assert all(float(weights[name].grad.abs().max()) < 1e-5 * largest for name in frozen)
    assert bool(frozen) == (family not in ("modernbert", "deberta", "deberta-v2", "roformer"))


@pytest.mark.parametrize("task", ["ner", "relation", "qa"])
@pytest.mark.parametrize("family", small_models.FAMILIES)
def test_losses_and_gradients_are_the_models_own(family, task, tokenizer):
    model, rows = small_models.model_of(family, task, tokenizer(family)), _rows(tokenizer(family))
    labels = [torch.full_like(row, NO_LABEL) for row in rows]
    if task == "ner":
        for each in labels:
            each[::2] = torch.arange(len(each[::2])) % 3
    for i, each in enumerate(labels if task != "ner" else []):
        each[0] = i % 3 if task == "relation" else 3  # the answer is one piece, the first
    batch = _packed(rows, labels)
    at = labelled(batch)
    LOSSES[task](task_logits(model, task, batch), batch, at).backward()
    ours = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    for i, (row, each) in enumerate(zip(rows, labels, strict=True)):
        if task == "qa":
            given = {"start_positions": torch.tensor([0]), "end_positions": torch.tensor([0])}
        else:
            given = {"labels": torch.tensor([i % 3]) if task == "relation" else each[None]}
        scale = int((each != NO_LABEL).sum()) if task == "ner" else 1
        (model(input_ids=row[None], **given).loss * scale).backward()
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            torch.testing.assert_close(ours[name], weight.grad, atol=2e-6, rtol=1e-4, msg=name)


def test_local_attention_meets_only_near_tokens_however_long_the_row(tokenizer):
    """Rows of several blocks of queries; transformers makes a mask of all pairs."""
    family = "modernbert"
    model = small_models.model_of(family, "ner", tokenizer(family), max_position_embeddings=1024, local_attention=128)
    assert longest(model.config) == 1024
    rows = _rows(tokenizer(family), (700, 64, 300, 130))
    with torch.no_grad():
        for row, logits in zip(rows, row_logits(model, "ner", _packed(rows)), strict=True):
            torch.testing.assert_close(torch.from_numpy(logits), _alone(model, "ner", row), atol=2e-6, rtol=0)


def test_a_classifier_of_the_mean_of_all_tokens_is_the_models_own(tokenizer):
    model = small_models.model_of("modernbert", "relation", tokenizer("modernbert"), classifier_pooling="mean")
    rows = _rows(tokenizer("modernbert"))
    with torch.no_grad():
        for row, logits in zip(rows, row_logits(model, "relation", _packed(rows)), strict=True):
            torch.testing.assert_close(torch.from_numpy(logits), _alone(model, "relation", row), atol=1e-6, rtol=0)


def test_every_family_that_packs_goes_through_our_attention(tokenizer):
    for family in small_models.FAMILIES:
        model = small_models.model_of(family, "mlm", tokenizer(family))
        with packed_attention(model), torch.no_grad():
            taken = encode(model, _packed(_rows(tokenizer(family))), {0}, {0, 2}).attention
        assert bool(taken) == (packs(model.config) or family == "mobilebert"), family
    assert set(small_models.FAMILIES) | {"camembert"} == set(FAMILIES)


@pytest.mark.parametrize("family", small_models.FAMILIES)
def test_dropout_is_set_for_states_and_for_attention(family, tokenizer):
    model = small_models.model_of(family, "ner", tokenizer(family)).train()
    batch = _packed(_rows(tokenizer(family)))
    set_dropout(model, hidden=0.0, attention=0.0)
    without = [task_logits(model, "ner", batch) for _ in range(2)]
    set_dropout(model, hidden=0.0, attention=0.5)
    dropped = [task_logits(model, "ner", batch) for _ in range(2)]
    assert torch.equal(*without), family
    assert not torch.equal(*dropped), family


def test_a_type_whose_results_change_by_padding_is_refused(tokenizer):
    """ConvBERT's convolution reads padding."""
    model = small_models.model_of("convbert", "ner", tokenizer("convbert"))
    with pytest.raises(UserError, match="convbert-ner is of type 'convbert', whose results change where rows are"):
        check_runs(model, "convbert-ner")
    check_runs(small_models.model_of("rembert", "ner", tokenizer("rembert")), "rembert-ner")


def test_a_model_that_its_configuration_makes_impossible_is_refused(tokenizer):
    model = small_models.model_of("mobilebert", "ner", tokenizer("mobilebert"), key_query_shared_bottleneck=False)
    with pytest.raises(
        UserError, match=r"tagger: the model that its config\.json describes cannot be run \(RuntimeError"
    ):
        check_runs(model, "tagger")


@pytest.mark.parametrize("family", ALL)
def test_flops_are_those_that_torch_counts(family, tokenizer):
    # Local attention as wide as the row, as transformers' plain code computes products that it then masks.
    more = {"attn_implementation": "eager"} | ({"local_attention": 128} if family == "modernbert" else {})
    config = small_models.config_of(family, tokenizer(family), **more)
    model = AutoModel.from_config(config).eval()
    model.pooler = None
    with FlopCounterMode(display=False) as counted:
        model(torch.arange(8, 72)[None])
    assert flops_per_token(model, 64) * 64 == counted.get_total_flops()


def test_flops_of_local_attention_are_those_of_near_tokens(tokenizer):
    config = small_models.config_of("modernbert", tokenizer("modernbert"))
    model = AutoModel.from_config(config)
    # Of three layers the second attends to 4 tokens on either side.
    assert flops_per_token(model, 64) - flops_per_token(model, 9) == 4 * (64 - 9) * 2 * config.hidden_size
