"""The server's interface: POST /score, GET /healthz, /metrics, /openapi.json and the page at /."""

import asyncio
import dataclasses
import hmac
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from jaxiqa.files import json_text
from jaxiqa.scoring import web_page
from jaxiqa.scoring.batch_scorer import BatchScorer
from jaxiqa.scoring.explain import describe_probe
from jaxiqa.serving.body import Sent, read_images
from jaxiqa.serving.meters import Meters
from jaxiqa.serving.openapi import schema
from jaxiqa.serving.scoring_thread import ScoringThread

GONE = 499  # the client is gone; nobody receives this answer, but it is counted
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
_PAGE_HEADERS = {**_HEADERS, "Content-Security-Policy": f"{_POLICY}; frame-ancestors 'none'"}
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server accepts.

    Attributes:
      max_bytes: bytes in the body of a request.
      max_pixels: height * width of an image.
      max_images: images in a request.
      max_requests: requests that are read or scored at a time.
      timeout: seconds from the head of a request to its answer.
      max_wait: seconds that an image waits at most for others to share its batch.
    """

    max_bytes: int = 32 << 20
    max_pixels: int = 50_000_000
    max_images: int = 64
    max_requests: int = 64
    timeout: float = 60.0
    max_wait: float = 0.005


class Service:
    """The application of one server.

    Args:
      scorer: scores the images.
      limits: what is accepted.
      token: what requests must have in "Authorization: Bearer TOKEN"; "" for none.

    Attributes:
      app: the ASGI application.
      needs_token: whether requests need a token.
      state: "starting", "ready" or "draining". Images are accepted only if it is "ready".
      scoring: the threads; `scoring.ready` is done when all shapes are compiled.
    """

    def __init__(self, scorer: BatchScorer, limits: Limits | None = None, token: str = ""):
        self.state, self.limits = "starting", limits or Limits()
        self._token, self.needs_token = token.encode(), bool(token)
        self._meters = Meters(scorer.model, lambda: scorer.scorer.predictor.compiled_shapes)
        self.scoring = ScoringThread(scorer, self.limits.max_pixels, self.limits.max_wait, self._meters.batch)
        self._places: set[asyncio.Timeout] = set()  # of the requests that are read or scored
        self._schema = schema(scorer.columns, self.limits, self.needs_token)
        routes = [
            Route("/score", self._answer_score, methods=["POST"]),
            Route("/healthz", self._healthz),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            *self._page(),
        ]
        self.app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})

    def set_state(self, state: str) -> None:
        """Sets the state."""
        self.state = state
        self._meters.ready.set(state == "ready")

    async def idle(self) -> None:
        """Waits until no request has a place."""
        while self._places:
            await asyncio.sleep(0.02)

    def abort(self) -> int:
        """Answers all requests that have a place with 503 now. Returns their number."""
        for timeout in self._places:
            if not timeout.expired():  # else it is about to be answered so, and cannot be changed
                timeout.reschedule(asyncio.get_running_loop().time())
        return len(self._places)

    async def _answer_score(self, request: Request) -> Response:
        began = time.monotonic()
        try:
            response = await self._score(request)
        except HTTPException as error:
            response = _refuse(request, error)
        except ClientDisconnect:
            response = Response(status_code=GONE)
        except Exception:  # a bug, or a device that fails
            print(traceback.format_exc(), file=sys.stderr, flush=True)
            response = _answer({"error": "internal error; the log of the server has the details"}, 500)
        self._meters.answered(response.status_code, time.monotonic() - began)
        return response

    async def _score(self, request: Request) -> Response:
        self._check_token(request)
        if self.state != "ready":
            raise HTTPException(503, f"the server is {self.state}", {"Retry-After": "5"})
        if len(self._places) >= self.limits.max_requests:
            raise HTTPException(
                429, f"{len(self._places)} requests are in progress, the limit of this server", {"Retry-After": "1"}
            )
        timeout = asyncio.timeout(self.limits.timeout)
        self._places.add(timeout)
        self._meters.places.set(len(self._places))
        try:
            async with timeout:
                sent = await read_images(request, self.limits.max_bytes, self.limits.max_images)
                found = await _unless_gone(request, [self.scoring.submit(image.data) for image in sent])
        except TimeoutError:
            what = "ends" if self.state == "draining" else f"gave this request {self.limits.timeout:g} s"
            raise HTTPException(503, f"the server {what}; try again", {"Retry-After": "5"}) from None
        finally:
            self._places.discard(timeout)
            self._meters.places.set(len(self._places))
        return self._scored(sent, found)

    def _scored(self, sent: list[Sent], found: list[tuple[int, dict]]) -> Response:
        """The scores; an answer without any has the status and the reason of its first image."""
        rows = [{"name": image.name, **row} for image, (_, row) in zip(sent, found, strict=True)]
        for row in rows:
            self._meters.images(row["status"])
        if any(row["status"] == "ok" for row in rows):
            return _answer({"images": rows})
        return _answer({"error": rows[0]["reason"], "images": rows}, found[0][0])

    def _check_token(self, request: Request) -> None:
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        if self._token and not (kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)):
            raise HTTPException(
                401, 'the header "Authorization: Bearer TOKEN" is missing or wrong', {"WWW-Authenticate": "Bearer"}
            )

    async def _healthz(self, request: Request) -> Response:
        ready = self.state == "ready"
        return _answer({"status": self.state, "model": self.scoring.scorer.model}, 200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:
        self._check_token(request)
        return Response(self._meters.text(), headers=_HEADERS, media_type="text/plain; version=0.0.4")

    async def _openapi(self, request: Request) -> Response:
        return _answer(self._schema)

    def _page(self) -> list[Route]:
        """A route for each file of the page. The files are read once: no path of a request reaches the disk."""
        scorer = self.scoring.scorer.scorer
        config = {
            **scorer.about(),
            "token": self.needs_token,
            "max_bytes": self.limits.max_bytes,
            "families": scorer.families,
            "reasons": describe_probe(scorer.reasons).removeprefix("reasons: "),
        }
        files = web_page.files(["server_engine.js"], config, _POLICY)
        return [Route("/" if name == "index.html" else f"/{name}", _file(name, text)) for name, text in files.items()]


async def _unless_gone(request: Request, futures: list[Future]) -> list[tuple[int, dict]]:
    """The results of futures, which are cancelled if the client goes away.

    Raises:
      ClientDisconnect: the client is gone.
    """

    async def until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    results = asyncio.gather(*map(asyncio.wrap_future, futures))
    gone = asyncio.ensure_future(until_gone())
    try:
        await asyncio.wait((results, gone), return_when=asyncio.FIRST_COMPLETED)
        if not results.done():
            raise ClientDisconnect
        return results.result()
    finally:
        gone.cancel()
        results.cancel()


def _file(name: str, text: str) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a file of the page."""

    async def answer(request: Request) -> Response:
        return Response(text, headers=_PAGE_HEADERS, media_type=_TYPES[name.rpartition(".")[2]])

    return answer


def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer({"error": error.detail}, error.status_code, dict(error.headers or {}))


def _answer(values: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json_text(values), status, {**_HEADERS, **(headers or {})}, "application/json")
