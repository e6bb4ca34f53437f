"""Every loss term equals the published formula; padding and packing change nothing."""

from itertools import accumulate, pairwise

import pytest
import torch
from torch.nn import functional as F

from compactbio import recipes
from compactbio.errors import UserError
from compactbio.modeling import build_student
from compactbio.modeling.packing import Packed
from compactbio.objectives import Counts, Distiller, attention, counts_of
from conftest import batch, bert, distilbert, mobilebert, randomize

DISTILLATIONS = ["distil-biobert", "compact-biobert", "tiny-biobert"]
TINY = {"hidden_size": 12, "intermediate_size": 20, "heads": 4}


def make(name: str, **overrides):
    """A distiller of random models: a teacher of four layers and a student of two."""
    shape = TINY if name == "tiny-biobert" else {}
    recipe = recipes.load(name, layers=2, **shape, **overrides)
    teacher = bert(layers=4, seed=1)
    student = randomize(build_student(recipe, teacher), seed=2)
    return Distiller(student, teacher, recipe).eval()


def published_terms(distiller: Distiller, ids, mask, labels) -> dict[str, torch.Tensor]:
    """The terms as the published scripts compute them, from eager attention and full outputs, unweighted."""
    outs = []
    for model in (distiller.student, distiller.teacher):
        model.set_attn_implementation("eager")
        outs.append(model(ids, attention_mask=mask, output_hidden_states=True, output_attentions=True))
    s, t = outs
    at = labels > -1
    s_logits, t_logits = s.logits[at], t.logits[at]
    temperature = distiller.recipe.temperature
    kl = torch.nn.KLDivLoss(reduction="batchmean")
    terms = {
        "mlm": F.cross_entropy(s.logits.view(-1, s.logits.shape[-1]), labels.view(-1)),
        "logits_kl": kl(F.log_softmax(s_logits / temperature, -1), F.softmax(t_logits / temperature, -1))
        * temperature**2,
        "soft_targets": F.cross_entropy(s_logits / temperature, F.softmax(t_logits / temperature, -1)),
    }
    states = list(zip(s.hidden_states[1:], t.hidden_states[2::2], strict=True))
    maps = list(zip(s.attentions, t.attentions[1::2], strict=True))
    if s.hidden_states[0].shape == t.hidden_states[0].shape:
        loss = torch.nn.CosineEmbeddingLoss(reduction="mean")
        width = s.hidden_states[0].shape[-1]
        pairs = [(a.reshape(-1, width), b.reshape(-1, width)) for a, b in states]
        cosines = [loss(a, b, torch.ones(len(a))) for a, b in pairs]
        terms["last_hidden_cosine"] = cosines[-1]
        terms["hidden_cosine"] = torch.stack(cosines).sum()
    else:
        projected = [distiller.projection(state) for state in s.hidden_states]
        terms["hidden_mse"] = sum(F.mse_loss(a, b) for a, b in zip(projected, t.hidden_states[::2], strict=True))
    mean_kl = torch.nn.KLDivLoss(reduction="mean")
    terms["attention_kl"] = sum(mean_kl(torch.log(a + 1e-12), b + 1e-12) for a, b in maps)
    terms["attention_mse"] = sum(F.mse_loss(a, b) for a, b in maps)
    return terms


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_every_term_and_the_total_equal_the_published_formula(name):
    distiller = make(name, published=True)
    ids, mask, labels = batch([11, 11, 11])
    with torch.no_grad():
        ours = distiller(ids, mask, labels)
        theirs = published_terms(distiller, ids, mask, labels)
    weighted = {term.value: weight * theirs[term.value] for term, weight in distiller.recipe.loss.items()}
    assert set(ours.terms) == set(weighted)
    for term, value in weighted.items():
        assert ours.terms[term].item() == pytest.approx(value.item(), rel=1e-5), term
        assert abs(value.item()) > 1e-6, "a term that vanishes proves nothing"
    assert ours.loss.item() == pytest.approx(sum(weighted.values()).item(), rel=1e-5)


def test_corrected_attention_terms_equal_their_formulas():
    ids, mask, labels = batch([9, 9])
    compact, tiny = make("compact-biobert"), make("tiny-biobert")
    with torch.no_grad():
        kl = compact(ids, mask, labels).terms["attention_kl"]
        mse = tiny(ids, mask, labels).terms["attention_mse"]
        published = published_terms(compact, ids, mask, labels)["attention_kl"]
        scores = _raw_score_error(tiny, ids, mask)
    assert kl.item() == pytest.approx(3 * 9 * published.item(), rel=1e-5)  # nine keys a row
    assert mse.item() == pytest.approx(scores.item(), rel=1e-5)


