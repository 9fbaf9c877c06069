"""Plans: what a training costs on a machine that is not here, by compiling its programs for it.

Here belong targets, compilation without devices, and what is read of compiled programs. What trains, and what runs on a
device, does not.
"""

from ssljax.plan.figures import Part, Plan, Remedy, Time, Traffic, plan
from ssljax.plan.fitting import largest_batch, remedies
from ssljax.plan.targets import Chip, Target, target

__all__ = ["Chip", "Part", "Plan", "Remedy", "Target", "Time", "Traffic", "largest_batch", "plan", "remedies", "target"]
