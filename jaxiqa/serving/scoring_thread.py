"""Scores the images of many requests together: threads decode them, one thread scores them in batches."""

import collections
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from typing import Any

from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import image_size
from jaxiqa.scoring.batch_scorer import BatchScorer
from jaxiqa.scoring.columns import REASON, TILES

TOO_LARGE = 413  # HTTP status of an image with too many pixels
NO_IMAGE = 415  # HTTP status of any other image that cannot be scored
_WAITING_BYTES = 256 << 20  # crops that wait for the scoring thread; the decoding threads then wait too


class _Item:
    """An image on its way: first the bytes of its file, then its crops."""

    def __init__(self, data: bytes):
        self.data = data
        self.future: Future[tuple[int, dict]] = Future()
        self.reason, self.tiles, self.status = "", b"", 200


class ScoringThread:
    """The scoring of a server.

    Beside the submitted files, two limits bound its memory. At most `readers` images of at most `max_pixels` are
    decoded at a time. The crops that wait take at most 256 MiB, and those of one more image for each reader.

    Args:
      scorer: its `readers` is the number of decoding threads.
      max_pixels: height * width of the largest image that is decoded, as it is and as it is enlarged for the model.
      max_wait: seconds that an image waits at most for others to share its batch. It does not wait if no other image
        is on its way.
      observe: called with the number of images of each batch.

    Attributes:
      scorer: the scorer.
      ready: future that is done when every shape of batch is compiled, or that has the error of the compilation. If
        the threads are ended before, it is never done.
    """

    def __init__(
        self,
        scorer: BatchScorer,
        max_pixels: int,
        max_wait: float,
        observe: Callable[[int], None] = lambda images: None,
    ):
        self.scorer, self.ready = scorer, Future()  # type: ignore[var-annotated]
        self._max_pixels, self._max_wait, self._observe = max_pixels, max_wait, observe
        # The shorter side that smaller images are enlarged to, which makes a narrow one large.
        resize = scorer.card.resize
        self._least = max(scorer.scorer.predictor.min_side, resize if isinstance(resize, int) else 0)
        self._full = scorer.batch_bytes  # bytes of crops in a full batch
        self._changed = threading.Condition()
        self._waiting: collections.deque[_Item] = collections.deque()
        self._bytes = self._coming = 0  # bytes of the crops that wait, and images that are not yet decoded
        self._closed = False
        self._readers = ThreadPoolExecutor(scorer.readers, "jaxiqa-decode")
        self.ready.set_running_or_notify_cancel()  # from now on nobody can cancel it
        self._thread = threading.Thread(target=self._run, name="jaxiqa-score", daemon=True)
        self._thread.start()

    def submit(self, data: bytes) -> "Future[tuple[int, dict]]":
        """Scores the bytes of a file: the future of (HTTP status of this image alone, its columns of BatchScorer).

        A cancelled future frees the image before its next stage.
        """
        item = _Item(data)
        item.future.add_done_callback(lambda _: setattr(item, "data", b""))  # the queue of the pool still holds it
        with self._changed:
            self._coming += 1
        self._readers.submit(self._decode, item)
        return item.future

    def close(self) -> None:
        """Ends the threads. Images that are not yet scored are dropped, and of a warm-up only the compilation under way
        is awaited."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._readers.shutdown(cancel_futures=True)
        self._thread.join()
        for item in self._waiting:
            item.future.cancel()

    def _decode(self, item: _Item) -> None:
        try:
            data = item.data  # before the question, because a cancelled future empties it
            if not item.future.done():
                self._cut(item, data)
        except BaseException as error:  # a bug; the next images may be decoded
            with contextlib.suppress(InvalidStateError):
                item.future.set_exception(error)
        with self._changed:
            while self._waiting and self._bytes + len(item.tiles) > _WAITING_BYTES and not self._closed:
                self._changed.wait()
            self._coming -= 1
            if not item.future.done():
                self._waiting.append(item)
                self._bytes += len(item.tiles)
            self._changed.notify_all()

    def _cut(self, item: _Item, data: bytes) -> None:
        """Decodes an image and cuts its crops."""
        image: Any = memoryview(data)  # of bytes, those that name a file of this machine would be that file
        try:
            height, width = image_size(data)
            enlarged = max(1.0, self._least / max(1, min(height, width)))
            if height * width * enlarged**2 > self._max_pixels:
                raise DataError(
                    f"the image has {width} x {height} pixels; as it is, or enlarged to a shorter side of "
                    f"{self._least}, it has more than {self._max_pixels:,} pixels, the limit of this server: send a "
                    "smaller or less elongated one",
                    code="value",
                )
        except DataError as error:
            image, item.status = error, TOO_LARGE if error.code == "value" else NO_IMAGE
        stage = self.scorer.decode({"image": [image]})
        item.tiles, item.reason = stage[TILES][0], stage[REASON][0]
        if item.reason and item.status == 200:
            item.status = NO_IMAGE

    def _run(self) -> None:
        try:
            self.scorer.warm_up(lambda: not self._closed)
        except BaseException as error:
            self.ready.set_exception(error)
            return
        if not self._closed:
            self.ready.set_result(None)
        while batch := self._take():
            self._score([item for item in batch if item.future.set_running_or_notify_cancel()])

    def _take(self) -> list[_Item]:
        """Waits for images. Returns at most a full batch of them, or a larger image alone; [] at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            until = time.monotonic() + self._max_wait
            while self._coming and self._bytes < self._full and not self._closed:
                if (left := until - time.monotonic()) <= 0:
                    break
                self._changed.wait(left)
            batch: list[_Item] = []
            size = 0
            while self._waiting and not self._closed and (not batch or size < self._full):
                batch.append(self._waiting.popleft())
                size += len(batch[-1].tiles)
            self._bytes -= size
            self._changed.notify_all()
        return batch

    def _score(self, items: list[_Item]) -> None:
        if not items:
            return
        stage = {TILES: [item.tiles for item in items], REASON: [item.reason for item in items]}
        try:
            columns = self.scorer.score(stage)
        except BaseException as error:  # the requests of this batch fail; the next batch may be scored
            for item in items:
                item.future.set_exception(error)
            return
        self._observe(len(items))
        for i, item in enumerate(items):
            row = {name: columns[name][i] for name in self.scorer.columns}
            broken = row["reason"] and item.status == 200  # the image was decoded, and its score is NaN or infinite
            item.future.set_result((500 if broken else item.status, row))
