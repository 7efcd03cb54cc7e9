"""What hostile wheels cost at most: a member of hundreds of megabytes, or many small ones."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from test_hostile_wheels import DATA, INFO, points
from wheels import make_wheel

UNIT = Path(__file__).parents[1] / "unit"
MEMORY_MAX = 300 << 20  # bytes; the promise is 500


class TestMemory:
    """Measured in a process of its own: what it takes at most, whatever the wheel holds."""

    def peak(self, folder: Path, wheel: Path, error: str = "") -> int:
        script = (
            "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
            "from test_hostile_wheels import *\n"
            "try:\n    layer_of(Path(sys.argv[2]), Path(sys.argv[3]))\n"
            "except WheelError as error:\n    print(error)\n"
            # Not ru_maxrss, which begins with what the parent has had.
            "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        )
        said = subprocess.run(
            [sys.executable, "-c", script, str(UNIT), str(folder), str(wheel)],
            check=True, capture_output=True, text=True,
        ).stdout.splitlines()  # fmt: skip
        assert error in said[0], said
        return int(said[-1]) * 1024

    def fat(self, folder: Path, name: str, size: int, method: int, content: bytes = b"") -> Path:
        """A wheel with one member of many bytes; not held in memory here either."""
        path = make_wheel(folder)
        if name.endswith("RECORD"):
            path.unlink()
            path = make_wheel(folder, files={f"demo/{i}.py": b"" for i in range(3)})
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(folder / "fat.whl", "w") as new:
            for info in old.infolist():
                if info.filename != name:
                    new.writestr(info, old.read(info))
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            piece = (content or b"\n") * ((1 << 20) // len(content or b"\n"))
            with new.open(info, "w") as member:
                for _ in range(size >> 20):
                    member.write(piece)
        return (folder / "fat.whl").rename(path)

    @pytest.mark.parametrize(
        ("name", "content", "error"),
        [
            (f"{INFO}/entry_points.txt", b"\n", "262,144"),
            (f"{INFO}/RECORD", b"a,,\n", "16,777,216"),
            (f"{INFO}/METADATA", b"a: b\n", "4,194,304"),
            (f"{INFO}/WHEEL", b"a: b\n", "65,536"),
            (f"{DATA}/scripts/x", b"#!python\n", "16,777,216"),
        ],
    )
    def test_what_is_read_whole_has_a_limit_that_is_named(
        self, tmp_path: Path, name: str, content: bytes, error: str
    ) -> None:
        path = self.fat(tmp_path, name, 200 << 20, zipfile.ZIP_DEFLATED, content)
        assert self.peak(tmp_path, path, error) < MEMORY_MAX

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_the_rest_streams(self, tmp_path: Path, method: int) -> None:
        path = self.fat(tmp_path, "demo/big.bin", 400 << 20, method)
        assert self.peak(tmp_path, path) < MEMORY_MAX

    def test_at_the_limits(self, tmp_path: Path) -> None:
        path = make_wheel(
            tmp_path,
            files={f"{i:x}": b"" for i in range(49_000)},
            extra={
                **points("[console_scripts]\n" + "".join(f"{i:x}=a:b\n" for i in range(24_000))),
                f"{DATA}/scripts/x": b"#!python\n" * ((15 << 20) // 9),
            },
        )
        assert self.peak(tmp_path, path) < MEMORY_MAX
