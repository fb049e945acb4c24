"""Without torchrun there is one process."""

import pytest

from charlstm.training.processes import SET_BY_TORCHRUN, is_first, started_by_torchrun


def test_a_variable_of_torchrun_alone_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SET_BY_TORCHRUN:
        monkeypatch.setenv(name, "1")
    assert started_by_torchrun()
    assert not is_first()
    for name in SET_BY_TORCHRUN:
        with monkeypatch.context() as patch:
            patch.delenv(name)
            assert not started_by_torchrun(), name
            assert is_first(), name
