"use strict";
// The engine of the page of `jaxiqa serve`, as engine.js describes engines: it asks the server that the page is from.

const TRIES = 4; // for an image, while the server is busy
const SHOWN = 0.1; // the least probability of a family that is shown, as in jaxiqa/scoring/explain.py

class ServerEngine {
  promise = "Images are sent to this server, which scores them and keeps none.";
  formats = "PNG, JPEG, WebP, TIFF and other images";
  #config;
  #say;
  #token = ""; // in memory only

  constructor(config) {
    this.#config = config;
  }

  async start(say) {
    this.#say = say;
    for (let answer; !(answer = await this.#send("healthz")).ok; await pause(answer)) {
      const { status, error } = await valuesOf(answer);
      if (status !== "starting") throw new Error(error ?? "The server is about to end. Load this page again later.");
    }
    if (this.#config.token) await this.#askForToken("");
  }

  async score(file) {
    const most = this.#config.max_bytes, format = (n) => n.toLocaleString("en");
    if (file.size > most) throw new Error(`${format(file.size)} bytes, more than the limit of this server, ${format(most)}`);
    const body = await file.arrayBuffer().catch(() => { throw new Error("the file cannot be read"); });
    for (let tries = 1; ; ) {
      const answer = await this.#send("score", { method: "POST", body });
      if (answer.status === 401) {
        await this.#askForToken("The server no longer takes the token.");
      } else if ([429, 503].includes(answer.status) && tries++ < TRIES) {
        await pause(answer);
      } else {
        const { images, error } = await valuesOf(answer);
        if (!answer.ok || !images) throw new Error(error ?? `the server answers with the status ${answer.status}`);
        return { ...images[0], reasons: this.#reasons(images[0]) };
      }
    }
  }

  #reasons(row) {
    const seen = this.#config.families.filter((name) => row[name] >= SHOWN).sort((a, b) => row[b] - row[a]);
    const text = seen.map((name) => `${name} ${Math.round(100 * row[name])} %`).join(", ");
    const severity = typeof row.severity === "number" ? `; severity ${row.severity.toFixed(1)} of 5` : "";
    return text ? [text + severity] : [];
  }

  /** Asks until the server takes a token. */
  async #askForToken(fault) {
    const form = document.createElement("form"), add = (tag, parts) => {
      const element = Object.assign(document.createElement(tag), parts);
      form.append(element);
      return element;
    };
    form.id = "ask";
    add("label", { htmlFor: "token", textContent: "Token" });
    const input = add("input", { type: "password", id: "token", autocomplete: "off" });
    add("button", { className: "primary", textContent: "Continue" });
    const alert = add("p", { role: "alert", textContent: fault });
    document.getElementById("drop").after(form);
    this.#say("This server needs a token.");
    for (;;) {
      input.focus();
      input.select();
      await new Promise((resolve) => {
        form.onsubmit = (event) => {
          event.preventDefault();
          resolve();
        };
      });
      this.#token = input.value.trim();
      if (/^[!-~]+$/.test(this.#token) && (await this.#send("metrics")).status !== 401) break;
      alert.textContent = "This is not the token of the server.";
    }
    form.remove();
    this.#say("");
  }

  /** The answer of the server; that it cannot be reached is a 503 too. */
  async #send(path, options = {}) {
    const headers = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
    try {
      return await fetch(path, { ...options, headers });
    } catch {
      return Response.json({ error: "The server does not answer. Check the connection." }, { status: 503 });
    }
  }
}

const makeEngine = (config) => new ServerEngine(config);

/** Waits as long as an answer says, else for a second. */
function pause(answer) {
  return new Promise((resolve) => setTimeout(resolve, 1000 * (Number(answer.headers.get("Retry-After")) || 1)));
}

/** The JSON of an answer; {} if it has none, e.g. because a proxy answers. */
async function valuesOf(answer) {
  return answer.json().catch(() => ({}));
}