def _raw_score_error(distiller, ids, mask):
    """TinyBERT's own attention loss: MSE of the scaled products before softmax, from hooks on the projections."""
    kept = {}
    for side, model in (("s", distiller.student), ("t", distiller.teacher)):
        for i, layer in enumerate(model.bert.encoder.layer):
            attention = layer.attention.self
            for part in ("query", "key"):
                getattr(attention, part).register_forward_hook(
                    lambda _m, _i, out, key=(side, i, part), a=attention: kept.__setitem__(
                        key, out.view(*out.shape[:2], a.num_attention_heads, -1).transpose(1, 2)
                    )
                )
        model(ids, attention_mask=mask)

    def scores(side, i):
        q, k = kept[side, i, "query"], kept[side, i, "key"]
        return q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5

    return sum(F.mse_loss(scores("s", i), scores("t", 2 * i + 1)) for i in range(2))


@pytest.mark.parametrize("name", DISTILLATIONS)
@pytest.mark.parametrize("published", [False, True])
def test_padding_contributes_nothing(name, published):
    distiller = make(name, published=published)
    ids, mask, labels = batch([7, 12, 4])
    wide = [F.pad(x, (0, 9), value=value) for x, value in ((ids, 0), (mask, 0), (labels, -100))]
    wide[0][mask_of(wide[1])] = 17  # what stands under the padding does not matter
    with torch.no_grad():
        narrow_losses, wide_losses = distiller(ids, mask, labels), distiller(*wide)
    for term, value in narrow_losses.terms.items():
        assert wide_losses.terms[term].item() == pytest.approx(value.item(), rel=1e-6), term


def mask_of(attention_mask):
    return attention_mask == 0


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_a_packed_row_equals_the_padded_batch_and_the_citations_one_by_one(name):
    distiller = make(name)
    lengths = [7, 12, 4]
    ids, mask, labels = batch(lengths)
    keep = mask.bool()
    positions = torch.arange(12).expand_as(ids)
    borders = torch.tensor([0, 7, 19, 23], dtype=torch.int32)
    alone = [(ids[i : i + 1, :n], mask[i : i + 1, :n], labels[i : i + 1, :n]) for i, n in enumerate(lengths)]
    counts = Counts((labels != -100).sum(), 23, sum(n * n for n in lengths))
    with torch.no_grad():
        padded = distiller(ids, mask, labels)
        packed = distiller(
            ids[keep][None], labels=labels[keep][None], position_ids=positions[keep][None], cu_seq_lens_q=borders
        )
        by_borders = distiller(ids[keep][None], labels=labels[keep][None], cu_seq_lens_q=borders)
        parts = [distiller(*one, counts=counts) for one in alone]
    assert by_borders.loss.item() == packed.loss.item()
    for term, value in padded.terms.items():
        assert packed.terms[term].item() == pytest.approx(value.item(), rel=1e-5), term
        assert sum(p.terms[term].item() for p in parts) == pytest.approx(value.item(), rel=1e-5), term


@pytest.mark.parametrize("name", DISTILLATIONS)
def test_a_model_distilled_from_itself_loses_nothing_but_what_language_costs(name):
    teacher = bert(layers=2, seed=3)
    overrides = {"layers": 2} if name != "tiny-biobert" else {"layers": 2, "hidden_size": 24, "heads": 4}
    distiller = Distiller(bert(layers=2, seed=3), teacher, recipes.load(name, **overrides))
    if name == "tiny-biobert":
        torch.nn.init.eye_(distiller.projection.weight)
        torch.nn.init.zeros_(distiller.projection.bias)
    terms = distiller.eval()(*batch([8, 5])).terms
    for term in set(terms) - {"mlm", "soft_targets"}:
        assert abs(terms[term].item()) < 1e-5, term


def test_published_attention_dropout_makes_a_model_differ_from_itself():
    recipe = recipes.load("compact-biobert", layers=2, published=True, loss={"attention_kl": 1.0})
    model = bert(layers=2, seed=3)
    distiller = Distiller(model, model, recipe.model_copy(update={"attention_kl_mean": "rows"}))
    torch.manual_seed(0)
    term = distiller.train()(*batch([32] * 8)).terms["attention_kl"]
    assert term.item() > 2.0  # two layers, about 2.25 nats a row each


def test_the_teacher_is_not_a_part_of_the_trained_module():
    distiller = make("distil-biobert")
    student = {id(p) for p in distiller.student.parameters()}
    assert {id(p) for p in distiller.parameters()} == student
    assert not any(name.startswith("teacher") for name in distiller.state_dict())
    loss = distiller(*batch([6])).loss
    loss.backward()
    assert all(p.grad is None for p in distiller.teacher.parameters())


def test_dropout_follows_the_recipe_and_is_off_in_eval_mode():
    corrected, published = make("distil-biobert").train(), make("distil-biobert", published=True).train()
    assert corrected.student.training and not corrected.teacher.training
    assert published.teacher.training
    assert not published.eval().teacher.training
    one, two = published(*batch([9, 9])), published(*batch([9, 9]))
    assert one.loss.item() == two.loss.item()


