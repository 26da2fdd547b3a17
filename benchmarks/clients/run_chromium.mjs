// transformers.js in Chromium, as it comes: run_chromium.mjs PACKAGES BROWSER CHROMIUM DTYPE REQUEST.
// The model card's own lines run in a page; only where onnxruntime-web's files lie is said, since no other
// address can be reached. Which of its builds was then asked for is in the answer.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";

const [packages, browserPackages, executablePath, dtype, file] = process.argv.slice(2);
const request = JSON.parse(readFileSync(file, "utf-8"));
const { chromium } = createRequire(join(browserPackages, "package.json"))("playwright-core");
const PLACES = { npm: join(packages, "node_modules"), models: dirname(request.folder) };
const TYPES = {
  ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript",
  ".wasm": "application/wasm", ".json": "application/json",
};

async function inPage({ name, dtype, cases }) {
  const { AutoModel, AutoTokenizer, env } = await import("/npm/@huggingface/transformers/dist/transformers.min.js");
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = "/models/";
  env.backends.onnx.wasm.wasmPaths = `${location.origin}/npm/onnxruntime-web/dist/`;
  const tokenizer = await AutoTokenizer.from_pretrained(name);
  const model = await AutoModel.from_pretrained(name, dtype ? { dtype } : {});
  const rows = [];
  for (const { prompt, text } of cases) {
    const inputs = await tokenizer([prompt + text], { padding: true, truncation: true });
    const { sentence_embedding } = await model(inputs);
    rows.push(Array.from(sentence_embedding.data));
  }
  return { version: env.version, rows };
}

const asked = new Set();
const server = createServer((incoming, answer) => {
  const [, place, ...rest] = decodeURIComponent(new URL(incoming.url, "http://localhost").pathname).split("/");
  if (place === "") return answer.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>t</title>");
  const found = PLACES[place] && join(PLACES[place], ...rest);
  if (!found || !existsSync(found) || !statSync(found).isFile()) return answer.writeHead(404).end();
  if (extname(found) === ".wasm") asked.add(basename(found));
  const headers = { "Content-Type": TYPES[extname(found)] ?? "application/octet-stream", "Content-Length": statSync(found).size };
  answer.writeHead(200, headers);
  createReadStream(found).pipe(answer);
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const flags = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const browser = await chromium.launch({ executablePath, args: flags, timeout: 240_000 });
const page = await browser.newPage();
page.on("pageerror", (error) => console.error(String(error)));
await page.goto(`http://127.0.0.1:${server.address().port}/`);
const { version, rows } = await page.evaluate(inPage, { name: basename(request.folder), dtype, cases: request.cases });
const versions = { "transformers.js": version, Chromium: browser.version() };
await browser.close();
process.stdout.write(JSON.stringify({ versions, builds: [...asked], rows }) + "\n", () => process.exit());
