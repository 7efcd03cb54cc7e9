// Opens a folder in VS Code's web page with a file and a terminal, types commands, prints what the terminal shows.
//
//     node vscode.mjs FOLDER_WITH_NODE_MODULES CHROMIUM URL PASSWORD SCREENSHOT FILE COMMAND=ANSWER...

import { open } from "./browser.mjs";

const [folder, executablePath, url, password, screenshot, file, ...commands] = process.argv.slice(2);
const PATIENCE = 120_000; // ms; a command imports torch
const WINDOW = { width: 1280, height: 800 };

const { browser, page } = await open(folder, executablePath, WINDOW, PATIENCE);
const shown = () =>
  page.$$eval(".xterm-rows > div", (rows) =>
    rows.map((row) => row.textContent.replaceAll("\u00a0", " ").trimEnd()).filter(Boolean),
  );
// Until the terminal shows a text and, below it, a prompt.
const waitFor = async (text) => {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const rows = await shown();
    if (rows.at(-1)?.endsWith("$") && rows.some((row) => row.includes(text))) return;
    if (Date.now() > end) throw new Error(`no ${text} and prompt in:\n${rows.join("\n")}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
};
try {
  await page.goto(url);
  await page.type("input[name=password]", password);
  await page.keyboard.press("Enter");
  const row = await page.waitForSelector(`.explorer-folders-view [role=treeitem][aria-label^="${file}"]`);
  await row.click({ count: 2 });
  await page.waitForSelector(`.tab[aria-label^="${file}"]`);
  await page.waitForSelector(".view-line .mtk1, .view-line .mtk3"); // the file's words are coloured
  await page.keyboard.down("Control");
  await page.keyboard.press("Backquote");
  await page.keyboard.up("Control");
  await page.mouse.move(WINDOW.width * 0.8, 4); // at nothing that shows a tip or a scrollbar for it
  await waitFor("$");
  for (const command of commands) {
    const [typed, answer] = command.split("=");
    await page.keyboard.type(typed);
    await page.keyboard.press("Enter");
    await waitFor(answer);
  }
  await page.addStyleTag({ content: ".notifications-toasts { display: none !important }" });
  process.stdout.write((await shown()).join("\n"));
} finally {
  await page.screenshot({ path: screenshot }).catch(() => {});
  await browser.close(); // also when something was waited for in vain
}
