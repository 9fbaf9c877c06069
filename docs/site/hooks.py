"""What turns pages that are read on GitHub too into the site; mkdocs calls these functions.

Some pages of the repository's root and all experiments are part of the site, links to them lead there, and formulas are
MathML: no page needs a script, or anything else, from another host.
"""

import html
import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent.parent
PAGES = {"README.md": "get_started.md"} | {name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")}
LINK = re.compile(r"(?<=\]\()[^)#\s]+")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files, config):
    """Adds the root's pages and the experiments to those of docs/."""
    for name, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / name)))
    for path in sorted(ROOT.glob("experiments/**/*.py")):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turns links to files of the repository into links to the same files in the site."""
    source, docs = Path(page.file.abs_src_path), Path(config.docs_dir)

    def in_site(link):
        target = (source.parent / link[0]).resolve()
        if not target.is_file() or not target.is_relative_to(ROOT):
            return link[0]
        name = target.relative_to(docs if target.is_relative_to(docs) else ROOT).as_posix()
        here = posixpath.dirname(page.file.src_uri)
        return posixpath.relpath(name if target.is_relative_to(docs) else PAGES.get(name, name), here or ".")

    return LINK.sub(in_site, markdown)


def on_page_content(content, page, config, files):
    """Turns formulas into MathML; a bar in a table is written with a backslash, as it would end the cell."""

    def mathml(formula):
        latex = html.unescape(formula[2]).replace(r"\|", "|").replace("'", "\\text{\u2032}")
        return convert(latex, display="inline" if formula[1] == "span" else "block")

    return FORMULA.sub(mathml, content)
