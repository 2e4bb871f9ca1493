"""Score images over HTTP, as a server.

  jaxiqa serve
  jaxiqa serve --checkpoint workdir/mine --port 8080
  JAXIQA_SERVE_TOKEN=... jaxiqa serve --host 0.0.0.0

POST /score takes the files of a form, or one image as the body. It returns JSON with the columns of `jaxiqa score`, and
the reasons of --explain if the checkpoint has a probe. GET / is a page for a browser, GET /openapi.json describes the
interface, GET /healthz says whether the server is ready, and GET /metrics has counts for Prometheus.
The images of all requests are scored in common batches. No image is kept, and no address is fetched.

The server listens at 127.0.0.1, which only this machine reaches. For any other address it needs a token of at least 16
characters, in the variable JAXIQA_SERVE_TOKEN or in a file (--token_file). Requests must then have the header
"Authorization: Bearer TOKEN". The server has no TLS: put it behind a proxy with TLS.

SIGTERM and Ctrl-C end the server: it finishes its requests, for at most --drain seconds, and refuses new ones.

The program needs the extra [serve].

Exit codes: 0 ended by a signal, with all requests answered; 2 usage, 4 unusable checkpoint; 130 / 143 ended by a
signal, with requests that were not finished in time, or before the line with the address.
"""

import asyncio
import contextlib
import os
import pathlib
import sys

from absl import flags

from jaxiqa import program, shared_flags
from jaxiqa.errors import ConfigError, read_code

_VARIABLE = "JAXIQA_SERVE_TOKEN"
_TOKEN_LENGTH = 16

_FLAGS = flags.FlagValues()
_CHECKPOINT = shared_flags.checkpoint(_FLAGS)
_STEP = shared_flags.step(_FLAGS)
_CROPS = shared_flags.crops(_FLAGS)
_BATCH_SIZE = shared_flags.batch_size(_FLAGS)
_READERS = shared_flags.readers(_FLAGS)
_ALLOW = shared_flags.allow(_FLAGS)
_HOST = flags.DEFINE_string(
    "host", "127.0.0.1", "Address to listen at. One that other machines reach needs a token.", flag_values=_FLAGS
)
_PORT = flags.DEFINE_integer(
    "port", 8000, "Port to listen at; 0 for any free one.", lower_bound=0, upper_bound=65535, flag_values=_FLAGS
)
_TOKEN_FILE = flags.DEFINE_string(
    "token_file", None, f"File with the token of requests; default: the variable {_VARIABLE}.", flag_values=_FLAGS
)
_MAX_BYTES = flags.DEFINE_integer(
    "max_bytes",
    32 << 20,
    "Limit on the bytes of a request; a larger one gets status 413.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_MAX_PIXELS = flags.DEFINE_integer(
    "max_pixels",
    50_000_000,
    "Limit on the pixels of an image; a larger one gets status 413.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_MAX_IMAGES = flags.DEFINE_integer(
    "max_images",
    64,
    "Limit on the images of a request; a request with more gets 413.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_MAX_REQUESTS = flags.DEFINE_integer(
    "max_requests",
    64,
    "Limit on the requests in progress at a time; others get 429.",
    lower_bound=1,
    flag_values=_FLAGS,
)
_TIMEOUT = flags.DEFINE_float(
    "timeout", 60.0, "Seconds for a request, from its head to its answer; then 503.", 0.001, flag_values=_FLAGS
)
_MAX_WAIT_MS = flags.DEFINE_float(
    "max_wait_ms",
    5.0,
    "Milliseconds that an image waits at most for others to share its batch.",
    lower_bound=0.0,
    flag_values=_FLAGS,
)
_DRAIN = flags.DEFINE_float(
    "drain",
    20.0,
    "Seconds after SIGTERM or Ctrl-C for the requests in progress; after that, they get status 503.",
    lower_bound=0.0,
    flag_values=_FLAGS,
)


def main() -> None:
    """The program."""
    from jaxiqa.serving import listening

    token = _read_token()
    found = listening.addresses(_HOST.value, _PORT.value)
    if not token and not listening.is_loopback(found):
        raise ConfigError(
            f"--host {_HOST.value} can be reached from other machines, which needs a token; set {_VARIABLE} or "
            "--token_file, or listen at 127.0.0.1",
            code="missing",
            key="--token_file",
        )

    try:
        from jaxiqa.serving import server
        from jaxiqa.serving.app import Limits, Service
    except ImportError as error:
        raise ConfigError(
            f'serve needs the package {error.name}; run python -m pip install "jaxiqa[serve]"',
            code="package",
            key=error.name or "",
        ) from error

    from jaxiqa.models import ready
    from jaxiqa.runs import compile_cache
    from jaxiqa.scoring.batch_scorer import BatchScorer

    with contextlib.redirect_stdout(sys.stderr), listening.listen(found, _HOST.value, _PORT.value) as sock:
        compile_cache.enable()
        scorer = BatchScorer(
            ready.by_default(_CHECKPOINT.value, "--checkpoint"),
            _CROPS.value,
            step=_STEP.value,
            batch_size=_BATCH_SIZE.value,
            readers=_READERS.value,
            explain=None,
            allow=_ALLOW.value,
        )
        limits = Limits(
            max_bytes=_MAX_BYTES.value,
            max_pixels=_MAX_PIXELS.value,
            max_images=_MAX_IMAGES.value,
            max_requests=_MAX_REQUESTS.value,
            timeout=_TIMEOUT.value,
            max_wait=_MAX_WAIT_MS.value / 1000,
        )
        asyncio.run(server.run(Service(scorer, limits, token), sock, _DRAIN.value))


def _read_token() -> str:
    """The token; "" if there is none. It is never in a message."""
    token, where = os.environ.get(_VARIABLE, ""), _VARIABLE
    if _TOKEN_FILE.value:
        where = f"--token_file {_TOKEN_FILE.value}"
        try:
            token = pathlib.Path(_TOKEN_FILE.value).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(
                f"{where} cannot be read ({why}); name a file that holds the token",
                code=read_code(error),
                key="--token_file",
            ) from None
    elif not token:
        return ""
    if len(token) < _TOKEN_LENGTH or not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(
            f"{where}: a token has at least {_TOKEN_LENGTH} letters, digits or signs of ASCII, and no space; make one "
            'by python -c "import secrets; print(secrets.token_urlsafe())"',
            code="value",
            key="--token_file",
        )
    return token


if __name__ == "__main__":
    program.run(main, _FLAGS)
