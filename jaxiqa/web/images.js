"use strict";
// Image files to crops, as jaxiqa/inputs and jaxiqa/scoring/crops.py make them. Images are {data, height, width}, data
// being RGB, 8 bits, row by row.

/** Decodes a file upright, with what is transparent over mid-grey and colour profiles ignored. */
async function decode(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, {
      imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none",
    });
  } catch {
    throw new Error("not an image that this browser can read");
  }
  const { width, height } = bitmap;
  try {
    const data = overGrey(pixelsOf(bitmap) ?? exactPixelsOf(bitmap));
    return { data, height, width };
  } catch {
    throw new Error("too large for this browser, or transparent, which it cannot read");
  } finally {
    bitmap.close();
  }
}

/** RGBA of an opaque image; null if pixels are transparent: a canvas rounds their colours. */
function pixelsOf(bitmap) {
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, bitmap.width, bitmap.height);
  for (let i = 3; i < data.length; i += 4) if (data[i] < 255) return null;
  return data;
}

/** RGBA as it is in the file. */
function exactPixelsOf(bitmap) {
  const { width, height } = bitmap, gl = new OffscreenCanvas(1, 1).getContext("webgl");
  if (Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) throw new Error("too large");
  const texture = gl.createTexture();
  gl.bindTexture(gl.TEXTURE_2D, texture);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const rgba = new Uint8Array(width * height * 4);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, rgba);
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return rgba;
}

/** RGB of RGBA over mid-grey. */
function overGrey(rgba) {
  const data = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; to < data.length; from += 4, to += 3) {
    const alpha = rgba[from + 3];
    for (let c = 0; c < 3; c++) {
      data[to + c] = alpha === 255 ? rgba[from + c] : Math.round((rgba[from + c] * alpha + 128 * (255 - alpha)) / 255);
    }
  }
  return data;
}

const BICUBIC = {
  support: 2,
  weight: (x) => {
    x = Math.abs(x);
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
  },
};
const BILINEAR = { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) };
const ONE = 2 ** 22; // weights are integers, in units of 1 / ONE

