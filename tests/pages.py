"""Reads the pages that are written: whole, and harmless whatever the data says."""

from html.parser import HTMLParser

HOSTILE = """<script>alert("1")</script>'"></style></svg> onerror=x https://evil.example/x.png"""
VOID = {"meta", "img", "input"}
OPTIONAL_END = {"dt", "dd"}


class Page(HTMLParser):
    """A page's elements; fails if they are not properly nested."""

    def __init__(self, text: str):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID | OPTIONAL_END:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag: str, of_class: str = "") -> list[dict]:
        return [a for t, a in self.elements if t == tag and (not of_class or of_class in a.get("class", "").split())]


def loads_nothing(text: str) -> None:
    """Fails if the page asks for anything but itself, or runs what is not its own."""
    page = Page(text)
    assert not any(tag in {"link", "iframe", "object", "embed", "base", "form", "use", "a"} for tag, _ in page.elements)
    assert not any(name.startswith("on") for _, a in page.elements for name in a)
    assert all(a["src"].startswith("data:image/jpeg;base64,") for a in page.of("img"))
    assert all(a["href"].startswith("data:image/jpeg;base64,") for a in page.of("image"))
    assert not any("src" in a or "href" in a for tag, a in page.elements if tag not in {"img", "image"})
    assert len(page.of("script")) == 1
    styles = "".join(text for text in page.texts if "{" in text)
    assert styles.count("url(") == styles.count("url(data:image/jpeg;base64,") and "@import" not in styles
    assert any("default-src 'none'" in a.get("content", "") for a in page.of("meta"))
