"""The page as a file, and as a browser shows it."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg

from ssl_isic.survey import main

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
VOID = {"meta", "link", "br", "img", "line", "circle"}


class Parsed(HTMLParser):
    """All elements with their attributes, and the text; a tag that is closed by another is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def having(self, attribute: str) -> list[str]:
        return [str(attrs[attribute]) for _, attrs in self.elements if attribute in attrs]


def page_of(clean: Any) -> Parsed:
    assert clean.run() in (0, 1)
    return Parsed((clean.out / "report.html").read_text(encoding="utf-8"))


def troubled(clean: Any) -> None:
    """Evil text wherever a file can put it, two copies, a damaged image, a clinic with a long name."""
    clean.images["ISIC_0000017"] = clean.images["ISIC_0000016"]
    clean.images["ISIC_0000009"] = clean.images["ISIC_0000009"][:200]
    for column, row in (
        ("dx", 16),
        ("sex", 3),
        ("attribution", 4),
        ("patient_id", 17),
        ("lesion_id", 17),
        ("target", 20),
    ):
        clean.set(column, row, EVIL)
    clean.set("attribution", 5, "A clinic whose name does not end before the end of the line of a phone " * 2)
    clean.table[EVIL] = [None, *["x"] * (len(clean.table) - 1)]
    clean.table.loc[len(clean.table)] = {**clean.table.loc[0], "isic_id": EVIL}
    clean.folds.loc[len(clean.folds)] = [EVIL.replace("x", "y"), EVIL, 0]
    clean.folds.loc[1, "group"] = EVIL


def test_what_a_file_says_is_text_and_nothing_else(clean: Any) -> None:
    troubled(clean)
    page = page_of(clean)
    assert not [tag for tag, _ in page.elements if tag in ("script", "iframe", "object", "form", "base")]
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    for value in (EVIL, EVIL.replace("x", "y")):
        assert value in page.text
    assert "default-src 'none'" in page.having("content")[0]


def test_the_page_needs_nothing_else(clean: Any) -> None:
    page = page_of(clean)
    sources = page.having("src")
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(target.startswith(("#", "data:,")) for target in page.having("href"))
    style = (clean.out / "report.html").read_text()
    assert not re.search(r"url\(|@import|https?://", style)
    pixels = simplejpeg.decode_jpeg(base64.b64decode(sources[0].partition(",")[2]))
    assert max(pixels.shape) <= 160


def test_links_lead_to_sections_that_are_there(clean: Any) -> None:
    troubled(clean)
    page = page_of(clean)
    anchors = page.having("id")
    assert len(anchors) == len(set(anchors))
    assert {target[1:] for target in page.having("href") if target.startswith("#")} <= set(anchors)


def test_at_most_so_many_sets_are_shown_and_all_are_in_the_csv(clean: Any) -> None:
    for row in range(20, 40, 2):
        clean.images[f"ISIC_{row + 1:07d}"] = clean.images[f"ISIC_{row:07d}"]
    clean.words.append("pictures=3")
    page = page_of(clean)
    assert "10 sets, 20 images, the largest of 2; 3 of them are shown, duplicates.csv has all." in page.text
    lines = (clean.out / "duplicates.csv").read_text().splitlines()
    assert lines[0] == "kind,set,source,isic_id,target,diagnosis,patient,lesion,fold"
    assert sum(line.startswith("file,") for line in lines) == 20


def test_a_pool_without_tables_has_a_page_too(clean: Any) -> None:
    words = [word for word in clean.write() if not word.startswith(("data.tables", "folds"))]
    assert main(words) == 0
    page = Parsed((clean.out / "report.html").read_text())
    assert "No table has labels." in page.text
    assert json.loads((clean.out / "report.json").read_text())["prevalence"]["value"] is None


def test_the_json_has_the_pages_figures(clean: Any) -> None:
    troubled(clean)
    assert clean.run() == 1
    report = json.loads((clean.out / "report.json").read_text())
    assert report["images"] == 40
    assert report["sources"]["here"]["truncated"] == {"count": 1, "ids": ["ISIC_0000009"]}
    assert report["sources"]["here"]["table"]["rows_without_image"] == {"count": 1, "ids": [EVIL]}
    assert report["duplicates"]["file"] == {"sets": 1, "images": 2, "largest": 2}
    assert report["wrong"] == sum(finding["wrong"] for finding in report["findings"]) > 3
    assert sum(fold["images"] for fold in report["folds"]) == 40
    assert {one["value"] for one in report["counts"]["sex"]["values"]} == {"male", "female", EVIL}


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(360, False), (1280, False), (360, True)])
def test_a_browser_shows_it_without_complaint(clean: Any, browser: Any, width: int, dark: bool) -> None:
    troubled(clean)
    clean.run()
    browser.open(Path(clean.out / "report.html"), width, dark)
    assert browser.complaints == []
    assert browser.value("document.documentElement.scrollWidth") <= width  # tables scroll inside themselves
    assert browser.value("[...document.images].every(image => image.naturalWidth > 0)") is True
    assert browser.value("document.scripts.length") == 0
    assert browser.value("document.querySelectorAll('section').length") >= 8
    paper = np.array(re.findall(r"\d+", browser.value("getComputedStyle(document.body).backgroundColor")), int)
    assert (paper.mean() < 128) == dark
