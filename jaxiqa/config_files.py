"""List the experiment files that come with jaxiqa, or copy one.

  jaxiqa configs
  jaxiqa configs copy glintiqa_folder
  jaxiqa configs copy glintiqa_folder experiments/mine.py

Without arguments the program prints the name of every file and the first line of its docstring.
copy NAME [DESTINATION] copies a file to a folder or a new file, by default to the current folder. Edit the copy and use
it as --config. An existing file is never overwritten. The module of this program is jaxiqa.config_files.

Exit codes: 0 done, 2 usage, 75 disk full.
"""

import pathlib

from jaxiqa import program
from jaxiqa.config import shipped
from jaxiqa.errors import ConfigError, suggest


def show() -> None:
    """Prints each name with the first line of its docstring."""
    files = shipped()
    width = max(map(len, files))
    for name, path in files.items():
        with path.open(encoding="utf-8") as file:
            note = file.readline().strip().strip('"')
        print(f"{name:{width}}  {note}")


def copy(name: str, destination: str = ".") -> pathlib.Path:
    """Copies an experiment file to a folder or a new file. Returns the path of the copy.

    Raises:
      ConfigError: the name is unknown, the destination exists, or it cannot be written.
    """
    files = shipped()
    name = name.removesuffix(".py")
    if name not in files:
        raise ConfigError(f'there is no experiment file "{name}"; {suggest(name, files)}', code="unknown", key="name")
    target = pathlib.Path(destination).expanduser()
    if target.is_dir():
        target /= f"{name}.py"
    elif target.suffix != ".py":
        raise ConfigError(f"{target} is not a folder; name a folder or FILE.py", code="value", key=target)
    try:
        with target.open("xb") as file:
            file.write(files[name].read_bytes())
    except FileExistsError:
        raise ConfigError(f"{target} already exists; name another file", code="conflict", key=target) from None
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be written ({error.strerror}); name another file or folder", code="unwritable", key=target
        ) from error
    return target


def main(words: list[str]) -> None:
    """The program."""
    if not words:
        show()
        print("\nTo copy one to the current folder: jaxiqa configs copy NAME")
    elif words[0] == "copy" and len(words) in (2, 3):
        print(f"written: {copy(*words[1:])}")
    else:
        raise ConfigError(
            f'unexpected arguments "{" ".join(words)}"; write jaxiqa configs [copy NAME [DESTINATION]]',
            code="value",
            key="arguments",
        )


if __name__ == "__main__":
    program.run(main, takes_arguments=True)
