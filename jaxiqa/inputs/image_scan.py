"""Checks the image files of a dataset: unreadable files, unexpected sizes, duplicate images."""

import collections
import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from jaxiqa.datasets import fact
from jaxiqa.datasets.doctor.diagnosis import Finding
from jaxiqa.datasets.records import Dataset
from jaxiqa.errors import DataError
from jaxiqa.inputs.decode import read_image


class Content(NamedTuple):
    """One image: the SHA-256 of its decoded pixels and its (height, width), or the reason why it cannot be read."""

    digest: str = ""
    size: tuple[int, int] = (0, 0)
    reason: str = ""


def decode_all(paths: Sequence[str], workers: int = 2) -> Iterator[Content]:
    """Yields the contents of images in their order, each as soon as it is known."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(_decode, paths)
        finally:
            pool.shutdown(cancel_futures=True)


def _decode(path: str) -> Content:
    try:
        image_HWC = read_image(path)
    except DataError as error:
        return Content(reason=str(error))
    return Content(hashlib.sha256(repr(image_HWC.shape).encode() + image_HWC.data).hexdigest(), image_HWC.shape[:2])


def compare(dataset: Dataset, contents: dict[str, Content]) -> list[Finding]:
    """Returns findings about the contents, {path: Content}, of a dataset's images."""
    return [_readable(contents), *_sizes(dataset, contents), *_duplicates(dataset, contents)]


def _readable(contents: dict[str, Content]) -> Finding:
    bad = tuple(c.reason for c in contents.values() if c.reason)
    if bad:
        fix = "fetch these again, or leave them out"
        return Finding("pictures", "fault", f"{len(bad):,} of {len(contents):,} cannot be read", bad, fix)
    return Finding("pictures", "ok", f"all {len(contents):,} can be read")


def _sizes(dataset: Dataset, contents: dict[str, Content]) -> Iterator[Finding]:
    sizes = collections.Counter(c.size for c in contents.values() if not c.reason)
    if not sizes:
        return
    common = ", ".join(f"{w}x{h} ({count:,})" for (h, w), count in sizes.most_common(3))
    what = common + f" and {len(sizes) - 3:,} other sizes" * (len(sizes) > 3)
    published = fact(dataset.name, "KNOWN")
    known = published.sizes if published else ()
    odd = tuple(
        f"{path} {c.size[1]}x{c.size[0]}" for path, c in contents.items() if not c.reason and c.size not in known
    )
    if known and odd:
        right = " or ".join(f"{w}x{h}" for h, w in known)
        fix = "use the owners' images: a resized or rotated image does not have the quality that was rated"
        yield Finding("sizes", "fault", f"{what}, but the owners' are {right}", odd, fix)
    else:
        yield Finding("sizes", "ok", what)


def _duplicates(dataset: Dataset, contents: dict[str, Content]) -> Iterator[Finding]:
    """Files with the same pixels: a fault if a split may separate them, else a note."""
    first = {}
    for record in dataset.records:  # several records may share a file, each with its own distortion
        first.setdefault(record.path, record)
    groups = collections.defaultdict(list)
    for path, record in first.items():
        if not contents[path].reason:
            groups[contents[path].digest].append(record)
    separable, together = [], []
    for same in groups.values():
        if len(same) > 1:
            labels = ", ".join(f"{r.mos:.4g}" for r in same)
            text = " = ".join(r.id for r in same) + (f" (labels {labels})" if dataset.rated else "")
            (separable if len({r.content for r in same}) > 1 else together).append(text)
    if separable:
        fix = "keep one of each, or give them the same reference; else the same image may train and test"
        yield Finding(
            "duplicates", "fault", f"{len(separable):,} images are there more than once", tuple(separable), fix
        )
    if together:
        what = f"{len(together):,} images of one reference are there more than once"
        yield Finding("duplicates", "note", what, tuple(together))
    if not separable and not together:
        yield Finding("duplicates", "ok", "none has the pixels of another")
