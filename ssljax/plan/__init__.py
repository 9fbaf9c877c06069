"""Plans: what a training costs on a machine that is not here, by compiling its programs for it.

Here belong targets, compilation without devices, and what is read of compiled programs. What trains, and what runs on a
device, does not.
"""

from ssljax.plan.figures import Plan, Time, plan
from ssljax.plan.targets import Target, target

__all__ = ["Plan", "Target", "Time", "plan", "target"]
