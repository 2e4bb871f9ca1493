"""Pack a dataset into a few large files, which load fast.

  jaxiqa prepare kadid10k /path/to/kadid10k --output /data/kadid10k-prepared
  jaxiqa prepare folder /path/to/folder --option group_column=content --output /data/mine-prepared
  jaxiqa prepare kadid10k /data/kadid10k-prepared --verify

Give the prepared folder in place of the dataset's folder (config.dataset.data_dir, --data_dir). Records, their order,
splits and training batches are the same, bit for bit. The prepared folder stores the options of the reader (--option).
Images stay encoded as they are. --decoded stores their pixels, which takes more space and makes epochs over PNG files
faster.

The folder is a TFDS set of array_record files with the SHA-256 of every file and image;
tfds.builder_from_directory reads it too. The folder cannot be used until it is complete. Repeat the command to resume
where it stopped. --output may be a bucket (gs://...). --verify reads everything back, after writing or from an existing
prepared folder.

Exit codes: 0 done, 2 usage, 3 bad data, 75 disk full.
"""

import os

from absl import flags
from tqdm import tqdm

from jaxiqa import datasets, program, shared_flags
from jaxiqa.datasets import prepared
from jaxiqa.datasets.file_sizes import file_bytes
from jaxiqa.datasets.options import parse_options
from jaxiqa.datasets.prepared import builder
from jaxiqa.errors import ConfigError, DataError

_FLAGS = flags.FlagValues()
_OUTPUT = shared_flags.output_folder(_FLAGS, "Folder or bucket to write to; default: a folder in the cache of jaxiqa")
_DECODED = flags.DEFINE_bool("decoded", False, "Store pixels (PPM) instead of the encoded files.", flag_values=_FLAGS)
_OPTION = shared_flags.option(_FLAGS)
_VERIFY = flags.DEFINE_bool("verify", False, "Read the prepared folder back and compare checksums.", flag_values=_FLAGS)


def main(words: list[str]) -> None:
    """The program."""
    if not 1 <= len(words) <= 2:
        raise ConfigError(
            "one dataset and its folder must be given: jaxiqa prepare NAME DIR --output DIR",
            code="missing",
            key="dataset",
        )
    name, data_dir = datasets.find(words[0]), os.path.expanduser(words[1]) if len(words) == 2 else ""
    if prepared.is_prepared(data_dir):
        if not _VERIFY.value:
            raise ConfigError(
                f"{data_dir} is already a prepared folder; give --verify to check it", code="conflict", key=data_dir
            )
        if (held := prepared.read_manifest(data_dir)["dataset"]) != name:
            raise DataError(
                f"{data_dir} is a prepared folder of {held}, not of {name}; name {held}", code="mismatch", key=data_dir
            )
        return verify(data_dir)
    output = os.path.expanduser(_OUTPUT.value or os.path.join(datasets.default_data_dir(name), "prepared"))
    write(name, data_dir, output)
    if _VERIFY.value:
        verify(output)


def write(name: str, data_dir: str, output: str) -> None:
    """Writes the shards that do not exist yet, with a progress bar."""
    from jaxiqa.inputs.decode import read_file

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
            error.add_note("repeat the command to continue where it stopped")
            raise
    print(
        f"{len(dataset)} records of {name} (fingerprint {dataset.fingerprint}), {len(plan.images)} images, "
        f"{sum(plan.sizes) / 2**20:.1f} MiB in {len(plan.shards)} shard(s), {len(there)} existed already\n"
        f"The prepared folder is {output}; use it as data_dir"
    )


def verify(data_dir: str) -> None:
    """Reads a prepared folder back and prints all faults. Raises DataError with the first."""
    manifest = prepared.read_manifest(data_dir)
    total = 2 * sum(about["bytes"] for about in manifest["files"].values())  # files are read, then their images
    faults = []
    with tqdm(total=total, desc="verifying", unit="B", unit_scale=True, mininterval=1, disable=None) as bar:
        for size, fault in prepared.verify(data_dir):
            bar.update(size)
            if fault:
                faults.append(fault)
                tqdm.write(fault)
    if faults:
        raise DataError(
            f"{data_dir}: {len(faults)} fault(s), listed above; the first: {faults[0]}", code="damaged", key=data_dir
        )
    print(f"{data_dir} is complete: {manifest['pictures']} images, {len(manifest['files'])} files, all checksums match")


def pixel_bytes(path: str) -> int:
    """Size of the pixels of an image in bytes."""
    from jaxiqa.inputs.decode import image_size

    height, width = image_size(path)
    return 3 * height * width


def pixels(path: str) -> bytes:
    """The pixels of an image as a binary PPM file, which read_image decodes to the same pixels."""
    from jaxiqa.inputs.decode import read_image

    image_HWC = read_image(path)
    return b"P6 %d %d 255\n" % (image_HWC.shape[1], image_HWC.shape[0]) + image_HWC.tobytes()


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
