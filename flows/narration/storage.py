"""
Places on any URI that fsspec knows: objects by name below it, read and written whole. The one door to object storage.

`s3://` is tested; `gs://` and `az://` go the same way and are not. Where the storage is and who may use it is said as fsspec
and its packages are told (`AWS_ENDPOINT_URL`, `AWS_…`, `FSSPEC_…`, `~/.aws`): nothing here reads any of it.
"""

import errno
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from flows.narration.errors import StorageAway, UsageError
from flows.narration.files import replacing

Given = TypeVar("Given")
Made = TypeVar("Made")

PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs"}
"""What pip installs for each scheme."""

MOST_AT_ONCE = 16_000_000
"""Bytes of the largest object that is written in one request, whose answer tells its tag."""

_OPTIONS: dict[str, dict[str, Any]] = {
    # One request at a time for an object: otherwise each is asked for its size before it is read.
    "s3fs": {"max_concurrency": 1},
}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(?:::[^/]*)?://|(?i:file):/")

_REFUSED = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
"""What S3 says to a write whose condition does not hold, or that came at the same moment as another."""


class Stored(NamedTuple):
    """
    An object that is there: its *size* in bytes, a *tag* that is another one whenever its content is, and when it was *written*
    (seconds since 1970, by the storage's clock; now, where that does not say).
    """

    size: int
    tag: str
    written: float


def scheme_of(uri: str) -> str:
    """
    Tell the scheme of *uri*, in lower case; none for a path, which may have a colon in it.
    """
    found = _SCHEME.match(uri)
    return (found[1] or "file").lower() if found else ""


def is_remote(uri: str) -> bool:
    """
    Say whether *uri* names a place in object storage: neither a path nor a `file:` URI.
    """
    return scheme_of(uri) not in ("", "file")


def is_bucket(uri: str) -> bool:
    """
    Say whether *uri* names a bucket, and nothing in it.
    """
    return "/" not in uri.partition("://")[2].rstrip("/")


def within(uri: str, name: str) -> str:
    """
    Name a file in the folder at *uri*, a path or a URI; an absolute path stays one.
    """
    return f"{uri.rstrip('/')}/{name}" if is_remote(uri) and not Path(name).is_absolute() else str(Path(uri) / name)


def folder_above(uri: str) -> str:
    """
    Name the folder that the file or folder at the *uri* of a storage is in; a bucket is in none but itself.
    """
    return uri.rstrip("/") if is_bucket(uri) else uri.rstrip("/").rsplit("/", 1)[0]


def name_within(uri: str, folder: str) -> str:
    """
    Tell the name of what is at *uri* in *folder*, both in a storage; none where it is not in there.
    """
    above, there = f"{folder.rstrip('/')}/", uri.rstrip("/")
    return there.removeprefix(above) if is_remote(folder) and there.startswith(above) else ""


