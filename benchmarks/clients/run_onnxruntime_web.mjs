// onnxruntime-web in Node, given the facade's token ids: run_onnxruntime_web.mjs PACKAGES BUILD REQUEST.
// BUILD: plain, or asyncify, which transformers.js and `onnxruntime-web/webgpu` load by default in a browser.
// Node must be started with --liftoff-only: else it optimises all of the larger build's code before it ends.
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, build, file] = process.argv.slice(2);
const request = JSON.parse(readFileSync(file, "utf-8"));
const folder = join(packages, "node_modules", "onnxruntime-web");
const ort = await import(pathToFileURL(join(folder, "dist", build === "plain" ? "ort.wasm.mjs" : "ort.webgpu.mjs")));
const wasm = join(folder, "dist", `ort-wasm-simd-threaded${build === "plain" ? "" : `.${build}`}`);
ort.env.logLevel = "error";
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = { mjs: pathToFileURL(`${wasm}.mjs`).href, wasm: pathToFileURL(`${wasm}.wasm`).href };
ort.env.wasm.wasmBinary = readFileSync(`${wasm}.wasm`).buffer;
const graph = join(request.folder, request.model_file);
const options = { executionProviders: ["wasm"] };
const beside = `${graph}_data`;
if (existsSync(beside)) options.externalData = [{ path: basename(beside), data: readFileSync(beside) }];
const session = await ort.InferenceSession.create(readFileSync(graph), options);
const rows = [];
for (const { ids } of request.cases) {
  const shape = [1, ids.length];
  const feed = {
    input_ids: new ort.Tensor("int64", BigInt64Array.from(ids, BigInt), shape),
    attention_mask: new ort.Tensor("int64", new BigInt64Array(ids.length).fill(1n), shape),
  };
  const { sentence_embedding } = await session.run(feed, ["sentence_embedding"]);
  rows.push(Array.from(sentence_embedding.data));
}
const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf-8"));
process.stdout.write(JSON.stringify({ versions: { "onnxruntime-web": version }, rows }), () => process.exit());
