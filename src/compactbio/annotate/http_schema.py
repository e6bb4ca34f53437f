"""What the server takes and gives as JSON, and how its OpenAPI document describes it."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_EXAMPLE = "Aspirin lowers the risk of colorectal cancer."


class Body(BaseModel):
    """One text, or several."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = Field(None, examples=[_EXAMPLE], description="One text; give this or `texts`.")
    texts: list[str] | None = Field(None, description="Several texts; give this or `text`.")
    min_score: float = Field(0.0, ge=0, le=1, description="Leave out entities with a lower score.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.text is None) == (self.texts is None):
            raise ValueError('Give one text as {"text": "..."}, or several as {"texts": ["...", "..."]}')
        return self

    @property
    def all_texts(self) -> list[str]:
        """The text, or the texts."""
        return [self.text] if self.text is not None else self.texts or []


class Mention(BaseModel):
    """An entity: `start` and `end` count characters (Unicode code points) of its text, `end` is exclusive."""

    start: int
    end: int
    text: str
    type: str
    score: float


class TextAnswer(BaseModel):
    """The entities of one text."""

    entities: list[Mention]


class FailedText(BaseModel):
    """A text that could not be annotated."""

    error: str


class TextsAnswer(BaseModel):
    """The entities of several texts, in their order; a text that fails is named and leaves the others alone."""

    documents: list[TextAnswer | FailedText]


def error_response(text: str) -> dict[str, Any]:
    """The description of an answer that is an error."""
    schema = {"type": "object", "properties": {"error": {"type": "string"}}}
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_ERRORS = {
    401: "A bearer token is needed and was not given.",
    408: "The body did not arrive in time.",
    413: "The body has too many bytes.",
    415: "The body is compressed.",
    422: "The body is not UTF-8, not JSON of this kind, or has too many documents.",
    429: "Too many documents or characters are waiting.",
    500: "Every text of the request failed. Of several texts one that fails has an `error` in place of `entities`.",
    503: "The answer takes too long.",
}
_EXAMPLES = {
    "one": {"summary": "One text", "value": {"text": _EXAMPLE}},
    "several": {"summary": "Several texts", "value": {"texts": [_EXAMPLE, "No pneumonia."], "min_score": 0.5}},
}
_CONTENT = {"application/json": {"schema": Body.model_json_schema(), "examples": _EXAMPLES}}
DESCRIPTION: dict[str, Any] = {
    "response_model": TextAnswer | TextsAnswer,
    "responses": {status: error_response(text) for status, text in _ERRORS.items()},
    "openapi_extra": {"requestBody": {"required": True, "content": _CONTENT}},
}