class Place:
    """
    A folder at *uri*. What goes wrong in it later is an `OSError`; *operations* counts what the storage was asked, by kind.

    Raises `UsageError` where fsspec does not know the scheme, or a package for it is missing.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        scheme = scheme_of(uri)
        if scheme in ("http", "https"):
            raise UsageError(f"{uri} is an address of the web, and no storage.", "Give a folder, or a URI of s3:, gs: or az:.")
        if not uri.partition("://")[2].strip("/") and scheme in PACKAGES:
            raise UsageError(f"{uri} names no bucket.", f"Give one: {scheme}://bucket/folder.")
        package = PACKAGES.get(scheme, "")
        from fsspec.core import url_to_fs  # takes a while, and most runs are in folders

        try:
            self._files, root = url_to_fs(self.uri, use_listings_cache=False, **_OPTIONS.get(package, {}))
        except (ImportError, ValueError, TypeError) as error:
            mend = f"Install it: pip install {package}." if package else "Give a folder, or a URI of s3:, gs: or az:."
            raise UsageError(f"{uri} cannot be used: {error}.", mend) from error
        except Exception as error:
            raise StorageAway(f"{uri} cannot be used: {error}.", "Check the credentials.") from error
        self._root, self._conditions = str(root).rstrip("/"), package == "s3fs"
        self.operations: Counter[str] = Counter()

    @property
    def key(self) -> str:
        """
        Its name in its bucket.
        """
        return self._root.partition("/")[2]

    def reach(self) -> None:
        """
        Raise `UsageError` where there is no such bucket, `StorageAway` where it cannot be reached or read.
        """
        bucket = self._root.split("/")[0]
        try:
            with self._door("look"):
                self._files.info(bucket)
        except FileNotFoundError as error:
            raise UsageError(
                f"{self.uri} is not there: there is no bucket {bucket}.", "Create it, or check its name."
            ) from error
        except OSError as error:
            raise StorageAway.by(self.uri, error) from error

    def listing(self, prefix: str = "") -> dict[str, Stored]:
        """
        List all objects whose names begin with *prefix*: one request for each thousand of them.
        """
        with self._door("list"):
            try:
                found = self._files.find(self._root, prefix=prefix, detail=True)
            except FileNotFoundError:
                return {}
        self.operations["list"] += len(found) // 1000
        above = f"{self._root}/"
        names = {name.removeprefix(above): said for name, said in found.items() if name.startswith(above)}
        is_mark = {name: not name or name.endswith("/") for name in names}  # of a folder
        return {name: _stored(said) for name, said in names.items() if name.startswith(prefix) and not is_mark[name]}

    def top(self) -> Iterator[str]:
        """
        Name what is at the top: objects, and folders, whose names end with a slash. One request for each thousand.
        """
        with self._door("list"):
            try:
                found = self._files.ls(self._root, detail=True)
            except FileNotFoundError:
                return
        above = f"{self._root}/"
        for said in found:
            name = str(said["name"]).rstrip("/")
            if name == self._root and said.get("type") == "directory":  # of an empty name: the URI with two slashes
                yield "/"
            elif name.startswith(above):
                yield f"{name.removeprefix(above)}{'/' if said.get('type') == 'directory' else ''}"

    def look(self, name: str) -> Stored | None:
        """
        Return what is known of an object, `None` where there is none.
        """
        with self._door("look"):
            try:
                said = self._files.info(self._path(name))
            except FileNotFoundError:
                return None
        return _stored(said) if said.get("type") == "file" else None

    def read(self, name: str) -> bytes | None:
        """
        Return an object's content, `None` where there is none.
        """
        with self._door("read"):
            try:
                content: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
        return content

    def write(self, name: str, content: bytes) -> str:
        """
        Write an object, whatever was there; return its tag.
        """
        with self._door("write"):
            return _tag(self._files.pipe_file(self._path(name), content))

    def create(self, name: str, content: bytes) -> str | None:
        """
        Write an object where there is none, and return its tag; `None` where there is one: of many at once, one succeeds.
        """
        with self._door("write"):
            try:
                return _tag(self._files.pipe_file(self._path(name), content, mode="create"))
            except OSError as error:
                if isinstance(error, FileExistsError) or _refused(error):
                    return None
                raise

    def swap(self, name: str, content: bytes, *, tag: str) -> str | None:
        """
        Write an object in the place of the one with that *tag*, and return its own; `None` where that one is no longer there.

        Elsewhere than on S3 it is not one step: of two at the same moment, both may believe to have swapped.
        """
        if self._conditions:
            with self._door("write"):
                try:
                    return _tag(self._files.pipe_file(self._path(name), content, IfMatch=f'"{tag}"'))
                except OSError as error:
                    if isinstance(error, FileNotFoundError) or _refused(error):
                        return None
                    raise
        there = self.look(name)
        if there is None or there.tag != tag:
            return None
        self.remove(name)
        return self.create(name, content)

    def remove(self, name: str) -> None:
        """
        Remove an object, if it is there.
        """
        with self._door("remove"):
            try:
                self._files.rm_file(self._path(name))
            except FileNotFoundError:
                return

    def fetch(self, name: str, path: Path) -> bool:
        """
        Bring an object into a file, whole or not at all; false where there is none.
        """
        try:
            with replacing(path) as temporary, self._door("read"):
                self._files.get_file(self._path(name), str(temporary))
        except FileNotFoundError:
            return False
        return True

    def send(self, path: Path, name: str) -> str:
        """
        Write a file's content as an object, whole; return its tag.
        """
        if path.stat().st_size <= MOST_AT_ONCE:
            return self.write(name, path.read_bytes())
        with self._door("write"):
            self._files.put_file(str(path), self._path(name))
        there = self.look(name)
        return there.tag if there else ""

    def require_conditions(self, name: str) -> None:
        """
        Raise `UsageError` where writes are not conditional, tried on the object *name*: two workers would both pay.
        """
        try:
            created = self.create(name, b"") is None or self.create(name, b"") is None
            swapped = self.swap(name, b"", tag="of-no-object") is None
        except OSError as error:
            raise UsageError(
                f"{self.uri} cannot be written to: {error.strerror or error}.", "Check the credentials, or choose another."
            ) from error
        if not (created and swapped):
            kind = "If-Match" if created else "If-None-Match"
            raise UsageError(
                f"{self.uri} takes no conditional writes ({kind}), so that two workers would both pay for a take.",
                "Use a storage that does, or a folder.",
            )

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _door(self, operation: str) -> Iterator[None]:
        """
        Count an operation, and tell as `OSError` what else the packages behind it raise.
        """
        self.operations[operation] += 1
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}", self.uri) from error


def _stored(said: dict[str, Any]) -> Stored:
    return Stored(size=int(said.get("size") or 0), tag=_tag(said), written=_written(said))


def _tag(said: Any) -> str:
    """
    Find what packages call the tag of an object: its ETag on S3 and Azure, else its digest or its time.
    """
    told = said if isinstance(said, dict) else {}
    found = next((told[name] for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified") if told.get(name)), "written")
    return str(found).strip('"')


def _written(said: dict[str, Any]) -> float:
    """
    Find what packages call the time an object was written, a time or its text.
    """
    told = next((said[name] for name in ("LastModified", "last_modified", "mtime", "updated") if said.get(name)), None)
    try:
        when = datetime.fromisoformat(told) if isinstance(told, str) else told
    except ValueError:
        when = None
    if isinstance(when, datetime):
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    return float(when) if isinstance(when, int | float) else time.time()


def several(work: Callable[[Given], Made], items: Iterable[Given], *, at_once: int) -> Iterator[Made]:
    """
    Do *work* on *items* in threads, and yield what comes of it in their order; no more of either is held than is under way.
    """
    with ThreadPoolExecutor(at_once) as threads:
        begun: deque[Future[Made]] = deque()
        for item in items:
            begun.append(threads.submit(work, item))
            if len(begun) > at_once:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()


def _refused(error: OSError) -> bool:
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in _REFUSED
