// Plays a demo page in headless Chromium: types, reads the ranking, asks for vectors, goes offline, takes pictures.
//   node play_page.mjs URL PLAN.json FOLDER      (playwright-core must be installed where this file lies)
// PLAN.json: { chromium, queries: [text], vectors: [text], lines: [text], line_query }. JSON on stdout.
import { readFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const [url, planFile, folder] = process.argv.slice(2);
const plan = JSON.parse(await readFile(planFile, "utf-8"));
const PATIENCE = plan.patience ?? 240_000;
const flags = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const browser = await chromium.launch({ executablePath: plan.chromium, args: flags, timeout: PATIENCE });
const context = await browser.newContext({ viewport: { width: 1200, height: 900 } });
context.setDefaultTimeout(PATIENCE);
const page = await context.newPage();
const said = [], outside = [];
page.on("console", (message) => { if (["error", "warning"].includes(message.type())) said.push(message.text()); });
page.on("pageerror", (error) => said.push(String(error)));
context.on("request", (request) => {
  if (!request.url().startsWith(url) && !/^(data|blob):/.test(request.url())) outside.push(request.url());
});

// The page's own policy forbids what playwright's waitForFunction does there.
async function until(condition, given) {
  const end = performance.now() + PATIENCE;
  while (!(await page.evaluate(condition, given))) {
    if (performance.now() > end) throw new Error(`never came true: ${condition}; the page says ${await page.textContent("#status")}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const started = performance.now();
await page.goto(url);
await until("globalThis.ringkasDemo?.ready");
const opened = performance.now() - started;

async function first(text) {
  await page.focus("#query");
  await page.fill("#query", "");
  await page.type("#query", text);
  await until((asked) => document.querySelector("#results").dataset.query === asked, text);
  return page.textContent("#results li:first-child div:first-child");
}

const found = { opened, first: [], vectors: [], said, outside };
for (const text of plan.queries) {
  found.first.push(await first(text));
  found.first_result ??= performance.now() - started;
}
await until("globalThis.ringkasDemo.cosine !== undefined");
found.cosine = await page.evaluate("globalThis.ringkasDemo.cosine");
found.facts = await page.textContent("#facts");
for (const text of plan.vectors) found.vectors.push(await page.evaluate((asked) => ringkasDemo.encode(asked), text));
await page.screenshot({ path: `${folder}/wide.png` });

await page.setViewportSize({ width: 360, height: 740 });
await page.emulateMedia({ colorScheme: "dark" });
found.overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
await page.screenshot({ path: `${folder}/phone.png` });

// By keyboard alone: open the part for one's own lines, write, press the button.
await page.focus("summary");
await page.keyboard.press("Enter");
await page.keyboard.press("Tab");
await page.keyboard.insertText(plan.lines.join("\n"));
await page.keyboard.press("Tab");
found.focused = await page.evaluate("document.activeElement.id");
await page.keyboard.press("Enter");
await until("!document.querySelector('#use-bundled').disabled");
found.first_line = await first(plan.line_query);
found.labels = await page.evaluate(
  "[...document.querySelectorAll('input, textarea')].every((field) => field.labels.length === 1)",
);
await page.screenshot({ path: `${folder}/lines.png`, fullPage: true });

// Without a connection: all that the page needs was kept.
await until("document.querySelector('#fact-offline').textContent === 'works'");
await context.setOffline(true);
await page.reload();
await until("globalThis.ringkasDemo?.ready");
found.offline = await first(plan.queries[0]);
await browser.close();
console.log(JSON.stringify(found));
