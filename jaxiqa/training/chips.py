"""What one TPU chip can do: the numbers that ceilings are computed from."""

from typing import NamedTuple

GIB = 2**30


class Chip(NamedTuple):
    """One chip.

    Attributes:
      hbm: bytes of memory that its compiler gives to a program; the chip has a little more.
      flops: bf16 operations a second at most.
      bandwidth: bytes a second between the memory and the chip at most.
      ici: bytes a second that it sends to other chips, over all of its links together, at most.
      axes: of a slice's layout: 2 where slices are AxB, 3 where they are AxBxC.
    """

    hbm: int
    flops: float
    bandwidth: float
    ici: float
    axes: int


# Memory: what libtpu 0.0.42 names when a program does not fit. The rest: Google's pages on each generation
# (cloud.google.com/tpu/docs/v5e and its neighbours), where `ici` is half of the "bidirectional bandwidth per chip".
CHIPS = {
    "v4": Chip(int(30.75 * GIB), 275e12, 1200e9, 300e9, 3),
    "v5e": Chip(int(15.75 * GIB), 197e12, 819e9, 200e9, 2),
    "v5p": Chip(int(95.74 * GIB), 459e12, 2765e9, 600e9, 3),
    "v6e": Chip(int(31.25 * GIB), 918e12, 1638e9, 400e9, 2),
}
