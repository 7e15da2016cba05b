"""What users of the library may catch."""

from __future__ import annotations

from gtcrn_cli.errors import MissingExtraError, UserError


def test_a_missing_extra_is_both_kinds_of_error():
    error = MissingExtraError("drawing", "report")
    assert isinstance(error, UserError)
    assert isinstance(error, ImportError)
    assert (
        str(error)
        == "drawing needs an extra: pip install 'gtcrn-cli[report]' ('.[report]' in a checkout)"
    )
