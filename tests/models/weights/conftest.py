"""Files for the tests of weights: read, or refused in a sentence."""

import pytest

from ssljax.models.weights.files import read_weights
from ssljax.types import UserError


@pytest.fixture
def read(tmp_path):
    def read(content):
        (tmp_path / "weights").write_bytes(content)
        return read_weights(tmp_path / "weights")

    return read


@pytest.fixture
def refused(read, tmp_path):
    """Reads a file that must be refused, and gives the sentence that says why."""

    def refused(content):
        with pytest.raises(UserError) as error:
            read(content)
        assert "\n" not in str(error.value) and str(tmp_path / "weights") in str(error.value)
        return str(error.value)

    return refused
