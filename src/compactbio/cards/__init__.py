"""Model cards: front matter as the Hugging Face hub reads it, and Markdown from the templates of this folder."""

from functools import partial
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined


def cell(value: object) -> str:
    """A value as a cell of a Markdown table: six digits of a float; text on one line, its bars escaped."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "\\|")


def percent(share: float) -> str:
    """A share in [0, 1] in percent: "83.42"."""
    return f"{100 * share:.2f}"


environment = partial(
    Environment, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
)
_TEMPLATES = environment(loader=FileSystemLoader(Path(__file__).parent))
_TEMPLATES.filters |= {"cell": cell, "percent": percent}


def render(template: str, data: ModelCardData, **context: object) -> str:
    """A model card from its front matter and a template of this folder, named without its ending `.md.jinja`, with the
    values that it names: `render("finetuned", ModelCardData(language="en"), name="tagger", ...)`."""
    body = _TEMPLATES.get_template(f"{template}.md.jinja").render(context)
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))
