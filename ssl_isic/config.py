"""Configuration: frozen pydantic models, one YAML file, then `key.sub=value` words.

Every stage calls `read_config(SomeConfig, argv, prog)`; a wrong key, a wrong type or a missing file is one line
and exit code 2.
"""

import argparse
import difflib
import types
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from ssl_isic.errors import InputError


class Config(BaseModel):
    """Base of every configuration: immutable, unknown keys refused, defaults validated."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


Seed = Annotated[int, Field(ge=0, lt=2**31)]
"""A seed that numpy and torch take, with room for one of each fold."""
Workers = Annotated[int, Field(ge=0, le=512)]
"""Processes."""
Side = Annotated[int, Field(ge=8, le=4096)]
"""Side of a square image, px."""
C = TypeVar("C", bound=Config)
COMMAND_LINE = "the command line"
FILLED_KEYS = "keys (some that are not set follow from the data; --print-config shows what they are, and why):"

Filler = Callable[[C], tuple[C, Mapping[str, str]]]


def read_config(config_type: type[C], argv: Sequence[str], prog: str) -> C:
    """Parse `[--config FILE] [--print-config] [key.sub=value ...]` into a `config_type`, see `read_filled_config`."""
    return read_filled_config(config_type, argv, prog, None)[0]


def read_filled_config(
    config_type: type[C], argv: Sequence[str], prog: str, fill: Filler[C] | None
) -> tuple[C, Mapping[str, str]]:
    """Parse `[--config FILE] [--print-config] [key.sub=value ...]` into a `config_type`, and `fill` what was left open.

    `fill` returns the complete configuration and, by dotted key, the rule behind each value that it set.

    `--help` lists every key and exits; `--print-config` prints the resolved YAML and exits.

    Raises:
        InputError: a file that is not there or not YAML, an unknown key, a wrong value.
    """
    parser = _Parser(
        prog=prog,
        description=(config_type.__doc__ or "").strip().splitlines()[0],
        epilog="\n".join(["keys:" if fill is None else FILLED_KEYS, *_describe(config_type)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, action="append", metavar="FILE", help="a YAML file of keys")
    parser.add_argument("--print-config", action="store_true", help="print the resolved YAML and stop")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="keys set over the file's")
    options, unknown = parser.parse_known_intermixed_args(argv)
    if unknown:
        raise InputError(f"unknown option {unknown[0]}: keys are written key=value, see {prog} --help")
    files: list[Path] = options.config or []
    if len(files) > 1:
        raise InputError(
            f"--config is given twice, {files[0]} and {files[1]}: put both into one file, or write keys as words"
        )
    tree = load_yaml(files[0]) if files else {}
    for word in options.overrides:
        _override(tree, word)
    words = [word.partition("=")[0] for word in options.overrides]
    given = validate(config_type, tree, source=str(files[0] if files else COMMAND_LINE), words=words)
    config, rules = (given, dict[str, str]()) if fill is None else fill(given)
    if options.print_config:
        print(dump_yaml(config, rules), end="")
        raise SystemExit(0)
    return config, rules


def validate(config_type: type[C], tree: Mapping[str, Any], source: str, words: Collection[str] = ()) -> C:
    """Build a `config_type` from nested mappings; the first thing wrong is raised as an InputError naming its key.

    `source` is where the mappings are from, but for the keys in `words`, which are from the command line.
    """
    try:
        return config_type.model_validate(_over_defaults(config_type, tree))
    except ValidationError as error:
        first, *others = error.errors()
        if _locate(config_type, first["loc"])[0] in words:
            source = COMMAND_LINE
        unknown = [_locate(config_type, one["loc"])[0] for one in others if one["type"] == "extra_forbidden"]
        instead = f"unknown key {unknown[0]}; " if first["type"] == "missing" and unknown else ""
        raise InputError(f"{source}: {instead}{_explain(config_type, first)}") from None


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; InputError when the file is missing, unreadable or something else."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), _EachKeyOnce)
    except OSError as error:
        raise InputError(f"cannot read the config {path}: {error.strerror}; check --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise InputError(f"{path}: expected keys and values, got a {type(tree).__name__}")
    return tree


class _EachKeyOnce(yaml.SafeLoader):
    """YAML's safe loader, but of two values of one key it does not take the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set[str]()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.YAMLError(
                        f"line {key.start_mark.line + 1}: {key.value} is given twice; put both together"
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def dump_yaml(config: Config, comments: Mapping[str, str] | None = None) -> str:
    """The resolved configuration as YAML that `--config` reads back, with `comments` by dotted key."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return "".join(_commented(text.splitlines(), comments)) if comments else text


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested mappings by dotted key."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return values


def _commented(lines: Sequence[str], comments: Mapping[str, str]) -> Iterator[str]:
    path: list[str] = []
    for line in lines:
        name, colon, _ = line.strip().partition(":")
        depth = (len(line) - len(line.lstrip())) // 2
        if colon and not line.strip().startswith("- "):
            path = [*path[:depth], name]
        comment = comments.get(".".join(path)) if colon and len(path) == depth + 1 else None
        yield f"{line}  # {comment}\n" if comment else f"{line}\n"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of argparse's usage and line."""
        raise InputError(f"{message}; see {self.prog} --help")


