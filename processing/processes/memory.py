"""How much memory this process may use: the machine's, or the limit of its container."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
GIB = 2**30
REMEDY = "close other programs, use a machine with more memory, or fewer files at a time, and run again"


@dataclass(frozen=True)
class Memory:
    """Memory in bytes: the total that may be used, and what is free."""

    total: int
    free: int

    def __str__(self) -> str:
        return f"{self.total / GIB:.1f} GiB, {self.free / GIB:.1f} GiB free"


def memory(root: Path = ROOT) -> Memory | None:
    """The memory that this process may use, from the kernel; None elsewhere than on Linux.

    `root`: the folder that contains `proc` and `sys`
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        total, free = values["MemTotal"], values["MemAvailable"]
    except (OSError, KeyError, ValueError, IndexError):
        return None
    for limit, used in (
        ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            most, now = int((root / limit).read_text()), int((root / used).read_text())
        except (OSError, ValueError):  # no such group, or "max": no limit
            continue
        total, free = min(total, most), max(0, min(free, most - now))
    return Memory(total, free)
