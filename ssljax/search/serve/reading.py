"""What a request holds: forms, JSON, ids and columns, within limits, or one sentence that says what is wrong.

None of it runs on the event loop: a megabyte of JSON or of a form takes long enough to be felt by others.
"""

import json
import math
from typing import Any

from python_multipart import FormParser
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException

FIELDS = 8  # of a form
LARGEST_TEXT = 2**20  # bytes of JSON, or of a field of a form
LONGEST_ID = 1000  # characters
COLUMNS, LONGEST_NAME, LARGEST_COLUMNS = 256, 200, 2**16  # how many; characters of a name; bytes of all, as JSON
SHOWN = 100  # characters of what was sent, in a sentence about it


def read_form(content_type: str, body: bytes) -> tuple[dict[str, str], bytes]:
    """The texts of a form (multipart/form-data) by their names, and its file, empty if there is none.

    Raises HTTPException: 400 for what is no form, or has too many parts; 413 for a text that is too large; 422 for one
    that is not UTF-8, which other encodings would turn into other characters.
    """
    fields, files, whole = {}, [], []

    def on_field(field: Any) -> None:
        name = _utf8(field.field_name, "the name of a field")
        if len(fields) == FIELDS or name in fields:
            raise HTTPException(400, f"the form has a field twice, or more than {FIELDS} fields")
        fields[name] = _utf8(_not_too_large(field.value or b""), repr(name[:SHOWN]))

    def on_file(file: Any) -> None:
        if files:
            raise HTTPException(400, "the form has more than one file")
        file.file_object.seek(0)
        files.append(file.file_object.read())

    try:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        settings = {"MAX_MEMORY_FILE_SIZE": math.inf}
        parser = FormParser(
            "multipart/form-data", on_field, on_file, lambda: whole.append(True), boundary, config=settings
        )
        parser.write(body)
        parser.finalize()
    except HTTPException:
        raise
    except Exception as error:  # the parser stumbles over more than it says
        raise HTTPException(400, f"the form cannot be read: {error or type(error).__name__}") from None
    if not whole:
        raise HTTPException(400, "the form cannot be read: it does not end")
    return fields, files[0] if files else b""


def read_json(data: bytes | str, what: str) -> Any:
    """What JSON says. Raises HTTPException: 400 if it is none, 413 if it is too large."""
    _not_too_large(data)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, f"{what} is not JSON: {error}") from None


def check_id(value: Any) -> str:
    """An id as it may be given to an item. Raises HTTPException, 422."""
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_ID or not _is_whole(value):
        raise HTTPException(422, f"id must be valid text, not blank and of at most {LONGEST_ID} characters")
    return value


def check_columns(value: Any) -> dict[str, str]:
    """Columns as texts. Raises HTTPException, 422, if they are no object of texts and numbers, or too many or long."""
    if not isinstance(value, dict) or not all(isinstance(v, str | int | float) for v in value.values()):
        raise HTTPException(422, 'columns must be an object of texts, such as {"title": "Red mug"}')
    if len(value) > COLUMNS or any(len(name) > LONGEST_NAME for name in value):
        raise HTTPException(
            422, f"columns must be at most {COLUMNS}, with names of at most {LONGEST_NAME} characters: {len(value)}"
        )
    columns = {name: v if isinstance(v, str) else json.dumps(v) for name, v in value.items()}
    together = json.dumps(columns, ensure_ascii=False)
    if not _is_whole(together):
        raise HTTPException(422, "columns must be valid text: half of a character is none")
    if len(together.encode()) > LARGEST_COLUMNS:
        raise HTTPException(422, f"columns must have at most {LARGEST_COLUMNS // 1024} KiB together")
    return columns


def _utf8(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise HTTPException(422, f"{what} is not UTF-8: send it in that encoding") from None


def _not_too_large(value: Any) -> Any:
    if len(value) > LARGEST_TEXT:
        raise HTTPException(413, f"JSON and the fields of a form may have {LARGEST_TEXT // 2**20} MiB")
    return value


def _is_whole(value: str) -> bool:
    """Without half of a surrogate pair, which no answer could hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
