"use strict";
// An engine scores files. makeEngine(config) returns it, an object with
//   promise: what happens to the images, in a sentence or two that the user sees.
//   formats: which files are images, in a phrase that the user sees.
//   start(say): prepares it; a promise, rejected with an Error that says what to do. say(text) shows what it waits
//     for, and say("") ends that.
//   score(file): a promise of a row in the columns of `jaxiqa score`, rejected with an Error that says why the image
//     was refused. `map` of a row, if there is one, is {places, scores, crop, height, width}: the crops of the image,
//     [top, left] each, and their scores. `reasons` of a row, if there are any, is a list of texts.
// page.js knows no more, so another engine is another file like this one: server_engine.js asks jaxiqa serve.

/** The engine that runs model.onnx by ONNX Runtime in this browser. */
class LocalEngine {
  promise = "Scores are computed in this browser. No image leaves this device.";
  formats = "PNG, JPEG, WebP, AVIF and what else this browser shows";
  #config;
  #session;

  constructor(config) {
    this.#config = config;
  }

  async start() {
    const { ort: files } = this.#config, embedded = (id) => document.getElementById(id)?.textContent;
    const text = embedded("ort-glue"); // of a single file
    if (!text && "serviceWorker" in navigator && location.protocol !== "file:") {
      navigator.serviceWorker.register("offline.js").catch(() => {}); // the page also works without
    }
    await addScript(text ? null : `ort/${files.script}`);
    const glue = text ? URL.createObjectURL(new Blob([text], { type: "text/javascript" })) : `ort/${files.glue}`;
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
    const at = (path) => new URL(path, location.href).href;
    ort.env.wasm.wasmPaths = { mjs: at(glue), wasm: at(`ort/${files.wasm}`) };
    if (text) ort.env.wasm.wasmBinary = fromBase64(embedded("ort-wasm")).buffer;
    ort.env.logLevel = "error";
    const model = text ? fromBase64(embedded("model")) : new Uint8Array(await load("model.onnx"));
    for (const provider of this.#config.webgpu && navigator.gpu ? ["webgpu", "wasm"] : ["wasm"]) {
      try {
        this.#session = await ort.InferenceSession.create(model, { executionProviders: [provider] });
        await this.#check();
        return;
      } catch (error) {
        if (provider === "wasm") throw error;
      }
    }
  }

  /** Scores a made crop, whose score is known: not every browser and graphics card computes as it should. */
  async #check() {
    const { crops, check } = this.#config, size = crops.side ** 2 * crops.scales.length * 3;
    const crop = Uint8Array.from({ length: size }, (_, i) => (i * 37 + ((i * i) % 8191) * 11) % 256);
    const [score] = (await this.#run(crop, 1)).score;
    if (!(Math.abs(score - check) < 0.1)) throw new Error("This browser computes wrong scores. Use another one.");
  }

  async #run(pixels, count) {
    const { side, scales } = this.#config.crops;
    const tensor = new ort.Tensor("uint8", pixels, [count, side * scales.length, side, 3]);
    const found = await this.#session.run({ crops: tensor });
    return { score: [...found.score.data], output: [...found.output.data] };
  }

  async score(file) {
    const { crops, card } = this.#config, cropped = cropsOf(await decode(file), crops);
    const scores = [], outputs = [];
    for (let first = 0; first < cropped.places.length; first += BATCH) {
      const last = Math.min(first + BATCH, cropped.places.length);
      const found = await this.#run(cropped.make(first, last), last - first);
      scores.push(...found.score);
      outputs.push(...found.output);
      await new Promise((resolve) => setTimeout(resolve)); // the page stays responsive
    }
    const { places, height, width } = cropped;
    return { ...rowOf(card, outputs), crops: crops.policy, map: { places, scores, crop: crops.side, height, width } };
  }
}

const makeEngine = (config) => new LocalEngine(config);
const BATCH = 5; // crops that are scored at a time

async function load(path) {
  let answer;
  try {
    answer = await fetch(path);
  } catch {
    throw new Error(
      location.protocol === "file:"
        ? "A browser loads this page from a web server only. Serve its folder, or export it with --single_file."
        : `${path} cannot be loaded. Check the connection, then load the page again.`,
    );
  }
  if (!answer.ok) throw new Error(`${path} is not on the server (${answer.status}). Copy the whole folder there.`);
  return answer.arrayBuffer();
}

function addScript(path) {
  if (!path) return Promise.resolve(); // it is in the page
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = path;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${path} cannot be loaded. Copy the whole folder to the server.`));
    document.head.append(script);
  });
}

function fromBase64(text) {
  return Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
}
