"""A server that all tests of a file share."""

import pytest
from fake_model import FakeModel
from served import served


@pytest.fixture(scope="module")
def client():
    with served(FakeModel(), names=["Named.example"]) as client:
        yield client