/** For each place of a resized line: where its source begins, and integer weights. */
function lineWeights(size, resized, filter) {
  const scale = size / resized, wider = Math.max(scale, 1), reach = filter.support * wider, lines = [];
  for (let i = 0; i < resized; i++) {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(size, Math.trunc(centre + reach + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(filter.weight((x - centre + 0.5) / wider));
    const total = weights.reduce((a, b) => a + b, 0);
    lines.push({ first, weights: weights.map((w) => Math.trunc((w / total) * ONE + (w < 0 ? -0.5 : 0.5))) });
  }
  return lines;
}

/** Resizes an image as Pillow does: along rows, then along columns, each rounded to 8 bits. */
function resize(image, height, width, filter) {
  const clip = (sum) => Math.max(0, Math.min(255, Math.floor(sum / ONE)));
  let { data } = image;
  if (width !== image.width) {
    const out = new Uint8Array(image.height * width * 3);
    lineWeights(image.width, width, filter).forEach(({ first, weights }, x) => {
      for (let y = 0; y < image.height; y++) {
        for (let c = 0; c < 3; c++) {
          let sum = ONE / 2, at = (y * image.width + first) * 3 + c;
          for (const weight of weights) { sum += weight * data[at]; at += 3; }
          out[(y * width + x) * 3 + c] = clip(sum);
        }
      }
    });
    data = out;
  }
  if (height !== image.height) {
    const row = width * 3, out = new Uint8Array(height * row);
    lineWeights(image.height, height, filter).forEach(({ first, weights }, y) => {
      for (let x = 0; x < row; x++) {
        let sum = ONE / 2, at = first * row + x;
        for (const weight of weights) { sum += weight * data[at]; at += row; }
        out[y * row + x] = clip(sum);
      }
    });
    data = out;
  }
  return { data, height, width };
}

const MOST_PIXELS = 178_000_000;

/** Resizes an image for a model: to a shorter side, or to [height, width]; no side is then below `least`. */
function fit(image, least, to) {
  if (Array.isArray(to)) {
    image = resize(image, to[0], to[1], BICUBIC);
    to = 0;
  }
  const shorter = Math.min(image.height, image.width), wanted = Math.max(to || shorter, least);
  if (wanted === shorter) return image;
  const [height, width] = [image.height, image.width].map(
    (side) => Math.max(wanted, Math.floor((side * wanted) / shorter + 0.5)),
  );
  if (height * width > MOST_PIXELS) throw new Error("too narrow; crop it to a less elongated shape");
  return resize(image, height, width, BICUBIC);
}

/** The copy of an image at a scale: sides divided by `divisor`; 0 makes both `crop` pixels. */
function shrink(image, divisor, crop) {
  if (divisor === 1) return image;
  const [height, width] = [image.height, image.width].map(
    (side) => (divisor ? Math.max(Math.floor(side / divisor), 1) : crop),
  );
  return resize(image, height, width, BILINEAR);
}

function spread(height, width, crop, rows, columns) {
  const line = (n, side) => Array.from(
    { length: n }, (_, i) => Math.floor(n > 1 ? (i * (side - crop)) / (n - 1) : (side - crop) / 2),
  );
  const lefts = line(columns, width);
  return line(rows, height).flatMap((top) => lefts.map((left) => [top, left]));
}

/** Rows and columns of at most n crops whose cells have the shortest longer side. */
function latticeShape(height, width, crop, n) {
  const mostRows = Math.ceil(height / crop), mostColumns = Math.ceil(width / crop);
  let best = null;
  for (let rows = 1; rows <= Math.min(mostRows, n); rows++) {
    const columns = Math.min(mostColumns, Math.floor(n / rows));
    const misses = rows < Math.min(2, mostRows) || columns < Math.min(2, mostColumns);
    const sides = [height / rows, width / columns];
    const key = [Number(misses), Math.max(...sides), Math.min(...sides)];
    const differs = best ? key.findIndex((value, i) => value !== best.key[i]) : 0;
    if (!best || (differs >= 0 && key[differs] < best.key[differs])) best = { key, rows, columns };
  }
  return [best.rows, best.columns];
}

function five(height, width, crop) {
  const bottom = height - crop, right = width - crop, half = Math.floor(crop / 2);
  const centre = [Math.floor(height / 2) - half, Math.floor(width / 2) - half];
  return [centre, [0, 0], [bottom, 0], [0, right], [bottom, right]];
}

/** [top, left] of the crops of an image by a policy: grid, overlap, five, auto:N or whole. */
function corners(policy, height, width, crop, stride) {
  const [kind, count] = policy.split(":"), rows = Math.ceil(height / crop), columns = Math.ceil(width / crop);
  if (kind === "grid") return spread(height, width, crop, rows, columns);
  if (kind === "overlap") return spread(height, width, crop, 2 * rows - 1, 2 * columns - 1);
  if (kind === "auto") return spread(height, width, crop, ...latticeShape(height, width, crop, Number(count)));
  if (kind === "five") return five(height, width, crop);
  const places = [];
  for (let top = 0; top + crop <= height; top += stride) {
    for (let left = 0; left + crop <= width; left += stride) places.push([top, left]);
  }
  return places;
}

/** Copies a square of an image into `out` at `at`; what lies outside the image stays as it is, black. */
function cut(image, top, left, crop, out, at) {
  const first = Math.max(left, 0), last = Math.min(left + crop, image.width);
  for (let y = Math.max(top, 0); y < Math.min(top + crop, image.height); y++) {
    const from = (y * image.width + first) * 3, to = (y * image.width + last) * 3;
    out.set(image.data.subarray(from, to), at + ((y - top) * crop + first - left) * 3);
  }
}

/** The places of an image's crops, and make(first, last), the pixels of some of them: (n, S crop, crop, 3). */
function cropsOf(image, { policy, side: crop, scales, stride, min_side: least, resize: to }) {
  const fitted = fit(image, least, to), places = corners(policy, fitted.height, fitted.width, crop, stride);
  const copies = scales.map((divisor) => {
    const copy = shrink(fitted, divisor, crop);
    if (policy === "five" && divisor) return { copy, places: five(copy.height, copy.width, crop) };
    const moved = (at, side, smaller) => Math.floor((at * (smaller - crop)) / Math.max(side - crop, 1));
    return {
      copy,
      places: places.map(([top, left]) => [
        moved(top, fitted.height, copy.height), moved(left, fitted.width, copy.width),
      ]),
    };
  });
  const size = crop * crop * 3;
  const make = (first, last) => {
    const out = new Uint8Array((last - first) * scales.length * size);
    for (let i = first; i < last; i++) {
      copies.forEach(({ copy, places }, s) => {
        cut(copy, ...places[i], crop, out, ((i - first) * scales.length + s) * size);
      });
    }
    return out;
  };
  return { places, height: fitted.height, width: fitted.width, make };
}
