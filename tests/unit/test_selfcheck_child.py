"""Processes that selfcheck starts end, whatever they do."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from wheelyard.selfcheck import child
from wheelyard.selfcheck.distributed import free_port, judge, loopback, tf_config, torchrun_command
from wheelyard.selfcheck.trouble import explain


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
    lonely = judge(alone, {"world": 1, "losses": [2.3, 2.2]}, 2)
    assert (lonely.status, lonely.reason) == ("fail", "1 took part instead of 2")


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
