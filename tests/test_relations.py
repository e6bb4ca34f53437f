"""The relation term (MiniLMv2) equals the plain formula on padded batches, between models of any two shapes."""

import math

import pytest
import torch
from torch.nn import functional as F

from compactbio import recipes
from compactbio.errors import UserError
from compactbio.modeling.packing import Packed
from compactbio.objectives import Counts, Distiller, attention, counts_of
from conftest import batch, bert, distilbert, mobilebert

PARTS = ("query", "key", "value")
NAMES = {"query": ("query", "q_lin"), "key": ("key", "k_lin"), "value": ("value", "v_lin")}


def recipe(**more):
    """The relation term alone."""
    return recipes.load("relation-biobert", layers=2, loss={"mlm": 0}, **more)


def loud(model):
    """The model with projections so large that its relations are far from even."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(tuple(f"{part}.weight" for part in sum(NAMES.values(), ()))):
                parameter *= 8
    return model


def projections(model, ids, mask, layer: int) -> list[torch.Tensor]:
    """Queries, keys and values of a layer as transformers computes them, each (batch, length, width)."""
    kept: dict[str, list[torch.Tensor]] = {part: [] for part in PARTS}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, part=part: kept[part].append(out))
        for name, module in model.named_modules()
        for part in PARTS
        if name.rpartition(".")[2] in NAMES[part]
    ]
    model(ids, attention_mask=mask)
    for hook in hooks:
        hook.remove()
    return [kept[part][layer] for part in PARTS]


def plain(student, teacher, ids, mask, layer: int, heads: int) -> torch.Tensor:
    """The term by the paper's formula: for each of Q-Q, K-K, V-V a mean over relation heads and real rows."""
    real = mask.bool()

    def relation(x):
        x = x.unflatten(-1, (heads, -1)).transpose(1, 2)  # (batch, heads, length, size)
        scores = x @ x.transpose(-1, -2) / math.sqrt(x.shape[-1])
        return scores.masked_fill(~real[:, None, None], -torch.inf).log_softmax(-1)

    total = 0.0
    pairs = zip(projections(student, ids, mask, -1), projections(teacher, ids, mask, layer), strict=True)
    for own, wanted in pairs:
        s, t = relation(own), relation(wanted)
        rows = torch.where(real[:, None, None], t.exp() * (t - s), 0.0).sum(-1)  # (batch, heads, length)
        total = total + (rows * real[:, None]).sum() / (heads * real.sum())
    return total


@pytest.mark.parametrize("lengths", [[9, 9], [11, 3, 7]])
@pytest.mark.parametrize(("layer", "heads"), [(None, None), (1, 4), (0, 1)])
def test_it_equals_the_plain_formula_where_widths_heads_and_depths_differ(lengths, layer, heads):
    student = loud(bert(layers=3, hidden=36, heads=3, seed=1))
    teacher = loud(bert(layers=4, hidden=24, heads=4, seed=2))
    distiller = Distiller(student, teacher, recipe(relation_layer=layer, relation_heads=heads)).eval()
    ids, mask, labels = batch(lengths)
    with torch.no_grad():
        ours = distiller(ids, mask, labels).terms["attention_relations"]
        wanted = plain(student, teacher, ids, mask, -1 if layer is None else layer, heads or 12)
    assert ours.item() == pytest.approx(wanted.item(), rel=1e-5) and wanted > 0.1


@pytest.mark.parametrize("family", [distilbert, mobilebert])
def test_it_equals_the_plain_formula_for_teachers_of_other_families(family):
    student, teacher = loud(bert(layers=2, hidden=12, heads=2)).double(), loud(family(layers=4)).double()
    distiller = Distiller(student, teacher, recipe(relation_heads=4)).eval()
    ids, mask, labels = batch([9, 9])  # of one length: MobileBERT itself joins the last token to padding
    with torch.no_grad():
        ours = distiller(ids, mask, labels).terms["attention_relations"]
        wanted = plain(student, teacher, ids, mask, -1, 4)
    assert ours.item() == pytest.approx(wanted.item(), rel=1e-8) and wanted > 1e-6


def test_a_model_has_its_own_relations():
    model = bert(layers=2)
    assert abs(Distiller(model, model, recipe()).eval()(*batch([8, 5])).loss.item()) < 1e-6


