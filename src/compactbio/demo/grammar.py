"""A synthetic biomedical corpus: abstracts made by a grammar over real vocabulary, with gold annotations.

No sentence was taken from a paper, and no study told here ever took place: the names, what joins them (which drug
treats which disease) and the units are real, the numbers are drawn. The `id` of each document says `synthetic`.

Annotated are the drugs, diseases, genes and species of `lexicon`, everywhere they are named, as `Chemical`, `Disease`,
`Gene` and `Species`; a relation stands only where its sentence states it, so that two names in one sentence often
have none. The test part tells of all names, the training part of none in `HELD_OUT`.
"""

from collections.abc import Iterator
from random import Random

from compactbio.demo import cases, clinical_schemes, infection_schemes, laboratory_schemes, pharmacology_schemes
from compactbio.demo.rendering import Context, Entity, Page, fits
from compactbio.demo.scheme import Scheme
from compactbio.documents import Document, Question

SCHEMES: tuple[Scheme, ...] = (
    clinical_schemes.TRIAL,
    clinical_schemes.COHORT,
    clinical_schemes.CASE_REPORT,
    clinical_schemes.REVIEW,
    laboratory_schemes.EXPRESSION,
    laboratory_schemes.ASSOCIATION,
    laboratory_schemes.ANIMAL,
    laboratory_schemes.IN_VITRO,
    infection_schemes.MICROBIOLOGY,
    infection_schemes.OUTBREAK,
    pharmacology_schemes.KINETICS,
)
"""The kinds of abstracts, drawn with equal chance."""

SENTENCES = (5, 10)
"""Fewest and most sentences of an abstract, its title not counted; longer ones are drawn more often."""


def abstracts(count: int, seed: int = 0, part: str = "train") -> Iterator[Document]:
    """`count` documents of a part, `train` or `test`.

    Document i is a pure function of (seed, part, i). ValueError for a negative count or another part.
    """
    if count < 0:
        raise ValueError(f"count must be 0 or more, not {count}")
    if part not in cases.PARTS:
        raise ValueError(f"part must be one of {', '.join(cases.PARTS)}, not {part!r}")
    return (_document(seed, part, index) for index in range(count))


def title_and_abstract(document: Document) -> tuple[str, str]:
    """The two halves of a document of `abstracts`: no title holds a full stop and a blank before its end.

    ValueError for a text that has no such border.
    """
    title, border, abstract = document.text.partition(". ")
    if not border:
        raise ValueError(f"document {document.id} has no title that ends in a full stop")
    return title + ".", abstract


def _document(seed: int, part: str, index: int) -> Document:
    random = Random(f"{seed}/{part}/{index}")  # a string is hashed the same in every process
    scheme = random.choice(SCHEMES)
    context = scheme.case(random, part)
    page = Page()
    page.write(random.choice([title for title in scheme.titles if fits(title, context)]), context, random, title=True)
    page.written.clear()  # what only the title holds answers no question: it may be worded otherwise there
    for template in _sentences(scheme, context, random):
        page.write(template, context, random)
    name = f"synthetic-{part}-{index:06d}"
    questions = _questions(scheme, context, page, random)
    return Document(name, page.text, tuple(page.spans), tuple(page.relations), questions)


def _sentences(scheme: Scheme, context: Context, random: Random) -> list[str]:
    """Templates in the order of their parts: the fewest that each part asks for, then more to a length drawn."""
    open_parts = [[template for template in part[2] if fits(template, context)] for part in scheme.parts]
    counts = [min(part[0], len(templates)) for part, templates in zip(scheme.parts, open_parts, strict=True)]
    wanted = max(random.randint(*SENTENCES) for _ in range(4))
    while sum(counts) < wanted:
        room = [
            place for place, part in enumerate(scheme.parts) if counts[place] < min(part[1], len(open_parts[place]))
        ]
        if not room:
            break
        counts[random.choice(room)] += 1
    chosen: list[str] = []
    for templates, number in zip(open_parts, counts, strict=True):
        places = sorted(random.sample(range(len(templates)), number))
        chosen += [templates[place] for place in places]
    return chosen


def _questions(scheme: Scheme, context: Context, page: Page, random: Random) -> tuple[Question, ...]:
    """One to three of the scheme's questions that the body answers."""
    found: list[Question] = []
    for text, slot in scheme.questions:
        if slot not in page.written:
            continue
        asked = _asked(text, context, page)
        value = context[slot]
        answers = page.wordings(value) if isinstance(value, Entity) else (value,)
        if asked and not any(answer.casefold() in asked.casefold() for answer in answers):
            found.append(Question(asked, (tuple(answers),)))
    return tuple(random.sample(found, min(len(found), random.randint(1, 3))))


def _asked(template: str, context: Context, page: Page) -> str:
    """The question with its slots filled; "" if it names what the body does not, or the body what it must not."""
    text = template
    if text.startswith("{!"):
        barred, _, text = text[2:].partition("}")
        if barred in page.written:
            return ""
    for slot, value in context.items():
        if "{" + slot + "}" in text:
            if slot not in page.written:
                return ""
            text = text.replace("{" + slot + "}", value.name if isinstance(value, Entity) else value)
    return "" if "{" in text else text
