"""What the config.json of a fine-tuned model says of its outputs and of the data that it was trained on."""

from typing import Any

from transformers import PretrainedConfig

from compactbio.errors import UserError

# Keys of ours: how a relation model's classes were made, and in which neighbourhoods an NER model's training data kept
# a punctuation character inside a word.
RELATION_CLASSES = "relation_classes"
JOINED_SIGNS = "joined_signs"
_SETTINGS = {"negative": list, "scheme": str}


def named_labels(config: PretrainedConfig, name: str) -> list[str]:
    """A model's labels by id. Raises UserError where its configuration only numbers them."""
    if sorted(config.id2label) != list(range(config.num_labels)):
        raise UserError(f"{name}: the id2label of its config.json must number its {config.num_labels} labels from 0.")
    labels = [str(config.id2label[i]) for i in range(config.num_labels)]
    if all(label.startswith("LABEL_") for label in labels):
        raise UserError(
            f"{name}: its config.json has no id2label, so the meaning of its outputs is unknown; write the labels "
            "there, in the order of the outputs, or fine-tune it again with `compactbio finetune`."
        )
    return labels


def has_independent_outputs(config: PretrainedConfig) -> bool:
    """Whether each output of a relation model decides for itself if its class holds."""
    return bool(config.problem_type == "multi_label_classification" and config.num_labels > 1)


def stored_settings(config: PretrainedConfig, task: str) -> dict[str, Any]:
    """The settings that a fine-tuned model keeps in its configuration, {} where it has none.

    Of a relation model they say how its classes are made, of an NER model how its words were split.
    """
    if task == "ner":
        signs = getattr(config, JOINED_SIGNS, None)
        valid = isinstance(signs, list) and all(isinstance(sign, str) for sign in signs)
        return {JOINED_SIGNS: signs} if valid else {}
    found = getattr(config, RELATION_CLASSES, None) if task == "relation" else None
    stored = found if isinstance(found, dict) else {}
    return {key: stored[key] for key, kind in _SETTINGS.items() if isinstance(stored.get(key), kind)}


def unknown_words(config: PretrainedConfig, name: str) -> str | None:
    """A sentence about an NER model that does not say how the words of its training data were split, else None."""
    if stored_settings(config, "ner"):
        return None
    return (
        f"{name}: its config.json has no {JOINED_SIGNS}, so it is unknown how the words of its training data were "
        "split: in raw text every punctuation character is taken as a word, which finds less where that was not so."
    )
