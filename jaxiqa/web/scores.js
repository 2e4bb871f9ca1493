"use strict";
// Outputs of a model to what is reported, as jaxiqa/scoring/card.py and jaxiqa/evaluation/conformal.py compute it.

const WORDS = ["bad", "poor", "fair", "good", "excellent"];

/** {score01, slope} of an output of the model. */
function mapped(card, output) {
  const { curve, scale } = card;
  if (curve?.kind === "line") {
    const [slope, constant] = curve.parameters;
    return { score01: constant + slope * output, slope: Math.abs(slope) };
  }
  if (curve) {
    const [top, bottom, centre, width] = curve.parameters, share = 1 / (1 + Math.exp((centre - output) / width));
    const slope = Math.abs((top - bottom) / width) * share * (1 - share);
    return { score01: bottom + (top - bottom) * share, slope };
  }
  if (!scale || card.labels === "score01") return { score01: output, slope: 1 };
  const share = (output - scale.lo) / (scale.hi - scale.lo);
  return { score01: scale.higher_is_better ? share : 1 - share, slope: 1 / (scale.hi - scale.lo) };
}

/** The percent of reference images with a lower score; null without a reference. */
function percentile(card, score01) {
  const known = card.reference?.quantiles;
  if (!known) return null;
  if (score01 <= known[0]) return 0;
  if (score01 >= known[100]) return 100;
  const above = known.findIndex((value) => value > score01);
  return above - 1 + (score01 - known[above - 1]) / (known[above] - known[above - 1]);
}

/** [lo, hi] of the interval for people's mean opinion; nulls without one. */
function interval(card, score, se) {
  const known = card.interval;
  if (!known) return [null, null];
  const { half_width: half, spread_weight: weight, median_spread: median } = known;
  const relative = se === null ? 1 : Math.min(se / median, 4);
  const width = half * (weight && median ? 1 + weight * relative : 1);
  return [score - width, score + width].map((end) => Math.max(0, Math.min(100, end)));
}

/** What the outputs of its crops say of an image, in columns of `jaxiqa score`; null is no value. */
function rowOf(card, outputs) {
  const n = outputs.length, mean = outputs.reduce((a, b) => a + b, 0) / n;
  if (!Number.isFinite(mean)) throw new Error("the model's output is NaN or infinite");
  const { score01, slope } = mapped(card, mean), score = 100 * score01, { scale } = card;
  const variance = outputs.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  const se = n > 1 ? 100 * slope * Math.sqrt(variance / n) : null;
  const [lo, hi] = interval(card, score, se);
  const share = scale?.higher_is_better ? score01 : 1 - score01;
  const isPlain = !scale || (scale.lo === 0 && scale.hi === 1 && scale.higher_is_better);
  const isKnown = card.dataset || card.curve || card.reference || !isPlain;  // what a score means
  const word = isKnown ? WORDS[Math.max(0, Math.min(4, Math.trunc(score01 * 5)))] : "";
  return {
    score, native: scale ? scale.lo + (scale.hi - scale.lo) * share : null, se, status: "ok", reason: "",
    percentile: percentile(card, score01), word, lo, hi,
  };
}
