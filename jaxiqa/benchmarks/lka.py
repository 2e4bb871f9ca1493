"""Speed of several forms of large-kernel attention's depthwise convolutions, against XLA's grouped convolution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.benchmarks import measure
from jaxiqa.models.blocks import lka
from jaxiqa.runs import compile_cache

# (H = W, C, K, dilation) in the stages of VAN-B2 at 224 pixels
SHAPES = ((56, 64, 7, 3), (28, 128, 7, 3), (14, 320, 7, 3), (56, 64, 5, 1))
FORWARD, BOTH = 8.0, 3.0  # bars on a CPU: speed over that of the grouped convolution


def polyphase(x_BHWC, kernel_KK1C, dilation: int):
    """A dilated convolution as an ordinary one of the dilation^2 coarser maps, stacked along the batch."""
    B, H, W, C = x_BHWC.shape
    d, h, w = dilation, -(-H // dilation), -(-W // dilation)
    x = jnp.pad(x_BHWC, ((0, 0), (0, h * d - H), (0, w * d - W), (0, 0)))
    x = x.reshape(B, h, d, w, d, C).transpose(2, 4, 0, 1, 3, 5).reshape(d * d * B, h, w, C)
    y = lka.grouped(x, kernel_KK1C, 1)
    y = y.reshape(d, d, B, h, w, C).transpose(2, 3, 0, 4, 1, 5).reshape(B, h * d, w * d, C)
    return y[:, :H, :W]


def dense(x_BHWC, kernel_KK1C, dilation: int):
    """An ordinary convolution with a kernel that is zero between different channels: C times the arithmetic."""
    K, C = kernel_KK1C.shape[0], x_BHWC.shape[-1]
    pad = K // 2 * dilation
    return jax.lax.conv_general_dilated(
        x_BHWC,
        kernel_KK1C * jnp.eye(C, dtype=kernel_KK1C.dtype).reshape(1, 1, C, C),
        (1, 1),
        ((pad, pad),) * 2,
        rhs_dilation=(dilation,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def tap_by_tap(x_BHWC, kernel_KK1C, dilation: int):
    """The form that lka.py chooses on a CPU, on any platform."""
    return lka.shifted(x_BHWC, kernel_KK1C, dilation)


tap_by_tap.defvjp(
    lambda x, kernel, dilation: (lka.shifted(x, kernel, dilation), (x, kernel)),
    lambda dilation, kept, g: lka.shifted_gradients(*kept, g, dilation),
)

FORMS = {
    "grouped": lka.grouped,
    "chosen": lka.depthwise,
    "shifted": tap_by_tap,
    "shifted, XLA's gradient": lka.shifted,
    "polyphase": polyphase,
    "dense": dense,
}


def compiled(form, dilation: int, values) -> tuple:
    """Two compiled calls: the forward pass, and the forward pass with both gradients."""

    def both(x, kernel, g):
        y, pull = jax.vjp(lambda x, kernel: form(x, kernel, dilation), x, kernel)
        return y, *pull(g)

    forward = jax.jit(lambda x, kernel: form(x, kernel, dilation))
    return functools.partial(forward, *values[:2]), functools.partial(jax.jit(both), *values)


def run(tiny: bool = False, output: str | None = None, compare: str | None = None) -> int:
    """Prints the table; returns 1 if the chosen form is below the bars on a CPU.

    The ratios of the last line are the lowest over all shapes. Arguments as for forward.run.
    """
    compile_cache.enable()
    ledger = measure.Ledger("lka", output, compare)
    on_cpu = jax.default_backend() == "cpu"
    batch = 1 if tiny else 4 if on_cpu else 128
    ceiling = measure.ceilings(tiny=tiny)
    rng, lowest = np.random.default_rng(0), [np.inf, np.inf]
    for side, C, K, dilation in ((8, 8, 7, 3),) if tiny else SHAPES:
        maps, taps = (batch, side, side, C), (K, K, 1, C)
        values = [jnp.asarray(rng.standard_normal(shape), jnp.float32) for shape in (maps, taps, maps)]
        forms = {name: f for name, f in FORMS.items() if C <= 64 or name != "dense"}
        forms = {name: f for name, f in forms.items() if dilation > 1 or name != "polyphase"}
        calls = {name: compiled(f, dilation, values) for name, f in forms.items()}
        both = [
            measure.race({name: pair[i] for name, pair in calls.items()}, 2 if tiny else measure.ROUNDS) for i in (0, 1)
        ]
        for moved, passes, found in zip((2, 5), ("forward", "forward+backward"), both, strict=True):
            for name, one in found.items():
                # A map in and out is the least that moves; with gradients, two more in and one more out.
                share = ceiling.seconds(0.0, moved * values[0].nbytes) / one.least
                speed = found["grouped"].least / one.least
                case = f"{side} x {side} x {C}, {K} x {K}, dilation {dilation}, {passes}, {name}"
                ledger.add(case, one, over_grouped=speed, of_ceiling=share)
        ratios = [found["grouped"].median / found["chosen"].median for found in both]
        lowest = [min(pair) for pair in zip(lowest, ratios, strict=True)]
    short = on_cpu and not tiny and (lowest[0] < FORWARD or lowest[1] < BOTH)
    note = ": short" if short else "" if on_cpu else "; the bars are for a CPU"
    bars = f"forward {lowest[0]:.1f}x (bar {FORWARD:g}x), forward+backward {lowest[1]:.1f}x (bar {BOTH:g}x)"
    print(f"depthwise against the grouped convolution: {bars}{note}")
    ledger.close()
    return int(short)
