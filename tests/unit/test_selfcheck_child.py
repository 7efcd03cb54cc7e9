"""Processes that selfcheck starts end, whatever they do."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wheelyard.selfcheck import child, distributed
from wheelyard.selfcheck.distributed import (
    check_nodes,
    free_port,
    judge,
    judge_elastic,
    loopback,
    tf_config,
    torchrun_command,
)
from wheelyard.selfcheck.result import Options
from wheelyard.selfcheck.trouble import explain

PRINTED = "import json, os; print(json.dumps(dict(os.environ)))"


def test_output_and_environment_arrive() -> None:
    program = "import os, wheelyard.selfcheck; print(os.environ['GIVEN'])"
    assert child.run([sys.executable, "-c", program], {"GIVEN": "yes"}) == "yes\n"
    assert child.last_json('noise\n{"a": 1}\n') == {"a": 1}


def test_a_failure_shows_the_end_of_the_log() -> None:
    program = "import sys; print('first\\nlast', file=sys.stderr); sys.exit(3)"
    with pytest.raises(child.ChildError, match=r"exit code 3: first \| last"):
        child.run([sys.executable, "-c", program], {})
    with pytest.raises(child.ChildError, match="printed nothing"):
        child.last_json("\n")


def test_a_process_with_several_tasks_has_the_time_of_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(child, "TIMEOUT", 1)
    program = "import time; time.sleep(1.5); print('done')"
    assert child.run([sys.executable, "-c", program], {}, tasks=30) == "done\n"


def test_a_process_that_hangs_is_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "TIMEOUT", 2)
    program = (
        "import subprocess, sys, time\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(inner.pid))\n"
        "print('waiting', file=sys.stderr, flush=True)\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(child.ChildError, match="did not end within 2 s: waiting"):
        child.run([sys.executable, "-c", program], {})
    inner = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 5
    while alive(inner) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(inner)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def test_several_processes_must_compute_what_one_does() -> None:
    alone = {"world": 1, "losses": [2.3, 2.2]}
    same = {"world": 2, "losses": [2.3001, 2.2]}
    assert judge(alone, same, 2).status == "pass"
    assert judge(alone, {"world": 2, "losses": [2.3, 2.1]}, 2).status == "fail"
    none = judge({"losses": []}, {"world": 2, "losses": []}, 2)
    assert none.reason == "no step was taken, so there is nothing to compare"
    lonely = judge(alone, {"world": 1, "losses": [2.3, 2.2]}, 2)
    assert (lonely.status, lonely.reason) == ("fail", "1 took part instead of 2")


def test_a_group_that_was_killed_goes_on_from_its_checkpoint() -> None:
    alone = {"world": 1, "losses": [2.3, 2.2]}
    whole = {"world": 2, "losses": [2.3, 2.2], "restarts": 1, "resumed": 1}
    assert judge_elastic(alone, whole).status == "pass"
    for wrong in ({"restarts": 0}, {"resumed": 0}, {"losses": [2.3, 2.1]}, {"world": 1}):
        outcome = judge_elastic(alone, {**whole, **wrong})
        assert outcome.status == "fail"
        assert outcome.reason


def test_a_launchers_variables_reach_no_group_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under torchrun, and in pods whose operator sets them, our processes are not that group's."""
    given = {
        "RANK": "1", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "2",
        "MASTER_ADDR": "node0", "MASTER_PORT": "29500", "PET_NNODES": "2",
        "TORCHELASTIC_RUN_ID": "none", "TF_CONFIG": "{}",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANKING", "kept")
    said = json.loads(child.run([sys.executable, "-c", PRINTED], tf_config([1, 2], 0)))
    assert child.launched() == given
    assert {name for name in said if name in given} == {"TF_CONFIG"}
    assert said["TF_CONFIG"] == tf_config([1, 2], 0)["TF_CONFIG"]
    assert said["RANKING"] == "kept"


def test_under_torchrun_its_own_group_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "usable_frameworks", lambda _options: ["pytorch"])
    names = [name for name, _check in distributed.checks(Options(None))]
    assert "distributed.nodes.pytorch" not in names
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert [name for name, _check in distributed.checks(Options(None))] == [
        "distributed.nodes.pytorch"
    ]
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert check_nodes(Options(None)).status == "skip"  # 64 pictures, 3 processes


