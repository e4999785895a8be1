"""The fixes are applied once for all tests of this folder."""

import pytest

from fairseq_nart.compat import apply


@pytest.fixture(scope="session", autouse=True)
def _fixed() -> None:
    apply()
    apply()  # a second call changes nothing
