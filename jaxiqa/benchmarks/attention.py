"""Speed of several forms of a ViT's attention, as a share of the ceiling: the present one, cuDNN's, and plain products.

Legend: B batch, N tokens, K heads, d width of a head.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxiqa.benchmarks import measure
from jaxiqa.runs import compile_cache

TOKENS = (197, 577, 1025)  # of crops of 224, 384 and 512 pixels
HEADS, WIDTH = 12, 64  # of ViT-B
BAR = 1.03  # time of the present form over that of the best one, at most


def plain(q_BNKd, k_BNKd, v_BNKd):
    """The definition, as products and a softmax in fp32."""
    logits = (
        jnp.einsum("bnkd,bmkd->bknm", q_BNKd, k_BNKd, preferred_element_type=jnp.float32) * q_BNKd.shape[-1] ** -0.5
    )
    return jnp.einsum("bknm,bmkd->bnkd", jax.nn.softmax(logits).astype(v_BNKd.dtype), v_BNKd)


def head_by_head(q_BNKd, k_BNKd, v_BNKd):
    """The definition with heads before tokens, so that the products need no transposition."""
    q, k, v = (x.swapaxes(1, 2) for x in (q_BNKd, k_BNKd, v_BNKd))
    logits = jnp.einsum("bknd,bkmd->bknm", q, k, preferred_element_type=jnp.float32) * q.shape[-1] ** -0.5
    return (jax.nn.softmax(logits).astype(v.dtype) @ v).swapaxes(1, 2)


FORMS = {
    "present": jax.nn.dot_product_attention,  # as in models/vit.py
    "plain": plain,
    "head by head": head_by_head,
    "cudnn": functools.partial(jax.nn.dot_product_attention, implementation="cudnn"),
}


def both(form, q, k, v):
    """The result, and the gradients of half the sum of its squares."""
    y, pull = jax.vjp(form, q, k, v)
    return y, *pull(y)


def _difference(found, expected) -> float:
    """The largest difference, relative to the largest expected value."""
    found, expected = np.asarray(found, np.float32), np.asarray(expected)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def run(
    batch_size: int | None = None, tiny: bool = False, output: str | None = None, compare: str | None = None
) -> int:
    """Prints the table; returns 1 if the present form is wrong, or slower than BAR times the best on an accelerator.

    Args: as for forward.run.
    """
    compile_cache.enable()
    ledger = measure.Ledger("attention", output, compare)
    on_cpu = jax.default_backend() == "cpu"
    batch = batch_size or (2 if on_cpu else 64)
    dtype = jnp.float32 if on_cpu else jnp.bfloat16
    ceiling, worst = measure.ceilings(dtype, tiny), 0.0
    rng = np.random.default_rng(0)
    for tokens in (17,) if tiny else TOKENS:
        shape = (batch, tokens, 2, 16) if tiny else (batch, tokens, HEADS, WIDTH)
        values = [jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(3)]
        expected = jax.jit(functools.partial(both, plain))(*(x.astype(jnp.float32) for x in values))
        for passes, factor in (("forward", 1), ("forward+backward", 3)):
            calls = {}
            for name, form in FORMS.items():
                whole = jax.jit(form if factor == 1 else functools.partial(both, form))
                try:
                    found = jax.tree.leaves(whole(*values))
                except Exception as error:  # cuDNN refuses other platforms, types and sizes in several ways
                    why = " ".join(str(error).split())[:80]
                    ledger.add(f"{tokens} tokens, {passes}, {name}", note=f"does not work here: {why}")
                    continue
                error = max(map(_difference, found, expected))  # the forward pass has no gradients
                if not error <= (1e-5 if on_cpu else 2e-2):
                    ledger.add(f"{tokens} tokens, {passes}, {name}", relative_error=error, note="is not the same")
                    continue
                calls[name] = functools.partial(whole, *values)
            flops = factor * 4 * batch * shape[2] * tokens**2 * shape[3]
            moved = factor * 4 * values[0].nbytes
            times = measure.race(calls, 2 if tiny else measure.ROUNDS)
            best = min((one.least for one in times.values()), default=np.inf)
            for name, one in times.items():
                share = ceiling.seconds(flops, moved) / one.least
                ledger.add(f"{tokens} tokens, {passes}, {name}", one, of_ceiling=share, of_best=one.least / best)
            worst = max(worst, times["present"].least / best if "present" in times else np.inf)
    ledger.add("present form over the best", ratio=worst, bar=BAR)
    ledger.close()
    return int(np.isinf(worst) or (not on_cpu and worst > BAR))
