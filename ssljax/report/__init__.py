"""One page about a run: `report.html` in the run folder, a single static file that asks nothing of the network.

Its parts: the facts of the run, the table of results beside the raw-pixel baseline, training curves, queries with their
ten nearest, failures by category, distances within and between groups, links between photos of listings, a 2-D map of
the embeddings, and the attention of vision transformers. page.html.template holds the looks, of all pages.
Whatever came from data is escaped, and where there is nothing to show the page says so: an empty run still has a page.

    write_report(run, embeddings, groups=embeddings.listing, photo=lambda row: items_as_u8[row])
"""

from ssljax.report.attention import Attention
from ssljax.report.comparison import Compared, write_comparison
from ssljax.report.jpeg import THUMBNAIL
from ssljax.report.marks import Cleaned, write_before_after
from ssljax.report.page import MOST, write_report
from ssljax.report.robustness import Example, write_robustness
from ssljax.report.search import Found, Query, write_search

__all__ = [
    "MOST",
    "THUMBNAIL",
    "Attention",
    "Cleaned",
    "Compared",
    "Example",
    "Found",
    "Query",
    "write_before_after",
    "write_comparison",
    "write_report",
    "write_robustness",
    "write_search",
]
