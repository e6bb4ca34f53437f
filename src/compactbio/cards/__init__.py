"""Model cards: YAML front matter and Markdown, as the Hugging Face hub reads them."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml


def render(metadata: Mapping[str, Any], title: str, sections: Sequence[tuple[str, str]]) -> str:
    """A card of front matter, a title and (heading, text) sections; sections without text are left out."""
    front = yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=True)
    body = "\n".join(f"## {heading}\n\n{text.strip()}\n" for heading, text in sections if text.strip())
    return f"---\n{front}---\n\n# {title}\n\n{body}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; bars within a cell are escaped."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in (header, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]])
