"""Parts of a page. Text becomes markup only through `Markup.format`, which escapes whatever is not `Markup` itself."""

from collections.abc import Iterable, Sequence

from markupsafe import Markup

Cell = Markup | str


def joined(parts: Iterable[Cell]) -> Markup:
    """The parts one after the other, texts escaped."""
    return Markup("").join(parts)


def section(anchor: str, title: str, *parts: Cell) -> Markup:
    """A section of the page, under its heading."""
    return Markup('<section id="{}"><h2>{}</h2>{}</section>').format(anchor, title, joined(parts))


def part(title: str, *parts: Cell, anchor: str = "") -> Markup:
    """A part of a section, under a smaller heading; with an `anchor` a link can lead to it."""
    name = Markup(' id="{}"').format(anchor) if anchor else ""
    return Markup('<div class="part"{}><h3>{}</h3>{}</div>').format(name, title, joined(parts))


def note(text: Cell) -> Markup:
    """A paragraph in a quieter colour."""
    return Markup('<p class="note">{}</p>').format(text)


def table(heads: Sequence[str], rows: Iterable[Sequence[Cell]], texts: int = 1) -> Markup:
    """A table that scrolls inside itself; the first `texts` columns are text and the others numbers, to the right."""
    kinds = ["text" if column < texts else "number" for column in range(len(heads))]
    head = joined(Markup('<th class="{}">{}</th>').format(*pair) for pair in zip(kinds, heads, strict=True))
    body = joined(
        Markup("<tr>{}</tr>").format(
            joined(Markup('<td class="{}">{}</td>').format(*pair) for pair in zip(kinds, row, strict=True))
        )
        for row in rows
    )
    return Markup(
        '<div class="scroll" tabindex="0"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(head, body)


def grid(parts: Iterable[Cell]) -> Markup:
    """Parts beside each other where there is room, below each other on a phone."""
    return Markup('<div class="grid">{}</div>').format(joined(parts))


def whole(number: int) -> str:
    """A count with its thousands apart."""
    return f"{number:,}".replace(",", "\u202f")


def percent(share: float, digits: int = 1) -> str:
    """A share as a percentage; an en dash where it is none."""
    return "\u2013" if share != share else f"{share:.{digits}%}".replace("%", "\u202f%")
