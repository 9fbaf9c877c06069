"""`ssljax serve`: a small HTTP service that searches a collection by photo or by item, and takes changes.

    service = Service(collection, encoder, photo, token=token)
    run(service, host="127.0.0.1", port=8000)

`app` has the endpoints, `limits` what keeps a client from hurting others, `batching` the encoder, `pages` what people
see. It needs the packages of the extra `serve`: pip install "ssljax[serve]".
"""

from ssljax.search.serve.app import Service
from ssljax.search.serve.limits import Limits
from ssljax.search.serve.server import run

__all__ = ["Limits", "Service", "run"]
