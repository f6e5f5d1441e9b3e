"""
Search all that was written for a key, in whatever form it may stand there.
"""

import base64
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

CORE = "3f9cNEVERshown77"
SECRET = f'sk-{CORE}/+"&<>'
"""Whose parts look different as JSON, HTML and in a URL; the core looks the same in all of them."""

BLOCK_CORE = "b10cNEVERshown42"
BLOCK_SECRET = f"sk-{BLOCK_CORE}"
"""The key in the block, where there is one."""


def forms(core: str) -> dict[str, bytes]:
    """
    What part of the key looks like in base64, by the three places it may begin at, in hex, and in UTF-16.
    """
    forms = {"plain": core.encode(), "hex": core.encode().hex().encode(), "utf-16": core.encode("utf-16-le")}
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + core.encode())
        forms[f"base64 at {shift}"] = coded[-(-8 * shift // 6) : (8 * (shift + len(core))) // 6]
    return forms


def found(data: bytes) -> list[str]:
    """
    Tell which keys are in *data*, and how they are written there; MessagePack writes a text as it is.
    """
    return [f"{core} {form}" for core in (CORE, BLOCK_CORE) for form, shown in forms(core).items() if shown in data]


@contextmanager
def watched() -> Iterator[list[str]]:
    """
    Look at the arguments of every process while the block runs, and list those that have the key in them.
    """
    seen: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.extend(found(process.read_bytes()))
                except OSError:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        done.set()
        watcher.join()


def written(folder: Path) -> dict[str, list[str]]:
    """
    Find the key in all files below *folder*, and in the values of all databases, which may lie in pieces in the file.
    """
    shown = {str(path): found(str(path).encode() + path.read_bytes()) for path in folder.rglob("*") if path.is_file()}
    for path in (*folder.rglob("*.db"), *folder.rglob("*.sqlite")):
        with closing(sqlite3.connect(path)) as database:
            shown[f"{path} as text"] = found("\n".join(database.iterdump()).encode("utf-8", "replace"))
    return {place: forms for place, forms in shown.items() if forms}
