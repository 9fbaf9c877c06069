"""What robustness is measured by: one disturbance of each kind, whose `disturb` is given the strength."""

from ssljax.views.disturbance import Disturbance

DISTURBANCES: tuple[Disturbance, ...] = ()
