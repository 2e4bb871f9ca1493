"""Check a dataset before training: files, labels, duplicates.

  jaxiqa doctor kadid10k /path/to/kadid10k
  jaxiqa doctor folder /path/to/folder --option group_column=content --output report.json
  jaxiqa doctor /path/to/anything

The third command recognises the dataset by its label files. The program lists every fault with its remedy:
  missing and extra files
  labels that differ from the published ones (another scale, another column, reversed)
  a direction of the labels (higher or lower is better) that contradicts the files
  images of one content that a split would put into different parts
  images that cannot be read or were resized
  images that occur twice, also under different names or references
All images are decoded. Prepared folders (`jaxiqa prepare`) can be checked too.

--output writes FILE.json with every finding in full.

Exit codes: 0 no fault, 2 usage, 3 faults were found, 75 disk full.
"""

import functools
import os
import shutil
import textwrap

from absl import flags
from etils import epath
from tqdm import tqdm

from jaxiqa import datasets, program, shared_flags
from jaxiqa.datasets.doctor import diagnosis
from jaxiqa.datasets.options import parse_options
from jaxiqa.errors import ConfigError, DataError, printable
from jaxiqa.files import json_text
from jaxiqa.version import __version__

_FLAGS = flags.FlagValues()
_OUTPUT = shared_flags.output_file(_FLAGS, ".json")
_OPTION = shared_flags.option(_FLAGS)

SHOWN = 10  # number of places of a finding that are printed


def main(words: list[str]) -> None:
    """The program."""
    if not 1 <= len(words) <= 2:
        raise ConfigError(
            "the folder of one dataset must be given: jaxiqa doctor NAME DIR, or jaxiqa doctor DIR",
            code="missing",
            key="dataset",
        )
    output = epath.Path(_OUTPUT.value) if _OUTPUT.value else None
    data_dir = os.path.expanduser(words[-1])
    name = datasets.find(words[0]) if len(words) == 2 else diagnosis.recognise(data_dir)
    findings, about = examine(name, data_dir, parse_options(_OPTION.value))
    show(findings)
    if output:
        with program.writes_output(output):
            output.write_text(json_text({**about, "findings": [vars(f) for f in findings]}, 1) + "\n")
    what = f"{name} in {data_dir}" if data_dir else name
    if faults := sum(f.result == "fault" for f in findings):
        raise DataError(f"{what}: {faults} fault(s), listed above with remedies", code="faults", key=data_dir)
    print(f"{what}: no fault was found")


def examine(name: str, data_dir: str, options: dict) -> tuple[list[diagnosis.Finding], dict]:
    """Returns all findings, and what is written above them in FILE.json."""
    from jaxiqa.inputs import image_scan

    about = {"dataset": name, "data_dir": data_dir, "options": options, "jaxiqa": __version__}
    dataset, findings = diagnosis.read(name, data_dir, options)
    if dataset is None:
        return findings, about
    findings += [*diagnosis.examine(dataset), *diagnosis.look(dataset, data_dir, options)]
    paths = list(dict.fromkeys(r.path for r in dataset.records))
    bar = tqdm(image_scan.decode_all(paths), "decoding", len(paths), unit=" images", mininterval=1, disable=None)
    findings += image_scan.compare(dataset, dict(zip(paths, bar, strict=True)))
    return findings, about | {"records": len(dataset), "pictures": len(paths), "fingerprint": dataset.fingerprint}


def show(findings: list[diagnosis.Finding]) -> None:
    """Prints the findings as a table, as wide as the terminal."""
    width = max(60, shutil.get_terminal_size((120, 24)).columns)
    wrap = functools.partial(textwrap.fill, width=width, break_on_hyphens=False, break_long_words=False)
    for f in findings:
        lines = [f.what, *f.where[:SHOWN]]
        if len(f.where) > SHOWN:
            lines.append(f"and {len(f.where) - SHOWN:,} more")
        if f.fix:
            lines.append(f"-> {f.fix}")
        head = f"{f.result.upper() if f.result == 'fault' else f.result:6} {f.check:11} "
        for line in lines:
            print(wrap(printable(line), initial_indent=head, subsequent_indent=" " * 21))
            head = " " * 21


if __name__ == "__main__":
    program.run(main, _FLAGS, takes_arguments=True)
