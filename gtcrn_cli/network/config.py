"""What can be chosen about the network, and the sizes that follow. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..errors import UserError

SAMPLE_RATE = 16_000  # of the network's design; enhancement/stft.py brings others to it
WINDOW = 512  # samples in a frame at that rate: 32 ms
HOP = WINDOW // 2
BINS = WINDOW // 2 + 1  # 257, 31.25 Hz apart

LOW_BINS = 65  # bins 0-64 reach the network as they are
ERB_BANDS = 64  # bins 65-256 reach it through this many triangular bands
BANDS = LOW_BINS + ERB_BANDS  # 129
BANDS_AT = (65, 33, 33, 33, 33)  # bands that leave encoder level 0, 1, ... 4
DEEP_BANDS = BANDS_AT[-1]

CHANNELS = 16
HALF = CHANNELS // 2  # of them, in one group
GATES = 3  # of a GRU: reset, update, new
DILATIONS = (1, 2, 5)  # of encoder levels 2, 3, 4 in time; the decoder mirrors them

FEATURES = 9  # magnitude, real and imaginary part, each with its two neighbour bands

LEVELS = range(len(BANDS_AT))  # of the encoder, shallowest first; the decoder mirrors them
INPUT = -1  # the source of a skip that is no level: the features that enter level 0
KINDS = ("none", "add", "concat", "attention", "gated")
HYBRID = ("concat", "concat", "attention", "add", "add")
FUSIONS = (*KINDS, "hybrid")
DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class GTCRNConfig:
    """The choices that make one GTCRN another.

    They are about skips: what a decoder level takes of the encoder, how (`fusion.Fusion` has the
    formulas), and in what form it is cached in between. The default is the published network.

    Attributes
    ----------
    fusion
        One of ``none``, ``add``, ``concat``, ``attention``, ``gated`` for all levels; or a tuple of
        five of them, for the decoder levels that mirror encoder level 0 (the shallowest) to 4.
        ``hybrid`` is ``concat, concat, attention, add, add``.
    dense
        A decoder level takes all encoder levels, not only the one it mirrors.
    skip_input
        The last decoder level takes the input features as well.
    skip_compress
        Cache no more than that many channels of a skip: a 1x1 convolution before, one back after.
    skip_levels
        The encoder levels whose outputs are cached; all of them if ``None``. A decoder level that
        is left without skips goes on with what comes from below.
    skip_dtype
        Of the cached skips: ``float32``, ``float16`` or ``bfloat16``.

    Raises
    ------
    UserError
        A wrong name or number, or choices that exclude one another.
    """

    fusion: str | tuple[str, ...] = "add"
    dense: bool = False
    skip_input: bool = False
    skip_compress: int | None = None
    skip_levels: tuple[int, ...] | None = None
    skip_dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "fusion", _canonical_fusion(self.fusion))
        object.__setattr__(self, "skip_levels", _canonical_levels(self.skip_levels))
        for name in ("dense", "skip_input"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"{name} is {getattr(self, name)!r}: give true or false")
        if self.skip_compress is not None and not (
            type(self.skip_compress) is int and 0 < self.skip_compress < CHANNELS
        ):
            raise UserError(
                f"cannot compress {CHANNELS} channels to {self.skip_compress!r}: "
                f"give 1 to {CHANNELS - 1}"
            )
        if self.skip_dtype not in tuple(DTYPE_BYTES):  # also what cannot be hashed
            raise UserError(
                f"unknown skip_dtype {self.skip_dtype!r}: choose from {', '.join(DTYPE_BYTES)}"
            )
        self._refuse_what_has_no_effect()

    def _refuse_what_has_no_effect(self) -> None:
        if self.fusion == "none":
            chosen = [name for name in self.to_dict() if name != "fusion"]
            if chosen:
                raise UserError(f"fusion 'none' takes no skips: leave out {', '.join(chosen)}")
        if self.skip_input and self.kinds[0] == "none":
            raise UserError("skip_input needs a fusion other than 'none' at level 0")
        if self.skip_levels is not None and not self.dense:
            unused = [str(level) for level in self.skip_levels if self.kinds[level] == "none"]
            if unused:
                raise UserError(
                    f"level {', '.join(unused)} would be cached but not taken: its fusion is 'none'"
                )

    @property
    def kinds(self) -> tuple[str, ...]:
        """`fusion`, spelt out for every level."""
        if isinstance(self.fusion, tuple):
            return self.fusion
        return HYBRID if self.fusion == "hybrid" else (self.fusion,) * len(LEVELS)

    def sources(self, level: int) -> tuple[int, ...]:
        """What the decoder level that mirrors encoder level `level` takes: levels, or `INPUT`."""
        if self.kinds[level] == "none":
            return ()
        kept = tuple(LEVELS) if self.skip_levels is None else self.skip_levels
        levels = tuple(n for n in kept if self.dense or n == level)
        return (INPUT, *levels) if self.skip_input and level == 0 else levels

    def kind(self, level: int) -> str:
        """How a decoder level fuses; ``none`` if there is nothing for it to take."""
        return self.kinds[level] if self.sources(level) else "none"

    def width(self, level: int) -> int:
        """Channels of all that a decoder level takes."""
        return sum(self.cached_channels(source) for source in self.sources(level))

    def restores(self, level: int) -> bool:
        """Whether a 1x1 convolution of its own makes one skip of what a decoder level takes."""
        is_a_skip = len(self.sources(level)) == 1 and self.width(level) == CHANNELS
        return self.kind(level) not in ("none", "concat") and not is_a_skip

    @property
    def cached(self) -> tuple[int, ...]:
        """All that is cached between encoder and decoder."""
        return tuple(sorted({source for level in LEVELS for source in self.sources(level)}))

    def cached_channels(self, source: int) -> int:
        """Channels of a cached skip."""
        return min(_channels(source), self.skip_compress or CHANNELS)

    def compresses(self, source: int) -> bool:
        """Whether a skip is cached with fewer channels than it has."""
        return self.cached_channels(source) < _channels(source)

    @property
    def name(self) -> str:
        """The configuration in a word that `parse` reads, such as ``hybrid+dense+float16``."""
        fusion = self.fusion if isinstance(self.fusion, str) else ",".join(self.fusion)
        parts = [fusion]
        parts += ["dense"] * self.dense + ["input"] * self.skip_input
        if self.skip_compress is not None:
            parts.append(f"compress={self.skip_compress}")
        if self.skip_levels is not None:
            parts.append(f"levels={','.join(map(str, self.skip_levels))}")
        if self.skip_dtype != "float32":
            parts.append(self.skip_dtype)
        return "+".join(parts)

    @classmethod
    def parse(cls, name: str) -> GTCRNConfig:
        """The inverse of `name`.

        Raises
        ------
        UserError
            The name, or what it means, does not exist.
        """
        fusion, *options = name.split("+")
        fields: dict[str, Any] = {"fusion": tuple(fusion.split(",")) if "," in fusion else fusion}
        for option in options:
            key, _, value = option.partition("=")
            try:
                if option in ("dense", "input"):
                    fields["dense" if option == "dense" else "skip_input"] = True
                elif option in DTYPE_BYTES:
                    fields["skip_dtype"] = option
                elif key == "compress":
                    fields["skip_compress"] = int(value)
                elif key == "levels":
                    fields["skip_levels"] = tuple(int(level) for level in value.split(","))
                else:
                    raise ValueError
            except ValueError:
                raise UserError(
                    f"unknown choice {option!r} in {name!r}: after the fusion may follow +dense, "
                    "+input, +compress=8, +levels=0,1,2, +float16, +bfloat16"
                ) from None
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as a model file's header holds it: the fusion, and what is not default."""
        defaults = GTCRNConfig.__dataclass_fields__
        return {
            name: value
            for name, value in asdict(self).items()
            if name == "fusion" or value != defaults[name].default
        }

    @classmethod
    def unknown(cls, fields: dict[str, Any]) -> list[str]:
        """The names among `fields` that this version has no choice for."""
        return sorted(set(fields) - set(cls.__dataclass_fields__))

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> GTCRNConfig:
        """The inverse of `to_dict`.

        Raises
        ------
        UserError
            A field that this version does not know, or a value it does not allow.
        """
        unknown = cls.unknown(fields)
        if unknown:
            raise UserError(
                f"the model uses {', '.join(unknown)}, which this version of gtcrn "
                "does not know: upgrade gtcrn-cli"
            )
        return cls(**fields)


