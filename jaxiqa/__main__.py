"""python -m jaxiqa is the command `jaxiqa`."""

import sys

from jaxiqa.cli import main

sys.exit(main())
