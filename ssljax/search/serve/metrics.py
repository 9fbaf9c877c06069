"""What GET /metrics tells."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import Scope

from ssljax.search import Collection


class Metrics:
    """Figures for Prometheus, in a registry of their own."""

    def __init__(self, collection: Collection):
        self.registry = r = CollectorRegistry()
        labels = ("endpoint", "status")
        self._requests = Counter("ssljax_requests", "Requests answered", labels, registry=r)
        self._seconds = Histogram("ssljax_request_seconds", "Time to answer", ("endpoint",), registry=r)
        self.in_flight = Gauge("ssljax_requests_in_flight", "Requests being answered", registry=r)
        sizes = (1, 2, 4, 8, 16, 32, 64)
        self._batches = {
            kind: Histogram(f"ssljax_batch_{kind}", f"{kind.capitalize()} embedded together", buckets=sizes, registry=r)
            for kind in ("photos", "texts")
        }
        self._embedding = Histogram("ssljax_embedding_seconds", "Time to embed a batch", ("kind",), registry=r)
        self.failed_saves = Counter("ssljax_failed_saves", "Saves of the index that failed", registry=r)
        items = Gauge("ssljax_items", "Items in the index", registry=r)
        items.set_function(lambda: len(collection))
        unsaved = Gauge("ssljax_unsaved_changes", "1 if the saved index lacks changes", registry=r)
        unsaved.set_function(lambda: collection.unsaved)

    def observe(self, scope: Scope, status: int, seconds: float) -> None:
        """Counts a request; a status of 0 is a client that went away."""
        endpoint = getattr(scope.get("endpoint"), "__name__", "none")  # a path would be a label for every id
        self._requests.labels(endpoint, status).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def embedded(self, kind: str, count: int, seconds: float) -> None:
        """Counts a batch of photos or texts."""
        self._batches[kind].observe(count)
        self._embedding.labels(kind).observe(seconds)
