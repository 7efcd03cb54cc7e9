// The list of images (filter, sort) and the form of `pick`; both keep their state in the address.
"use strict";

(() => {
  const readState = (form) => {
    const asked = new URLSearchParams(location.search);
    for (const field of form.elements) {
      if (!field.name || !asked.has(field.name)) continue;
      const value = asked.get(field.name);
      const known = field.tagName !== "SELECT" || [...field.options].some((o) => o.value === value);
      if (known) field.value = value;
    }
    return asked;
  };

  const writeState = (entries) => {
    const text = new URLSearchParams(entries.filter(([, value]) => value)).toString();
    history.replaceState(null, "", text ? `?${text}` : location.pathname);
  };

  const element = (name, text, children = []) => {
    const made = document.createElement(name);
    made.textContent = text;
    made.append(...children);
    return made;
  };

  function showList(form, table) {
    const rows = [...table.tBodies[0].rows];
    const heads = [...table.querySelectorAll("th")];
    const count = form.querySelector("output");
    const asked = readState(form);
    let [key, down] = [asked.get("sort") || "", asked.get("down") === "1"];

    const compare = (a, b) =>
      a.dataset[key].localeCompare(b.dataset[key], "en", { numeric: true }) * (down ? -1 : 1);

    function update() {
      const { q, cuda, python, architecture, flavour } = Object.fromEntries(new FormData(form));
      const words = q.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = `${row.dataset.tags} ${row.textContent}`.toLowerCase();
        row.hidden = !(
          words.every((word) => text.includes(word)) &&
          (!cuda || row.dataset.cuda === cuda) &&
          (!python || row.dataset.python === python) &&
          (!architecture || row.dataset.architecture === architecture) &&
          (!flavour || row.dataset.flavour === flavour)
        );
        shown += row.hidden ? 0 : 1;
      }
      if (key) table.tBodies[0].append(...[...rows].sort(compare));
      for (const head of heads) {
        const mine = head.firstElementChild.dataset.key === key;
        head.setAttribute("aria-sort", mine ? (down ? "descending" : "ascending") : "none");
      }
      count.textContent = `${shown} ${shown === 1 ? "image" : "images"}`;
      const state = [...new FormData(form)];
      writeState([...state, ["sort", key], ["down", key && down ? "1" : ""]]);
    }

    if (!heads.some((head) => head.firstElementChild.dataset.key === key)) key = "";
    table.tHead.addEventListener("click", ({ target }) => {
      if (!target.dataset.key) return;
      down = target.dataset.key === key && !down;
      key = target.dataset.key;
      update();
    });
    form.addEventListener("input", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    update();
  }

  function showPick(form, answer) {
    readState(form);

    function update() {
      const asked = Object.fromEntries(new FormData(form));
      const driver = asked.driver.trim();
      writeState(Object.entries({ ...asked, driver }).filter(([name, value]) =>
        !["flavour", "architecture"].includes(name) ||
        value !== form.elements[name].options[0].value));
      if (driver && !/^\d+(\.\d+){1,2}$/.test(driver)) {
        answer.replaceChildren(
          element("p", "Write the driver as nvidia-smi prints it, such as 550.54.14."));
        return;
      }
      const host = {
        architecture: asked.architecture, driver: driver || null, gpus: asked.gpu ? [asked.gpu] : [],
      };
      const found = WheelyardPick.pick(globalThis.WHEELYARD_CATALOGUE, host, asked);
      answer.replaceChildren(...(found.id ? chosen(found) : refused(found)));
    }

    const refused = ({ problem }) => problem.split("\n").map((line) => element("p", line.trim()));

    function chosen({ id, reason }) {
      const { images } = globalThis.WHEELYARD_CATALOGUE;
      const [tag] = images.find((image) => image.id === id).tags;
      const link = element("a", tag);
      link.href = `../catalogue/${id}/`;
      const line = `docker run --rm -it --gpus all --shm-size=8g ${tag}`;
      return [
        element("p", "", [link]),
        element("p", `${reason}.`),
        element("pre", "", [element("code", `wheelyard build ${id}\n${line}`)]),
      ];
    }

    form.addEventListener("input", update);
    form.addEventListener("submit", (event) => event.preventDefault());
    update();
  }

  const list = document.querySelector(".wy-filter");
  if (list) showList(list, document.querySelector(".wy-images"));
  const pick = document.querySelector(".wy-pick");
  if (pick) showPick(pick, document.querySelector(".wy-answer"));
})();