def _override(tree: dict[str, Any], word: str) -> None:
    key, equals, text = word.partition("=")
    if not equals or not key:
        raise InputError(f"cannot read {word!r}: write key=value, for instance seed=1")
    if not text:
        raise InputError(f"{key} is empty: write {key}=VALUE, or leave it out")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"cannot read the value in {word!r}: quote it as YAML") from None
    if text[0] not in "{[\"'" and (" #" in text or isinstance(value, dict)):
        value = text  # a name that has something of YAML's in it, not a comment or a mapping
    *parents, leaf = key.split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise InputError(f"cannot set {key}: {parent} is {child!r}, which has no keys below it")
        node = child
    node[leaf] = value


def _over_defaults(config_type: type[Config], tree: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` with what a group of keys, of which it sets some, has by default for the others.

    So `method.temperature=0.2` stands without `method.name`, and the stage's own defaults without those of the group's type.
    """
    filled = dict(tree)
    for key, field in config_type.model_fields.items():
        branch = filled.get(key)
        if not isinstance(branch, dict):
            continue
        members = {_tag(model): model for model in _models(field.annotation)}
        if len(members) > 1 and isinstance(field.default, Config):
            branch = {"name": _tag(type(field.default)), **branch}
        member = members.get(str(branch.get("name"))) if len(members) > 1 else next(iter(members.values()), None)
        if member is not None and type(field.default) is member:
            branch = _merged(field.default.model_dump(exclude_unset=True), branch)
        filled[key] = _over_defaults(member, branch) if member else branch
    return filled


def _merged(below: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**below, **over}
    for key in below.keys() & over.keys():
        if isinstance(below[key], dict) and isinstance(over[key], dict):
            merged[key] = _merged(below[key], over[key])
    return merged


def _explain(config_type: type[Config], error: ErrorDetails) -> str:
    key, known = _locate(config_type, error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key.rpartition(".")[2], known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        return f"unknown key {key}; {hint}"
    if error["type"] == "missing":
        return f"{key} is required; set {_required_below(config_type, key)}=..."
    got = error["input"]
    if error["type"] == "dict_type" and isinstance(got, str):
        return f"{key}: give it a name: {key}.NAME={got}"
    message = error["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(got, dict) else f" (got {got!r})"
    return f"{key + ': ' if key else ''}{message[0].lower() + message[1:]}{shown}"


def _required_below(config_type: type[Config], key: str) -> str:
    """The first required key at or below `key`: for a required group of keys, one that has to be set."""
    annotation: Any = config_type
    for part in key.split("."):
        annotation = next(m.model_fields[part].annotation for m in _models(annotation) if part in m.model_fields)
    for model in _models(annotation)[:1]:
        for name, field in model.model_fields.items():
            if field.is_required():
                return _required_below(config_type, f"{key}.{name}")
    return f"{key}.NAME" if get_origin(annotation) is dict else key


def _locate(config_type: type[Config], loc: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """The dotted key of a pydantic location, without the union tags, and the keys known beside it."""
    parts: list[str] = []
    here: Any = config_type
    known: list[str] = []
    for part in loc:
        models = {_tag(m): m for m in _models(here)}
        if len(models) > 1 and part in models:
            here = models[str(part)]
            continue
        model = next(iter(models.values()), None)
        known = list(model.model_fields) if model else []
        parts.append(str(part))
        if model and part in model.model_fields:
            here = model.model_fields[str(part)].annotation
        else:
            here = (get_args(here) or (None,))[-1]
    return ".".join(parts), known


def _models(annotation: Any) -> list[type[Config]]:
    """The Config types inside an annotation: itself, members of a union, the value of a mapping excluded."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    origin = get_origin(annotation)
    if origin is Annotated:
        return _models(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [m for arg in get_args(annotation) for m in _models(arg)]
    return []


def _tag(model: type[Config]) -> str:
    name = model.model_fields.get("name")
    return str(name.default) if name is not None and name.default is not PydanticUndefined else model.__name__


def _describe(config_type: type[Config], prefix: str = "", group: Config | None = None) -> Iterator[str]:
    """The keys of `config_type`, with the values that they have in `group` where that is what they are by default."""
    for name, field in config_type.model_fields.items():
        default = field.get_default(call_default_factory=True) if group is None else getattr(group, name)
        key = prefix + name
        if name == "name" and get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
            continue  # a union's tag, shown in the heading of its member
        models = _models(field.annotation)
        if not models:
            yield f"  {key}  {_type_name(field)} = {_shown(default)}"
            yield f"      {' '.join((field.description or '').split())}"
            continue
        yield f"  {key}.*  {' '.join((field.description or '').split())}"
        for model in models:
            if len(models) > 1:
                yield f"    with {key}.name={_tag(model)}: {(model.__doc__ or '').strip().splitlines()[0]}"
            yield from _describe(model, key + ".", default if type(default) is model else None)


def _type_name(field: FieldInfo) -> str:
    return _annotation_name(field.annotation)


def _annotation_name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if annotation is type(None):
        return "null"
    if origin is Literal:
        return "|".join(str(value) for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        return "|".join(_annotation_name(arg) for arg in get_args(annotation))
    if origin is Annotated:
        return _annotation_name(get_args(annotation)[0])
    if origin is not None:
        return (
            f"{origin.__name__}[{', '.join('...' if a is ... else _annotation_name(a) for a in get_args(annotation))}]"
        )
    return getattr(annotation, "__name__", str(annotation)).lower()


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "(required)"
    return "null" if default is None else str(default)
