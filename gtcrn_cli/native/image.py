"""From an object file to machine code that runs from wherever it is mapped, for ELF on x86-64.

The kernel calls nothing and has no data that it writes to. So once its sections lie one after the
other and know where the others are, a start need only map the file: no linker, and no llvmlite,
whose import takes longer and more memory than all that the kernel does with a short file.

The names are those of the ELF specification and of its supplement for x86-64.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

ELF_64_LITTLE_ENDIAN = b"\x7fELF\x02\x01"
EM_X86_64 = 62
SHT_PROGBITS, SHT_SYMTAB, SHT_RELA = 1, 2, 4
SHF_WRITE, SHF_ALLOC = 1, 2
R_X86_64_PC32, R_X86_64_PLT32 = 2, 4
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int


class _Symbol(NamedTuple):
    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


def flatten(code: bytes, symbol: str) -> tuple[bytes, int]:
    """What of an object file is loaded, as one piece.

    Parameters
    ----------
    code
        The object file.
    symbol
        The function to call.

    Returns
    -------
    The piece, to be mapped at any multiple of a page; and where in it the function begins.

    Raises
    ------
    ValueError
        It is not of this kind, or needs more than addresses relative to itself.
    """
    if code[:6] != ELF_64_LITTLE_ENDIAN or struct.unpack_from("<H", code, 18) != (EM_X86_64,):
        raise ValueError("no ELF object for x86-64")
    (table,) = struct.unpack_from("<Q", code, 40)
    (count,) = struct.unpack_from("<H", code, 60)
    sections = [_Section(*_SECTION.unpack_from(code, table + 64 * n)) for n in range(count)]

    image = bytearray()
    places: dict[int, int] = {}
    for number, section in enumerate(sections):
        # What else there is (memory to write to, tables for debuggers) is refused below if in use.
        if section.type == SHT_PROGBITS and section.flags & (SHF_ALLOC | SHF_WRITE) == SHF_ALLOC:
            image += bytes(-len(image) % max(section.alignment, 1))
            places[number] = len(image)
            image += code[section.offset : section.offset + section.size]

    symbols, names = _symbols(code, sections)
    entry = None
    for item in symbols:
        end = code.index(b"\0", names + item.name)
        if code[names + item.name : end].decode() == symbol and item.section in places:
            entry = places[item.section] + item.value
    if entry is None:
        raise ValueError(f"no {symbol} in it")

    for section in sections:
        if section.type != SHT_RELA or section.info not in places:
            continue
        for n in range(section.size // _RELOCATION.size):
            offset, info, addend = _RELOCATION.unpack_from(
                code, section.offset + n * _RELOCATION.size
            )
            kind, target = info & 0xFFFFFFFF, symbols[info >> 32]
            if kind not in (R_X86_64_PC32, R_X86_64_PLT32) or target.section not in places:
                raise ValueError(f"a relocation of kind {kind} in section {target.section}")
            place = places[section.info] + offset
            value = places[target.section] + target.value + addend - place
            struct.pack_into("<i", image, place, value)
    return bytes(image), entry


def _symbols(code: bytes, sections: list[_Section]) -> tuple[list[_Symbol], int]:
    """All symbols, and where their names begin in the file."""
    table = next((section for section in sections if section.type == SHT_SYMTAB), None)
    if table is None:
        raise ValueError("no symbols in it")
    count = table.size // _SYMBOL.size
    symbols = [
        _Symbol(*_SYMBOL.unpack_from(code, table.offset + n * _SYMBOL.size)) for n in range(count)
    ]
    return symbols, sections[table.link].offset
