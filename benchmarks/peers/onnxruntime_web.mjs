// Runs a graph with onnxruntime-web's WebAssembly: the rows of ids in a JSON file to vectors on stdout.
//   node onnxruntime_web.mjs GRAPH ROWS.json      (onnxruntime-web must be installed where this file lies)
import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-web";

const [graph, rows] = process.argv.slice(2);
ort.env.logLevel = "error";
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(await readFile(graph), { executionProviders: ["wasm"] });
const vectors = [];
for (const row of JSON.parse(await readFile(rows, "utf-8"))) {
  const shape = [1, row.length];
  const { sentence_embedding } = await session.run(
    {
      input_ids: new ort.Tensor("int64", BigInt64Array.from(row, BigInt), shape),
      attention_mask: new ort.Tensor("int64", new BigInt64Array(row.length).fill(1n), shape),
    },
    ["sentence_embedding"],
  );
  vectors.push(Array.from(sentence_embedding.data));
}
console.log(JSON.stringify(vectors));
