"""Draws docs/listings.png: cosine distances of photos within listings and between them, a panel for each run.

ssljax sweep experiments/claims/natural_photos.py
python results/listings.py
"""

import numpy as np
from commands import ROOT
from matplotlib.figure import Figure

from ssljax.evaluation import Embeddings
from ssljax.evaluation.evaluators.separation import pair_similarities
from ssljax.evaluation.ranking import relevance
from ssljax.evaluation.vectors import normalise
from ssljax.training.run_folder import Run

TITLES = {
    "imported": "as imported",
    "augmented_1": "MoBY, augmented views",
    "both_1": "MoBY, both",
    "natural_1": "MoBY, natural views",
}
EDGES = np.linspace(0, 1, 51)


def main() -> None:
    """Draws the runs that are complete."""
    runs = {name: Run(ROOT / "runs" / f"claims_natural_photos_{name}") for name in TITLES}
    runs = {name: run for name, run in runs.items() if run.results.exists()}
    figure = Figure(figsize=(3 * len(runs), 2.6), layout="constrained")
    panels = figure.subplots(1, len(runs), sharey=True, squeeze=False)[0]
    for axes, (name, run) in zip(panels, runs.items(), strict=True):
        embeddings = Embeddings.load(run.embeddings("test"))
        pairs = pair_similarities(normalise(embeddings.vectors), relevance("listing", embeddings)[0])
        for label, cosines in (("within a listing", pairs.within), ("of two listings", pairs.between)):
            share = np.histogram(1 - cosines, EDGES)[0] / len(cosines)
            axes.stairs(share, EDGES, fill=True, alpha=0.5, label=label)
        axes.set(title=f"{TITLES[name]}\nAUC {pairs.auc:.3f}", xlabel="cosine distance")
    panels[0].set_ylabel("share of the pairs")
    panels[0].legend()
    figure.savefig(ROOT / "docs" / "listings.png", dpi=100)


if __name__ == "__main__":
    main()
