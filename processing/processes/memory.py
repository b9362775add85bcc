"""How much memory there is: the machine's, or less where a container may not have all of it."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
GIB = 2**30
REMEDY = "close other programs, use a machine with more, or take in files in smaller portions, and run again"


@dataclass(frozen=True)
class Memory:
    """Memory in bytes: what may be used in all, and what nothing uses now."""

    total: int
    free: int

    def __str__(self) -> str:
        return f"{self.total / GIB:.1f} GiB, of which {self.free / GIB:.1f} GiB are free"


def memory(root: Path = ROOT) -> Memory | None:
    """The memory that this process may use, as the kernel tells it; None where it does not (elsewhere than on Linux).

    `root`: the folder in which `proc` and `sys` are.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        told = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
        total, free = told["MemTotal"], told["MemAvailable"]
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
