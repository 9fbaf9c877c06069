"""What requests and answers hold, checked by pydantic; `app` makes openapi.json of it.

What takes long (JSON, a form) is read in threads, where it does not keep others waiting.
"""

import json
import re
import reprlib
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import HTTPException, Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, FailFast, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from ssljax.search.serve.limits import (
    COLUMNS,
    FIELDS,
    LARGEST_COLUMNS,
    LARGEST_TEXT,
    LONGEST_ID,
    LONGEST_NAME,
    LONGEST_QUERY,
)


def _valid_text(value: str) -> str:
    """Text without half of a surrogate pair, which no answer could hold, and not blank."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("text", "must be valid text: half of a character is none") from None
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return value


def _number_as_text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, int | float) else value


def _few(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > COLUMNS:  # before each of them is looked at
        raise PydanticCustomError("many", "must be at most {most}, not {count}", {"most": COLUMNS, "count": len(value)})
    return value


def _small(value: dict[str, str]) -> dict[str, str]:
    if len(json.dumps(value, ensure_ascii=False).encode()) > LARGEST_COLUMNS:
        raise PydanticCustomError("large", "must have at most {kib} KiB together", {"kib": LARGEST_COLUMNS // 1024})
    return value


Text = Annotated[str, BeforeValidator(_number_as_text), AfterValidator(_valid_text)]
Name = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(_valid_text)]
HOW_MANY = "How many items: 10 by default, and at most what the service allows."
Count = Annotated[int, Field(ge=1)]
Photo = Annotated[bytes, Field(description="An image file: JPEG, PNG or WebP.")]
Words = Annotated[
    str,
    Field(max_length=LONGEST_QUERY, description='Words that describe the items, such as "red floral dress".'),
    AfterValidator(_valid_text),
    AfterValidator(_not_blank),
]
ERRORS = {
    400: "There is nothing to search by or to add, or a form or JSON cannot be read.",
    401: "There is no token, or it is wrong.",
    403: "The service has no token and takes no changes.",
    404: "There is no such item, or it has no photo that can be read.",
    408: "The body did not arrive in time.",
    409: "There is an item with this id already.",
    413: "The body, or its JSON, is too large.",
    415: "The service does not take this content type.",
    422: "A value is invalid.",
    503: "There are too many requests: try again in a moment.",
    504: "There was no answer in time.",
    507: "The disk is full: nothing was changed.",
}


class NewItem(BaseModel, extra="forbid"):
    """An item to be added."""

    id: Annotated[str, Field(max_length=LONGEST_ID), AfterValidator(_valid_text), AfterValidator(_not_blank)]
    columns: Annotated[dict[Name, Text], BeforeValidator(_few), AfterValidator(_small)] = Field(
        {}, description='What is known of the item, such as {"title": "Red mug"}; `title` is its caption.'
    )
    replace: bool = Field(False, description="Whether to replace an item that has this id.")


class NewPhoto(NewItem):
    """An item to be added by its photo."""

    photo: Photo


class NewVector(NewItem):
    """An item to be added by its vector."""

    vector: Annotated[list[float], FailFast()] = Field(description="As the run's network would embed the item.")


class PhotoQuery(BaseModel):
    """A search by photo."""

    photo: Photo
    k: Count | None = Field(None, description=HOW_MANY)


class TextQuery(BaseModel):
    """A search by words."""

    text: Words
    k: Count | None = Field(None, description=HOW_MANY)


class AnyQuery(BaseModel):
    """A search by photo, by words, or by both ("like this, but blue")."""

    photo: Photo = b""
    text: Words | None = Field(None, description="Words that describe the items, alone or beside a photo.")
    text_weight: Annotated[float, Field(ge=0, le=1)] = Field(
        0.5, description="With both, how much the text counts, from 0 (the photo alone) to 1 (the text alone)."
    )
    k: Count | None = Field(None, description=HOW_MANY)


class Item(BaseModel):
    """What is known of an item."""

    id: str
    caption: str
    columns: dict[str, str] = Field(description="Paths of files on the server are cut to the names of the files.")
    address: str = Field(description="The path of the item.")
    photo: str = Field(description="The path of its thumbnail.")
    similar: str = Field(description="The path of the search by this item.")


class FoundItem(Item):
    """An item that a search found."""

    score: float = Field(description="Cosine or dot product, more is better; for l2 the squared distance.")


class Found(BaseModel):
    """What a search found, best first."""

    items: list[FoundItem]


class Changed(BaseModel):
    """An item that was added or removed."""

    id: str
    items: int = Field(description="How many there are now.")


class Health(BaseModel):
    """The state of the service."""

    status: str = Field(description="`ok` or `starting`.")
    items: int
    dimensions: int
    unsaved_changes: bool = Field(description="Whether the saved index lacks changes, which the database has.")


class Error(BaseModel):
    """What went wrong."""

    error: str = Field(description="One sentence.")


def sentence(errors: Sequence[Any], beside: int = 0) -> str:
    """What pydantic found wrong: fields (without the first parts of their places), values, and what they must be."""
    said = []
    for error in errors[:3]:
        name = ".".join(reprlib.repr(part).strip("'") for part in error["loc"][beside:])
        if error["type"] == "missing":
            said.append(f"{name} is missing")
        elif error["type"] == "extra_forbidden":
            said.append(f"{name} is not a field of an item")
        else:
            must = re.sub("^.* should ", "must ", error["msg"])  # of "Input should be a valid number", say
            said.append(f"{name}={reprlib.repr(error['input'])} {must}")
    return "; ".join(said)


def errors_of(*codes: int) -> dict[int, dict[str, Any]]:
    """The answers of an endpoint that are errors, for openapi.json."""
    return {code: {"model": Error, "description": ERRORS[code]} for code in codes}


def content_of(kinds: dict[str, Any]) -> dict[str, Any]:
    """Content types and what pydantic makes of each, for openapi.json."""
    return {kind: {"schema": TypeAdapter(content).json_schema()} for kind, content in kinds.items()}


def body_of(kinds: dict[str, Any]) -> dict[str, Any]:
    """The body of a request, for openapi.json: FastAPI itself has one content type for an endpoint."""
    return {"requestBody": {"required": True, "content": content_of(kinds)}}


def read_query(fields: dict[str, str], photo: bytes) -> AnyQuery:
    """A search by the form of `read_form`. Raises HTTPException, 422, for what is invalid."""
    return _read(AnyQuery, fields | {"photo": photo}, strict=False)


def read_text_query(body: bytes) -> AnyQuery:
    """A search by JSON. Raises HTTPException as `read_json`, and 422 for what is invalid."""
    query = _read(TextQuery, _read_object(body, {"text": "red dress"}), strict=True)
    return AnyQuery.model_validate(query.model_dump())


def read_photo_item(fields: dict[str, str], photo: bytes) -> NewPhoto:
    """An item of the form of `read_form`. Raises HTTPException as `read_json`, and 422 for what is invalid."""
    columns = read_json(fields.get("columns", "{}"), "columns")
    return _read(NewPhoto, fields | {"columns": columns, "photo": photo}, strict=False)  # "true" is a text there


def read_vector_item(body: bytes) -> NewVector:
    """An item of JSON. Raises HTTPException as `read_json`, and 422 for what is invalid."""
    return _read(NewVector, _read_object(body, {"id": "1", "vector": [0.1, 0.2]}), strict=True)


def _read_object(body: bytes, example: dict[str, Any]) -> dict[str, Any]:
    fields = read_json(body, "the body")
    if not isinstance(fields, dict):
        raise HTTPException(422, f"the body must be an object such as {json.dumps(example)}")
    if len(fields) > FIELDS:
        raise HTTPException(422, f"the body has {len(fields)} fields: it may have {FIELDS}")
    return fields


def _read(kind: type[BaseModel], fields: Any, *, strict: bool) -> Any:
    try:
        return kind.model_validate(fields, strict=strict)
    except ValidationError as error:
        raise HTTPException(422, sentence(error.errors())) from None


def read_json(data: bytes | str, what: str) -> Any:
    """What JSON says. Raises HTTPException: 400 if it is none, 413 if it is too large."""
    try:
        return json.loads(_not_too_large(data))
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"{what} is not JSON: {error}") from None


async def read_form(request: Request) -> tuple[dict[str, str], bytes]:
    """The texts of a form by their names, and its file, empty if there is none.

    Raises HTTPException: 400 for what is no form or has too many parts; 413 for a text that is too large; 422 for one
    that is not UTF-8.
    """
    # Starlette reads text that is not UTF-8 as Latin-1, and would store another id than was sent. So all is read as
    # Latin-1, which keeps every byte, and then as UTF-8. The size of parts is that of the body, which is limited.
    headers = Headers({"content-type": f"{request.headers['content-type']}; charset=latin-1"})
    parser = MultiPartParser(headers, request.stream(), max_files=1, max_fields=FIELDS, max_part_size=2**62)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read: {error.message}") from None
    fields, photo = {}, b""
    for sent, value in form.multi_items():
        name = _utf8(sent, "the name of a field")
        if isinstance(value, UploadFile):
            photo = await value.read()
            await value.close()
        elif name in fields:
            raise HTTPException(400, f"the form has the field {name[:100]!r} twice")
        else:
            fields[name] = _utf8(_not_too_large(value), repr(name[:100]))
    return fields, photo


def _utf8(value: str, what: str) -> str:
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        raise HTTPException(422, f"{what} is not UTF-8: send it in that encoding") from None


def _not_too_large(value: Any) -> Any:
    if len(value) > LARGEST_TEXT:
        raise HTTPException(413, f"JSON and the fields of a form may have {LARGEST_TEXT // 2**20} MiB")
    return value
