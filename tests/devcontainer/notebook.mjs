// Opens a notebook in JupyterLab, runs its cells, and prints the text of the first one's output.
//
//     node notebook.mjs FOLDER_WITH_NODE_MODULES CHROMIUM URL SCREENSHOT

import { open } from "./browser.mjs";

const [folder, executablePath, url, screenshot] = process.argv.slice(2);
const PATIENCE = 120_000; // ms; the kernel imports torch
const WINDOW = { width: 1120, height: 640 };

const { browser, page } = await open(folder, executablePath, WINDOW, PATIENCE);
try {
  await page.goto(url);
  await page.waitForSelector(".jp-Notebook .jp-CodeCell .cm-content");
  // The server shows its application to the page (expose_app_in_browser), as extensions see it.
  // What is run before the kernel has answered once is lost.
  await page.evaluate(async () => {
    const { commands, shell } = globalThis.jupyterapp;
    const { sessionContext } = shell.currentWidget;
    await sessionContext.ready;
    await sessionContext.session.kernel.info;
    // Not awaited: the command ends when the kernel does, or somebody answers a dialog.
    commands.execute("notebook:run-all-cells");
  });
  await page.waitForSelector(".jp-OutputArea-output pre");
  await page.waitForSelector('.jp-Notebook-ExecutionIndicator[data-status="idle"]');
  const text = await page.$eval(".jp-OutputArea-output pre", (element) => element.textContent);
  await page.addStyleTag({ content: ".Toastify { display: none }" }); // a question about news
  await page.screenshot({ path: screenshot });
  process.stdout.write(text);
} catch (error) {
  await page.screenshot({ path: screenshot }).catch(() => {});
  throw error;
} finally {
  await browser.close(); // also when something was waited for in vain
}
