"""Matching: which items of a catalogue are the same product, from vectors of one or several kinds.

    candidates = Candidates.of(vectors, build=lambda x: ScaNN().structure(x).search)  # or without `build`, exactly
    matches = MatchLists.of(candidates, threshold=0.8)
    products = group(matches).number

Thresholds are chosen on items whose products are known and have none in common with those matched: `calibration`.
Nothing here holds a score of all pairs: with an index, time and memory are linear in the items.
"""

from ssljax.evaluation.matching.calibration import Judged, calibrate_blending, calibrate_union, row_f1
from ssljax.evaluation.matching.candidates import MOST, Candidates, blended, concatenated
from ssljax.evaluation.matching.groups import Groups, group
from ssljax.evaluation.matching.lists import MatchLists
from ssljax.evaluation.matching.same_photo import DECODED, pixel_candidates, prints, same_photo

__all__ = [
    "DECODED",
    "MOST",
    "Candidates",
    "Groups",
    "Judged",
    "MatchLists",
    "blended",
    "calibrate_blending",
    "calibrate_union",
    "concatenated",
    "group",
    "pixel_candidates",
    "prints",
    "row_f1",
    "same_photo",
]
