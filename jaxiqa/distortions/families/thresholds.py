"""Quantisation to few values with optimal thresholds: multi-level Otsu, solved exactly."""

import jax
import jax.numpy as jnp

MAX_THRESHOLDS = 20
BINS = 256


def quantisation(image_HWC, thresholds):
    """Multi-level Otsu over all channel values together: N thresholds t1..tN, N + 1 bins, values 0, t2, .., tN, 1.

    float32 (H, W, 3) in 0..1, in and out; thresholds 2..MAX_THRESHOLDS, may be traced. Source: KADID-10k data-set code,
    type 22, where MATLAB's `multithresh` searches the thresholds on 256 bins between the extremes. Here dynamic
    programming finds the optimal ones (Luessi et al., J. Electron. Imaging 2009).
    """
    thresholds = thresholds.astype(jnp.int32)
    lowest, highest = image_HWC.min(), image_HWC.max()
    span = highest - lowest
    bin_HWC = (image_HWC - lowest) * ((BINS - 1) / jnp.where(span > 0, span, 1)) + 0.5
    bin_HWC = jnp.clip(jnp.floor(bin_HWC), 0, BINS - 1).astype(jnp.int32)
    cuts = otsu_cuts(jnp.zeros(BINS, jnp.int32).at[bin_HWC.reshape(-1)].add(1), thresholds)

    number = jnp.arange(1, MAX_THRESHOLDS + 1)
    class_of_bin = ((cuts[None, :] <= jnp.arange(BINS)[:, None]) & (number <= thresholds)[None, :]).sum(axis=1)
    threshold = lowest + span * (jnp.concatenate([cuts, cuts[-1:]]) - 1) / (BINS - 1)
    value = jnp.where(class_of_bin == thresholds, 1.0, jnp.where(class_of_bin == 0, 0.0, threshold[class_of_bin]))
    return value[bin_HWC]


def otsu_cuts(counts, thresholds):
    """Returns the first bins of classes 2, 3, .. that maximise the variance between thresholds + 1 classes.

    int32 (MAX_THRESHOLDS,), ascending; entries from index `thresholds` on have no meaning. counts: int32 (BINS,).
    """
    total = jnp.maximum(counts.sum(), 1)
    share = jnp.cumsum(counts) / total
    centred = jnp.arange(BINS) - (counts * jnp.arange(BINS) / total).sum()
    share, moment = (jnp.pad(x, (1, 0)) for x in (share, jnp.cumsum(counts / total * centred)))
    # The gain of a class of the bins i <= bin < j; 0 if the class is empty.
    weight = share[None, :] - share[:, None]
    gain = jnp.where(weight > 0, (moment[None, :] - moment[:, None]) ** 2 / jnp.where(weight > 0, weight, 1), 0)
    edge = jnp.arange(BINS + 1)
    gain = jnp.where(edge[:, None] <= edge[None, :], gain, -jnp.inf)

    def add_class(best, _):  # best[j]: the largest gain of the classes so far over the bins below j
        total = best[:, None] + gain
        return total.max(axis=0), total.argmax(axis=0).astype(jnp.int32)

    start_of_last = jax.lax.scan(add_class, gain[0], length=MAX_THRESHOLDS)[1]  # with 2, 3, .. classes

    def walk_back(end, step):
        number, starts = step
        start = jnp.where(number <= thresholds, starts[end], end)
        return start, start

    numbers = jnp.arange(1, MAX_THRESHOLDS + 1)
    return jax.lax.scan(walk_back, jnp.int32(BINS), (numbers, start_of_last), reverse=True)[1]
