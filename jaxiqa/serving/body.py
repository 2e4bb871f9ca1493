"""The images in the body of a request, which is read under limits and held in memory."""

from collections.abc import AsyncGenerator
from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

_FIELDS = 100  # parts of a form that are no files; they are passed over


class Sent(NamedTuple):
    """An image that was sent."""

    name: str  # as its sender calls it, for the answer only; "" in a body that is one image
    data: bytes


async def read_images(request: Request, max_bytes: int, max_images: int) -> list[Sent]:
    """The files of a form (multipart/form-data), or the whole body as one file.

    Raises:
      HTTPException: 400 if the form is malformed or has no file; 413 if the body has more than `max_bytes`, whatever
        its head says, or the form more than `max_images` files.
      starlette.requests.ClientDisconnect: the client is gone.
    """
    check_length(request, max_bytes)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        return [Sent("", b"".join([chunk async for chunk in _limited(request, max_bytes)]))]

    class InMemory(MultiPartParser):
        spool_max_size = max_bytes + 1  # larger files would go to a temporary folder

    parser = InMemory(request.headers, _limited(request, max_bytes), max_files=max_images, max_fields=_FIELDS)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise HTTPException(413, f"the form has more than {max_images} files; send several requests") from None
        raise HTTPException(400, f"the form cannot be read: {error.message}") from None
    found = []
    for _, file in form.multi_items():
        if isinstance(file, UploadFile):
            found.append(Sent(file.filename or "", await file.read()))
            await file.close()  # now, so that no more than one file exists twice
    if not found:
        raise HTTPException(400, "the form has no file; send images as files, or one image as the body")
    return found


def check_length(request: Request, max_bytes: int) -> None:
    """Refuses a body whose head says that it is too long, before it is read."""
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_long(max_bytes)


async def _limited(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The chunks of a body."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_long(max_bytes)
        yield chunk


def _too_long(max_bytes: int) -> HTTPException:
    return HTTPException(413, f"the body has more than {max_bytes:,} bytes; send smaller images, or fewer at a time")
