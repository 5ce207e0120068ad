"""The page as a whole: what would make a result wrong comes first, then the details."""

from collections.abc import Sequence

from markupsafe import Markup

from ssl_isic.inspection.counting import share_of
from ssl_isic.inspection.finding import Finding
from ssl_isic.inspection.inspected import Inspected
from ssl_isic.inspection.page import checks, copies, counts
from ssl_isic.inspection.page.parts import joined, percent, whole
from ssl_isic.inspection.page.style import CSS

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser runs no script and fetches nothing for this page, whatever stands in it."""
SECTIONS = {
    "sources": "Sources",
    "classes": "Classes",
    "sizes": "Sizes",
    "missing": "Missing values",
    "unreadable": "Unreadable",
    "duplicates": "Duplicates",
    "overlap": "Overlap",
    "contradictions": "Contradictions",
    "lesions": "Lesions",
    "colour": "Colour",
    "folds": "Folds",
}


def render(seen: Inspected, findings: Sequence[Finding], most: int) -> str:
    """The page as HTML; a section shows up to `most` sets of images."""
    sections = {
        "sources": counts.sources(seen),
        "classes": counts.classes(seen),
        "sizes": counts.sizes(seen),
        "missing": counts.missing(seen),
        "unreadable": copies.unreadable(seen),
        "duplicates": copies.duplicates(seen, most),
        "overlap": copies.overlap(seen),
        "contradictions": copies.contradictions(seen, most),
        "lesions": copies.lesions(seen, most),
        "colour": checks.colour(seen),
        "folds": checks.folds(seen),
    }
    links = joined(
        Markup('<a href="#{}">{}</a>').format(name, SECTIONS[name]) for name, text in sections.items() if text
    )
    title = f"Inspection of {', '.join(seen.pool.names)}"
    return Markup(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="{}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<title>{}</title>\n<link rel="icon" href="data:,">\n<style>{}</style>\n</head>\n<body>\n'
        '<header><h1>{}</h1>{}{}</header>\n<nav aria-label="Sections"><div>{}</div></nav>\n<main>{}</main>\n'
        "<footer>Written by ssl-isic inspect. report.json has these figures, duplicates.csv every set of images.</footer>\n"
        "</body>\n</html>\n"
    ).format(POLICY, title, Markup(CSS), title, _facts(seen), _verdict(findings), links, joined(sections.values()))


def _facts(seen: Inspected) -> Markup:
    share = share_of(seen.rows.target, seen.records["state"] >= 0)
    facts = [
        (whole(len(seen.pool)), "images"),
        (whole(len(seen.pool.names)), "sources" if len(seen.pool.names) > 1 else "source"),
    ]
    if share.labelled:
        interval = f"positive, {percent(share.low, 2)} to {percent(share.high, 2)}"
        facts += [(whole(share.labelled), "labelled"), (whole(share.positives), "positives")]
        facts += [(percent(share.value, 2), interval)]
    items = joined(Markup("<li><b>{}</b><span>{}</span></li>").format(*fact) for fact in facts)
    return Markup('<ul class="facts">{}</ul>').format(items)


def _verdict(findings: Sequence[Finding]) -> Markup:
    wrong, noted = ([finding for finding in findings if finding.wrong is kind] for kind in (True, False))
    if wrong:
        head = (
            f"{len(wrong)} findings would make a result wrong"
            if len(wrong) > 1
            else "One finding would make a result wrong"
        )
        first = _findings("wrong", head, wrong)
    else:
        first = _findings("right", "Nothing was found that would make a result wrong", [])
    return joined([first, _findings("noted", "Worth knowing", noted) if noted else Markup("")])


def _findings(kind: str, head: str, findings: Sequence[Finding]) -> Markup:
    items = joined(
        Markup('<li><code>{}</code> {} <a href="#{}">details</a></li>').format(
            finding.name, finding.text, finding.section
        )
        for finding in findings
    )
    return Markup('<div class="verdict {}"><h2>{}</h2>{}</div>').format(
        kind, head, Markup("<ul>{}</ul>").format(items) if items else Markup("")
    )
