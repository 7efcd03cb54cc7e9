// `wheelyard pick` in the page: the rules of builder/wheelyard/servers/pick.py, on the same data.
// tests/site/test_pick.py holds both to the same answers.
"use strict";

const WheelyardPick = (() => {
  const CPU = "cpu";
  const numbers = (version) => version.split(".").map(Number);
  const sm = (gpu) => `sm_${gpu.replace(".", "")}`;
  const leads = (asked, actual) => `${actual}.`.startsWith(`${asked}.`);
  const unique = (list) => [...new Set(list)];

  function order(a, b) {
    const [x, y] = [numbers(a), numbers(b)];
    for (let at = 0; at < Math.max(x.length, y.length); at += 1) {
      const difference = (x[at] || 0) - (y[at] || 0);
      if (difference) return difference;
    }
    return 0;
  }

  // Compared as far as the driver is written: 525.60 stands for every 525.60.x.
  function atLeast(driver, floor) {
    const given = numbers(driver);
    const needed = numbers(floor).slice(0, given.length);
    for (let at = 0; at < needed.length; at += 1) {
      if (given[at] !== needed[at]) return given[at] > needed[at];
    }
    return true;
  }

  const floorOf = (drivers, cuda) => ({
    minimum: drivers.minor_version[cuda.split(".")[0]].driver,
    native: drivers.native[cuda] || null,
  });

  function capability(digits) {
    return [Number(digits.slice(0, -1)), Number(digits.slice(-1))];
  }

  function hasCodeFor(gpu, architectures) {
    const device = capability(gpu.replace(".", ""));
    return architectures.some((architecture) => {
      const [kind, digits] = architecture.split("_");
      const built = capability(digits.replace(/[a-z]+$/, ""));
      const same = built[0] === device[0];
      if (/[a-eg-z]$/.test(digits)) return same && built[1] === device[1];
      const older = built[0] < device[0] || (same && built[1] <= device[1]);
      return (kind === "compute" || same) && older;
    });
  }

  function named(entry) {
    const versions = entry.framework_version.split("+");
    const pairs = entry.framework.split("+").map((name, at) => `${name} ${versions[at]}`);
    return `${pairs.join(" + ")} ${entry.cuda === CPU ? "for the CPU" : `with CUDA ${entry.cuda}`}`;
  }

  function unknownToDriver(drivers, gpu, driver) {
    const cuda = drivers.generations[gpu];
    if (!driver || !cuda || atLeast(driver, drivers.native[cuda])) return null;
    return (
      `${sm(gpu)} needs driver ${drivers.native[cuda]} or newer, which came with CUDA ` +
      `${cuda}, the first that knows it; the machine has ${driver}: update the driver`
    );
  }

  // Machine code runs on every driver of the CUDA major; PTX wants a driver of its own CUDA.
  function codeProblem(drivers, entry, gpu, architectures, driver) {
    if (!architectures.length) return null;
    if (hasCodeFor(gpu, architectures.filter((one) => one.startsWith("sm_")))) return null;
    if (!hasCodeFor(gpu, architectures)) {
      return `${named(entry)} has no code for ${sm(gpu)}: it was built for ${architectures.join(", ")}`;
    }
    const { native } = floorOf(drivers, entry.cuda);
    if (!driver || !native || atLeast(driver, native)) return null;
    return (
      `${named(entry)} has only PTX for ${sm(gpu)}, which the driver compiles: that is outside ` +
      `minor-version compatibility, so CUDA ${entry.cuda} needs driver ${native} there, the ` +
      `machine has ${driver}`
    );
  }

  function obstacle(drivers, entry, host) {
    if (entry.cuda === CPU) return null;
    const { minimum } = floorOf(drivers, entry.cuda);
    if (host.driver && !atLeast(host.driver, minimum)) {
      const major = entry.cuda.split(".")[0];
      return `CUDA ${major} needs driver ${minimum} or newer, the machine has ${host.driver}`;
    }
    for (const gpu of host.gpus) {
      for (const architectures of entry.architectures) {
        const problem = codeProblem(drivers, entry, gpu, architectures, host.driver);
        if (problem) return problem;
      }
    }
    return null;
  }

  function isFramework(entry, asked) {
    const wanted = asked.toLowerCase().split("+").map((part) => {
      const dash = part.indexOf("-");
      return dash < 0 ? [part, ""] : [part.slice(0, dash), part.slice(dash + 1)];
    });
    const names = entry.framework.split("+");
    const versions = entry.framework_version.split("+");
    return (
      names.length === wanted.length &&
      wanted.every(([name, version], at) =>
        names[at] === name && (!version || leads(version, versions[at])))
    );
  }

  function matches(entry, wish) {
    return (
      entry.flavour === wish.flavour &&
      (!wish.python || entry.python === wish.python) &&
      (wish.cuda ? leads(wish.cuda, entry.cuda) : entry.cuda !== CPU) &&
      !entry.special &&
      (!wish.framework || isFramework(entry, wish.framework))
    );
  }

  // The framework with most images; several in one image are for those who ask for them.
  function defaultFramework(entries) {
    const alone = entries.map((entry) => entry.framework).filter((name) => !name.includes("+"));
    const names = alone.length ? alone : entries.map((entry) => entry.framework);
    const count = (name) => names.filter((one) => one === name).length;
    return unique(names).reduce((best, name) => (count(name) > count(best) ? name : best));
  }

  function newestFirst(a, b) {
    const [x, y] = [a, b].map((entry) => entry.framework_version.split("+"));
    for (let at = 0; at < Math.min(x.length, y.length); at += 1) {
      const difference = order(y[at], x[at]);
      if (difference) return difference;
    }
    const cuda = ({ cuda: version }) => (version === CPU ? "0" : version);
    return (
      y.length - x.length ||
      order(cuda(b), cuda(a)) ||
      b.tags.length - a.tags.length ||
      order(b.python, a.python)
    );
  }

  function byDriver(drivers, cuda, driver) {
    const { native } = floorOf(drivers, cuda);
    if (native && atLeast(driver, native)) return `driver ${driver} runs CUDA ${cuda} natively`;
    const came = native ? ` (its own driver is ${native})` : "";
    return `driver ${driver} runs CUDA ${cuda.split(".")[0]}.x by minor-version compatibility${came}`;
  }

  function reason(drivers, entry, host, passed) {
    const parts = [`${named(entry)} is the newest that runs here`];
    if (entry.cuda !== CPU && host.driver) parts.push(byDriver(drivers, entry.cuda, host.driver));
    if (host.gpus.length && entry.architectures.some((list) => list.length)) {
      parts.push(`it has code for ${unique(host.gpus).map(sm).join(", ")}`);
    }
    return [...parts, ...unique(passed.map(([, why]) => why)).slice(0, 2)].join("; ");
  }

  function told(wish) {
    const asked = {
      framework: wish.framework, CUDA: wish.cuda, Python: wish.python, flavour: wish.flavour,
    };
    return Object.entries(asked).filter(([, value]) => value)
      .map(([name, value]) => `${name} ${value}`).join(", ");
  }

  // {id, reason} of the newest image that runs, or {problem}.
  function pick({ images, machines, drivers }, host, wish) {
    for (const gpu of host.gpus) {
      const problem = unknownToDriver(drivers, gpu, host.driver);
      if (problem) return { problem };
    }
    const fitting = images.filter((entry) => entry.architecture === host.architecture);
    let wanted = fitting.filter((entry) => matches(entry, wish));
    if (!wish.framework && wanted.length) {
      const first = defaultFramework(wanted);
      wanted = wanted.filter((entry) => entry.framework === first);
    }
    const passed = [];
    for (const entry of wanted.sort(newestFirst)) {
      const problem = obstacle(drivers, entry, host);
      if (!problem) return { id: entry.id, reason: reason(drivers, entry, host, passed) };
      passed.push([entry.id, problem]);
    }
    const ordinary = host.architecture === Object.keys(machines)[0];
    const where = ordinary ? "" : ` for ${machines[host.architecture]}`;
    if (!passed.length) return { problem: `no image${where} has all of this: ${told(wish)}` };
    const why = unique(passed.map(([, text]) => text)).slice(0, 5);
    return { problem: `no image runs on this machine:${why.map((text) => `\n  ${text}`).join("")}` };
  }

  return { pick };
})();
