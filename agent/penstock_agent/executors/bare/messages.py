"""What the worker uses of `msgspec`, for a Python that has nothing but its standard library.

Stands in for that package while the worker's own modules are imported, and for them alone: a step that imports msgspec
gets that of its environment, if there is one. Structs are written as arrays and read by their annotations, as
`penstock_agent.executors.channel` declares them; nothing else is needed here.
"""

from __future__ import annotations

import json as _json
import struct as _struct
import sys
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

S = TypeVar("S", bound="Struct")
Converter = Callable[[Any], Any]


class Struct:
    """Its fields are the annotations of the class, in their order."""

    __struct_fields__: tuple[str, ...] = ()
    __struct_tag__: str | None = None
    __struct_array__ = False
    __struct_defaults__: dict[str, Any] = {}  # noqa: RUF012  # of a class, and never changed

    def __init_subclass__(cls, *, frozen: bool = False, tag: str | None = None, array_like: bool = False) -> None:
        cls.__struct_fields__ = tuple(name for name in cls.__annotations__ if not name.startswith("_"))
        cls.__struct_tag__, cls.__struct_array__ = tag, array_like
        cls.__struct_defaults__ = {name: vars(cls)[name] for name in cls.__struct_fields__ if name in vars(cls)}

    def __init__(self, *values: Any, **named: Any) -> None:
        given = dict(zip(self.__struct_fields__, values, strict=False)) | named
        for name in self.__struct_fields__:
            if name in given:
                value = given[name]
            elif name in self.__struct_defaults__:
                default = self.__struct_defaults__[name]
                value = type(default)() if isinstance(default, list | dict) else default
            else:
                raise TypeError(f"{type(self).__name__} needs {name}")
            setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in self.__struct_fields__))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__)
        return f"{type(self).__name__}({fields})"


def _replaced(value: S, **changes: Any) -> S:
    return type(value)(**{**vars(value), **changes})


# --- from annotations to what reads them


