"""What every test shares: one thread, the order of the files, and what a failing test was for."""

import inspect
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the tensors of the tests are too small to share out

# From the equations outwards, so that a broken one fails before anything slow starts. A file that
# is not named here comes after those that are; with -x the run ends at the first failure.
ORDER = (
    "score",
    "rollout",
    "model",
    "rewards",
    "world",
    "train",
    "test_score",
    "test_rollout",
    "test_model",
    "test_world",
    "test_metrics",
    "test_methods",
    "test_step",
    "test_checker",
    "test_loop",
    "test_evidence",
)


def place(item: pytest.Item) -> int:
    """Where the file of a test stands in ORDER."""
    name = Path(item.path).stem
    return ORDER.index(name) if name in ORDER else len(ORDER)


def pytest_collection_modifyitems(items: list[pytest.Item]):
    """Put the tests in order; those of one file stay as they stand in it."""
    items.sort(key=place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Print the docstring of a failing test: what mistake it is there to catch."""
    report = yield
    purpose = inspect.getdoc(getattr(item, "function", None)) if report.failed else None
    if purpose:
        report.sections.append(("what this test is for", purpose))
    return report
