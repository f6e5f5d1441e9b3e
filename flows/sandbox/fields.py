"""
The fields of a request about a voice, in whatever kind of body they come, and what is wrong with them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import ormsgpack
from starlette.datastructures import UploadFile
from starlette.requests import Request

from flows.sandbox.encode import is_audio
from flows.sandbox.errors import Invalid, Unparsable
from flows.sandbox.journal import plain

Fields = Mapping[str, Sequence[Any]]
TEXTS = ("title", "description", "visibility", "type", "train_mode", "tags", "texts")
FLAGS = ("true", "false", "1", "0")
VISIBILITIES = ("public", "unlist", "private")
MOST_FILES = 20


async def read(request: Request) -> dict[str, list[Any]]:
    """
    Read a body of any kind the API takes, none included, as lists of values; files are bytes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind in ("application/json", "application/msgpack"):
        body = await request.body()
        try:
            parsed = json.loads(body) if kind.endswith("json") else ormsgpack.unpackb(body)
            json.dumps(plain(parsed), ensure_ascii=False).encode()  # halves of surrogate pairs are no text
        except ValueError as error:
            raise Unparsable(f"Failed to parse the request body as {kind}") from error
        if not isinstance(parsed, dict):
            raise Unparsable("expected a map")
        return {str(k): v if isinstance(v, list) else [v] for k, v in parsed.items() if v is not None}
    fields: dict[str, list[Any]] = {}
    async with request.form(max_files=100, max_fields=1000) as form:
        for name, value in form.multi_items():
            fields.setdefault(name, []).append(await value.read() if isinstance(value, UploadFile) else value)
    return fields


def one(fields: Fields, name: str, default: str = "") -> str:
    """
    Tell the text of the first field called *name*; files count as none.
    """
    values = fields.get(name) or [default]
    return values[0] if isinstance(values[0], str) else default


def flag(query: Mapping[str, str], name: str) -> bool:
    """
    Tell the flag called *name* of a *query*; none is false.

    :raises Invalid: 422 for anything but true, false, 1 and 0
    """
    value = query.get(name, "false").lower()
    if value not in FLAGS:
        raise Invalid([(name, "bool_parsing", "Input should be a valid boolean")])
    return value in ("true", "1")


def untold(fields: Fields) -> list[tuple[str, str, str]]:
    """
    Tell which fields that are text hold something else.
    """
    wrong = [name for name in TEXTS if not all(isinstance(value, str) for value in fields.get(name, ()))]
    return [(name, "string_type", "Input should be a valid string") for name in wrong]


def check(fields: Fields) -> None:
    """
    Check the fields of a new voice.

    :raises Invalid: 422 with every problem at once
    """
    required = ("title", "type", "train_mode", "voices")
    limited = ("voices", "texts")
    found = untold(fields) + [(name, "missing", "Field required") for name in required if not fields.get(name)]
    found += [
        (name, "literal_error", f"Input should be {' or '.join(only)}")
        for name, only in {"type": ("tts",), "train_mode": ("fast",), "visibility": VISIBILITIES}.items()
        if fields.get(name) and one(fields, name) not in only
    ]
    found += [
        (name, "too_long", f"List should have at most {MOST_FILES} items")
        for name in limited
        if len(fields.get(name, ())) > MOST_FILES
    ]
    found += [
        ("voices", "value_error", "the file is not audio that can be read")
        for sample in fields.get("voices", ())
        if not isinstance(sample, bytes) or not is_audio(sample)
    ]
    # The default is public, which needs a cover: a client must say private.
    if one(fields, "visibility", "public") == "public" and not fields.get("cover_image"):
        found.append(("cover_image", "missing", "cover_image is required if the model is public"))
    enhanced = (fields.get("enhance_audio_quality") or ["true"])[0]
    if str(enhanced).lower() not in FLAGS:
        found.append(("enhance_audio_quality", "bool_parsing", "Input should be a valid boolean"))
    if found:
        raise Invalid(found)