def _converter(kind: Any) -> Converter | None:
    """None: a value is read as it is."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return _reader(kind)
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is list:
        inner = _converter(parts[0])
        return None if inner is None else lambda items: [inner(item) for item in items]
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        return _of_union([part for part in parts if isinstance(part, type) and issubclass(part, Struct)])
    return None


def _of_union(structs: list[type[Struct]]) -> Converter | None:
    if not structs:
        return None
    readers = {kind.__struct_tag__: _reader(kind) for kind in structs}

    def read(value: Any) -> Any:
        if value is None:
            return None
        tag = value[0] if None not in readers else None
        if tag not in readers:
            raise ValueError(f"a word of an unknown kind: {tag!r:.100}")
        return readers[tag](value)

    return read


_readers: dict[type[Struct], Converter] = {}


def _reader(kind: type[Struct]) -> Converter:
    """Of what stands for a struct: an array with its tag, if it has one, or an object."""
    found = _readers.get(kind)
    if found is not None:
        return found
    # Those of `Struct` itself are looked at, too.
    hints = typing.get_type_hints(kind, {**globals(), **vars(sys.modules[kind.__module__])})
    converters = {name: _converter(hints[name]) for name in kind.__struct_fields__}
    first = 0 if kind.__struct_tag__ is None else 1

    def read(value: Any) -> Struct:
        fields = zip(kind.__struct_fields__, value[first:], strict=False) if kind.__struct_array__ else value.items()
        made = {}
        for name, said in fields:
            convert = converters[name]
            made[name] = said if convert is None else convert(said)
        return kind(**made)

    _readers[kind] = read
    return read


# --- MessagePack


def _pack(value: Any, out: bytearray) -> None:
    match value:
        case None | True | False:
            out.append({None: 0xC0, False: 0xC2, True: 0xC3}[value])
        case int():
            _pack_int(value, out)
        case float():
            out += b"\xcb" + _struct.pack(">d", value)
        case str():
            data = value.encode("utf-8", "replace")
            _pack_head(len(data), out, (0xA0, 32), (0xD9, 0xDA, 0xDB))
            out += data
        case bytes() | bytearray():
            _pack_head(len(value), out, (0, 0), (0xC4, 0xC5, 0xC6))
            out += value
        case list() | tuple():
            _pack_head(len(value), out, (0x90, 16), (None, 0xDC, 0xDD))
            for item in value:
                _pack(item, out)
        case dict():
            _pack_head(len(value), out, (0x80, 16), (None, 0xDE, 0xDF))
            for key, item in value.items():
                _pack(key, out)
                _pack(item, out)
        case Struct():
            tag = [] if value.__struct_tag__ is None else [value.__struct_tag__]
            _pack([*tag, *(getattr(value, name) for name in value.__struct_fields__)], out)
        case _:
            raise TypeError(f"a {type(value).__name__} cannot be sent")


def _pack_int(value: int, out: bytearray) -> None:
    if -32 <= value < 128:
        out += _struct.pack(">b", value) if value < 0 else bytes([value])
    elif value >= 0:
        out += b"\xcf" + _struct.pack(">Q", value)
    else:
        out += b"\xd3" + _struct.pack(">q", value)


def _pack_head(count: int, out: bytearray, short: tuple[int, int], marks: tuple[int | None, int, int]) -> None:
    """`short`: the mark that holds counts below a bound itself; `marks`: those of 8, 16 and 32 bits."""
    base, bound = short
    if count < bound:
        out.append(base | count)
    elif marks[0] is not None and count < 1 << 8:
        out += bytes([marks[0], count])
    elif count < 1 << 16:
        out += bytes([marks[1]]) + _struct.pack(">H", count)
    else:
        out += bytes([marks[2]]) + _struct.pack(">I", count)


_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_COUNTED = {
    0xC4: ("bin", ">B"),
    0xC5: ("bin", ">H"),
    0xC6: ("bin", ">I"),
    0xD9: ("str", ">B"),
    0xDA: ("str", ">H"),
    0xDB: ("str", ">I"),
    0xDC: ("array", ">H"),
    0xDD: ("array", ">I"),
    0xDE: ("map", ">H"),
    0xDF: ("map", ">I"),
}


class _Unpacking:
    """ValueError: it is no MessagePack, or ends too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def value(self) -> Any:
        mark = self._take(1)[0]
        if mark < 0x80:
            return mark
        if mark >= 0xE0:
            return mark - 0x100
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        if mark in _NUMBERS:
            return self._number(_NUMBERS[mark])
        if mark < 0x90:
            return self._counted("map", mark & 0x0F)
        if mark < 0xA0:
            return self._counted("array", mark & 0x0F)
        if mark < 0xC0:
            return self._counted("str", mark & 0x1F)
        if mark not in _COUNTED:
            raise ValueError(f"{mark:#x} begins no value")
        kind, form = _COUNTED[mark]
        return self._counted(kind, self._number(form))

    def _counted(self, kind: str, count: int) -> Any:
        if kind == "bin":
            return bytes(self._take(count))
        if kind == "str":
            return bytes(self._take(count)).decode("utf-8", "surrogatepass")
        if kind == "array":
            return [self.value() for _ in range(count)]
        return {self.value(): self.value() for _ in range(count)}

    def _number(self, form: str) -> Any:
        return _struct.unpack(form, self._take(_struct.calcsize(form)))[0]

    def _take(self, count: int) -> bytes:
        taken = self._data[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError("it ends too early")
        self._at += count
        return taken


class _Encoder:
    def encode(self, value: Any) -> bytes:
        out = bytearray()
        _pack(value, out)
        return bytes(out)


class _Decoder:
    def __init__(self, kind: Any = Any) -> None:
        self._kind = kind
        self._convert: Converter | None = None

    def __class_getitem__(cls, kind: Any) -> type[_Decoder]:
        return cls

    def decode(self, data: bytes) -> Any:
        value = _Unpacking(bytes(data)).value()
        # Late: what an annotation names may stand further below in its module.
        self._convert = self._convert or _converter(self._kind) or _as_it_is
        return self._convert(value)


def _as_it_is(value: Any) -> Any:
    return value


def _decode_json(data: bytes | str, type: Any = Any) -> Any:
    value = _json.loads(data)
    convert = _converter(type)
    return value if convert is None else convert(value)


def _encode_json(value: Any) -> bytes:
    return _json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _module(name: str, **members: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(members)
    return made


def stand_in() -> types.ModuleType:
    """The module `msgspec`, as far as the worker needs it."""
    return _module(
        "msgspec",
        Struct=Struct,
        MsgspecError=ValueError,
        msgpack=_module("msgspec.msgpack", Encoder=_Encoder, Decoder=_Decoder),
        json=_module("msgspec.json", decode=_decode_json, encode=_encode_json),
        structs=_module("msgspec.structs", replace=_replaced),
    )
