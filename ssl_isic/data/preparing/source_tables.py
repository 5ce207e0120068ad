"""The tables of a source: joined by id, and mapped to our columns."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from ssl_isic.data.preparing.column_mapping import Unmapped, mapped_column
from ssl_isic.data.preparing.raw_tables import IMAGE_SUFFIX, read_raw
from ssl_isic.data.preparing.settings import ColumnRule, ColumnRules, IdRule, PrepareConfig
from ssl_isic.data.tables import require_column
from ssl_isic.errors import InputError


@dataclass
class SourceTable:
    """The rows of a source in our columns."""

    rows: pd.DataFrame
    """Text by id, "" where a cell is empty; sorted."""
    unmapped: dict[str, Unmapped] = field(default_factory=dict)
    """By our column."""
    absent: list[str] = field(default_factory=list)
    """Our columns that no table says anything of, and by which columns it would."""
    unlinked: list[str] = field(default_factory=list)
    """Ids whose `link` is in none of the tables that are joined by it."""


def read_source_table(config: PrepareConfig, built_in: pd.DataFrame | None = None) -> SourceTable:
    """Read, join and map all tables of a source; `built_in` is what the file of images itself says, by its own columns.

    Raises:
        InputError: a table that is missing or none, that has no id column, or an id twice; two that contradict each other.
    """
    frames = [] if built_in is None else [("the file of images", _by_id(built_in, config.id, "the file of images"))]
    linked: list[tuple[str, pd.DataFrame]] = []
    for path in config.tables:
        raw = read_raw(path, config.header, [*config.id.columns, *([config.link] if config.link else [])])
        if _id_columns(raw, config.id) is not None:
            frames.append((str(path), _by_id(raw, config.id, str(path))))
        elif config.link and config.link in raw:
            linked.append((str(path), _by_column(raw, config.link, str(path))))
        else:
            require_column(list(raw.columns), config.id.columns[0], path)
    if not frames:
        return SourceTable(pd.DataFrame())
    unlinked: list[str] = []
    for where, table in linked:
        joined, missing = _through_link(frames, table, config.link or "", where)
        frames.append((where, joined))
        unlinked += missing
    return _merged(frames, config.columns, config.keep, sorted(set(unlinked)), _used(config))


def _id_columns(table: pd.DataFrame, rule: IdRule) -> list[str] | None:
    for name in rule.columns:
        parts = name.split("+")
        if set(parts) <= set(table.columns):
            return parts
    return None


def _by_id(raw: pd.DataFrame, rule: IdRule, where: str) -> pd.DataFrame:
    """The table by our id, without the columns that it came from."""
    parts = _id_columns(raw, rule) or []
    names = raw[parts].agg("_".join, axis=1) if len(parts) > 1 else raw[parts[0]]
    ids: list[str] = []
    for number, name in names.str.strip().items():
        found = rule.id_of(IMAGE_SUFFIX.sub("", name))
        if found is None:
            what = f"{name!r}, not of the form {rule.pattern}" if name else "empty"
            raise InputError(f"{where}: {'+'.join(parts)} is {what} in row {number}; fill it in, or set id.pattern")
        ids.append(found)
    return _unique(raw, ids, "+".join(parts), where)


def _by_column(raw: pd.DataFrame, column: str, where: str) -> pd.DataFrame:
    return _unique(raw, raw[column].str.strip().tolist(), column, where)


def _unique(raw: pd.DataFrame, ids: Sequence[str], column: str, where: str) -> pd.DataFrame:
    table = raw.set_axis(pd.Index(ids, dtype=object), axis=0)
    repeated = table.index.duplicated()
    if repeated.any():
        again = table.index[repeated][0]
        first, second = raw.index[table.index == again][:2]
        count = f"{repeated.sum()} repeated" if repeated.sum() > 1 else "the only one"
        raise InputError(f"{where}: {column} {again} is in rows {first} and {second} ({count}); keep one row an image")
    return table


def _through_link(
    frames: Sequence[tuple[str, pd.DataFrame]], table: pd.DataFrame, link: str, where: str
) -> tuple[pd.DataFrame, list[str]]:
    """The rows of `table` by our ids, through the column `link` of an earlier one; and the ids that have no row."""
    holders = [frame[link] for _, frame in frames if link in frame]
    if not holders:
        raise InputError(f"{where} is joined by {link}, which no table before it has; give the table of ids and {link}")
    keys = pd.concat(holders)
    keys = keys[~keys.index.duplicated()]
    has_row = keys.isin(table.index)
    joined = table.loc[keys[has_row].tolist()].set_axis(keys.index[has_row], axis=0)
    return joined, keys.index[~has_row].tolist()


def _used(config: PrepareConfig) -> set[str]:
    return {name for name in config.id.columns if "+" not in name}


def _merged(
    frames: Sequence[tuple[str, pd.DataFrame]],
    rules: ColumnRules,
    keep: Sequence[str],
    unlinked: list[str],
    id_columns: set[str],
) -> SourceTable:
    ids = sorted({name for _, frame in frames for name in frame.index})
    out = SourceTable(pd.DataFrame(index=pd.Index(ids, name="isic_id")), unlinked=unlinked)
    columns: dict[str, pd.Series] = {}
    for name, rule in rules.given().items():
        values = _joined_column(name, rule, frames, out)
        if (values != "").any():
            columns[name] = values
        else:
            wanted = rule.columns or list(rule.one_hot)
            out.absent.append(f"{name} ({', '.join(wanted)})")
    for name in dict.fromkeys(name for _, frame in frames for name in frame.columns):
        if name in id_columns or not any(fnmatch.fnmatchcase(name, pattern) for pattern in keep):
            continue
        kept = _coalesced(name, [(where, frame[name]) for where, frame in frames if name in frame], ids)
        if name not in columns:
            columns[name] = kept
        elif not columns[name].equals(kept):
            columns[f"source_{name}"] = kept
    out.rows = pd.DataFrame(columns, index=out.rows.index)
    return out


def _joined_column(
    name: str, rule: ColumnRule, frames: Sequence[tuple[str, pd.DataFrame]], out: SourceTable
) -> pd.Series:
    parts: list[tuple[str, pd.Series]] = []
    given = pd.Series(False, index=out.rows.index)
    for where, frame in frames:
        mapped = mapped_column(frame, name, rule, where)
        if mapped is None:
            continue
        parts.append((where, mapped.values))
        given |= mapped.given.reindex(given.index, fill_value=False)
        out.unmapped.setdefault(name, Unmapped()).add(mapped.unmapped)
    values = _coalesced(name, parts, list(out.rows.index))
    if rule.otherwise is not None and not rule.one_hot:
        values = values.where(given | (values != ""), rule.otherwise)
    return values


def _coalesced(name: str, parts: Sequence[tuple[str, pd.Series]], ids: Sequence[str]) -> pd.Series:
    """What the tables say, each filling in what those before it leave empty. InputError where two contradict each other."""
    if not parts:
        return pd.Series("", index=pd.Index(ids, name="isic_id"), dtype=object)
    result = parts[0][1].reindex(pd.Index(ids, name="isic_id"), fill_value="")
    for number, (where, values) in enumerate(parts[1:], start=1):
        here = values[values != ""]
        before = result[here.index]
        clash = (before != "") & (before != here)
        if clash.any():
            who = clash.index[clash][0]
            others = ", ".join(other for other, _ in parts[:number])
            raise InputError(
                f"{where}: {name} of {who} is {here[who]}, but {before[who]} in {others} ({clash.sum()} such rows); "
                "which is right? Leave one of the tables out"
            )
        result[here.index] = here
    return result
