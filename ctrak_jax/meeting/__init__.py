"""Where the processes of a run find each other and wait for each other; without JAX.

The first process opens a :class:`Coordinator` at the address that ``--coordinator`` gives, and
every process connects to it as a :class:`Participant`. While some are missing every one says who
has come. When all have, the port goes to JAX's coordination service; the connections stay, so that
a process that ends is noticed at once, and one that is late at a barrier is named. Where a process
is lost the others end with one line.
"""

from ctrak_jax.meeting.coordinator import Coordinator, Limits
from ctrak_jax.meeting.participant import Participant, join, leave, progress, this_process

__all__ = ["Coordinator", "Limits", "Participant", "join", "leave", "progress", "this_process"]
