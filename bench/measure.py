"""
Run a command, and tell what it took: time, CPU and memory, by what the kernel counts. Linux only.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
LOOK_SECONDS = 0.1
"""Memory is looked at so often; a peak between two looks still shows, as each process keeps its own highest."""


@dataclass(frozen=True)
class Taken:
    """
    What a command took: *wall* seconds, *cpu* seconds of its own process, *children* those of the processes it waited for,
    *memory* bytes at the peak of its whole tree, *own* those of the command alone. *code* is its exit code, negative for the
    signal that killed it.
    """

    code: int
    wall: float
    cpu: float
    children: float
    memory: int
    own: int


class Failed(Exception):
    """
    A command did not end as it had to.
    """


def run(
    command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, kill_when: Callable[[], bool] | None = None
) -> Taken:
    """
    Run *command* to its end, or until *kill_when* says so: then it and its group are killed, which is no failure.

    What it prints goes to *log*. Raises `Failed`, with the end of that, where it ends with another code than 0.
    """
    killed = False
    with log.open("wb") as output:
        begun = time.monotonic()
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        memory = own = 0
        # Left a zombie until its numbers are read: they are complete then.
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            memory, own = max(memory, _memory(process.pid)), max(own, _peak(process.pid))
            if kill_when is not None and not killed and kill_when():
                os.killpg(process.pid, signal.SIGKILL)
                killed = True
            time.sleep(LOOK_SECONDS)
        wall = time.monotonic() - begun
        cpu, children = cpu_seconds(process.pid)
        code = process.wait()
    if code and not killed:
        raise Failed(f"{' '.join(command)} ended with {code}:\n{log.read_text(errors='replace')[-2000:]}")
    return Taken(code=code, wall=wall, cpu=cpu, children=children, memory=memory, own=own)


def cpu_seconds(pid: int) -> tuple[float, float]:
    """
    User and system seconds of a process so far, and of the children it has waited for (with theirs).
    """
    # The name, in parentheses, may hold blanks; utime is the 14th field of all, the 12th after it.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) / TICKS for field in fields[11:15])
    return user + system, children_user + children_system


def _memory(pid: int) -> int:
    """
    Bytes that a process and all below it have at their highest, as far as they are alive now.
    """
    total, waiting = 0, [(pid, b"")]
    while waiting:
        one, above = waiting.pop()
        try:
            name = Path(f"/proc/{one}/cmdline").read_bytes()
            threads = [(thread / "children").read_text() for thread in Path(f"/proc/{one}/task").iterdir()]
        except OSError:
            continue
        # Until it becomes another program, a child has its parent's memory.
        if name == above:
            continue
        waiting += [(int(child), name) for children in threads for child in children.split()]
        total += _peak(one)
    return total


def _peak(pid: int) -> int:
    """
    Bytes that a process has at its highest; 0 for one that is gone.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def tree_seconds(pid: int) -> float:
    """
    User and system seconds so far of a process, of all below it that are alive, and of those that each of them waited for.
    """
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            waiting += [
                int(child)
                for thread in Path(f"/proc/{one}/task").iterdir()
                for child in (thread / "children").read_text().split()
            ]
            total += sum(cpu_seconds(one))
        except OSError:
            continue
    return total
