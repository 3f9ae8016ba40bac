"""Bodies of the requests to `/v1`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_TEXTS = 1000
Name = Annotated[str, Field(max_length=200)]
Term = Annotated[str, Field(min_length=1, max_length=1024)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TranslateBody(_Body):
    """A request to translate."""

    text: str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)] = Field(
        description="A text, or a list of texts; newlines and layout are kept."
    )
    source: Name = Field(
        default="auto", description="Language of the text: a code or name, or `auto`."
    )
    target: Name = Field(description="Target language: a code or name.")
    model: Name | None = Field(default=None, description="A model of `/v1/models`.")
    alternatives: Annotated[int, Field(ge=0, le=16)] = Field(
        default=0, description="Further outputs of each segment."
    )
    beam_size: Annotated[int, Field(ge=1, le=16)] | None = Field(
        default=None, description="Beam size of the search; by default, that of the model."
    )
    format: Literal["text", "html", "xml"] = Field(
        default="text", description="Whether the text has markup."
    )
    wrapped: bool = Field(
        default=False,
        description="Whether the text is wrapped at a fixed width, so that sentences continue "
        "after line ends.",
    )
    glossary: dict[Term, Term] = Field(
        default_factory=dict, max_length=1000, description="Source terms and their translations."
    )
    glossary_id: Name | None = Field(
        default=None, description="A glossary that was stored with `/v3/glossaries`."
    )
    do_not_translate: list[Term] = Field(
        default_factory=list, max_length=1000, description="Terms that are kept unchanged."
    )
    offset_unit: Literal["codepoint", "utf16"] = Field(
        default="codepoint",
        description="Unit of the offsets of segments; JavaScript counts in `utf16`.",
    )

    @property
    def texts(self) -> list[str]:
        """The texts as a list."""
        return [self.text] if isinstance(self.text, str) else self.text


class StreamBody(TranslateBody):
    """A request to translate one text, segment by segment."""

    text: str = Field(description="A text; newlines and layout are kept.")


class DetectBody(_Body):
    """A request to identify languages."""

    text: str | Annotated[list[str], Field(min_length=1, max_length=MAX_TEXTS)] = Field(
        description="A text, or a list of texts."
    )
    top: Annotated[int, Field(ge=1, le=20)] = Field(
        default=5, description="Maximum number of languages per text."
    )

    @property
    def texts(self) -> list[str]:
        """The texts as a list."""
        return [self.text] if isinstance(self.text, str) else self.text
