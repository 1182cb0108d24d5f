"""Keeps torch within the cores that this process may use. Called before a model is prepared.

Left to itself torch takes a thread for each core of the machine, and in a container that may use
fewer the kernel would hold most of them up. Who serves or measures then says a number of its own.
"""

import torch

from machine.cores import usable_cores


def stay_within_cores() -> None:
    """Lower the number of torch's threads to that of usable cores; it is never raised."""
    torch.set_num_threads(min(torch.get_num_threads(), usable_cores()))