def test_the_callers_models_attend_as_before():
    distiller = make("compact-biobert")
    distiller.student.set_attn_implementation("eager")
    distiller(*batch([6]))
    out = distiller.student(batch([6])[0], output_attentions=True)
    assert len(out.attentions) == 2


def test_a_batch_without_masked_positions_has_a_finite_loss():
    ids, mask, labels = batch([6, 4])
    losses = make("distil-biobert")(ids, mask, torch.full_like(labels, -100))
    assert losses.terms["mlm"].item() == 0 and torch.isfinite(losses.loss)


@pytest.mark.parametrize("family", [bert, distilbert, mobilebert])
def test_continued_pretraining_equals_transformers_own_loss(family):
    model = family()
    recipe = recipes.load("bio-distilbert-cased")
    ids, mask, labels = batch([10, 6, 8])
    with torch.no_grad():
        ours = Distiller(model, None, recipe).eval()(ids, mask, labels).loss
        theirs = model(ids, attention_mask=mask, labels=labels).loss
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


@pytest.mark.parametrize("family", [distilbert, mobilebert])
def test_other_families_serve_as_teachers_too(family):
    teacher = family(layers=4).double()  # MobileBERT's attention is nearly even, too little for single precision
    recipe = recipes.load("compact-biobert", layers=2)
    student = randomize(build_student(recipe, teacher), seed=5).double()
    distiller = Distiller(student, teacher, recipe).eval()
    ids, mask, labels = batch([9, 9])
    with torch.no_grad():
        ours = distiller(ids, mask, labels).terms
        theirs = published_terms(distiller, ids, mask, labels)
    assert ours["hidden_cosine"].item() == pytest.approx(3 * theirs["hidden_cosine"].item(), rel=1e-5)
    assert ours["attention_kl"].item() == pytest.approx(3 * 9 * theirs["attention_kl"].item(), rel=1e-5)


def test_models_that_do_not_fit_are_refused_with_what_would():
    teacher = bert(layers=4)
    cases = [
        ("distil-biobert", bert(layers=2, vocab=90), "vocabulary"),
        ("distil-biobert", bert(layers=2, hidden=12), "hidden_mse"),
        ("compact-biobert", bert(layers=5), "deeper than its teacher of 4"),
        ("tiny-biobert", bert(layers=2, heads=2), "4 heads.*attention_relations"),
    ]
    for name, student, words in cases:
        with pytest.raises(UserError, match=words):
            Distiller(student, teacher, recipes.load(name))
    with pytest.raises(UserError, match="needs a teacher"):
        Distiller(bert(layers=2), None, recipes.load("distil-biobert"))


@pytest.mark.parametrize(
    ("layers", "layer_map", "picks"),
    [(3, "uniform", [0, 2, 3]), (2, "last", [2, 3]), (2, [0, 3], [0, 3]), (5, [0, 1, 2, 3, 3], [0, 1, 2, 3, 3])],
)
def test_terms_compare_the_layers_of_the_map(layers, layer_map, picks):
    teacher, student = bert(layers=4, seed=1), bert(layers=layers, seed=2)
    loss = {"mlm": 0, "logits_kl": 0, "attention_kl": 0}
    distiller = Distiller(student, teacher, recipes.load("compact-biobert", layer_map=layer_map, loss=loss)).eval()
    ids, mask, labels = batch([9, 9])
    with torch.no_grad():
        own, theirs = (model(ids, output_hidden_states=True).hidden_states[1:] for model in (student, teacher))
        wanted = sum((1 - F.cosine_similarity(own[i], theirs[p], dim=-1)).mean() for i, p in enumerate(picks))
        assert distiller(ids, mask, labels).terms["hidden_cosine"].item() == pytest.approx(3 * wanted.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["distil-biobert", "compact-biobert"])
def test_the_biases_of_the_keys_have_no_gradient_so_training_may_leave_them(name):
    distiller = make(name)
    distiller.double()
    distiller.teacher.double()
    distiller(*batch([9, 7])).loss.backward()
    biases = {n: p.grad for n, p in distiller.student.named_parameters() if n.endswith("key.bias")}
    others = {n: p.grad for n, p in distiller.student.named_parameters() if n.endswith("query.bias")}
    assert len(biases) == 2
    assert all(grad.abs().max() < 1e-12 for grad in biases.values())
    assert all(grad.abs().max() > 1e-6 for grad in others.values())


