"""Values checked against a Python annotation by pydantic, which is imported when the first one is checked."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

from penstock.errors import DefinitionError
from penstock.json_values import Json, plain_json
from penstock.names import nearest

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


class TypedValue:
    """The place of one value: its annotation, and the `field` that errors name."""

    def __init__(self, annotation: Any, field: str) -> None:
        self.annotation = annotation
        self.field = field

    def of_value(self, value: Any) -> Any:
        """`value` if it is of the type, and JSON (lists, dicts) made into the type. Nothing is converted besides."""
        from pydantic import ValidationError

        self._check_members(value)
        try:
            return self._checked(self._holder.model_validate({"value": value}, strict=True))
        except ValidationError as error:
            try:
                return self.of_json(plain_json(value, self.field, DefinitionError))
            except DefinitionError as better:
                raise (better if isinstance(value, dict | list) else self._refusal(error)) from None

    def of_json(self, value: Json) -> Any:
        """The type's value for plain JSON. Members that the type does not have are refused."""
        from pydantic import ValidationError

        self._check_members(value)
        try:
            return self._checked(self._holder.model_validate_json(json.dumps({"value": value}), strict=True))
        except ValidationError as error:
            raise self._refusal(error) from None

    def of_text(self, text: str) -> Any:
        """The text itself where the type takes it, else what it is as JSON."""
        if self.annotation is not Any:
            try:
                return self.of_json(text)
            except DefinitionError:
                pass
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        return self.of_value(plain_json(value, self.field, DefinitionError))

    def to_json(self, value: Any) -> Json:
        """Of a value that was checked."""
        try:
            dumped = self._holder.model_construct(value=value).model_dump(mode="json", by_alias=True)["value"]
        except Exception as error:
            raise DefinitionError(
                f"the value has no form in JSON: {error}", field=self.field, remedy="use a type that pydantic dumps"
            ) from None
        return plain_json(dumped, self.field, DefinitionError)

    @functools.cached_property
    def _holder(self) -> type[BaseModel]:
        """A model around the value, so that dataclasses in it refuse unknown members too."""
        from pydantic import ConfigDict, create_model
        from pydantic.errors import PydanticUserError

        try:
            return create_model("Value", __config__=ConfigDict(extra="forbid"), value=(self.annotation, ...))
        except (PydanticUserError, NameError) as error:
            raise DefinitionError(
                f"the annotation {_type_name(self.annotation)} cannot be checked: {str(error).splitlines()[0]}",
                field=self.field,
                remedy="use types that pydantic knows, such as list[str], a dataclass or a model",
            ) from None

    def _checked(self, holder: Any) -> Any:
        """A set has another order in each process, and what is built from it would have too."""
        if isinstance(holder.value, set | frozenset):
            raise DefinitionError("a set has no order", field=self.field, remedy="use a list")
        return holder.value

    def _check_members(self, value: Any) -> None:
        """Of a model that does not say what it does with unknown members: a misspelled one would be lost."""
        fields = getattr(self.annotation, "model_fields", None)
        if not isinstance(fields, dict) or not isinstance(value, dict) or "extra" in self.annotation.model_config:
            return
        known = set(fields) | {field.alias for field in fields.values() if field.alias}
        for name in value:
            if name not in known:
                raise DefinitionError(
                    "there is no such member", field=f"{self.field}.{name}", remedy=nearest(name, known)
                )

    def _refusal(self, error: ValidationError) -> DefinitionError:
        first = error.errors(include_url=False, include_context=False)[0]
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"][1:])
        shown = repr(first["input"])
        return DefinitionError(
            f"{shown if len(shown) <= 60 else shown[:59] + '…'} does not fit: {_lower(first['msg'])}",
            field=f"{self.field}{place}",
            remedy=f"the type is {_type_name(self.annotation)}",
        )


def _lower(message: str) -> str:
    """In Python's words: of JSON pydantic says array and object."""
    return (message[:1].lower() + message[1:]).replace("valid array", "valid list").replace("an object", "a dict")


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__name__
    return str(annotation)
