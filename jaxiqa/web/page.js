"use strict";
// What the user sees: files in, a list of results, one result at a time in a dialog.

const config = JSON.parse(document.getElementById("config").textContent);
const engine = makeEngine(config);
const at = (id) => document.getElementById(id);
const results = []; // {file, path, row or null, item}
let ready = false, working = false;

const number = (value, digits = 1) => value.toFixed(digits);
const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);

function make(tag, text, attributes = {}) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.textContent = text;
  return element;
}

/** What is said of a scored image beside its number. */
function sentence(row) {
  const parts = [row.word];
  if (known(row.percentile)) parts.push(`better than ${Math.round(row.percentile)} % of the reference images`);
  if (known(row.lo)) parts.push(`people: ${number(row.lo, 0)} to ${number(row.hi, 0)}`);
  return parts.filter(Boolean).join(" · ");
}

function state() {
  const done = results.filter(({ row }) => row).length, bar = at("progress");
  const refused = results.filter(({ row }) => row?.status === "refused").length;
  bar.hidden = done === results.length;
  bar.max = results.length || 1;
  bar.value = done;
  at("results").hidden = !results.length;
  document.body.classList.toggle("empty", !results.length);
  if (!ready) return;
  const images = (n) => (n === 1 ? "1 image" : `${n} images`);
  at("state").textContent = !results.length
    ? engine.formats
    : done < results.length
      ? `Scoring ${done + 1} of ${images(results.length)} …`
      : `${images(done - refused)} scored${refused ? `, ${refused} refused` : ""}`;
}

function show(result) {
  const { item, row } = result;
  const [open, more, value] = ["open", "more", "number"].map((name) => item.querySelector(`.${name}`));
  open.disabled = !row || row.status === "refused";
  item.classList.toggle("refused", row?.status === "refused");
  item.classList.toggle("waiting", !row);
  if (!row) {
    more.textContent = "waiting";
  } else if (row.status === "refused") {
    more.textContent = row.reason;
    value.textContent = "–";
  } else {
    more.textContent = sentence(row);
    value.textContent = number(row.score);
    const place = (score) => `${Math.max(0, Math.min(100, score))}%`;
    item.querySelector(".mark").style.left = place(row.score);
    if (known(row.lo)) {
      const band = item.querySelector(".band");
      [band.style.left, band.style.right] = [place(row.lo), place(100 - row.hi)];
    }
    item.dataset.word = row.word;
    open.setAttribute("aria-label", `${result.path}: score ${number(row.score)} of 100, ${sentence(row)}. Show details`);
  }
}

async function thumbnail({ file, item }) {
  const canvas = item.querySelector("canvas"), { width, height } = canvas;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return;
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  bitmap.close();
}

function add(files) {
  for (const file of files) {
    const item = at("row").content.firstElementChild.cloneNode(true);
    const result = { file, path: file.webkitRelativePath || file.name, row: null, item };
    item.querySelector(".name").textContent = result.path;
    item.querySelector(".open").addEventListener("click", () => details(result));
    results.push(result);
    show(result);
  }
  order();
  work();
}

/** Scores what waits, one image after the other. */
async function work() {
  state();
  if (working || !ready) return;
  working = true;
  for (let result; (result = results.find(({ row }) => !row)); ) {
    try {
      await thumbnail(result);
      result.row = { path: result.path, ...(await engine.score(result.file)) };
    } catch (error) {
      result.row = { path: result.path, status: "refused", reason: error.message };
    }
    show(result);
    order();
    state();
  }
  working = false;
}

function order() {
  const value = ({ row }) => row?.score ?? -Infinity;
  const ways = {
    added: () => 0,
    best: (a, b) => value(b) - value(a),
    worst: (a, b) => (a.row?.score ?? Infinity) - (b.row?.score ?? Infinity),
    name: (a, b) => a.path.localeCompare(b.path, undefined, { numeric: true }),
  };
  const sorted = [...results].sort((a, b) => ways[at("sort").value](a, b) || 0);
  const items = sorted.map(({ item }) => item), list = at("list");
  if (items.some((item, i) => list.children[i] !== item)) {
    const focused = document.activeElement;
    list.append(...items);
    if (list.contains(focused)) focused.focus();
  }
}

// The dialog

const COLOURS = [[165, 0, 38], [244, 109, 67], [254, 224, 144], [171, 217, 233], [69, 117, 180], [49, 54, 149]];

function colour(share) {
  const at = Math.max(0, Math.min(1, share)) * (COLOURS.length - 1), i = Math.min(Math.floor(at), COLOURS.length - 2);
  return COLOURS[i].map((value, c) => value + (COLOURS[i + 1][c] - value) * (at - i));
}

