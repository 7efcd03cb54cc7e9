// Starts Chromium; returns it and its page, in a window of the given size.

import { createRequire } from "node:module";

export async function open(folder, executablePath, defaultViewport, patience) {
  const puppeteer = createRequire(`${folder}/`)("puppeteer-core");
  const args = ["--no-sandbox", "--no-proxy-server"];
  const browser = await puppeteer.launch({ executablePath, args, defaultViewport });
  const page = await browser.newPage();
  page.setDefaultTimeout(patience);
  return { browser, page };
}
