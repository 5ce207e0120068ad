"""Features of a pass that was interrupted: the rows so far, beside the file that they are for, from which it goes on."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ssl_isic.errors import InputError
from ssl_isic.evaluation.forward import Block
from ssl_isic.files import write_json

ROWS_AT_ONCE = 4096


class UnfinishedRows:
    """The first rows of the features that `path` will hold, float32, kept in `path`.unfinished until it is written.

    `key` stands for all that the features depend on: what was kept under another is dropped.
    """

    def __init__(self, path: Path, key: str, accelerator: Accelerator) -> None:
        self._folder, self._key, self._accelerator = path.with_name(f"{path.name}.unfinished"), key, accelerator
        self._about = self._folder / "about.json"
        self._values, self._readable = self._folder / "values", self._folder / "readable"

    def begin(self) -> int:
        """How many rows are there, on every rank alike."""
        rows = [0]
        if self._accelerator.is_main_process:
            width = self._width()
            if width:
                rows = [min(self._values.stat().st_size // (4 * width), self._readable.stat().st_size)]
                for file, size in ((self._values, 4 * width), (self._readable, 1)):
                    with file.open("r+b") as opened:
                        opened.truncate(rows[0] * size)
            else:
                self.remove()
        broadcast_object_list(rows)
        return rows[0]

    def blocks(self) -> Iterator[Block]:
        """The rows that are there, in order; the main process has them, the others none."""
        width = self._width() if self._accelerator.is_main_process else 0
        if not width:
            return
        with self._values.open("rb") as values, self._readable.open("rb") as readable:
            while flags := readable.read(ROWS_AT_ONCE):
                rows = np.frombuffer(values.read(4 * width * len(flags)), "<f4").reshape(len(flags), width)
                yield Block(rows, np.frombuffer(flags, np.bool_))

    def keep(self, block: Block) -> None:
        """Add the next rows."""
        if not self._accelerator.is_main_process:
            return
        if not self._about.exists():
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot write {self._folder}: {error.strerror}; choose another place") from None
            for file in (self._values, self._readable):
                file.write_bytes(b"")
            write_json(self._about, {"key": self._key, "width": block.values.shape[1]})
        for file, rows in ((self._values, block.values.astype("<f4")), (self._readable, block.readable)):
            with file.open("ab") as opened:
                opened.write(rows.tobytes())

    def remove(self) -> None:
        """Drop what is kept. The main process calls this when the features are written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _width(self) -> int:
        """Numbers of a row; 0 where nothing, or nothing of this key, is there."""
        try:
            about = json.loads(self._about.read_text(encoding="utf-8"))
            there = self._values.is_file() and self._readable.is_file()
            return int(about["width"]) if about["key"] == self._key and there else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0
