"""Draws what an abstract is about: a fact of the tables, the names around it, and numbers that agree."""

from collections.abc import Mapping
from functools import cache
from math import erfc, exp, sqrt
from random import Random

from compactbio.demo import biology, facts
from compactbio.demo.drugs import DRUGS
from compactbio.demo.genes import GENES
from compactbio.demo.lexicon import DISEASES, HELD_OUT, ONE_SEX, SPECIES, short_form
from compactbio.demo.rendering import Context, Entity
from compactbio.demo.settings import CELLS, FIELDS

PARTS = ("train", "test")
_SCHEDULES = {
    "oral": ("once daily", "twice daily", "daily"),
    "intravenous": ("every three weeks", "every four weeks"),
    "subcutaneous": ("every two weeks", "every four weeks"),
    "inhaled": ("twice daily", "once daily"),
    "topical": ("once daily",),
    "intravitreal": ("once monthly",),
    "intrathecal": ("every four months",),
}
_INFUSIONS_OF_INFECTION = ("once daily", "every 12 hours")
_OWN_SCHEDULES = {
    "alendronate": ("once weekly",),
    "methotrexate": ("once weekly",),
    "semaglutide": ("once weekly",),
    "liraglutide": ("once daily",),
    "denosumab": ("every six months",),
    "zoledronic acid": ("once yearly",),
    "bortezomib": ("twice weekly",),
    "etanercept": ("once weekly",),
    "cetuximab": ("once weekly",),
    "warfarin": ("once daily",),
    "levothyroxine": ("once daily",),
    "alteplase": ("once",),
}
_MODELS = (*["mice"] * 3, *["rats"] * 2, "rabbits", "hamsters", "ferrets", "guinea pigs", "zebrafish", "minipigs")
_GROWN = ("coccus", "rod", "coccobacillus", "bacillus", "anaerobe", "bacterium", "yeast", "mold")
_DRUG_TABLES = {"treats": facts.TREATS, "targets": facts.TARGETS, "induces": facts.INDUCES}


def allowed(type_: str, name: str, part: str) -> bool:
    """Whether a part may name an entity: the test part all, the training part none that is held out."""
    return part == "test" or name not in HELD_OUT[type_]


@cache
def pairs(relation: str, part: str) -> tuple[tuple[str, str], ...]:
    """All facts of a relation whose two names the part may use."""
    head_type, tail_type = facts.RELATION_TYPES[relation]
    return tuple(
        (head, tail)
        for head, tails in _tables()[relation].items()
        for tail in tails
        if allowed(head_type, head, part) and allowed(tail_type, tail, part)
    )


def _tables() -> dict[str, Mapping[str, tuple[str, ...]]]:
    return {
        **_DRUG_TABLES,
        "metabolized_by": {drug: (gene,) for drug, (gene, _) in biology.CLEARANCE.items()},
        "active_against": biology.ACTIVE_AGAINST,
        "associated_with": biology.ASSOCIATED,
        "causes": biology.CAUSES,
    }


def tails(relation: str, head: str, part: str) -> list[str]:
    """What a name goes with in a relation, in the direction of the relation."""
    return [tail for other, tail in pairs(relation, part) if other == head]


def heads(relation: str, tail: str, part: str) -> list[str]:
    """The names that go with a tail."""
    return [head for head, other in pairs(relation, part) if other == tail]


def entity(type_: str, name: str) -> Entity:
    """A lexicon entry as something to write. KeyError for a name that the lexicon lacks."""
    return Entity(name, type_, short_form(type_, name))


def percent(part: int, whole: int) -> str:
    """`12.5%`; whole > 0."""
    return f"{100 * part / whole:.1f}%"