/** Draws the mean score of the crops around each point over a canvas; returns the ends of the colours. */
function drawMap(canvas, { places, scores, crop, height, width }) {
  const low = Math.min(...scores), high = Math.max(...scores);
  const half = Math.max(20, high - low) / 2, middle = (low + high) / 2; // an even image is not shown as uneven
  const rows = Math.min(120, height), columns = Math.max(1, Math.round((rows * width) / height));
  const sum = new Float64Array(rows * columns), count = new Float64Array(rows * columns);
  places.forEach(([top, left], i) => {
    const ends = (start, side, n) => [start, start + crop].map((x) => Math.max(0, Math.min(n, Math.round((x * n) / side))));
    const [y0, y1] = ends(top, height, rows), [x0, x1] = ends(left, width, columns);
    for (let y = y0; y < y1; y++) {
      for (let x = x0; x < x1; x++) {
        sum[y * columns + x] += scores[i];
        count[y * columns + x] += 1;
      }
    }
  });
  const small = new OffscreenCanvas(columns, rows), context = small.getContext("2d");
  const pixels = context.createImageData(columns, rows);
  sum.forEach((total, i) => {
    if (count[i]) pixels.data.set([...colour((total / count[i] - middle + half) / (2 * half)), 255], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  canvas.width = columns * 4;
  canvas.height = rows * 4;
  const large = canvas.getContext("2d");
  large.imageSmoothingEnabled = false;
  large.drawImage(small, 0, 0, canvas.width, canvas.height);
  return [middle - half, middle + half];
}

function details({ file, path, row }) {
  const body = at("detail-body"), figure = make("div", "", { className: "figure" });
  const url = URL.createObjectURL(file), image = make("img", "", { src: url, alt: path });
  figure.append(image);
  body.replaceChildren(figure);
  if (row.map) {
    const canvas = make("canvas", "", { className: "map" });
    canvas.setAttribute("aria-hidden", "true");
    figure.append(canvas);
    const ends = drawMap(canvas, row.map), slider = make("input", "", { type: "range", min: 0, max: 100, value: 45 });
    const shown = () => { canvas.style.opacity = slider.value / 100; };
    slider.addEventListener("input", shown);
    shown();
    const label = make("label", "Quality map ");
    label.append(slider);
    const legend = make("span", "", { className: "legend" });
    const bar = make("span", "", { className: "colours" });
    const stops = COLOURS.map((_, i) => `rgb(${colour(i / (COLOURS.length - 1))})`);
    bar.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
    legend.append(number(ends[0], 0), bar, number(ends[1], 0));
    const controls = make("div", "", { className: "controls" });
    controls.append(label, legend);
    const low = Math.min(...row.map.scores), high = Math.max(...row.map.scores);
    const parts = `The scores of ${row.map.scores.length} parts are between ${number(low)} and ${number(high)}. Only coloured parts were scored.`;
    body.append(controls, make("p", parts, { className: "parts" }));
  }
  const facts = [
    ["Score", `${number(row.score)} of 100`], ["In a word", row.word],
    ["Percentile", known(row.percentile) && `better than ${number(row.percentile, 0)} % of the reference images`],
    ["Mean opinion", known(row.lo) && `between ${number(row.lo, 0)} and ${number(row.hi, 0)}, for nine images in ten`],
    ["On the scale of the ratings", known(row.native) && number(row.native, 3)],
    ["Standard error over parts", known(row.se) && number(row.se)],
    ...(row.reasons ?? []).map((text) => ["Reasons", text]),
  ];
  body.append(table(facts));
  at("detail-name").textContent = path;
  const dialog = at("detail");
  dialog.addEventListener("close", () => URL.revokeObjectURL(url), { once: true });
  dialog.showModal();
}

function table(facts) {
  const list = document.createElement("dl");
  for (const [name, value] of facts.filter(([, value]) => value)) list.append(make("dt", name), make("dd", value));
  return list;
}

const families = config.families ?? []; // of the reasons; each is a column
const COLUMNS = [
  "path", "score", "native", "se", "crops", "status", "reason", "percentile", "word", ...families, "lo", "hi",
  ...(families.length ? ["severity"] : []),
];

/** A CSV file of rows, with the columns of `jaxiqa score`. */
function csvOf(rows) {
  const cell = (value) => {
    const text = known(value) ? String(value) : "";
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const lines = rows.map((row) => COLUMNS.map((name) => cell(row[name])).join(","));
  return [COLUMNS.join(","), ...lines, ""].join("\r\n");
}

// Set-up

at("files").addEventListener("change", ({ target }) => {
  add(target.files);
  target.value = "";
});
at("sort").addEventListener("change", order);
at("clear").addEventListener("click", () => {
  results.length = 0;
  at("list").replaceChildren();
  state();
  at("files").focus();
});
at("save").addEventListener("click", () => {
  const rows = results.map(({ row }) => row).filter(Boolean);
  const url = URL.createObjectURL(new Blob([csvOf(rows)], { type: "text/csv" }));
  Object.assign(document.createElement("a"), { href: url, download: "scores.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
document.addEventListener("paste", ({ clipboardData }) => add(clipboardData.files));
at("detail").addEventListener("click", ({ target }) => target === at("detail") && at("detail").close());

const { card } = config;
at("promise").textContent = engine.promise;
at("note").hidden = !card.note;
at("note").textContent = card.note ? `Note: ${card.note}.` : "";
state();
at("facts").append(
  table([
    ["Model", config.model], ["Trained on", card.dataset],
    ["Reference images", card.reference?.of], ["Intervals", card.interval && `calibrated on ${card.interval.of}`],
    ["Parts of an image", `${config.crops.policy}, squares of ${config.crops.side} pixels`],
    ["SHA-256 of the weights", config.weights_sha256], ["Reasons", config.reasons], ["Made by", `jaxiqa ${config.jaxiqa}`],
  ]),
);
engine.start((text) => (text ? (at("state").textContent = text) : state())).then(
  () => {
    ready = true;
    document.body.classList.add("ready");
    work();
  },
  (error) => {
    at("fault").hidden = false;
    at("fault").textContent = `The model cannot be started. ${error.message}`;
    at("state").textContent = "No image can be scored.";
    at("files").disabled = true;
  },
);
