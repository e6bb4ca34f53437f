"""The model card of an exported model: what it was made from, and what the export cost and brought."""

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from compactbio import cards
from compactbio.modeling.loading import Source


def write(name: str, source: Source, exports: Mapping[str, Mapping[str, Any]]) -> str:
    """The card in Markdown; `exports` are the records of all exports in the folder by file."""
    public = source.public_name()
    data = ModelCardData(
        library_name="onnx",
        tags=["biomedical", "compactbio", "onnx"],
        base_model=public if "/" in public else None,
    )
    return cards.render("exported", data, name=name, source=public, exports=exports)
