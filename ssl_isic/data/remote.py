"""Files at a URL: any that fsspec has a driver for (http, s3, gs, ...), fetched whole, with a bounded number of tries.

Nothing stays open between two calls, no connection, event loop or thread: a process may fork after any of them.
"""

import asyncio
import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import fsspec
from fsspec.config import conf as fsspec_conf
from fsspec.core import url_to_fs
from fsspec.utils import get_protocol
from pydantic import PlainValidator

from ssl_isic.errors import InputError

TRIES = 5
FIRST_WAIT_S = 0.5
"""Before the second try; doubled before each that follows."""
LONGEST_SILENCE_S = 60
EXTRAS = {"https": "http", "gs": "gcs", "s3a": "s3", "az": "abfs"}
"""fsspec's extra for a protocol, where they differ in name."""


def as_location(value: Any) -> Path | str:
    """A URL as text without its last slash, since a Path would make `http:/` of `http://`; anything else as a Path.

    Raises:
        ValueError: neither text nor a path.
    """
    if not isinstance(value, Path | str):
        raise ValueError("expected a path or a URL")
    if isinstance(value, str) and "://" in value:
        return value.rstrip("/")
    return Path(value)


Location = Annotated[Path | str, PlainValidator(as_location)]
"""A path, or the text of a URL."""


def fetch(url: str, destination: Path, fault: Callable[[Path], str | None] = lambda _: None) -> None:
    """Write the file at `url` to `destination`. Where that fails, or `fault` names one, it is tried again, and again.

    Raises:
        InputError: no such file; no driver for the protocol; the disk is full; no try of `TRIES` succeeded.
    """
    reason: str | None = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
        try:
            _fetch_once(url, destination)
            reason = fault(destination)
        except InputError:
            raise
        except FileNotFoundError:
            raise InputError(f"no such file: {url}; check the URL") from None
        except Exception as error:  # each driver has errors of its own
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise InputError(
                    f"the disk is full while fetching {url} to {destination.parent}; free some space, "
                    "or lower data.shards.cache_gb"
                ) from None
            reason = f"{type(error).__name__}: {error}"
        if reason is None:
            return
    raise InputError(
        f"{url} cannot be fetched: {TRIES} tries, the last: {reason}; look at the server, then run it again"
    )


def _fetch_once(url: str, destination: Path) -> None:
    protocol = get_protocol(url)
    try:
        driver = fsspec.get_filesystem_class(protocol)
        if driver.async_impl:
            asyncio.run(_fetch_async(url, destination, protocol))
        else:
            files, path = url_to_fs(url)
            files.get_file(path, str(destination))
    except ImportError as error:
        extra = EXTRAS.get(protocol, protocol)
        raise InputError(f'{url} needs a driver ({error}); pip install "fsspec[{extra}]"') from None
    except ValueError as error:
        if "Protocol not known" in str(error):
            raise InputError(f"{url}: fsspec knows no {protocol}://; check the URL") from None
        raise


async def _fetch_async(url: str, destination: Path, protocol: str) -> None:
    files, path = url_to_fs(url, asynchronous=True, skip_instance_cache=True, **_patience(protocol))
    session = await files.set_session() if hasattr(files, "set_session") else None
    try:
        await files._get_file(path, str(destination))
    finally:
        if session is not None:
            await session.close()


def _patience(protocol: str) -> dict[str, Any]:
    """Large files take as long as they take; a server that says nothing for a while has gone."""
    if protocol not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout  # an extra

    timeout = ClientTimeout(total=None, sock_connect=LONGEST_SILENCE_S, sock_read=LONGEST_SILENCE_S)
    ours = {"timeout": timeout, "trust_env": True}  # the environment's proxies, and .netrc
    return {"client_kwargs": ours | fsspec_conf.get(protocol, {}).get("client_kwargs", {})}
