"""Examine a dataset before training on it: files, names, labels and their direction, pictures, duplicates.

  python -m jaxiqa.doctor kadid10k /path/to/kadid10k
  python -m jaxiqa.doctor folder /path/to/folder --option group_column=content --output report.json
  python -m jaxiqa.doctor /path/to/anything

The third recognises the dataset by its label files. Everything that is wrong is listed at once, with what to do:
missing and extra files, labels that are not the owners' (another scale, another column, turned over), a direction that
the files contradict, contents that a split would tear apart, pictures that cannot be read or were resized, and pictures
that are there twice, under whatever names and references. All pictures are decoded. Prepared folders (jaxiqa.prepare)
are examined in the same way.

--output writes FILE.json with every finding in full.

Exit codes: 0 nothing is wrong, 2 usage, 3 faults were found, 75 disk full.
"""

import functools
import json
import os
import shutil
import textwrap

from absl import flags
from etils import epath
from tqdm import tqdm

from jaxiqa import datasets, program
from jaxiqa.datasets import diagnosis
from jaxiqa.datasets.options import parse_options
from jaxiqa.errors import ConfigError, DataError, printable
from jaxiqa.inputs import content
from jaxiqa.version import __version__

_OUTPUT = flags.DEFINE_string("output", None, "File to write: FILE.json.")
_OPTION = flags.DEFINE_multi_string("option", [], "KEY=VALUE, an option of the dataset's reader; may be repeated.")

SHOWN = 10  # places of one finding that are printed


def main(words: list[str]) -> None:
    """The program."""
    if not 1 <= len(words) <= 2:
        raise ConfigError("give a dataset's folder: python -m jaxiqa.doctor NAME DIR, or DIR alone")
    output = epath.Path(_OUTPUT.value) if _OUTPUT.value else None
    if output and output.suffix != ".json":
        raise ConfigError(f"--output {output} must end in .json")
    data_dir = os.path.expanduser(words[-1])
    name = datasets.find(words[0]) if len(words) == 2 else diagnosis.recognise(data_dir)
    findings, about = examine(name, data_dir, parse_options(_OPTION.value))
    show(findings)
    if output:
        try:
            output.write_text(json.dumps({**about, "findings": [vars(f) for f in findings]}, indent=1) + "\n")
        except OSError as error:
            raise ConfigError(f"--output {output} cannot be written ({error.strerror}); name another file") from error
    what = f"{name} in {data_dir}" if data_dir else name
    if faults := sum(f.result == "fault" for f in findings):
        raise DataError(f"{what}: {faults} fault(s), listed above with what to do")
    print(f"{what}: nothing is wrong")


def examine(name: str, data_dir: str, options: dict) -> tuple[list[diagnosis.Finding], dict]:
    """All findings, and what they are about."""
    about = {"dataset": name, "data_dir": data_dir, "options": options, "jaxiqa": __version__}
    dataset, findings = diagnosis.read(name, data_dir, options)
    if dataset is None:
        return findings, about
    findings += [*diagnosis.examine(dataset), *diagnosis.look(dataset, data_dir, options)]
    paths = list(dict.fromkeys(r.path for r in dataset.records))
    bar = tqdm(content.decode_all(paths), "decoding", len(paths), unit=" pictures", mininterval=1, disable=None)
    findings += content.compare(dataset, dict(zip(paths, bar, strict=True)))
    return findings, about | {"records": len(dataset), "pictures": len(paths), "fingerprint": dataset.fingerprint}


def show(findings: list[diagnosis.Finding]) -> None:
    """The table, in the width of the terminal."""
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
    program.run(main, takes_arguments=True)
