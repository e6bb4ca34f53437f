"""The model card of an exported model: what it was made from, and what the export cost and brought."""

from collections.abc import Mapping
from typing import Any

from compactbio import cards
from compactbio.modeling.loading import Source

_USE = """\
On raw text, with compactbio:

```python
from compactbio import Annotator

annotator = Annotator.from_pretrained("{name}")
annotator(["A sentence of the kind that the model was trained on."])
```"""


def write(name: str, source: Source, exports: Mapping[str, Mapping[str, Any]]) -> str:
    """The card in Markdown; `exports` are the records of all exports in the folder by file."""
    metadata: dict[str, Any] = {"library_name": "onnx", "tags": ["biomedical", "compactbio", "onnx"]}
    public = source.public_name()
    if "/" in public:
        metadata["base_model"] = public
    ner = all(one["task"] == "ner" for one in exports.values())
    sections = [
        ("What it is", f"{public}, exported for ONNX Runtime: {', '.join(f'`{file}`' for file in exports)}."),
        ("How to use it", _USE.format(name=name) if ner else ""),
        ("What the export cost and brought", "\n\n".join(_figures(one) for one in exports.values())),
    ]
    return cards.render(metadata, name, sections)


def _figures(one: Mapping[str, Any]) -> str:
    metric, data = one["metric"], one["data"]
    rows = [
        (
            part["runtime"],
            "not scored" if part["score"] is None else f"{100 * part['score']:.2f}",
            f"{part['bytes'] / 1e6:.1f}",
            f"{part['tokens_per_second']:,.0f}",
        )
        for part in (one["original"], one["exported"])
    ]
    parts = [cards.table(("runtime", f"{metric} (%)", "MB", "tokens/s"), rows)]
    if data:
        parts.append(f"Scored on {data['name']}, {data['split']}, SHA-256 `{data['sha256'][:16]}`.")
    if one["way"]:
        parts.append(f"Quantised {one['way']}; allowed was a loss of {one['max_loss']:g}.")
    parts.append(f"Speed on random sentences of 8 to 63 tokens: {one['machine']}.")
    return "\n\n".join(parts)
