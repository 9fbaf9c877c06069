"""The pages of the service; they load nothing from elsewhere."""

import base64
import functools
import hashlib
import html
import json
import re
import string
from importlib import resources
from typing import Any

_FILES = resources.files("ssljax.search.serve")
PAGE = (_FILES / "page.html").read_text(encoding="utf-8")
API: dict[str, Any] = json.loads((_FILES / "openapi.json").read_text(encoding="utf-8"))
_SCRIPT = re.search(r"<script>(.*?)</script>", PAGE, re.DOTALL)[1]
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
# The only script that runs is our own: not one that got into a title, nor a handler such as onerror="...".
POLICY = (
    "default-src 'none'; img-src 'self' blob:; connect-src 'self'; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {"content-security-policy": POLICY, "referrer-policy": "no-referrer"}


@functools.cache
def api_page() -> str:
    """openapi.json as a page."""
    parts = [
        _operation(method, path, operation)
        for path, methods in API["paths"].items()
        for method, operation in methods.items()
    ]
    template = string.Template((_FILES / "docs.html.template").read_text(encoding="utf-8"))
    info = API["info"]
    return template.substitute(
        title=html.escape(info["title"]), description=html.escape(info["description"]), operations="\n".join(parts)
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    asked = [(p["name"], p["in"], p["description"]) for p in operation.get("parameters", [])]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        fields = content["schema"].get("properties", {"body": content["schema"]})
        asked += [(name, kind, field.get("description", "")) for name, field in fields.items()]
    answers = [(status, "", answer["description"]) for status, answer in operation["responses"].items()]
    lock = " <em>token</em>" if operation.get("security") else ""
    return (
        f"<section><h2><b>{method.upper()}</b> <code>{html.escape(path)}</code>{lock}</h2>"
        f"<p>{html.escape(operation['summary'])}</p>{_rows(asked)}{_rows(answers)}</section>"
    )


def _rows(rows: list[tuple[str, str, str]]) -> str:
    lines = "".join(
        f"<tr><th scope=row>{html.escape(name)}<td>{html.escape(where)}<td>{html.escape(said)}"
        for name, where, said in rows
    )
    return f"<table>{lines}</table>" if rows else ""
