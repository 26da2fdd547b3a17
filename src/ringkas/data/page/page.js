// The page: reads what was built, asks the worker for vectors, ranks by cosine as one types.
const at = (id) => document.getElementById(id);
const SHOWN = 10;
const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let number = 0;

worker.onmessage = ({ data }) => {
  const { resolve, reject } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) reject(new Error(data.error));
  else resolve(data);
};
worker.onerror = (event) => say(`The model could not be opened: ${event.message}`);

function ask(call, given = {}) {
  const id = (number += 1);
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ id, call, ...given });
  });
}

const say = (text) => { at("status").textContent = text; };

function dot(left, right, start = 0) {
  let sum = 0;
  for (let place = 0; place < left.length; place += 1) sum += left[place] * right[start + place];
  return sum;
}

let site, bundled, searched;

async function start() {
  site = await (await fetch("site.json")).json();
  const vectors = new Float32Array(await (await fetch("vectors.bin")).arrayBuffer());
  bundled = { texts: site.passages, vectors, name: `${site.passages.length} bundled passages` };
  searched = bundled;
  at("fact-model").textContent = `${site.name}, ${site.target}`;
  at("fact-size").textContent = `${(site.bytes / 1e6).toFixed(1)} MB`;
  const opened = performance.now();
  await ask("open", { dtype: site.dtype });
  const seconds = (performance.now() - opened) / 1000;
  for (const text of site.examples) at("examples").append(example(text));
  for (const id of ["query", "use-lines"]) at(id).disabled = false;
  say(`Ready in ${seconds.toFixed(1)} s. ${bundled.name}.`);
  at("query").focus();
  globalThis.ringkasDemo.ready = true;
  await compare();
}

function example(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.onclick = () => { at("query").value = text; search(); at("query").focus(); };
  return button;
}

// Texts whose vectors by the original model came along: how near are those that this device computes?
async function compare() {
  let least = 1;
  for (const { text, vector } of site.reference) {
    const found = await ask("encode", { text });
    least = Math.min(least, dot(found.vector, vector));
  }
  if (site.reference.length) {
    at("fact-cosine").textContent = `${least.toFixed(4)} at least, ${site.reference.length} texts`;
  }
  globalThis.ringkasDemo.cosine = least;
}

async function search() {
  const text = at("query").value.trim();
  if (!text) return show([]);
  const found = await ask("encode", { text: site.query_prompt + text, latest: true });
  if (found.skipped) return;
  const width = found.vector.length;
  const ranked = searched.texts
    .map((passage, index) => ({ passage, score: dot(found.vector, searched.vectors, index * width) }))
    .sort((left, right) => right.score - left.score);
  at("fact-latency").textContent = `${found.milliseconds.toFixed(0)} ms`;
  say(`${Math.min(SHOWN, ranked.length)} of ${searched.name}, ${found.milliseconds.toFixed(0)} ms.`);
  show(ranked.slice(0, SHOWN), text);
}

function show(ranked, query = "") {
  // Cosines of one model crowd together: bars show the difference from the least that is listed.
  const low = ranked.length ? ranked[ranked.length - 1].score : 0;
  const span = ranked.length ? Math.max(ranked[0].score - low, 1e-6) : 1;
  at("results").replaceChildren(...ranked.map(({ passage, score }) => {
    const item = document.createElement("li");
    const text = document.createElement("div");
    text.textContent = passage;
    text.dir = "auto";
    const line = document.createElement("div");
    line.className = "score";
    const bar = document.createElement("i");
    bar.style.width = `${4 + 40 * ((score - low) / span)}%`;
    bar.setAttribute("aria-hidden", "true");
    const value = document.createElement("span");
    value.textContent = score.toFixed(3);
    line.append(value, bar);
    item.append(text, line);
    return item;
  }));
  at("results").dataset.query = query;
}

async function useLines() {
  const texts = at("lines").value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (!texts.length) return say("There is no line to search.");
  at("use-lines").disabled = true;
  const rows = [];
  for (const text of texts) {
    rows.push((await ask("encode", { text: site.document_prompt + text })).vector);
    say(`${rows.length} of ${texts.length} lines read.`);
  }
  const vectors = new Float32Array(rows.length * rows[0].length);
  rows.forEach((row, index) => vectors.set(row, index * row.length));
  searched = { texts, vectors, name: `${texts.length} lines of yours` };
  at("use-lines").disabled = false;
  at("use-bundled").disabled = false;
  say(`Searching ${searched.name}.`);
  await search();
}

function useBundled() {
  searched = bundled;
  at("use-bundled").disabled = true;
  say(`Searching ${bundled.name}.`);
  return search();
}

let pause;
at("query").addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(() => search().catch((error) => say(error.message)), 80);
});
at("use-lines").onclick = () => useLines().catch((error) => say(error.message));
at("use-bundled").onclick = () => useBundled().catch((error) => say(error.message));

// What a test, or the console, may ask.
globalThis.ringkasDemo = {
  ready: false,
  encode: async (text) => Array.from((await ask("encode", { text })).vector),
};

if ("serviceWorker" in navigator) {
  navigator.serviceWorker.register("offline.js")
    .then(() => navigator.serviceWorker.ready)
    .then(() => { at("fact-offline").textContent = "works"; })
    .catch(() => { at("fact-offline").textContent = "no"; });
} else {
  at("fact-offline").textContent = "no";
}
start().catch((error) => say(`The model could not be opened: ${error.message}`));
