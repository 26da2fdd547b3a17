// transformers.js on Node: run_transformers_js.mjs ENVIRONMENT DTYPE. Speaks the lines that worker.py describes.
// Texts are sorted by length and go 8 at a time: the library itself pads all that it is given to one length.
// A text over the limit loses its closing [SEP] in 4.3.1 (cosine 0.996 with the reference); all else is exact.

import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [environment, dtype, stated] = process.argv.slice(2);
const { model, threads } = JSON.parse(stated);
const BATCH = 8;
const FEWEST = 3;
const WARM_UP_SECONDS = 1.5;
const SERVED_AT_ONCE = 64;

// Answers alone go to stdout.
console.log = console.info = console.debug = console.error;
const answer = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const seconds = () => performance.now() / 1000;

const started = seconds();
const find = createRequire(join(environment, "package.json")).resolve("@huggingface/transformers");
const { env, pipeline } = await import(pathToFileURL(find));
env.allowRemoteModels = false;
env.localModelPath = dirname(model);
const extractor = await pipeline("feature-extraction", basename(model), {
  dtype,
  device: "cpu",
  session_options: threads ? { intraOpNumThreads: threads } : {},
});

async function encode(texts) {
  const order = texts.map((_, row) => row).sort((a, b) => texts[a].length - texts[b].length);
  const rows = new Array(texts.length);
  for (let start = 0; start < order.length; start += BATCH) {
    const chosen = order.slice(start, start + BATCH);
    const output = await extractor(chosen.map((row) => texts[row]), { pooling: "mean", normalize: true });
    const width = output.dims[1];
    chosen.forEach((row, place) => (rows[row] = output.data.slice(place * width, (place + 1) * width)));
  }
  return rows;
}

function* calls(texts, each) {
  for (;;) {
    if (each) for (const text of texts) yield [text];
    else yield texts;
  }
}

async function measure(texts, each, limit, fewest) {
  const samples = [];
  const until = seconds() + limit;
  for (const call of calls(texts, each)) {
    const began = seconds();
    await encode(call);
    samples.push({ total: seconds() - began });
    if (samples.length >= fewest && seconds() > until) return samples;
  }
}

// Numbers between 0 and 1, the same for the same seed: a linear congruential generator of 48 bits.
function* chances(seed) {
  let state = (BigInt(seed) ^ 0x5deece66dn) & 0xffffffffffffn;
  for (;;) {
    state = (state * 0x5deece66dn + 11n) & 0xffffffffffffn;
    yield Number(state) / 2 ** 48;
  }
}

// As in worker.py, but that the arrivals are others: a Poisson process of the same rate.
async function serve(texts, { rate, seconds: limit, seed }) {
  const chance = chances(seed);
  const next = () => chance.next().value;
  const arrivals = [];
  for (let time = 0; arrivals.length < Math.max(1, Math.round(rate * limit)); arrivals.push(time)) {
    time -= Math.log(1 - next()) / rate;
  }
  const chosen = arrivals.map(() => texts[Math.floor(next() * texts.length)]);
  const latencies = [];
  const began = seconds();
  while (latencies.length < arrivals.length) {
    const now = seconds() - began;
    const first = latencies.length;
    if (now > 2 * limit) break;
    let last = first;
    while (last < arrivals.length && arrivals[last] <= now && last < first + SERVED_AT_ONCE) last++;
    if (last === first) {
      await new Promise((done) => setTimeout(done, 1000 * (arrivals[first] - now)));
      continue;
    }
    await encode(chosen.slice(first, last));
    const done = seconds() - began;
    for (let row = first; row < last; row++) latencies.push(done - arrivals[row]);
  }
  return { latencies, unfinished: arrivals.length - latencies.length };
}

function peakBytes() {
  try {
    return 1024 * Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
  } catch {
    return 1024 * process.resourceUsage().maxRSS;
  }
}

await encode(["first vector"]);
const version = (name) => createRequire(join(environment, "package.json"))(`${name}/package.json`).version;
answer({
  load_s: seconds() - started,
  versions: { "transformers.js": env.version, node: process.version, "onnxruntime-node": version("onnxruntime-node") },
  threads,
});

const cases = {};
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  if (request.do === "encode") {
    const rows = await encode(request.texts);
    const flat = Float32Array.from(rows.flatMap((row) => Array.from(row)));
    answer({
      vectors: Buffer.from(flat.buffer).toString("base64"),
      shape: [rows.length, rows[0].length],
    });
  } else if (request.do === "warm_up") {
    cases[request.case] = request.texts;
    await measure(request.texts, request.each ?? false, WARM_UP_SECONDS, 1);
    answer({});
  } else if (request.do === "time") {
    answer({ samples: await measure(cases[request.case], request.each ?? false, request.seconds, FEWEST) });
  } else if (request.do === "serve") {
    answer(await serve(cases[request.case], request));
  } else if (request.do === "memory") {
    answer({ peak_bytes: peakBytes() });
  } else {
    throw new Error(`unknown request ${request.do}`);
  }
}
