"""Images in shards: tar files in WebDataset's layout, and beside them `shards.json`, which says what is in each.

A member of a tar is named `ISIC_0000001.jpg`: its key, all before the first dot, is the `isic_id`. The index has the place of
each image's bytes, so that nothing but those bytes is read of a tar, and no member is ever unpacked to a file.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ssl_isic.errors import InputError
from ssl_isic.files import sha256_of

INDEX_NAME = "shards.json"
LONGEST_ID_BYTES = 90


def _short(name: str) -> str:
    if len(name.encode()) > LONGEST_ID_BYTES:
        raise ValueError(f"longer than {LONGEST_ID_BYTES} bytes")
    return name


ImageId = Annotated[str, StringConstraints(pattern=r"^[^./\\\x00-\x1f\x7f]+$"), AfterValidator(_short)]
"""No dot, at which WebDataset would cut it, no slash, and short enough for a tar's header."""
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Bytes = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shard(_Record):
    """One tar file: image `ids[k]` is `sizes[k]` bytes from byte `offsets[k]` on."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+\.tar$")]
    size_bytes: Bytes
    sha256: Sha256
    ids: list[ImageId] = Field(min_length=1)
    offsets: list[Bytes]
    sizes: list[Bytes]

    @model_validator(mode="after")
    def _images_are_inside(self) -> Self:
        if not len(self.ids) == len(self.offsets) == len(self.sizes):
            raise ValueError(f"{self.name} has {len(self.ids)} ids, but not as many offsets and sizes")
        if max(offset + size for offset, size in zip(self.offsets, self.sizes, strict=True)) > self.size_bytes:
            raise ValueError(f"{self.name} has an image that ends beyond its {self.size_bytes} bytes")
        return self


class Plan(_Record):
    """What decides which image is in which shard."""

    images: int
    ids_sha256: Sha256
    seed: int
    shard_mb: float


class ShardIndex(_Record):
    """All shards of a source, in order."""

    format: Literal[1] = 1
    plan: Plan
    shards: list[Shard] = Field(min_length=1)


def parse_index(data: bytes, where: Path | str) -> ShardIndex:
    """Read and check the text of an index. InputError when it is none; `where` it comes from is named."""
    try:
        return ShardIndex.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{where} is not an index of shards ({key + ': ' if key else ''}{first['msg']}); "
            "write it with ssl-isic shards"
        ) from None


def file_fault(path: Path, size_bytes: int, sha256: str) -> str | None:
    """What tells the file at `path` from a shard of this size and hash; None where nothing does."""
    size = path.stat().st_size
    if size != size_bytes:
        return f"{size} bytes where the index says {size_bytes}"
    found = sha256_of(path)
    return None if found == sha256 else f"sha256 {found[:12]}... where the index says {sha256[:12]}..."
