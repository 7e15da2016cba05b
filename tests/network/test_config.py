"""The choices: named in one word, and refused when they make no network."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gtcrn_cli.errors import UserError
from gtcrn_cli.network.config import DTYPE_BYTES, INPUT, KINDS, GTCRNConfig

five_kinds = st.tuples(*[st.sampled_from(KINDS)] * 5)
fields = st.fixed_dictionaries(
    {"fusion": st.one_of(st.sampled_from([*KINDS, "hybrid"]), five_kinds)},
    optional={
        "dense": st.booleans(),
        "skip_input": st.booleans(),
        "skip_compress": st.one_of(st.none(), st.integers(1, 15)),
        "skip_levels": st.one_of(st.none(), st.lists(st.integers(0, 4), min_size=1)),
        "skip_dtype": st.sampled_from(list(DTYPE_BYTES)),
    },
)


@given(fields)
def test_name_and_header_say_all(fields: dict[str, Any]) -> None:
    try:
        config = GTCRNConfig(**fields)
    except UserError as error:
        assert "\n" not in str(error)
        return
    assert GTCRNConfig.parse(config.name) == config
    assert GTCRNConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert hash(config) == hash(GTCRNConfig.parse(config.name))


def test_one_network_has_one_name() -> None:
    assert GTCRNConfig(("add",) * 5).name == "add"
    assert GTCRNConfig(("concat", "concat", "attention", "add", "add")).name == "hybrid"
    assert GTCRNConfig(skip_levels=(4, 3, 2, 1, 0, 0)) == GTCRNConfig()
    config = GTCRNConfig(("none", "add", "gated", "concat", "add"), skip_levels=(3, 1))
    assert config.name == "none,add,gated,concat,add+levels=1,3"


def test_the_header_of_the_published_network_stays_what_it_was() -> None:
    assert GTCRNConfig().to_dict() == {"fusion": "add"}


def test_what_a_level_takes() -> None:
    mirrored = GTCRNConfig("hybrid")
    assert [mirrored.sources(level) for level in range(5)] == [(0,), (1,), (2,), (3,), (4,)]
    some = GTCRNConfig("add", dense=True, skip_input=True, skip_levels=(1, 4))
    assert some.sources(0) == (INPUT, 1, 4)
    assert some.sources(3) == (1, 4)
    assert some.cached == (INPUT, 1, 4)
    assert GTCRNConfig(("none", "add", "none", "add", "none")).cached == (1, 3)
    assert GTCRNConfig("none").cached == ()


def test_only_what_has_more_channels_is_compressed() -> None:
    config = GTCRNConfig("add", skip_input=True, skip_compress=12)
    assert [config.cached_channels(source) for source in config.cached] == [9, *[12] * 5]
    assert not config.compresses(INPUT)
    assert config.compresses(0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fusion": "sum"}, "unknown fusion 'sum': choose from none, add, concat"),
        ({"fusion": 3}, "unknown fusion 3"),
        ({"fusion": ("add",) * 4}, "names 4 levels, the network has 5"),
        ({"fusion": ("add",) * 6}, "names 6 levels, the network has 5"),
        ({"fusion": ()}, "names 0 levels"),
        ({"fusion": ("add", "add", "hybrid", "add", "add")}, "'hybrid' of a level"),
        ({"skip_compress": 16}, "cannot compress 16 channels to 16: give 1 to 15"),
        ({"skip_compress": 0}, "cannot compress"),
        ({"skip_compress": "8"}, "cannot compress"),
        ({"skip_compress": 4.0}, "cannot compress"),
        ({"skip_compress": True}, "cannot compress"),
        ({"skip_levels": ()}, "name the levels to keep, or use fusion 'none'"),
        ({"skip_levels": (0, 5)}, "no level 5: choose from 0 to 4"),
        ({"skip_levels": (-1,)}, "no level -1"),
        ({"skip_levels": 3}, "name the levels"),
        ({"skip_levels": (1.0,)}, "no level 1.0"),
        ({"skip_dtype": []}, "unknown skip_dtype"),
        ({"skip_dtype": "int8"}, "unknown skip_dtype 'int8': choose from float32, float16"),
        ({"dense": "yes"}, "dense is 'yes'"),
        ({"fusion": "none", "dense": True}, "takes no skips: leave out dense"),
        ({"fusion": "none", "skip_dtype": "float16", "skip_compress": 4}, "leave out skip_comp"),
        ({"fusion": ("none", *["add"] * 4), "skip_input": True}, "other than 'none' at level 0"),
        ({"fusion": ("none", *["add"] * 4), "skip_levels": (0, 1)}, "level 0 would be cached"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GTCRNConfig(**fields)
    if "fusion" in fields and isinstance(fields["fusion"], str):
        with pytest.raises(UserError, match=message):
            GTCRNConfig.from_dict(fields)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "unknown fusion ''"),
        ("add,add", "names 2 levels"),
        ("add+sparse", "unknown choice 'sparse' in 'add\\+sparse': after the fusion may follow"),
        ("add+compress", "unknown choice 'compress'"),
        ("add+compress=many", "unknown choice 'compress=many'"),
        ("add+levels=", "unknown choice 'levels='"),
        ("add+levels=0,9", "no level 9"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        GTCRNConfig.parse(name)