def test_a_process_of_torchruns_group_is_told_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, str]] = []

    def run(_command: list[str], extra: dict[str, str]) -> str:
        given.append(extra)
        return '{"world": 2, "losses": [2.3]}'

    monkeypatch.setattr(child, "run", run)
    monkeypatch.setattr(distributed, "_alone", lambda *_: {"world": 1, "losses": [2.3]})
    for name, value in (("TORCHELASTIC_RUN_ID", "none"), ("WORLD_SIZE", "2"), ("RANK", "1")):
        monkeypatch.setenv(name, value)
    assert check_nodes(Options(None, device="cpu")).status == "pass"
    assert (given[0]["RANK"], given[0]["WORLD_SIZE"]) == ("1", "2")


def test_what_proves_less_than_its_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def alone(_worker: str, mode: str, _device: str) -> dict[str, Any]:
        return {"world": 2 if mode == "mirrored" else 1, "losses": [2.3]}

    monkeypatch.setattr(distributed, "_alone", alone)
    monkeypatch.setattr(distributed, "_torchrun", lambda n, *_: {"world": n, "losses": [2.3]})
    reasons = {
        1: (
            "one GPU: nothing went between GPUs",
            "on two halves of the processor: 1 GPU is too few to mirror",
        ),
        2: (None, None),
        8: (None, None),
    }
    for gpus, (nccl, mirrored) in reasons.items():
        monkeypatch.setattr(distributed, "gpu_count", lambda _name, gpus=gpus: gpus)
        found = [distributed.check_nccl(Options(None)), distributed.check_mirrored(Options(None))]
        assert [(each.status, each.reason) for each in found] == [
            ("pass", nccl),
            ("pass", mirrored),
        ]
        assert found[0].seen["world"] == min(gpus, 2)


def test_commands_of_the_launchers() -> None:
    command = torchrun_command(2, 29500, "gloo")
    assert command[1:4] == ["-m", "torch.distributed.run", "--nproc-per-node=2"]
    assert command[-3:] == ["-m", "wheelyard.selfcheck.distributed.torch_worker", "gloo"]
    assert tf_config([1, 2], 1)["TF_CONFIG"] == (
        '{"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}, '
        '"task": {"type": "worker", "index": 1}}'
    )
    assert 1024 < free_port() < 65536
    assert loopback()


TORCHRUN = """\
[W socket.cpp:601] some warning
Traceback (most recent call last):
  File "worker.py", line 5, in <module>
    main()
RuntimeError: unable to write to file </torch_12_345>: No space left on device (28)
[rank1]: Traceback (most recent call last):
[rank1]: torch.distributed.DistBackendError: NCCL error in: ../x.cpp:1970, ncclSystemError
Last error: Error while creating shared memory segment /dev/shm/nccl-AbCd (size 9637888)
E1128 torch/distributed/elastic/multiprocessing/api.py:826] failed (exitcode: 1)
Traceback (most recent call last):
  File "run.py", line 883, in <module>
    main()
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
worker FAILED
------------------------------------------------------------
Failures:
  <NO_OTHER_FAILURES>
------------------------------------------------------------
"""


def test_what_a_launcher_buries_is_told_and_advised_on(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(TORCHRUN)
    program = f"import sys; sys.stderr.write(open({str(log)!r}).read()); sys.exit(1)"
    with pytest.raises(child.ChildError, match="No space left on device") as caught:
        child.run([sys.executable, "-c", program], {})
    assert "NO_OTHER_FAILURES" in str(caught.value)  # the end is there as before
    assert "start the container with --shm-size 1g" in explain(caught.value)


def test_a_long_log_is_cut() -> None:
    log = "".join(f"ValueError: {at} {'x' * 5000}\n" for at in range(100))
    assert len(child.gist(log)) < 10 * child.MOST
    assert child.gist(log).startswith("ValueError: 0 ")
