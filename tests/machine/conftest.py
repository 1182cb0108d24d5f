import pytest

from tests.machine.written_groups import WrittenGroups


@pytest.fixture
def groups(tmp_path):
    return WrittenGroups(tmp_path / "a folder")
