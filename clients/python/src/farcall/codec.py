"""Encoding of headers and values: JSON, and MessagePack if it is installed.

The numbers in the comments are the sections of ``docs/PROTOCOL.md``.
"""

from __future__ import annotations

import base64
import importlib
import json
import re
from typing import Any, ClassVar, Protocol

from .errors import short
from .wire import ALL_KINDS, CODES, EXECUTIONS, Header, ProtocolError, WireError, is_known

_KIND_NAMES = {number: name for name, number in ALL_KINDS.items()}
_CODE_NAMES = {number: name for name, number in CODES.items()}
_EXECUTION_NAMES = {number: name for name, number in EXECUTIONS.items()}


class Codec(Protocol):
    """The interface of a codec."""

    #: The name in the Option (3.2).
    content_type: ClassVar[str]
    #: The largest number that a request may have (4.2).
    max_seq: ClassVar[int]

    def encode_header(self, header: Header) -> bytes:
        """Encodes a header, without fields that have their default."""

    def decode_header(self, data: bytes) -> Header:
        """Decodes a header; raises `ProtocolError` if it is invalid."""

    def encode(self, value: Any) -> bytes:
        """Encodes a value; raises TypeError, ValueError or OverflowError if that is impossible."""

    def decode(self, data: bytes) -> Any:
        """Decodes exactly one value; raises ValueError otherwise."""


def codec_named(name: str) -> Codec:
    """Returns the codec ``"json"`` or ``"msgpack"``.

    Raises ValueError for any other, and ImportError if a package is missing.
    """
    if name == "json":
        return JsonCodec()
    if name == "msgpack":
        return MsgpackCodec()
    raise ValueError(f"the codec {short(repr(name))} is neither 'json' nor 'msgpack'")


class JsonCodec:
    """Headers are objects; bytes are base64 strings."""

    content_type: ClassVar[str] = "application/json"
    max_seq: ClassVar[int] = (1 << 53) - 1

    def encode_header(self, header: Header) -> bytes:
        fields: dict[str, Any] = {"kind": header.kind, "seq": header.seq}
        if header.service_method:
            fields["service_method"] = header.service_method
        if header.timeout_ms:
            fields["timeout_ms"] = header.timeout_ms
        if header.error:
            fields["error"] = header.error._asdict()
        if header.metadata:
            fields["metadata"] = header.metadata
        if header.flags:
            fields["flags"] = header.flags
        return self.encode(fields)

    def decode_header(self, data: bytes) -> Header:
        try:
            fields = self.decode(data)
        except ValueError as fault:
            raise ProtocolError(f"header: {fault}") from None
        if not isinstance(fields, dict):
            raise ProtocolError("header: not an object")
        kind = fields.get("kind")
        if not isinstance(kind, str) or kind not in ALL_KINDS:
            raise ProtocolError("header: unknown kind")
        error: Any = fields.get("error")
        if error is not None:
            if not isinstance(error, dict):
                raise ProtocolError("header: error is not an object")
            error = WireError.of(error.get("code"), error.get("message"), error.get("execution"))
        names = ("service_method", "timeout_ms", "metadata", "flags")
        method, timeout_ms, metadata, flags = (fields.get(name) for name in names)
        header = Header.checked(kind, fields.get("seq"), method, timeout_ms, error, metadata, flags)
        if header.seq > self.max_seq:
            raise ProtocolError("header: seq is out of range")
        return header

    def encode(self, value: Any) -> bytes:
        _check_keys(value, "")
        text = json.dumps(
            value,
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
            default=_base64,
        )
        if _LONG_NUMBER.search(text):
            _check_numbers(value)
        return text.encode("utf-8")

    def decode(self, data: bytes) -> Any:
        try:
            return json.loads(data.decode("utf-8"), parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a JSON value: {error}") from None

    def to_bytes(self, value: Any) -> bytes:
        """Returns the bytes that a decoded value represents."""
        if not isinstance(value, str):
            raise ValueError("not a base64 string")
        return base64.b64decode(value, validate=True)


#: As many digits as the integers beyond 64 bits have.
_LONG_NUMBER = re.compile(r"\d{19}")
_SMALLEST, _LARGEST = -(1 << 63), (1 << 64) - 1


def _check_keys(value: Any, place: str) -> None:
    """Raises TypeError if JSON would change a key so that it is another one, or two are the same."""
    if isinstance(value, dict):
        if not all(type(key) is str for key in value):
            texts = {_key_text(key, place) for key in value}
            if len(texts) < len(value):
                raise TypeError(f"two keys have the same text in JSON{place}")
        for key, item in value.items():
            if isinstance(item, (dict, list, tuple)):
                _check_keys(item, place or f" (in {str(key)[:64]!r})")
    elif isinstance(value, (list, tuple)):
        for item in value:
            if isinstance(item, (dict, list, tuple)):
                _check_keys(item, place)


def _key_text(key: Any, place: str) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, (int, float)):  # bool as well
        return json.dumps(key, allow_nan=False)
    raise TypeError(f"a key in JSON is a str or a number, not {type(key).__name__}{place}")


