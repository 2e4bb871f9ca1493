"""The description of the interface in OpenAPI 3.1."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jaxiqa.scoring.columns import TEXTS
from jaxiqa.version import __version__

if TYPE_CHECKING:
    from jaxiqa.serving.app import Limits

_TEXT, _NUMBER = {"type": "string"}, {"type": ["number", "null"]}


def schema(columns: Sequence[str], limits: "Limits", needs_token: bool) -> dict[str, Any]:
    """The description of a server.

    Args:
      columns: of an image in an answer (BatchScorer.columns).
      limits: what the server accepts.
      needs_token: whether requests need a token.
    """
    row: dict[str, Any] = {"name": _TEXT, **{name: _TEXT if name in TEXTS else _NUMBER for name in columns}}
    row["status"] = {"enum": ["ok", "refused"]}
    error = _object({"error": _TEXT})
    refused = _object({"error": _TEXT, "images": _list("Image")}, ["error"])
    answers = {
        "200": _answer("The scores, in the order of the images; at least one image has one.", _ref("Scores")),
        "400": _answer("The form is malformed, or has no file.", _ref("Error")),
        "401": _answer("The token is missing or wrong.", _ref("Error")),
        "413": _answer(
            f"More than {limits.max_bytes} bytes, {limits.max_images} images, or {limits.max_pixels} pixels in the "
            "first image as it is or as it is enlarged for the model, if no image has a score.",
            _ref("Refused"),
        ),
        "415": _answer("No image has a score, and the first one is not an image that can be read.", _ref("Refused")),
        "429": _answer(f"{limits.max_requests} requests are in progress; see Retry-After.", _ref("Error")),
        "500": _answer("A bug, a failing device, or a NaN or infinite score.", _ref("Refused")),
        "503": _answer(
            f"The server starts, ends, or has no answer after {limits.timeout:g} s; see Retry-After.", _ref("Error")
        ),
    }
    image = {"schema": {"type": "string", "format": "binary"}}
    files = {"type": "array", "items": image["schema"], "maxItems": limits.max_images}
    form = {"schema": {"type": "object", "properties": {"file": files}}}
    secured: dict[str, Any] = {"security": [{"token": []}]} if needs_token else {}
    health = _object({"status": {"enum": ["starting", "ready", "draining"]}, "model": _TEXT})
    return {
        "openapi": "3.1.0",
        "info": {"title": "jaxiqa", "version": __version__, "description": "Scores of image quality, 0 to 100."},
        "paths": {
            "/score": {
                "post": {
                    "summary": "Score images: files of a form, or one image as the body.",
                    **secured,
                    "requestBody": {"required": True, "content": {"multipart/form-data": form, "image/*": image}},
                    "responses": answers,
                }
            },
            "/healthz": {
                "get": {
                    "summary": "Whether images are scored now.",
                    "responses": {"200": _answer("Yes.", health), "503": _answer("Not yet, or not any more.", health)},
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Metrics in the text format of Prometheus.",
                    **secured,
                    "responses": {
                        "200": {"description": "The metrics.", "content": {"text/plain": {"schema": _TEXT}}},
                        **({"401": answers["401"]} if needs_token else {}),
                    },
                }
            },
        },
        "components": {
            "schemas": {
                "Image": _object(row),
                "Scores": _object({"images": _list("Image")}),
                "Error": error,
                "Refused": refused,
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}} if needs_token else {},
        },
    }


def _ref(name: str) -> dict:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(name: str) -> dict:
    return {"type": "array", "items": _ref(name)}


def _object(properties: dict, required: Sequence[str] | None = None) -> dict:
    needed = list(properties if required is None else required)
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def _answer(text: str, content: dict) -> dict:
    return {"description": text, "content": {"application/json": {"schema": content}}}
