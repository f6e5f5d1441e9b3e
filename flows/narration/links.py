"""
Where what was made can be opened in a browser.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True)
class Links:
    """
    The *address* (http or https) at which a web server has the files of *folder*.
    """

    folder: Path
    address: str

    def to(self, file: Path) -> str | None:
        """
        Tell the address of a *file*; `None` where it is elsewhere, or hidden, as copies of what is in object storage are.
        """
        try:
            inside = file.resolve().relative_to(self.folder.resolve())
        except ValueError:
            return None
        if any(part.startswith(".") for part in inside.parts):
            return None
        return f"{self.address.rstrip('/')}/{quote(os.fsencode(inside))}"
