"""`pick` in the page and `pick` on the command line give the same answers, on a whole grid."""

from __future__ import annotations

import html
import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.site.conftest import PROJECT
from wheelyard.architecture import ARCHITECTURES
from wheelyard.errors import MachineError
from wheelyard.planning.catalogue import plan_entries
from wheelyard.planning.plan import load_inputs
from wheelyard.servers.pick import Host, Selection, pick
from wheelyard.site.catalogue import picker_data

DATA = json.loads((PROJECT / "builder/wheelyard/data/drivers.json").read_text())
GPUS: tuple[tuple[str, ...], ...] = (
    (), ("5.0",), ("5.2",), ("6.0",), ("6.1",), ("7.0",), ("7.5",), ("8.0",), ("8.6",), ("8.9",),
    ("9.0",), ("10.0",), ("10.3",), ("11.0",), ("12.0",), ("12.1",), ("7.5", "9.0"), ("8.0", "8.0"),
)  # fmt: skip
PAGE = """<!doctype html><meta charset="utf-8"><body><script>{script}</script><script>
const [data, questions] = {data};
const answers = questions.map(([host, wish]) => {{
  const found = WheelyardPick.pick(data, host, wish);
  return found.id ? [found.id, found.reason] : [null, found.problem];
}});
document.body.textContent = JSON.stringify(answers);
</script>"""


def drivers() -> list[str | None]:
    """Every floor, a driver just below each, one far below all and one far above."""
    floors = [*DATA["native"].values(), *(one["driver"] for one in DATA["minor_version"].values())]
    below = [f"{int(floor.split('.')[0]) - 1}.99" for floor in floors]
    return [None, *sorted({*floors, *below, "390.48", "535.104", "999.1"})]


def questions() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """All processors, drivers, GPUs and frameworks; for some machines the other wishes, too."""
    frameworks = (None, "pytorch", "tensorflow", "pytorch+tensorflow", "pytorch-2.3", "jax")
    found = [
        (
            {"architecture": machine, "driver": driver, "gpus": gpus},
            {"framework": name, "flavour": "runtime"},
        )
        for machine, driver, gpus, name in itertools.product(
            ARCHITECTURES, drivers(), GPUS, frameworks
        )
    ]
    found += [
        (
            {"architecture": machine, "driver": driver, "gpus": ("9.0",)},
            {"framework": name, "cuda": cuda, "python": python, "flavour": flavour},
        )
        for machine, driver, name, cuda, python, flavour in itertools.product(
            ARCHITECTURES, (None, "525.60.13", "570.26", "999.1"), (None, "tensorflow"),
            (None, "12", "12.1", "13.0", "cpu"), (None, "3.11", "3.13"), ("runtime", "devel"),
        )
    ]  # fmt: skip
    return found


def answer(entries: Any, host: dict[str, Any], wish: dict[str, Any]) -> list[str | None]:
    machine = ARCHITECTURES[host["architecture"]].machine
    try:
        choice = pick(entries, Host(**host | {"architecture": machine}), Selection(**wish))
    except MachineError as error:
        return [None, str(error)]
    return [choice.entry.id, choice.reason]


def test_the_page_and_the_command_agree(chromium: str, tmp_path: Path) -> None:
    _matrix, upstream, plan = load_inputs(PROJECT)
    entries, asked = plan_entries(plan.cells, upstream, []), questions()
    script = (PROJECT / "docs/assets/pick.js").read_text(encoding="utf-8")
    page = tmp_path / "page.html"
    data = json.dumps([picker_data(entries), asked])
    page.write_text(PAGE.format(script=script, data=data), encoding="utf-8")
    argv = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=60000", "--dump-dom", page.as_uri()]  # fmt: skip
    shown = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=300).stdout
    body = re.search(r"<body>(.*)</body>", shown, re.DOTALL)
    assert body is not None
    theirs = json.loads(html.unescape(body[1]))
    ours = [answer(entries, host, wish) for host, wish in asked]
    assert len(theirs) == len(asked) > 3000
    chosen = {one[0] for one in ours if one[0]}
    assert {entry.architecture for entry in entries if entry.id in chosen} == {*ARCHITECTURES}
    different = [
        (question, mine, other)
        for question, mine, other in zip(asked, ours, theirs, strict=True)
        if mine != other
    ]
    assert different == []
