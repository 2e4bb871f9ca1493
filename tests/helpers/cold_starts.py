"""The modules and output of cold starts: cold_starts.py LINE...

A LINE is `import MODULE` or a command line `jaxiqa ...`. Each runs in a fork of this process, which has imported only
the standard library. The output is JSON: {LINE: [exit code, standard output, names of all loaded modules]}.
"""

import contextlib
import io
import json
import os
import sys
import traceback


def run(line: str) -> tuple[int, str]:
    """Runs a line. Returns the exit code and the standard output."""
    printed, code = io.StringIO(), 0
    sys.argv = line.split()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        try:
            if sys.argv[0] == "import":
                __import__(sys.argv[1])
            else:
                from jaxiqa.cli import main

                code = main()
        except SystemExit as end:
            code = end.code or 0
    return code, printed.getvalue()


def cold(line: str) -> list:
    """`run` in a fork, and the names of the modules that are loaded afterwards."""
    reading, writing = os.pipe()
    if not os.fork():
        try:
            answer = [*run(line), sorted(sys.modules)]
        except BaseException:
            answer = [1, traceback.format_exc(), []]
        with open(writing, "w") as file:
            json.dump(answer, file)
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        answer = json.load(file)
    os.wait()
    return answer


if __name__ == "__main__":
    print(json.dumps({line: cold(line) for line in sys.argv[1:]}))
