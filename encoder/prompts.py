"""The one prompt format of a model, used alike in training and inference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from .errors import ModelFilesError
from .protocol import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A text dressed for the model; `full[start:end]` is the user's text, and only its tokens are pooled."""

    full: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFormat:
    """How a text and its instruction become one string; stored beside the weights, never keyed on a name."""

    prefix: str = ""
    """Chat markup before everything, e.g. "<|im_start|>user\\n"."""
    suffix: str = ""
    """Chat markup after the text; attended to, not pooled."""
    instruction: str = "Instruct: {instruction}\nQuery: "
    """Put between prefix and text when there is an instruction (the form of E5-Mistral, arXiv 2401.00368)."""
    query_instruction: str | None = None
    """Default instruction for Role.QUERY; None for none."""
    document_instruction: str | None = None

    def __post_init__(self) -> None:
        if "{instruction}" not in self.instruction:
            raise ModelFilesError(
                f"prompt format: instruction is {self.instruction!r}, expected a string holding '{{instruction}}'"
            )

    def dress(self, text: str, *, role: Role, instruction: str | None = None) -> Prompt:
        """Return `text` with markup and instruction around it; instruction None takes the role's default."""
        if instruction is None:
            instruction = self.query_instruction if role is Role.QUERY else self.document_instruction
        # str.replace and not str.format: an instruction may hold braces.
        lead = self.instruction.replace("{instruction}", instruction) if instruction else ""
        head = self.prefix + lead
        return Prompt(full=head + text + self.suffix, start=len(head), end=len(head) + len(text))

    def to_dict(self) -> dict[str, str | None]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> PromptFormat:
        """Return the format in `data`. Raises ModelFilesError for an unknown key or a value that is no string."""
        known = cls.__slots__
        for key, value in data.items():
            if key not in known:
                raise ModelFilesError(f"prompt format: unknown key {key!r}, expected one of {', '.join(known)}")
            if value is not None and not isinstance(value, str):
                raise ModelFilesError(f"prompt format: {key} is {value!r}, expected a string")
        return cls(**data)  # type: ignore[arg-type]
