"""Prepare a dataset for training: all of it in one folder of a few large files, for disks and pods that like those.

  python -m jaxiqa.prepare kadid10k /path/to/kadid10k --output /data/kadid10k-prepared
  python -m jaxiqa.prepare folder /path/to/folder --option group_column=content --output /data/mine-prepared
  python -m jaxiqa.prepare kadid10k /data/kadid10k-prepared --verify

Wherever the dataset's folder may be named (config.dataset.data_dir, --data_dir), the prepared one may be: the records,
their order, the splits and every training batch are the same, bit for bit. Options of the reader (--option) are part of
what was prepared and need not be given again. Pictures are kept as they are encoded; --decoded stores their pixels,
which takes more room and less time at every epoch: for PNG.

The folder is a TFDS set in array_record files, so that tfds.builder_from_directory reads it too, with the SHA-256 of
every file and picture. It is no prepared set before it is whole; the same command goes on where it stopped. --output
may be a bucket (gs://...). --verify reads everything back, after writing or of a folder that is prepared already.

Exit codes: 0 done, 2 usage, 3 bad data, 75 disk full.
"""

import os

from absl import flags
from tqdm import tqdm

from jaxiqa import datasets, program
from jaxiqa.datasets import builder, prepared
from jaxiqa.datasets.options import parse_options
from jaxiqa.datasets.sizes import file_bytes
from jaxiqa.errors import ConfigError, DataError
from jaxiqa.inputs.decode import image_size, read_file, read_image

_OUTPUT = flags.DEFINE_string("output", None, "Folder or bucket to write; default: the program's own cache.")
_DECODED = flags.DEFINE_bool("decoded", False, "Store pixels (PPM) and not the files as they are.")
_OPTION = flags.DEFINE_multi_string("option", [], "KEY=VALUE, an option of the dataset's reader; may be repeated.")
_VERIFY = flags.DEFINE_bool("verify", False, "Read everything back and compare checksums.")


def main(words: list[str]) -> None:
    """The program."""
    if not 1 <= len(words) <= 2:
        raise ConfigError("give a dataset and its folder: python -m jaxiqa.prepare NAME DIR --output DIR")
    name, data_dir = datasets.find(words[0]), os.path.expanduser(words[1]) if len(words) == 2 else ""
    if prepared.is_prepared(data_dir):
        if not _VERIFY.value:
            raise ConfigError(f"{data_dir} is a prepared set already; --verify reads it back")
        if (held := prepared.read_manifest(data_dir)["dataset"]) != name:
            raise DataError(f"{data_dir} is a prepared {held}, not {name}")
        return verify(data_dir)
    output = os.path.expanduser(_OUTPUT.value or os.path.join(datasets.default_data_dir(name), "prepared"))
    write(name, data_dir, output)
    if _VERIFY.value:
        verify(output)


def write(name: str, data_dir: str, output: str) -> None:
    """Write what is not there yet, with a progress bar."""
    options = parse_options(_OPTION.value)
    dataset = datasets.load(name, data_dir, **options)
    decoded = _DECODED.value
    plan = builder.make_plan(dataset, data_dir, options, decoded, pixel_bytes if decoded else file_bytes)
    done = builder.resume(plan, output)
    there = [number for number in range(len(plan.shards)) if plan.shard_file(number) in done]
    kept = sum(map(plan.shard_bytes, there))
    with tqdm(total=sum(plan.sizes), initial=kept, desc=f"preparing {name}", unit="B", unit_scale=True, mininterval=1,
              disable=None) as bar:  # fmt: skip
        try:
            builder.write(plan, output, done, pixels if decoded else read_file, bar.update)
        except KeyboardInterrupt as error:
            error.add_note("the same command goes on where it stopped")
            raise
    print(
        f"{len(dataset)} records of {name} (fingerprint {dataset.fingerprint}), {len(plan.pictures)} pictures, "
        f"{sum(plan.sizes) / 2**20:.1f} MiB in {len(plan.shards)} shard(s), {len(there)} of which were there, in "
        f"{output}; name it as data_dir"
    )


def verify(data_dir: str) -> None:
    """Read a prepared set back; DataError with the first fault after all of them are printed."""
    manifest = prepared.read_manifest(data_dir)
    total = 2 * sum(about["bytes"] for about in manifest["files"].values())  # files, then the pictures in them
    faults = []
    with tqdm(total=total, desc="verifying", unit="B", unit_scale=True, mininterval=1, disable=None) as bar:
        for size, fault in prepared.verify(data_dir):
            bar.update(size)
            if fault:
                faults.append(fault)
                tqdm.write(fault)
    if faults:
        raise DataError(f"{data_dir}: {len(faults)} fault(s); the first: {faults[0]}")
    print(f"{data_dir} is whole: {manifest['pictures']} pictures, {len(manifest['files'])} files, all checksums right")


def pixel_bytes(path: str) -> int:
    """Size of a picture's pixels."""
    height, width = image_size(path)
    return 3 * height * width


def pixels(path: str) -> bytes:
    """A picture's pixels as a file of them, binary PPM, which reads back as what read_image gives."""
    image_HWC = read_image(path)
    return b"P6 %d %d 255\n" % (image_HWC.shape[1], image_HWC.shape[0]) + image_HWC.tobytes()


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
