"""The pages of the service; they load nothing from elsewhere."""

import base64
import hashlib
import re
from typing import Any

import jinja2

_TEMPLATES = jinja2.Environment(loader=jinja2.PackageLoader("ssljax.search", "serve"), autoescape=True)
PAGE = _TEMPLATES.get_template("page.html").render()
(_SCRIPT,) = re.findall(r"<script>(.*?)</script>", PAGE, re.DOTALL)
_HASH = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
# The only script that runs is our own: not one that got into a title, nor a handler such as onerror="...".
POLICY = (
    "default-src 'none'; img-src 'self' blob:; connect-src 'self'; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEADERS = {"content-security-policy": POLICY, "referrer-policy": "no-referrer"}


def api_page(openapi: dict[str, Any]) -> str:
    """openapi.json as a page. FastAPI's own loads its scripts from another site, which POLICY forbids."""
    return _TEMPLATES.get_template("docs.html.jinja").render(openapi)