def _channels(source: int) -> int:
    return FEATURES if source == INPUT else CHANNELS


def _canonical_fusion(fusion: Any) -> str | tuple[str, ...]:
    """One word where all levels agree, else one for each."""
    if not isinstance(fusion, (tuple, list)):
        if fusion not in FUSIONS:
            raise UserError(f"unknown fusion {fusion!r}: choose from {', '.join(FUSIONS)}")
        return str(fusion)
    for kind in fusion:
        if kind not in KINDS:
            raise UserError(f"unknown fusion {kind!r} of a level: choose from {', '.join(KINDS)}")
    if len(fusion) != len(LEVELS):
        raise UserError(
            f"the fusion names {len(fusion)} levels, the network has {len(LEVELS)}: name them all, "
            "shallowest first, or give one name for all"
        )
    if len(set(fusion)) == 1:
        return str(fusion[0])
    return "hybrid" if tuple(fusion) == HYBRID else tuple(fusion)


def _canonical_levels(levels: Any) -> tuple[int, ...] | None:
    """In order, each once; ``None`` where it is all of them."""
    if levels is None:
        return None
    if not isinstance(levels, (tuple, list)) or not levels:
        raise UserError(f"skip_levels is {levels!r}: name the levels to keep, or use fusion 'none'")
    for level in levels:
        if type(level) is not int or level not in LEVELS:
            raise UserError(f"there is no level {level!r}: choose from {LEVELS[0]} to {LEVELS[-1]}")
    chosen = tuple(sorted(set(levels)))
    return None if chosen == tuple(LEVELS) else chosen
