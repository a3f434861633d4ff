"""The page as its tests read it."""

from html.parser import HTMLParser

VOID = {"meta", "link"}


class Page(HTMLParser):
    """A page as its tables' rows, the text outside of them, and the elements left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Close the latest element, which must be this one."""
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        """Keep the text where it stands."""
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += " " + data if self.rows[-1][-1] else data
        elif not {"style", "script"} & set(self.open):
            self.text += data
