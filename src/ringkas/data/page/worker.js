// The model, in a worker of its own: typing never waits for it. Texts in, vectors of length 1 out.
import { AutoModel, AutoTokenizer, env } from "./vendor/transformers.min.js";

env.allowRemoteModels = false;
env.allowLocalModels = true;
env.localModelPath = new URL("./", import.meta.url).pathname; // of a whole address it looks for no file
env.useBrowserCache = false; // the service worker keeps the files
env.useWasmCache = false;
env.backends.onnx.wasm.numThreads = 1;
env.backends.onnx.wasm.wasmPaths = {
  mjs: new URL("./vendor/ort-wasm-simd-threaded.mjs", import.meta.url).href,
  wasm: new URL("./vendor/ort-wasm-simd-threaded.wasm", import.meta.url).href,
};

let tokenizer, model, last = 0;

async function open({ dtype }) {
  tokenizer = await AutoTokenizer.from_pretrained("model");
  model = await AutoModel.from_pretrained("model", { dtype, device: "wasm" });
  return {};
}

async function encode({ text }) {
  const started = performance.now();
  // Composed as most keyboards do: decomposed Hangul has other tokens.
  const inputs = tokenizer([text.normalize("NFC")], { truncation: true });
  const { sentence_embedding } = await model(inputs);
  const vector = Float32Array.from(sentence_embedding.data);
  let length = 0;
  for (const value of vector) length += value * value;
  length = Math.sqrt(length) || 1;
  for (let place = 0; place < vector.length; place += 1) vector[place] /= length;
  return { vector, milliseconds: performance.now() - started };
}

const calls = { open, encode };
let chain = Promise.resolve();
self.onmessage = ({ data }) => {
  if (data.latest) last = data.id;
  chain = chain.then(async () => {
    // Of queries that pile up while one runs, only the newest is answered.
    if (data.latest && data.id !== last) return self.postMessage({ id: data.id, skipped: true });
    try {
      self.postMessage({ id: data.id, ...(await calls[data.call](data)) });
    } catch (error) {
      self.postMessage({ id: data.id, error: String(error?.message ?? error) });
    }
  });
};
