"""The pages of the service; they load nothing from elsewhere."""

import base64
import hashlib
import re
from typing import Any

import jinja2

from ssljax.search.serve.limits import LONGEST_QUERY

_TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("ssljax.search", "serve"), autoescape=True)
_PAGE = _TEMPLATES.get_template("page.html")
(_SCRIPT,) = re.findall(r"<script>(.*?)</script>", _PAGE.render(), re.DOTALL)
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
# The only script that runs is our own: not one that got into a title, nor a handler such as onerror="...".
POLICY = (
    "default-src 'none'; img-src 'self' blob:; connect-src 'self'; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {"content-security-policy": POLICY, "referrer-policy": "no-referrer"}


def search_page(*, words: bool) -> str:
    """The page to search on, by photo or also by `words`; the script is the same."""
    return _PAGE.render(words=words, longest=LONGEST_QUERY)


def api_page(openapi: dict[str, Any]) -> str:
    """openapi.json as a page. FastAPI's own loads its scripts from another site, which POLICY forbids."""
    return _TEMPLATES.get_template("docs.html.jinja").render(openapi)
