"""What a source is: where its ids come from, and how its columns and classes become ours. A YAML that a user can write."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ssl_isic.config import Config, Workers
from ssl_isic.data.cleaning import CleanNames
from ssl_isic.data.remote import Location

DIAGNOSES = ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
"""The classes of ISIC-2019."""
SITES = (
    *("head/neck", "upper extremity", "lower extremity", "torso", "anterior torso", "posterior torso"),
    *("lateral torso", "palms/soles", "oral/genital"),
)
"""Where on the body, as the ISIC challenges write it."""
VOCABULARY: Mapping[str, tuple[str, ...]] = {
    "target": ("0", "1"),
    "diagnosis": DIAGNOSES,
    "sex": ("female", "male"),
    "anatom_site_general": SITES,
}
"""The only values of these columns; a number is the only one of `age_approx`, any text of the others."""
SUFFIX = re.compile(r"\.(hdf5|h5|hdf|csv|json)$")


def _as_text(value: Any) -> str | None:
    return value if value is None else f"{value}"


def _by_text(value: Any) -> Any:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | Path) else value


Text = Annotated[str | None, BeforeValidator(_as_text)]
Words = Annotated[list[str], BeforeValidator(_as_list)]


class ColumnRule(Config):
    """How one of our columns is filled; a name alone is the column to copy."""

    columns: Words = []
    """Columns of the source; the first of them whose value is known counts."""
    values: Annotated[dict[str, Text], BeforeValidator(_by_text)] = {}
    """What a value becomes, whatever its case; null leaves it empty; a key that ends in * is a beginning."""
    one_hot: Annotated[dict[str, Text], BeforeValidator(_by_text)] = {}
    """What a column means that holds 1 where it applies and 0 where not, instead of `columns`."""
    otherwise: Text = None
    """Where the source says nothing; with `one_hot`, where all its columns are 0."""
    prefix: str = ""
    """Put before each value, so that ids of several sources stay apart."""

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"columns": value} if isinstance(value, str | list) else value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.columns and self.one_hot:
            raise ValueError("set columns or one_hot, not both")
        if not self.columns and not self.one_hot and self.otherwise is None:
            raise ValueError("it needs columns, one_hot or otherwise")
        return self

    def results(self) -> list[str]:
        """All values that the rule itself names."""
        named = [*self.values.values(), *self.one_hot.values(), self.otherwise]
        return [value for value in named if value is not None]


class ColumnRules(Config):
    """How each of our columns is filled."""

    target: ColumnRule | None = None
    """1 malignant, 0 not."""
    diagnosis: ColumnRule | None = None
    """One of ISIC-2019's MEL, NV, BCC, AK, BKL, DF, VASC, SCC."""
    patient_id: ColumnRule | None = None
    """Whose skin it is."""
    lesion_id: ColumnRule | None = None
    """Which lesion it is."""
    attribution: ColumnRule | None = None
    """The clinic."""
    age_approx: ColumnRule | None = None
    """Years."""
    sex: ColumnRule | None = None
    """female or male."""
    anatom_site_general: ColumnRule | None = None
    """Site of the body, in ISIC's words."""

    @model_validator(mode="after")
    def _known_values(self) -> Self:
        for column, known in VOCABULARY.items():
            rule: ColumnRule | None = getattr(self, column)
            for value in rule.results() if rule else []:
                if value not in known:
                    raise ValueError(f"{column}: {value} is none of {', '.join(known)}")
        return self

    def given(self) -> dict[str, ColumnRule]:
        """The rules that are set, by column."""
        rules: dict[str, ColumnRule | None] = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: rule for name, rule in rules.items() if rule is not None}


class IdRule(Config):
    """Where the ids come from: names of files without suffix, and a column of each table."""

    columns: Words = ["isic_id"]
    """Columns that hold the id, the first that a table has; `split+index` joins two with an underscore."""
    pattern: str = ".+"
    """Regular expression of the whole name or id; its first group, if it has one, is the id. Other files are skipped."""
    prefix: str = ""
    """Put before each id, for images that are not the ISIC Archive's."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"no regular expression, {error}") from None
        return pattern

    def id_of(self, name: str) -> str | None:
        """The id in the name of a file (no suffix) or in a table; None where the pattern is another."""
        found = re.fullmatch(self.pattern, name)
        if found is None:
            return None
        part = found[1] if found.re.groups else found[0]
        return self.prefix + part if part else None


class PrepareConfig(Config):
    """Make one HDF5 file and one CSV of a source as it was downloaded."""

    images: Annotated[list[Location], BeforeValidator(_as_list)] = Field(min_length=1)
    """Zips, folders, HDF5 files, .npz files or shards of images; they are not unpacked."""
    tables: Annotated[list[Path], BeforeValidator(_as_list)] = []
    """CSV files (commas, tabs or semicolons), PH2's text, or zips of one CSV; joined by id."""
    out: Path
    """Name without suffix: OUT.hdf5, OUT.csv and OUT.json are written."""
    id: IdRule = IdRule()
    """Where the ids come from."""
    link: str | None = None
    """Column by which a table without an id is joined to those before it: the id of another data set."""
    header: list[str] = []
    """Names of the columns of a table that has no first row of names."""
    columns: ColumnRules = ColumnRules()
    """How our columns are filled."""
    keep: Words = []
    """Further columns of the source to keep as they are; * keeps all."""
    only_in_tables: bool = False
    """Leave out the images that have no row."""
    clean: CleanNames = []
    """Cleaning to apply to the whole image, once, in this order: see docs/cleaning.md."""
    longest_px: int | None = Field(None, ge=8)
    """Shrink images whose longer side is longer, by area; null leaves their bytes as they are."""
    shortest_px: int | None = Field(None, ge=8)
    """Shrink images whose shorter side is longer."""
    quality: int | None = Field(95, ge=1, le=100)
    """JPEG quality of images that are changed; null writes them as PNG, without loss."""
    max_unreadable: float = Field(0.01, ge=0, le=1)
    """Share of images that may be left out because they do not decode."""
    workers: Workers | None = None
    """Processes; null starts one a core, 0 none."""

    @field_validator("out")
    @classmethod
    def _without_suffix(cls, out: Path) -> Path:
        return out.with_name(SUFFIX.sub("", out.name))

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if self.longest_px is not None and self.shortest_px is not None:
            raise ValueError("set longest_px or shortest_px, not both")
        return self

    def output(self, suffix: str) -> Path:
        """OUT with a suffix, `.hdf5` say; dots in OUT stay."""
        return self.out.with_name(self.out.name + suffix)
