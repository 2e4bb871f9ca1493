"""Rounding to 8 bits: halves round up, on the device and on the host."""

import jax
import numpy as np

from jaxiqa.distortions.eight_bits import to_uint8, to_uint8_on_host


def test_halves_go_up():
    values = (np.arange(255) + np.float32(0.5)) / np.float32(255)
    halves = values[255 * values == np.arange(255) + np.float32(0.5)]
    even = np.rint(255 * halves) != np.floor(255 * halves + 0.5)
    assert halves.size > 200 and even.sum() > 90  # rounding ties to even would differ for these
    up = (255 * halves + 0.5).astype(np.uint8)
    for found in (to_uint8_on_host(halves), to_uint8(halves), jax.jit(to_uint8)(halves)):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, up)


def test_what_8_bits_hold_comes_back():
    stored = np.arange(256, dtype=np.uint8)
    values = stored.astype(np.float32) / 255
    np.testing.assert_array_equal(to_uint8_on_host(values), stored)
    np.testing.assert_array_equal(jax.jit(to_uint8)(values), stored)
