"""The tables of a source as they were downloaded: text cells, whatever separates them."""

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ssl_isic.data.folder_store import is_litter
from ssl_isic.errors import InputError

IMAGE_SUFFIX = re.compile(r"\.(jpe?g|png|bmp|tiff?)$", re.IGNORECASE)
_FIRST_ROW = 1


def read_raw(path: Path, header: Sequence[str], id_columns: Sequence[str]) -> pd.DataFrame:
    """A table as text, whose index is the row that a spreadsheet shows.

    A table whose first row holds none of `id_columns` has no row of names, where `header` fits it.

    Raises:
        InputError: it is missing, no table, or has rows of another length than its first.
    """
    data = _bytes_of(path)
    if data.lstrip().startswith(b"||"):  # PH2's
        rows = [line.strip().strip(b"|") for line in data.splitlines() if line.lstrip().startswith(b"||")]
        data = b"\n".join(re.sub(rb"\s*\|\|?\s*", b"\t", row).strip(b" ") for row in rows)
    first = data.partition(b"\n")[0]
    delimiter = max((b",", b"\t", b";"), key=first.count).decode()
    names = _names_of(data, delimiter, path)
    known = {part for name in id_columns for part in name.split("+")}
    headless = len(header) == len(names) and not known & set(names)
    table = pd.read_csv(
        io.BytesIO(data),
        sep=delimiter,
        names=list(header) if headless else names,
        skiprows=0 if headless else 1,
        index_col=False,
        dtype=object,
        keep_default_na=False,
        skip_blank_lines=False,
        skipinitialspace=True,
    )
    table.index += _FIRST_ROW if headless else _FIRST_ROW + 1
    unbegun = table.iloc[:, 0] == ""
    return table.drop(table.index[unbegun][(table[unbegun] == "").all(axis=1)])


def _names_of(data: bytes, delimiter: str, path: Path) -> list[str]:
    """The first row, stripped; every other has to be as long."""
    try:
        lines = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="")
        reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
        names = [name.strip() for name in next(reader, [])]
        if not any(names):
            raise InputError(f"{path} is empty, or its first row is; is the download complete?")
        for row in reader:
            if row and len(row) != len(names):
                raise InputError(
                    f"{path}: line {reader.line_num} has {len(row)} fields, the first has {len(names)}; "
                    "is it a table, and complete?"
                )
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8; give the metadata table, saved as CSV") from None
    except csv.Error as error:
        raise InputError(f"{path} is not a table: {error}; give the metadata as CSV") from None
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path} has two columns {twice[0] or 'without a name'}; name each once")
    return names


def _bytes_of(path: Path) -> bytes:
    """The file, or the only table in the zip, without a byte order mark."""
    if path.suffix in (".xls", ".xlsx"):
        raise InputError(f"{path} is a spreadsheet; save it as CSV (PH2 has a text file beside it)")
    try:
        data = _only_table(path) if zipfile.is_zipfile(path) else path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; check the path") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from None
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is not a readable zip ({error}); is the download complete?") from None
    return data.removeprefix(b"\xef\xbb\xbf")


def _only_table(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        names = [
            member.filename
            for member in archive.infolist()
            if member.filename.lower().endswith((".csv", ".txt", ".tab", ".tsv")) and not is_litter(member.filename)
        ]
        tables = [name for name in names if name.lower().endswith(".csv")] or names
        if len(tables) != 1:
            inside = ", ".join(tables[:3]) or "none"
            raise InputError(
                f"{path} should hold one table, it holds {len(tables)} ({inside}); unpack the one you mean"
            )
        return archive.read(tables[0])