def p_value(p: float) -> str:
    """As papers print it: `p < 0.001`, `p = 0.012`, `p = 0.34`."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def difference_p(events1: int, total1: int, events2: int, total2: int) -> float:
    """Two-sided p of two proportions (pooled normal approximation), in [0, 1]."""
    pooled = (events1 + events2) / (total1 + total2)
    error = sqrt(pooled * (1 - pooled) * (1 / total1 + 1 / total2))
    return erfc(abs(events1 / total1 - events2 / total2) / error / sqrt(2)) if error else 1.0


def _ratio(name: str, ratio: float, error: float) -> Context:
    """A ratio with its 95% interval, from the standard error of its logarithm."""
    low, high = (ratio * exp(sign * 1.96 * error) for sign in (-1, 1))
    return {name: f"{ratio:.2f}", f"{name}_ci": f"95% CI {low:.2f} to {high:.2f}"}


def two_groups(random: Random, total: int, rate1: float, rate2: float) -> Context:
    """Sizes that add up to `n`, events with their percentages, and the test that compares them.

    Sets the flag `sig` or `ns`, as the p value is below 0.05 or not, and an odds ratio `or` of group 1.
    """
    n1 = total // 2 + random.randint(-min(4, total // 8), min(4, total // 8))
    n2 = total - n1
    e1 = min(n1 - 1, max(1, round(n1 * rate1 + random.gauss(0, 0.02) * n1)))
    e2 = min(n2 - 1, max(1, round(n2 * rate2 + random.gauss(0, 0.02) * n2)))
    p = difference_p(e1, n1, e2, n2)
    odds = e1 * (n2 - e2) / (e2 * (n1 - e1))
    error = sqrt(1 / e1 + 1 / (n1 - e1) + 1 / e2 + 1 / (n2 - e2))
    values: Context = {"n": str(total), "n1": str(n1), "n2": str(n2), "e1": str(e1), "e2": str(e2), "e": str(e1 + e2)}
    values |= {"pct1": percent(e1, n1), "pct2": percent(e2, n2), "pct": percent(e1 + e2, total), "p": p_value(p)}
    values |= {"diff": f"{abs(100 * e1 / n1 - 100 * e2 / n2):.1f}", "sig" if p < 0.05 else "ns": ""}
    return values | _ratio("or", odds, error)


def _people(random: Random, total: int) -> Context:
    women = round(total * random.uniform(0.3, 0.65))
    start = random.randint(2001, 2016)
    return {
        "n": str(total),
        "women": str(women),
        "men": str(total - women),
        "women_pct": percent(women, total),
        "age": str(random.randint(34, 74)),
        "age_sd": f"{random.uniform(7, 15):.1f}",
        "year1": str(start),
        "year2": str(start + random.randint(1, 7)),
        "centers": str(random.randint(3, 48)),
        "months": str(random.choice((3, 6, 9, 12, 18, 24, 36, 48))),
        "q": p_value(10 ** random.uniform(-4, -1.4)),  # of differences that are stated as such
        "q2": p_value(10 ** random.uniform(-4, -1.4)),
        "weeks": str(random.choice((4, 6, 8, 12, 16, 24, 26, 48, 52))),
    }


def _of_one_sex(values: Context, disease: str) -> Context:
    """Leaves women and men uncounted where all patients are of one sex."""
    if disease in ONE_SEX:
        for name in ("women", "men", "women_pct"):
            values.pop(name, None)
    return values


def _field(random: Random, disease: str) -> Context:
    field = FIELDS[DISEASES[disease].field]
    marker, marker2 = random.sample(field.markers, 2)
    symptom, symptom2 = random.sample(field.symptoms, 2)
    cells = random.choice(CELLS.get(disease, field.cells))
    tissue, tissue2 = random.sample(field.tissues, 2)
    values: Context = {"clinic": random.choice(field.clinics), "endpoint": random.choice(field.endpoints)}
    values |= {"marker": marker, "marker2": marker2, "symptom": symptom, "symptom2": symptom2}
    values |= {"cells": cells, "tissue": tissue, "tissue2": tissue2}
    return values | {"exam": random.choice(field.examinations), "drop": str(random.randint(12, 64))}


def _drug(random: Random, slot: str, name: str) -> Context:
    drug = DRUGS[name]
    values: Context = {slot: entity("Chemical", name), f"{slot}_family": drug.family, f"{slot}_route": drug.route}
    dose = f"{random.choice(drug.doses):g} {drug.unit}"
    return values | {f"{slot}_dose": dose, f"{slot}_schedule": random.choice(_schedules(name))}


def _schedules(name: str) -> tuple[str, ...]:
    if name in _OWN_SCHEDULES:
        return _OWN_SCHEDULES[name]
    route = DRUGS[name].route
    return _INFUSIONS_OF_INFECTION if route == "intravenous" and name in biology.ACTIVE_AGAINST else _SCHEDULES[route]


def _gene(slot: str, name: str) -> Context:
    gene = GENES[name]
    return {slot: entity("Gene", name), f"{slot}_product": gene.product, f"{slot}_pathway": gene.pathway}


def _maybe(random: Random, names: list[str], but: str = "") -> str:
    names = [name for name in names if name != but]
    return random.choice(names) if names else ""


def _disease(random: Random, part: str, name: str) -> Context:
    """The disease, its field, and what stands behind it: a gene or a germ, where one is known."""
    values: Context = {"disease": entity("Disease", name), **_field(random, name)}
    if gene := _maybe(random, heads("associated_with", name, part)):
        values |= _gene("risk_gene", gene)
    if species := _maybe(random, heads("causes", name, part)):
        values |= {"species": entity("Species", species), "kind": SPECIES[species].kind}
    return values


def therapy(random: Random, part: str) -> Context:
    """A drug in one of its indications, with a comparator, its target and an adverse effect where there is one."""
    drug, disease = random.choice(pairs("treats", part))
    return _therapy(random, part, drug, disease)


def evidence(random: Random, part: str) -> Context:
    """The same, with numbers that show that the drug works."""
    drug, disease = random.choice(pairs("treats", part))
    while "sig" not in (values := _therapy(random, part, drug, disease)):
        pass
    return values


def harm(random: Random, part: str) -> Context:
    """The same for a drug that has a known adverse effect, `effect`, with numbers that show it."""
    drug, effect = random.choice(pairs("induces", part))
    disease = _maybe(random, tails("treats", drug, part), but=effect)
    if not disease:
        return harm(random, part)
    while "harm" not in (values := _therapy(random, part, drug, disease, most=2400)):
        pass
    return values | {"effect": entity("Disease", effect)}


def _therapy(random: Random, part: str, drug: str, disease: str, most: int = 640) -> Context:
    values = _disease(random, part, disease) | _drug(random, "drug", drug)
    values |= two_groups(random, random.randint(40, most), random.uniform(0.42, 0.8), random.uniform(0.2, 0.5))
    values |= _people(random, int(str(values["n"])))
    if gene := _maybe(random, tails("targets", drug, part)):
        values |= _gene("gene", gene)
    if effect := _maybe(random, tails("induces", drug, part), but=disease):
        values["effect"] = entity("Disease", effect)
    other = _maybe(random, heads("treats", disease, part), but=drug)
    if other and random.random() < 0.6:
        values |= _drug(random, "control", other) | {"active": ""}
    else:
        values |= {"control": "placebo", "placebo": ""}
    return _of_one_sex(values | _harms(random, values), disease)


def _harms(random: Random, values: Context) -> Context:
    """How many in each arm had the adverse effect: few, and more of those who had the drug. Flag `harm`: p < 0.05."""
    n1, n2 = int(str(values["n1"])), int(str(values["n2"]))
    h1 = max(2, round(n1 * random.uniform(0.05, 0.18)))
    h2 = max(1, round(n2 * random.uniform(0.01, 0.05)))
    found: Context = {"h1": str(h1), "h2": str(h2), "hpct1": percent(h1, n1), "hpct2": percent(h2, n2)}
    p = difference_p(h1, n1, h2, n2)
    found |= {"hp": p_value(p)} | ({"harm": ""} if p < 0.05 else {})
    risk = (h1 / n1) / (h2 / n2)
    return found | _ratio("rr", risk, sqrt(max(0.01, 1 / h1 - 1 / n1 + 1 / h2 - 1 / n2)))


def patient(random: Random, part: str) -> Context:
    """One patient who took a drug and met its adverse effect."""
    values = harm(random, part)
    sexes = {ONE_SEX[e.name] for e in values.values() if isinstance(e, Entity) and e.name in ONE_SEX}
    woman = "woman" in sexes if sexes else random.random() < 0.5
    patient, she, her = ("woman", "she", "her") if woman else ("man", "he", "his")
    values |= {"patient": patient, "she": she, "her": her}
    values |= {"age": str(random.randint(19, 88)), "days": str(random.randint(2, 21))}
    return values | {"later": str(random.randint(2, 14)), "visits": str(random.choice((3, 6, 9, 12)))}


def genetics(random: Random, part: str) -> Context:
    """A gene with a disease that goes with it, patients (group 1) and controls (group 2), and a second gene."""
    gene, disease = random.choice(pairs("associated_with", part))
    values: Context = _disease(random, part, disease) | _gene("gene", gene)
    while "sig" not in values:
        values.pop("ns", None)
        values |= two_groups(random, random.randint(60, 900), random.uniform(0.3, 0.6), random.uniform(0.12, 0.3))
    values |= _people(random, int(str(values["n"])))
    others = [name for name in GENES if allowed("Gene", name, part) and disease not in biology.ASSOCIATED.get(name, ())]
    values |= _gene("other_gene", random.choice(others))
    values["null_gene"] = values["other_gene"]  # where the text says that nothing was found
    if drug := _maybe(random, [drug for drug in heads("targets", gene, part) if disease in facts.TREATS[drug]]):
        values |= _drug(random, "drug", drug)
    values |= {"fold": f"{random.uniform(1.6, 6.8):.1f}", "rs": f"rs{random.randint(10**5, 10**8)}"}
    values |= {"rho": f"{random.uniform(0.31, 0.78):.2f}", "area": f"{random.uniform(0.71, 0.95):.2f}"}
    values |= {"samples": str(random.randint(6, 24)), "genes_up": str(random.randint(90, 900))}
    values = _of_one_sex(values, disease)
    return values | {"freq": f"{random.uniform(0.08, 0.45):.2f}", "genes_down": str(random.randint(90, 900))}


def laboratory(random: Random, part: str) -> Context:
    """A drug with its target, in animals and in cells that go with one of its indications."""
    drug, gene = random.choice(pairs("targets", part))
    disease = _maybe(random, tails("treats", drug, part))
    if not disease:
        return laboratory(random, part)
    values = _therapy(random, part, drug, disease) | _gene("gene", gene)
    animals = random.choice([name for name in _MODELS if allowed("Species", name, part)])
    values |= {"animals": Entity(animals, "Species"), "animal": Entity(SPECIES[animals].short, "Species")}
    taken = {*facts.TARGETS[drug], *heads("associated_with", disease, part)}
    others = [name for name in GENES if allowed("Gene", name, part) and name not in taken]
    values |= _gene("other_gene", random.choice(others))
    values["null_gene"] = values["other_gene"]  # where the text says that nothing was found
    size, groups = random.randint(6, 16), random.choice((3, 4))
    values |= {"group": str(size), "groups": "three" if groups == 3 else "four", "total": str(size * groups)}
    values |= {"ic50": f"{random.uniform(0.02, 24):.2f}", "mgkg": str(random.choice((1, 3, 5, 10, 20, 30, 50)))}
    low = random.choice((0.1, 0.5, 1, 5))
    values |= {"low": f"{low:g}", "high": f"{low * 10:g}", "hours": str(random.choice((6, 12, 24, 48, 72)))}
    values |= {"fold": f"{random.uniform(1.4, 5.2):.1f}", "drop2": str(random.randint(15, 78))}
    return values


def germ(random: Random, part: str) -> Context:
    """A species with a disease that it causes and, mostly, drugs that act against it; isolates with resistance."""
    return _germ(random, part, *random.choice(pairs("causes", part)))


def culture(random: Random, part: str) -> Context:
    """The same for what grows on a plate: bacteria and fungi."""
    grown = [pair for pair in pairs("causes", part) if SPECIES[pair[0]].kind.endswith(_GROWN)]
    return _germ(random, part, *random.choice(grown))


def _germ(random: Random, part: str, species: str, disease: str) -> Context:
    values: Context = {**_disease(random, part, disease), "species": entity("Species", species)}
    values["kind"] = SPECIES[species].kind
    drugs = [drug for drug in heads("active_against", species, part) if disease in facts.TREATS[drug]]
    for slot, name in zip(("drug", "control"), random.sample(drugs, min(2, len(drugs))), strict=False):
        values |= _drug(random, slot, name)
    total = random.randint(48, 620)
    values |= _people(random, total)
    values |= two_groups(random, total, random.uniform(0.05, 0.5), random.uniform(0.03, 0.3))
    resistant = max(2, round(total * random.uniform(0.03, 0.45)))
    values |= {"r": str(resistant), "s": str(total - resistant), "rpct": percent(resistant, total)}
    values["spct"] = percent(total - resistant, total)
    mic = random.choice((0.03, 0.06, 0.125, 0.25, 0.5, 1, 2))
    values |= {"mic50": f"{mic:g}", "mic90": f"{mic * random.choice((2, 4, 8)):g}"}
    values["score"] = f"{random.uniform(1.9, 6):.1f}"
    return values | {"lineages": str(random.randint(3, 19)), "days": str(random.randint(2, 14))}


def kinetics(random: Random, part: str) -> Context:
    """A drug, the gene that clears it, and healthy volunteers."""
    drug, gene = random.choice(pairs("metabolized_by", part))
    disease = _maybe(random, tails("treats", drug, part))
    if not disease:
        return kinetics(random, part)
    total = random.choice((12, 16, 18, 20, 24, 28, 32, 36, 48))
    values = _therapy(random, part, drug, disease) | _gene("enzyme", gene) | _people(random, total)
    carriers = random.randint(3, total // 2)
    half_life = biology.CLEARANCE[drug][1] * random.uniform(0.85, 1.15)
    values |= {"carriers": str(carriers), "others": str(total - carriers), "age": str(random.randint(22, 38))}
    values |= {"carriers_pct": percent(carriers, total), "half": f"{half_life:.1f}", "cv": str(random.randint(18, 62))}
    values |= {"cmax": str(random.randint(12, 940)), "auc": str(random.randint(100, 9800))}
    values |= {"tmax": f"{random.uniform(0.5, 6):.1f}", "fold": f"{random.uniform(1.3, 4.8):.1f}"}
    for name in ("n1", "n2", "e1", "e2", "e", "h1", "h2"):  # of a trial that this study is not
        values.pop(name)
    values["hours"] = str(random.choice((24, 48, 72, 96)))
    return values | {"wash": str(random.choice((7, 10, 14, 21)))}
