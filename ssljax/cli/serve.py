"""`ssljax serve`: searches an index over HTTP."""

import dataclasses
import os
import time
from pathlib import Path

import tyro

from ssljax.cli.search import Searched
from ssljax.cli.shared import Network, PathOrHub, TrustCode
from ssljax.training.logging import console
from ssljax.types import UserError

try:
    from ssljax.search.serve import Limits, Service, run
    from ssljax.search.serve.limits import is_local
except ImportError as error:
    raise UserError(f"serve needs the package {error.name}: pip install 'ssljax[serve]'") from None


@dataclasses.dataclass(frozen=True)
class ServeOptions:
    """Search an index over HTTP, by photo or by item, with a page to drop photos on. Changes need a bearer token, which
    is read from the environment variable SSLJAX_TOKEN; without one they are refused."""

    where: tyro.conf.Positional[Path]
    """An index that `ssljax index` built, or a run folder, whose own index is served."""
    run: PathOrHub | None = None
    """The run that embeds the photos; by default the one that embedded the index's items."""
    network: Network | None = None
    """Which of its networks; by default the one that embedded the index's items."""
    trust_code: TrustCode = False
    host: str = "127.0.0.1"
    """The address to listen on: this machine only, by default. 0.0.0.0 is all networks, which everyone in them can
    read; put a server with TLS before it."""
    port: int = 8000
    """The port to listen on."""
    batch: int = 16
    """The most photos that are embedded at a time."""
    save_every: float = 60.0
    """Seconds between saves of the index, if it was changed. Each change is on the disk before it is answered."""
    limits: Limits = Limits()


def main(arguments: list[str]) -> None:
    """`ssljax serve WHERE`."""
    options = tyro.cli(ServeOptions, args=arguments, prog="ssljax serve")
    for name, most in (("port", 65535), ("batch", 1024), ("save_every", float("inf"))):
        if not 0 < getattr(options, name) <= most:
            raise UserError(f"{name}={getattr(options, name)} must be above 0" + f" and at most {most}" * (most < 1e9))
    token = os.environ.get("SSLJAX_TOKEN", "").strip() or None
    how = {"to_change": token is not None, "trust_code": options.trust_code}
    searched = Searched.of(options.where, options.run, options.network, **how)
    service = Service(
        searched.collection,
        searched.encoder,
        searched.photo,
        token=token,
        limits=options.limits,
        batch=options.batch,
        save_every=options.save_every,
        local=is_local(options.host),
    )
    address = f"[{options.host}]" if ":" in options.host else options.host
    console.print(f"{len(searched.collection):,} items. Compiling ...")
    console.print("Changes need the token." if token else "Changes are refused, as SSLJAX_TOKEN is not set.")
    began = time.monotonic()

    def ready() -> None:
        console.print(f"Ready after {time.monotonic() - began:.0f} s: http://{address}:{options.port}")

    try:
        run(service, host=options.host, port=options.port, on_ready=ready)
    finally:
        searched.collection.close()
