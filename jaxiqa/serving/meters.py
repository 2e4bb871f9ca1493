"""What a server counts, in the text format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Meters:
    """The metrics of one server; they may be changed from any thread.

    Args:
      model: text that names the weights.
      compiled_shapes: returns the number of shapes that have been compiled so far.
    """

    def __init__(self, model: str, compiled_shapes: Callable[[], int]):
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)  # memory, processor time and open files
        self._answers = Counter("jaxiqa_requests", "Answers to POST /score.", ["status"], registry=own)
        self._seconds = Histogram(
            "jaxiqa_request_seconds", "Time from the head of a request to its answer.", buckets=_SECONDS, registry=own
        )
        self._images = Counter("jaxiqa_images", "Images in answers, scored or refused.", ["status"], registry=own)
        self._batch = Histogram(
            "jaxiqa_batch_images", "Images that were scored together.", buckets=_IMAGES, registry=own
        )
        self.places = Gauge("jaxiqa_requests_in_flight", "Requests that have a place.", registry=own)
        self.ready = Gauge("jaxiqa_ready", "1 if images are scored, else 0.", registry=own)
        shapes = Gauge("jaxiqa_compiled_shapes", "Compiled shapes of batches; constant when ready.", registry=own)
        shapes.set_function(compiled_shapes)
        Gauge("jaxiqa_model", "1, with the weights as a label.", ["model"], registry=own).labels(model).set(1)

    def answered(self, status: int, seconds: float) -> None:
        """Counts an answer to POST /score."""
        self._answers.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def images(self, status: str) -> None:
        """Counts an image by its column `status`."""
        self._images.labels(status).inc()

    def batch(self, images: int) -> None:
        """Counts a batch."""
        self._batch.observe(images)

    def text(self) -> bytes:
        """All metrics."""
        return generate_latest(self._registry)
