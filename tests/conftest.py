"""What every test shares: repeatable examples, and one thread for tensors.

A test that needs a model, an engine or a server takes it from its own folder's fixtures.
"""

import torch
from hypothesis import settings


def pytest_configure() -> None:
    """Before collection: no deadline (shared machines pause), and the same examples every run.

    Models of tests are tiny: more threads would only wait for each other.
    """
    settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
    settings.load_profile("repeatable")
    torch.set_num_threads(1)