def test_padding_and_other_citations_contribute_nothing_and_micro_batches_add_up():
    student, teacher = bert(layers=2, hidden=12, heads=2), bert(layers=4)
    distiller = Distiller(student, teacher, recipe()).eval()
    ids, mask, labels = batch([7, 12, 4])
    padded = [F.pad(x, (0, 9), value=value) for x, value in ((ids, 17), (mask, 0), (labels, -100))]
    whole = counts_of(Packed.from_padded(ids, mask, labels))
    assert whole == Counts((labels != -100).sum(), 23, 7**2 + 12**2 + 4**2)
    with torch.no_grad():
        together = distiller(ids, mask, labels).loss.item()
        parts = [distiller(ids[i : i + 1], mask[i : i + 1], labels[i : i + 1], counts=whole).loss for i in range(3)]
        assert distiller(*padded).loss.item() == pytest.approx(together, rel=1e-6)
    assert sum(part.item() for part in parts) == pytest.approx(together, rel=1e-5)


def states(width: int, heads: int, seed: int, dtype=torch.float64) -> list[torch.Tensor]:
    """Random queries, keys and values of eleven tokens, (heads, 11, width / heads)."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(heads, 11, width // heads, generator=generator, dtype=dtype) for _ in PARTS]


def test_its_gradient_is_exact():
    student, teacher, borders = states(12, 2, 0), states(8, 4, 1), (0, 5, 6, 11)
    for part in student:
        part.requires_grad_()
    assert torch.autograd.gradcheck(lambda *own: 3 * attention.relations(own, teacher, borders, 4), tuple(student))


def test_half_precision_comes_close_and_autocast_rounds_nothing():
    student, teacher, borders = states(12, 2, 0, torch.float32), states(8, 4, 1, torch.float32), (0, 5, 11)
    exact = attention.relations(student, teacher, borders, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert attention.relations(student, teacher, borders, 4).item() == exact.item()
    half = attention.relations([x.bfloat16() for x in student], [x.bfloat16() for x in teacher], borders, 4)
    assert half.dtype == torch.float32 and half.item() == pytest.approx(exact.item(), rel=0.02)


def test_it_keeps_no_map():
    """What stays for the backward pass grows with tokens, not with their square."""
    kept = {}
    for length in (64, 512):
        own = [torch.randn(2, length, 8, requires_grad=True) for _ in PARTS]
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x):
            attention.relations(own, own, (0, length), 4).backward()
        kept[length] = sum(sizes)
    assert kept[512] == 8 * kept[64] > 0


@pytest.mark.parametrize(
    ("widths", "given", "heads"), [((24, 24), None, 24), ((96, 192), None, 48), ((96, 40), None, 8), ((96, 40), 4, 4)]
)
def test_relation_heads_are_at_most_48_and_divide_both_widths(widths, given, heads):
    student, teacher = (bert(layers=2, hidden=width) for width in widths)
    distiller = Distiller(student, teacher, recipe(relation_heads=given))
    assert distiller._match.relation_heads == heads


def test_what_does_not_fit_is_refused_with_what_would():
    student, teacher = bert(layers=2, hidden=36, heads=3), bert(layers=4)
    with pytest.raises(UserError, match=r"relation_heads 8 .* 36 .* 24; .* 12"):
        Distiller(student, teacher, recipe(relation_heads=8))
    with pytest.raises(UserError, match=r"relation_layer 4 .* 4 layers; .* 0 to 3"):
        Distiller(student, teacher, recipe(relation_layer=4))
    with pytest.raises(UserError, match="relation_layer"):
        recipe(relation_layer=-1)


def test_relations_alone_leave_the_end_of_the_last_layer_untrained():
    """Why relation-biobert has an MLM term too."""
    student, teacher, inputs = bert(layers=2, hidden=12, heads=2), bert(layers=4), batch([9, 4])
    untrained = {}
    for changed in ({"loss": {"mlm": 0}}, {}):
        chosen = recipes.load("relation-biobert", layers=2, **changed)
        student.zero_grad()
        Distiller(student, teacher, chosen).eval()(*inputs).loss.backward()
        untrained[len(chosen.loss)] = {name for name, p in student.named_parameters() if p.grad is None}
    end = ("attention.output.dense.weight", "intermediate.dense.weight", "output.dense.weight")
    assert untrained[1] >= {f"bert.encoder.layer.1.{name}" for name in end} and not untrained[2]
