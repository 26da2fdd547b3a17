// transformers.js in Node: run_transformers_js.mjs PACKAGES DTYPE REQUEST. An empty DTYPE leaves it to config.json.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, dtype, file] = process.argv.slice(2);
const request = JSON.parse(readFileSync(file, "utf-8"));
console.log = console.info = console.debug = console.warn = console.error;
const find = createRequire(join(packages, "package.json"));
const { env, pipeline } = await import(pathToFileURL(find.resolve("@huggingface/transformers")));
env.allowRemoteModels = false;
env.localModelPath = dirname(request.folder);
const options = dtype ? { dtype } : {};
const extractor = await pipeline("feature-extraction", basename(request.folder), { ...options, device: "cpu" });
const rows = [];
for (const { prompt, text } of request.cases) {
  const { data } = await extractor([prompt + text], { pooling: "mean", normalize: true });
  rows.push(Array.from(data));
}
process.stdout.write(JSON.stringify({ versions: { "transformers.js": env.version }, rows }) + "\n");
