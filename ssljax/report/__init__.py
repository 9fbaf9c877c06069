"""Pages about runs: one static file each that loads nothing from the network, and the contact sheet of views.

A module a page: `run_page` (report.html of a run), `comparison_page`, `robustness_page`, `search_page`, `groups_page`
and `watermark_page`. Modules gather data, and `templates/` has the text and looks. Whatever came from data is escaped,
and where there is nothing to show the page says so: an empty run still has a page.

    write_report(run, embeddings, groups=embeddings.listing, photo=lambda row: items_as_u8[row])
"""

from ssljax.report.attention import Attention
from ssljax.report.comparison_page import Compared, write_comparison
from ssljax.report.groups_page import write_groups
from ssljax.report.photos import THUMBNAIL, Thumbnails
from ssljax.report.robustness_page import write_robustness
from ssljax.report.run_page import MOST, write_report
from ssljax.report.search_page import Found, Query, write_search
from ssljax.report.watermark_page import Cleaned, write_before_after

__all__ = [
    "MOST",
    "THUMBNAIL",
    "Attention",
    "Cleaned",
    "Compared",
    "Found",
    "Query",
    "Thumbnails",
    "write_before_after",
    "write_comparison",
    "write_groups",
    "write_report",
    "write_robustness",
    "write_search",
]
