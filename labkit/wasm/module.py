"""A wasm binary, read as far as somebody asks: section headers at once, contents on demand, code never."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from labkit.wasm._errors import MalformedModule
from labkit.wasm._reader import Reader

MAGIC = b"\0asm"
"""The first four bytes of every wasm binary."""

_CORE_VERSION = b"\x01\0\0\0"
_COMPONENT_LAYER = b"\x01\0"

# Non-custom sections come in this order, each at most once (13 and 12 joined the format later).
_ORDER = {section: place for place, section in enumerate((1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11))}
_NUMBER_AND_REFERENCE_TYPES = frozenset(range(0x69, 0x80))
_TYPED_REFERENCES = frozenset((0x63, 0x64))


class SectionId(IntEnum):
    """The sections that this reader looks into."""

    CUSTOM = 0
    TYPE = 1
    IMPORT = 2
    FUNCTION = 3
    MEMORY = 5
    EXPORT = 7
    START = 8
    CODE = 10


class ExternalKind(IntEnum):
    """What an import or export is."""

    FUNCTION = 0
    TABLE = 1
    MEMORY = 2
    GLOBAL = 3
    TAG = 4


@dataclass(frozen=True, slots=True)
class Section:
    """Where a section lies: header from `offset`, contents from `start` (behind a custom section's name) to `end`."""

    id: int
    offset: int
    start: int
    end: int
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """The limits of a memory, in pages of 64 KiB."""

    minimum: int
    maximum: int | None
    shared: bool = False
    is_64bit: bool = False


@dataclass(frozen=True, slots=True)
class Import:
    """Something that the host must provide; `type_index` is set for functions, `memory` for memories."""

    module: str
    name: str
    kind: ExternalKind
    type_index: int | None = None
    memory: Memory | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """Something that the host may use, by index into the module's space of its kind."""

    name: str
    kind: ExternalKind
    index: int


class Module:
    """A wasm binary.

    >>> module = Module.parse(Path("plugin.wasm").read_bytes())
    >>> [export.name for export in module.exports]
    ['memory', 'proxy_abi_version_0_2_1', …]
    """

    def __init__(self, data: bytes, sections: tuple[Section, ...]) -> None:
        self.data = data
        self.sections = sections

    @classmethod
    def parse(cls, data: bytes) -> Module:
        """Read the section headers.

        Raises:
            MalformedModule: Not a core WebAssembly module, or its sections are cut short or out of order.
        """
        return cls(data, _read_sections(data))

    def section(self, id: int) -> Section | None:
        """The one section with this number, if the module has it."""
        return next((section for section in self.sections if section.id == id), None)

    def custom_section(self, name: str) -> bytes | None:
        """The contents of the first custom section of this name."""
        for section in self.sections:
            if section.id == SectionId.CUSTOM and section.name == name:
                return self.data[section.start : section.end]
        return None

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """What the host must provide, in the module's order (index spaces count from here)."""
        reader = self._contents(SectionId.IMPORT)
        if reader is None:
            return ()
        imports = tuple(_read_import(reader) for _ in range(reader.count()))
        reader.finish("the import section")
        return imports

    @cached_property
    def exports(self) -> tuple[Export, ...]:
        """What the module offers, in its order; names are unique."""
        reader = self._contents(SectionId.EXPORT)
        if reader is None:
            return ()
        exports: dict[str, Export] = {}
        for _ in range(reader.count()):
            start = reader.offset
            export = Export(reader.name(), _external_kind(reader), reader.unsigned())
            if export.name in exports:
                raise MalformedModule(f"{export.name!r} is exported twice", start)
            exports[export.name] = export
        reader.finish("the export section")
        return tuple(exports.values())

    @cached_property
    def memories(self) -> tuple[Memory, ...]:
        """All memories, imported ones first."""
        imported = tuple(item.memory for item in self.imports if item.memory is not None)
        reader = self._contents(SectionId.MEMORY)
        if reader is None:
            return imported
        own = tuple(_read_memory(reader) for _ in range(reader.count()))
        reader.finish("the memory section")
        return imported + own

    @cached_property
    def name(self) -> str | None:
        """The module's own name, from the name section."""
        reader = self._names(0)
        return reader.name() if reader is not None else None

    @cached_property
    def function_names(self) -> Mapping[int, str]:
        """Names of functions by index (imported functions count first), from the name section; often empty."""
        reader = self._names(1)
        if reader is None:
            return {}
        names = {reader.unsigned(): reader.name() for _ in range(reader.count())}
        reader.finish("the list of function names")
        return names

    def _contents(self, id: int) -> Reader | None:
        section = self.section(id)
        return Reader(self.data, section.start, section.end) if section is not None else None

    def _names(self, subsection: int) -> Reader | None:
        """The contents of one subsection of the name section."""
        for section in self.sections:
            if section.id == SectionId.CUSTOM and section.name == "name":
                reader = Reader(self.data, section.start, section.end)
                while not reader.done:
                    id, size = reader.byte(), reader.unsigned()
                    start = reader.offset
                    reader.skip(size)
                    if id == subsection:
                        return Reader(self.data, start, reader.offset)
        return None


def _read_sections(data: bytes) -> tuple[Section, ...]:
    if data[:4] != MAGIC:
        raise MalformedModule("it does not begin with \\0asm", 0)
    if data[4:8] != _CORE_VERSION:
        if data[6:8] == _COMPONENT_LAYER:
            raise MalformedModule("it is a component; proxies load core modules", 4)
        raise MalformedModule("it has an unknown version", 4)
    reader = Reader(data, 8)
    sections: list[Section] = []
    last = -1
    while not reader.done:
        offset = reader.offset
        id, size = reader.byte(), reader.unsigned()
        start = reader.offset
        reader.skip(size)
        name = None
        if id == SectionId.CUSTOM:
            header = Reader(data, start, reader.offset)
            name = header.name()
            start = header.offset
        elif id not in _ORDER:
            raise MalformedModule(f"there is no section number {id}", offset)
        elif _ORDER[id] <= last:
            raise MalformedModule(f"section {id} is out of order or there twice", offset)
        else:
            last = _ORDER[id]
        sections.append(Section(id, offset, start, reader.offset, name))
    return tuple(sections)


def _read_import(reader: Reader) -> Import:
    module, name, kind = reader.name(), reader.name(), _external_kind(reader)
    match kind:
        case ExternalKind.FUNCTION:
            return Import(module, name, kind, type_index=reader.unsigned())
        case ExternalKind.TABLE:
            _skip_value_type(reader)
            _read_memory(reader)
        case ExternalKind.MEMORY:
            return Import(module, name, kind, memory=_read_memory(reader))
        case ExternalKind.GLOBAL:
            _skip_value_type(reader)
            if reader.byte() > 1:
                raise MalformedModule("a global is neither constant nor variable", reader.offset - 1)
        case ExternalKind.TAG:
            if reader.byte() != 0:
                raise MalformedModule("a tag is no exception", reader.offset - 1)
            return Import(module, name, kind, type_index=reader.unsigned())
    return Import(module, name, kind)


def _external_kind(reader: Reader) -> ExternalKind:
    value = reader.byte()
    if value > ExternalKind.TAG:
        raise MalformedModule(f"there is no kind {value} of import or export", reader.offset - 1)
    return ExternalKind(value)


def _skip_value_type(reader: Reader) -> None:
    value = reader.byte()
    if value in _TYPED_REFERENCES:
        reader.unsigned(33)
    elif value not in _NUMBER_AND_REFERENCE_TYPES:
        raise MalformedModule(f"there is no type 0x{value:02x}", reader.offset - 1)


def _read_memory(reader: Reader) -> Memory:
    """Limits, as memories and tables have them."""
    flags = reader.byte()
    if flags > 0x07:
        raise MalformedModule(f"unknown limits 0x{flags:02x}", reader.offset - 1)
    bits = 64 if flags & 0x04 else 32
    minimum = reader.unsigned(bits)
    maximum = reader.unsigned(bits) if flags & 0x01 else None
    return Memory(minimum, maximum, shared=bool(flags & 0x02), is_64bit=bits == 64)
