"""Where the processes of a run find each other and wait for each other; without JAX.

The first process opens a :class:`Desk` on the coordinator's port, and every process takes a
:class:`Seat` there. While some are missing every one says who has come. When all have, the port
goes to JAX's coordination service; the connections stay, so that a process that ends is noticed at
once, and one that is late at a barrier is named. Where a process is lost the others end with one
line.
"""

from ctrak_jax.meeting.desk import Desk, Limits
from ctrak_jax.meeting.seat import Seat, leave, progress, seat, take_seat

__all__ = ["Desk", "Limits", "Seat", "leave", "progress", "seat", "take_seat"]
