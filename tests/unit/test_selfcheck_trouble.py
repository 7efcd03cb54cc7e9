"""What errors of frameworks and systems are turned into."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wheelyard.selfcheck.child import ChildError
from wheelyard.selfcheck.data.pictures import DataError
from wheelyard.selfcheck.result import Options, failed, run_check
from wheelyard.selfcheck.trouble import explain


class OutOfMemoryError(RuntimeError):
    """As torch.cuda names it."""


class ResourceExhaustedError(Exception):
    """As tf.errors names it."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        ResourceExhaustedError("OOM when allocating tensor with shape[64,9216]"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 GB"),
        MemoryError(),
    ],
)
def test_out_of_memory_says_how_much_was_free_and_what_to_try(error: Exception) -> None:
    text = explain(error, lambda: "GPU 0: 312 of 24564 MiB free")
    assert "GPU 0: 312 of 24564 MiB free" in text
    assert "try a smaller batch (--batch)" in text


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: unspecified launch failure",
        "CUDA error: uncorrectable ECC error encountered",
        "Unable to determine the device handle: GPU is lost. Reboot the system",
        "failed to synchronize: CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure",
    ],
)
def test_a_gpu_lost_in_mid_run(message: str) -> None:
    text = explain(RuntimeError(message))
    assert text.startswith("the GPU stopped answering in mid-run")
    assert "Xid" in text


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that "
            "dataloader's workers are out of shared memory."
        ),
        RuntimeError("DataLoader worker (pid(s) 8) exited unexpectedly"),
        OSError(errno.ENOSPC, "No space left on device", "/dev/shm/nccl-x"),
        RuntimeError("unable to write to file </torch_12_345_6>: No space left on device (28)"),
    ],
)
def test_too_little_shared_memory_names_the_option(error: Exception) -> None:
    assert "--shm-size 1g or --ipc host" in explain(error)


def test_a_full_disk_is_guessed_from_what_pytorch_says_of_it() -> None:
    text = "[enforce fail at inline_container.cc:595] . unexpected pos 1408 vs 1302"
    assert "no room; name another folder with --logdir" in explain(RuntimeError(text))


def test_a_library_without_room_for_its_threads_is_no_want_of_memory() -> None:
    error = ImportError("libgomp.so.1: cannot allocate memory in static TLS block")
    assert explain(error).startswith("ImportError: libgomp.so.1")


def test_a_read_only_file_system_names_the_way_out() -> None:
    refused = OSError(errno.EROFS, "Read-only file system", "/var/run/x")
    assert "cannot write /var/run/x: Read-only file system" in explain(refused)
    assert "--logdir" in explain(refused)
    nowhere = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    assert "--tmpfs /tmp" in explain(nowhere)


def test_a_user_without_a_name_is_told_so() -> None:
    text = explain(KeyError("getpwuid(): uid not found: 4242"))
    assert text.startswith("user 4242 has no name in this container")
    since_3_13 = explain(OSError("No username set in the environment"))
    assert since_3_13.startswith(f"user {os.getuid()} has no name in this container")
    assert "/opt/wheelyard/entrypoint" in since_3_13


def test_a_folder_that_runs_no_programs_is_named() -> None:
    library = "/tmp/x.so: failed to map segment from shared object"
    said = explain(RuntimeError(f"backend='inductor' raised:\nOSError: {library}.  The most"))
    assert said.startswith("/tmp/x.so may not be run")
    assert "--tmpfs /tmp:exec" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_program_that_its_file_system_refuses_is_told_from_one_without_rights(
    tmp_path: Path,
) -> None:
    for name, mode in (("may", 0o755), ("may-not", 0o644)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    program = (
        "import subprocess, sys; from wheelyard.selfcheck.trouble import explain\n"
        "for path in sys.argv[1:]:\n"
        "    try: subprocess.run([path])\n"
        "    except OSError as error: print(explain(error))\n"
    )
    script = 'mount --bind "$1" "$1" && mount -o remount,bind,noexec "$1" && shift && exec "$@"'
    paths = [tmp_path / "may", tmp_path / "may-not"]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", tmp_path, sys.executable, "-c", program,
         *paths],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    refused, unfit = done.stdout.splitlines()
    assert "mounted noexec" in refused
    assert "cannot write" in unfit


@pytest.mark.parametrize(
    "message",
    [
        "libcusparse.so.12: undefined symbol: __nvJitLinkAddData_12_1, version libnvJitLink.so.12",
        "libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by x.so)",
    ],
)
def test_libraries_put_before_the_images_are_named(
    message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster's module system hands its LD_LIBRARY_PATH into the container."""
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    assert "LD_LIBRARY_PATH" not in explain(ImportError(message))
    monkeypatch.setenv("LD_LIBRARY_PATH", "/cluster/cuda/lib64")
    said = explain(ImportError(message))
    assert "LD_LIBRARY_PATH=/cluster/cuda/lib64" in said
    assert "unset" in said


def test_our_own_messages_stand_alone_and_others_keep_their_kind() -> None:
    assert explain(DataError("x is damaged")) == "x is damaged"
    assert explain(ValueError("shapes differ")) == "ValueError: shapes differ"
    assert "smaller batch" in explain(ChildError("exit code 1: CUDA out of memory"))


def test_a_check_that_runs_out_of_memory_is_a_failure_with_advice() -> None:
    def work() -> None:
        raise OutOfMemoryError("CUDA out of memory")

    options = Options(None, free_memory=lambda: "GPU 0: 1 of 2 MiB free")
    result = run_check(("train.mlp.pytorch", work), options)  # type: ignore[arg-type]
    assert result.status == failed("").status
    assert "GPU 0: 1 of 2 MiB free" in (result.reason or "")


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", "nvidia-smi -c DEFAULT"),
        ("CUDA error: system not yet initialized", "nvidia-fabricmanager"),
        ("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
         "nvidia-fabricmanager"),
        ("CUDA error: system not yet initialized", "conf-compute -srs 1"),
        ("Error 803: system has unsupported display driver / cuda driver combination",
         "cuda-compat"),
        ("Error 804: forward compatibility was attempted on non supported HW", "cuda-compat"),
        ("failed call to cuInit: CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "cuda-compat"),
    ],
)  # fmt: skip
def test_a_gpu_that_is_not_ready_is_not_lost(text: str, advice: str) -> None:
    told = explain(RuntimeError(text))
    assert advice in told
    assert "reset" not in told
