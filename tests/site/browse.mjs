// Opens pages of the site in Chromium and prints, as JSON, what a visitor would meet there.
//
//     node browse.mjs FOLDER_WITH_NODE_MODULES CHROMIUM ADDRESS PICTURES PAGE...

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [folder, executablePath, address, pictures, ...paths] = process.argv.slice(2);
const require = createRequire(`${folder}/`);
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const SCREENS = {
  desktop: { width: 1280, height: 900 },
  phone: { width: 390, height: 844, isMobile: true, hasTouch: true },
};
const SHIFTS = `
  globalThis.shifted = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) globalThis.shifted += entry.value;
  }).observe({ type: "layout-shift", buffered: true });`;

const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--no-proxy-server"] });

async function open(path, screen, scheme) {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const seen = { errors: [], requests: [] };
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("requestfinished", (request) => seen.requests.push(request.url()));
  page.on("requestfailed", (request) => seen.errors.push(`${request.url()} failed`));
  page.on("response", (response) => {
    if (response.status() >= 400) seen.errors.push(`${response.url()}: ${response.status()}`);
  });
  await page.setViewport(SCREENS[screen]);
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.evaluateOnNewDocument(SHIFTS);
  await page.goto(`${address}${path}`, { waitUntil: "networkidle0" });
  return { page, seen, close: () => context.close() };
}

async function look(path, screen, scheme) {
  const { page, seen, close } = await open(path, screen, scheme);
  const measured = await page.evaluate(() => ({
    shifted: globalThis.shifted,
    painted: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    background: getComputedStyle(document.body).backgroundColor,
    torn: [...document.querySelectorAll("article :not(pre) > code")]
      .filter((code) => code.innerText.length <= 20 && code.getClientRects().length > 1)
      .map((code) => code.innerText),
  }));
  const name = path.split("/").filter(Boolean).join("-").slice(0, 40) || "home";
  await page.screenshot({ path: `${pictures}/${name}-${screen}-${scheme}.png` });
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  const faults = violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html.slice(0, 160)}`));
  await close();
  return { path, screen, scheme, ...seen, ...measured, faults };
}

const byRole = (role, name) => `::-p-aria([role="${role}"][name="${name}"])`;
const visibleRows = (page) =>
  page.$$eval(".wy-images tbody tr", (rows) => rows.filter((r) => !r.hidden).map((r) => r.cells[0].innerText));

async function pick() {
  const { page, close } = await open("/pick/", "desktop", "light");
  await page.setViewport({ width: 1120, height: 816 });
  await page.locator(byRole("textbox", "NVIDIA driver")).fill("535.104");
  const gpu = await page.waitForSelector(byRole("combobox", "GPU"));
  await gpu.select("9.0");
  const answer = await page.$eval("[role=status]", (status) => status.innerText);
  const search = await page.evaluate(() => location.search);
  await page.evaluate(() => document.activeElement.blur());
  await page.screenshot({ path: `${pictures}/pick.png` }); // docs/pictures has it
  const shared = await open(`/pick/${search}`, "desktop", "light");
  const again = await shared.page.$eval("[role=status]", (status) => status.innerText);
  await page.locator(byRole("textbox", "NVIDIA driver")).fill("470.82");
  const refused = await page.$eval("[role=status]", (status) => status.innerText);
  await page.locator(byRole("textbox", "NVIDIA driver")).fill("new");
  const wrong = await page.$eval("[role=status]", (status) => status.innerText);
  await shared.close();
  await close();
  return { answer, again, search, refused, wrong };
}

async function list() {
  const { page, close } = await open("/catalogue/", "desktop", "light");
  const all = await visibleRows(page);
  await page.locator(byRole("searchbox", "Search")).fill("pytorch 2.9 devel");
  const found = await visibleRows(page);
  const said = await page.$eval("output", (output) => output.innerText);
  await page.locator(byRole("searchbox", "Search")).fill("");
  await page.focus('button[data-key="size"]');
  await page.keyboard.press("Enter");
  const sizes = await page.$$eval(".wy-images tbody tr", (rows) => rows.map((r) => Number(r.dataset.size)));
  const sorted = await page.$eval('th:has(button[data-key="size"])', (head) => head.ariaSort);
  const search = await page.evaluate(() => location.search);
  await close();
  return { all, found, said, sizes, sorted, search };
}

async function searched() {
  const { page, close } = await open("/", "desktop", "light");
  await page.focus(".md-search__input");
  await page.keyboard.type("snapshot archive");
  // The list is drawn again for every letter typed: wait for what the whole query finds.
  await page.waitForSelector('.md-search-result__item a[href*="/mirrors/"]', { timeout: 30_000 })
    .catch(() => undefined);
  const links = await page.$$eval(".md-search-result__item a", (found) => found.map((a) => a.href));
  await close();
  return links;
}

// The colour of a chart's page, before and after the visitor switches; the system's stays light.
async function chart() {
  const { page, close } = await open("/benchmarks/", "desktop", "light");
  const image = await page.waitForSelector('article img[src$=".svg"]');
  const colour = async () => {
    const shot = await image.screenshot({ encoding: "base64" });
    return page.evaluate(async (data) => {
      const picture = new Image();
      picture.src = `data:image/png;base64,${data}`;
      await picture.decode();
      const canvas = Object.assign(document.createElement("canvas"), { width: picture.width, height: picture.height });
      const context = canvas.getContext("2d");
      context.drawImage(picture, 0, 0);
      return [...context.getImageData(4, picture.height - 20, 1, 1).data.slice(0, 3)]; // below the header
    }, shot);
  };
  const light = await colour();
  await page.locator('label[title="Switch to dark"]').click();
  await page.waitForFunction(() => getComputedStyle(document.body).colorScheme === "dark");
  const dark = await colour();
  await image.screenshot({ path: `${pictures}/chart-dark.png` });
  await close();
  return { light, dark };
}

try {
  const views = [];
  for (const path of paths) {
    for (const screen of Object.keys(SCREENS)) {
      for (const scheme of ["light", "dark"]) views.push(await look(path, screen, scheme));
    }
  }
  const result = { views, pick: await pick(), list: await list(), searched: await searched(), chart: await chart() };
  process.stdout.write(JSON.stringify(result));
} finally {
  await browser.close();
}