def test_autocast_does_not_round_what_the_attention_terms_compare():
    query = torch.randn(4, 9, 6, generator=torch.Generator().manual_seed(0)) * 4
    pair = (query, query.flip(1), 1.0), (query.flip(0), query, 1.0)
    plain = [attention.kl(*pair, (0, 9)), attention.mse(*pair, (0, 9), "scores")]
    with torch.autocast("cpu", torch.bfloat16):
        under = [attention.kl(*pair, (0, 9)), attention.mse(*pair, (0, 9), "scores")]
    assert under == plain


def test_how_a_step_is_cut_does_not_change_it_even_where_nothing_is_masked():
    ids, mask, labels = batch([6, 6])
    labels[1] = -100
    counts = [counts_of(Packed.from_padded(ids[i : i + 1], mask[i : i + 1], labels[i : i + 1])) for i in range(2)]
    whole = counts_of(Packed.from_padded(ids, mask, labels))
    assert tuple(map(sum, zip(*counts, strict=True))) == tuple(whole)


TERMS = {
    "kl": (
        lambda s, t, borders: attention.kl(s, t, borders),
        lambda s, t: F.kl_div(s.log_softmax(-1), t.log_softmax(-1), reduction="sum", log_target=True),
    ),
    "scores": (
        lambda s, t, borders: attention.mse(s, t, borders, "scores"),
        lambda s, t: F.mse_loss(s, t, reduction="sum"),
    ),
    "probabilities": (
        lambda s, t, borders: attention.mse(s, t, borders, "probabilities"),
        lambda s, t: F.mse_loss(s.softmax(-1), t.softmax(-1), reduction="sum"),
    ),
}


@pytest.fixture(params=["cpu", "gpu"])
def summed_as_on(request, monkeypatch):
    """The terms computed citation by citation, and as a GPU does, in groups."""
    if request.param == "gpu":
        monkeypatch.setattr(attention, "_sum_one_by_one", attention._sum_in_groups)


@pytest.mark.usefixtures("summed_as_on")
@pytest.mark.parametrize("term", TERMS)
def test_attention_gradients_equal_autograd_through_the_plain_formula(term):
    ours, plain = TERMS[term]
    generator = torch.Generator().manual_seed(0)
    query, key, *teachers = (torch.randn(3, 11, 4, generator=generator, dtype=torch.float64) for _ in range(4))
    query.requires_grad_()
    key.requires_grad_()
    borders = (0, 5, 6, 11)

    def compared(q, k):
        return ours((q, k, 0.7), (*teachers, 0.4), borders)

    def by_maps(q, k):
        pieces = [slice(a, b) for a, b in pairwise(borders)]
        scores = [(q[:, p] @ k[:, p].mT * 0.7, teachers[0][:, p] @ teachers[1][:, p].mT * 0.4) for p in pieces]
        return sum(plain(*pair) for pair in scores)

    value, wanted = 3 * compared(query, key), 3 * by_maps(query, key)
    torch.testing.assert_close(value, wanted, rtol=1e-12, atol=0)
    found = torch.autograd.grad(value, (query, key))
    torch.testing.assert_close(found, torch.autograd.grad(wanted, (query, key)), rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(compared, (query, key))


@pytest.mark.parametrize("elements", [500, 10**6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_groups_of_citations_give_the_terms_and_gradients_of_single_ones(monkeypatch, elements, dtype):
    lengths = [3, 40, 1, 7, 40, 12, 2, 33, 12, 19]
    borders = tuple(accumulate(lengths, initial=0))
    generator = torch.Generator().manual_seed(0)
    query, key, *teachers = (torch.randn(4, borders[-1], 6, generator=generator).to(dtype) for _ in range(4))
    own = [query.requires_grad_(), key.requires_grad_()]

    def outcomes():
        terms = [ours((*own, 0.7), (*teachers, 0.4), borders) for ours, _ in TERMS.values()]
        terms.append(attention.relations([*own, query], [*teachers, key.detach()], borders, 2))
        return [part for term in terms for part in (term, *torch.autograd.grad(term, own))]

    single = outcomes()
    monkeypatch.setattr(attention, "_sum_one_by_one", attention._sum_in_groups)
    monkeypatch.setattr(attention, "_GROUP_ELEMENTS", elements)
    groups = [real for _, real in attention._groups(borders, heads=4)]
    assert sum(int(real.sum()) for real in groups) == borders[-1]
    assert len(groups) == (8 if elements == 500 else 3)
    exact = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
    for found, wanted in zip(outcomes(), single, strict=True):
        assert found.dtype == wanted.dtype
        torch.testing.assert_close(found, wanted, **exact)


def test_attention_terms_keep_no_map():
    """What stays for the backward pass grows with tokens, not with their square."""
    kept = {}
    for length in (64, 512):
        query, key = (torch.randn(2, length, 8, requires_grad=True) for _ in range(2))
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x):
            attention.kl((query, key, 1.0), (query, key, 1.0), (0, length)).backward()
        kept[length] = sum(sizes)
    assert kept[512] == 8 * kept[64] > 0
