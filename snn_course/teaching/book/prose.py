"""Markdown to HTML, with formulas between dollars as MathML, which browsers draw by themselves."""

import html
import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import latex2mathml.converter
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

MATHML = "{http://www.w3.org/1998/Math/MathML}m"
"""How the names of all elements of a formula begin."""
LONG = 40
"""Letters of a formula that may be wider than a phone, and then gets a box that can be scrolled."""


@dataclass(frozen=True)
class Heading:
    """A heading, as the contents of a page list it."""

    level: int
    anchor: str
    title: str
    """HTML, without block elements."""


@dataclass
class Writer:
    """Turns the prose of one page into HTML, and keeps its headings."""

    headings: list[Heading] = field(default_factory=list)

    def html(self, markdown: str) -> str:
        """Give paragraphs, lists, tables and headings, each heading with an anchor of its own."""
        tokens = self._markdown.parse(markdown)
        for opening, content in pairwise(tokens):
            if opening.type == "heading_open":
                title = self._markdown.renderer.render(content.children or [], self._markdown.options, {})
                opening.attrSet("id", self.heading(int(opening.tag[1]), title))
        for token in tokens:
            if token.type in (
                "code_block",
                "fence",
            ):  # a keyboard must reach it, to scroll
                token.type = "code_block"
                token.attrs = {"tabindex": "0", "role": "group", "aria-label": "Code"}
        return str(self._markdown.renderer.render(tokens, self._markdown.options, {}))

    def line(self, markdown: str) -> str:
        """Give one line of prose, without a paragraph around it."""
        return str(self._markdown.renderInline(markdown))

    def heading(self, level: int, title: str) -> str:
        """Note a heading. Returns: its anchor, which no other heading of the page has."""
        words = re.sub(r"<[^>]*>|&\w+;", "", title).lower()
        slug = re.sub(r"[^a-z0-9]+", "-", words).strip("-0123456789") or "part"
        taken = {known.anchor for known in self.headings}
        anchor, number = slug, 1
        while anchor in taken:
            number += 1
            anchor = f"{slug}-{number}"
        self.headings.append(Heading(level, anchor, title))
        return anchor

    @cached_property
    def _markdown(self) -> MarkdownIt:
        markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
        dollarmath_plugin(
            markdown, allow_labels=False, allow_blank_lines=False, double_inline=True, renderer=_drawn
        )
        return markdown


def _drawn(latex: str, options: dict[str, Any]) -> str:
    return formula(latex, block=bool(options["display_mode"]))


def formula(latex: str, block: bool) -> str:
    """Draw a formula; one that cannot be drawn is shown as it is written, in the class ``undrawn``."""
    latex = " ".join(latex.split())
    try:
        drawn = latex2mathml.converter.convert(latex, display="block" if block else "inline")
        if not all(element.tag.startswith(MATHML) for element in ElementTree.fromstring(drawn).iter()):
            raise ValueError  # it lets the signs < and & in words through as they are
    except Exception:  # whatever the renderer trips over: the page is made all the same
        return f'<code class="undrawn">{html.escape(latex)}</code>'
    if len(latex) <= LONG:
        return str(drawn)
    tag = "div" if block else "span"
    return f'<{tag} class="formula" tabindex="0" role="group" aria-label="Formula">{drawn}</{tag}>'
