"""Values checked against a Python annotation by pydantic, which is imported when the first one is checked."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from penstock.errors import DefinitionError
from penstock.json_values import Json, plain_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError


class TypedValue:
    """The place of one value: its annotation, and the `field` that errors name."""

    def __init__(self, annotation: Any, field: str) -> None:
        self.annotation = annotation
        self.field = field

    def of_value(self, value: Any) -> Any:
        """`value` if it is of the type, and JSON (lists, dicts) made into the type. Nothing is converted besides."""
        from pydantic import ValidationError

        try:
            return _without_sets(self._adapter.validate_python(value, strict=True), self.field)
        except ValidationError as error:
            try:
                return self._of_json(plain_json(value, self.field, DefinitionError))
            except ValidationError as better:
                raise self._refusal(better) from None
            except DefinitionError:
                raise self._refusal(error) from None

    def _of_json(self, value: Json) -> Any:
        return _without_sets(self._adapter.validate_json(json.dumps(value), strict=True), self.field)

    def of_text(self, text: str) -> Any:
        """The text itself where the type takes it, else what it is as JSON."""
        from pydantic import ValidationError

        if self.annotation is not Any:
            try:
                return self._of_json(text)
            except ValidationError:
                pass
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        return self.of_value(plain_json(value, self.field, DefinitionError))

    def to_json(self, value: Any) -> Json:
        """Of a value that was checked."""
        try:
            dumped = self._adapter.dump_python(value, mode="json", by_alias=True)
        except Exception as error:
            raise DefinitionError(
                f"the value has no form in JSON: {error}", field=self.field, remedy="use a type that pydantic dumps"
            ) from None
        return plain_json(dumped, self.field, DefinitionError)

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticUserError

        try:
            return TypeAdapter(self.annotation)
        except (PydanticUserError, NameError) as error:
            raise DefinitionError(
                f"the annotation {_type_name(self.annotation)} cannot be checked: {str(error).splitlines()[0]}",
                field=self.field,
                remedy="use types that pydantic knows, such as list[str], a dataclass or a model",
            ) from None

    def _refusal(self, error: ValidationError) -> DefinitionError:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        shown = repr(first["input"])
        return DefinitionError(
            f"{shown if len(shown) <= 60 else shown[:59] + '…'} does not fit: {_lower(first['msg'])}",
            field=f"{self.field}{place}",
            remedy=f"the type is {_type_name(self.annotation)}",
        )


def _without_sets(value: Any, field: str) -> Any:
    """A set has another order in each process, and what is built from it would have too."""
    if isinstance(value, set | frozenset):
        raise DefinitionError("a set has no order", field=field, remedy="use a list")
    return value


def _lower(message: str) -> str:
    """In Python's words: of JSON pydantic says array and object."""
    return (message[:1].lower() + message[1:]).replace("valid array", "valid list").replace("an object", "a dict")


def _type_name(annotation: Any) -> str:
    return (
        annotation.__name__ if isinstance(annotation, type) and not hasattr(annotation, "__args__") else str(annotation)
    )