def _check_numbers(value: Any) -> None:
    """Raises OverflowError for an integer beyond 64 bits, which most readers of JSON round (6.3)."""
    if isinstance(value, dict):
        for item in value.values():
            _check_numbers(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_numbers(item)
    elif isinstance(value, int) and not _SMALLEST <= value <= _LARGEST:
        raise OverflowError(_too_wide())


def _too_wide() -> str:
    return "an integer beyond 64 bits is sent as text: str(n)"


def _base64(value: Any) -> str:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number of JSON")


class MsgpackCodec:
    """Headers are arrays; bytes are bin.  Needs the package ``msgpack``."""

    content_type: ClassVar[str] = "application/msgpack"
    max_seq: ClassVar[int] = (1 << 64) - 1

    def __init__(self) -> None:
        try:
            self._msgpack: Any = importlib.import_module("msgpack")
        except ImportError:
            raise ImportError(
                'the codec "msgpack" needs the package msgpack: pip install "farcall[msgpack]"',
                name="msgpack",
            ) from None

    def encode_header(self, header: Header) -> bytes:
        error = header.error
        fields: list[Any] = [
            ALL_KINDS[header.kind],
            header.seq,
            header.service_method,
            header.timeout_ms,
            error and [CODES[error.code], error.message, EXECUTIONS[error.execution]],
            header.metadata or None,
            header.flags,
        ]
        # Kind and number are always sent; for the other fields, every false value is the default.
        while len(fields) > 2 and not fields[-1]:
            fields.pop()
        return self.encode(fields)

    def decode_header(self, data: bytes) -> Header:
        try:
            fields = self.decode(data)
        except ValueError as fault:
            raise ProtocolError(f"header: {fault}") from None
        if not isinstance(fields, list) or len(fields) < 2:
            raise ProtocolError("header: not an array of two or more")
        kind, seq, method, timeout_ms, error, metadata, flags = (fields + [None] * 5)[:7]
        if not is_known(_KIND_NAMES, kind):
            raise ProtocolError("header: unknown kind")
        if error is not None:
            if not isinstance(error, list):
                raise ProtocolError("header: error is not an array")
            code, message, execution = (error + [None] * 3)[:3]
            error = WireError.of(
                _CODE_NAMES[code] if is_known(_CODE_NAMES, code) else None,
                message,
                _EXECUTION_NAMES[execution] if is_known(_EXECUTION_NAMES, execution) else None,
            )
        name = _KIND_NAMES[kind]
        return Header.checked(name, seq, method, timeout_ms, error, metadata, flags)

    def encode(self, value: Any) -> bytes:
        data: bytes = self._msgpack.packb(value, use_bin_type=True, default=_no_form)
        return data

    def decode(self, data: bytes) -> Any:
        try:
            return self._msgpack.unpackb(
                data, raw=False, strict_map_key=False, ext_hook=_no_extension
            )
        except (self._msgpack.UnpackException, ValueError, TypeError, RecursionError) as error:
            name = type(error).__name__
            raise ValueError(f"not a MessagePack value: {name}") from None

    def to_bytes(self, value: Any) -> bytes:
        """Returns the bytes that a decoded value represents."""
        if not isinstance(value, bytes):
            raise ValueError("not bytes")
        return value


def _no_form(value: Any) -> Any:
    if isinstance(value, int):
        raise OverflowError(_too_wide())
    raise TypeError(f"{type(value).__name__} has no form in MessagePack")


def _no_extension(code: int, _: bytes) -> Any:
    raise ValueError(f"the extension type {code} of MessagePack")
