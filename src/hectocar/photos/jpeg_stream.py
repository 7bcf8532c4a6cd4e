"""The structure of a JPEG file, read from its markers (ITU-T T.81, annex B): frame, tables, scans.

Nothing is decoded: 100 megabytes are walked in a tenth of a second.
"""

import math
import re
from dataclasses import dataclass, field
from functools import cached_property

_SOI, _EOI, _SOS, _DHT, _DRI = 0xD8, 0xD9, 0xDA, 0xC4, 0xDD
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_HUFFMAN = {0xC0, 0xC1, 0xC2}
MAX_SEGMENTS = 20_000
MAX_JUNK_BYTES = 1 << 20
# After entropy-coded data: anything but a stuffed zero, a restart and a filling 0xFF.
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
Tables = dict[int, tuple[bytes, bytes]]
"""Class and number -> (how many codes of 1 to 16 bits, their symbols)."""


@dataclass(frozen=True)
class Component:
    """A colour plane: its share of samples per side is ``across`` and ``down`` over the largest of all planes."""

    number: int
    across: int
    down: int


@dataclass(frozen=True)
class Scan:
    """One pass over the picture; ``first`` to ``last`` are coefficients, ``high`` and ``low`` the bits before and after it."""

    components: tuple[int, ...]
    tables: tuple[int, ...]
    """Per component, DC in the upper four bits and AC in the lower."""
    first: int
    last: int
    high: int
    low: int
    start: int
    """Of the entropy-coded data in the file."""
    end: int
    restart_interval: int
    huffman: Tables
    """As they stood at the start of the scan."""


@dataclass
class JpegStream:
    """What a file holds up to its end marker."""

    frame: int = 0
    width: int = 0
    height: int = 0
    components: tuple[Component, ...] = ()
    scans: list[Scan] = field(default_factory=list)
    end: int | None = None
    """Where the end marker stands; None where there is none."""
    problem: str = ""
    """Why a decoder that reads byte by byte would take for ever; empty for all real files."""

    @property
    def is_progressive(self) -> bool:
        return self.frame in _PROGRESSIVE

    @property
    def is_huffman(self) -> bool:
        """Whether the entropy coding is the one that all cameras use."""
        return self.frame in _HUFFMAN

    @cached_property
    def coefficient_bytes(self) -> int:
        """What libjpeg keeps of the whole picture before it shows a pixel: nothing where one scan holds all planes."""
        if not self.components or not (self.is_progressive or len(self.scans) > 1):
            return 0
        return 128 * sum(self.count_blocks(component) for component in self.components)

    def count_units(self) -> int:
        """Units of a scan of all planes: each holds ``across * down`` blocks of every plane."""
        across, down = self._sampling()
        return math.ceil(self.width / (8 * across)) * math.ceil(self.height / (8 * down))

    def count_blocks(self, component: Component) -> int:
        """Blocks of 8 x 8 samples of a plane that is coded alone."""
        across, down = self._sampling()
        columns = math.ceil(math.ceil(self.width * component.across / across) / 8)
        return columns * math.ceil(math.ceil(self.height * component.down / down) / 8)

    def _sampling(self) -> tuple[int, int]:
        return max(c.across for c in self.components), max(c.down for c in self.components)


def read_jpeg(data: bytes) -> JpegStream:
    """Walks through a file's markers; what is damaged ends the walk without an error."""
    stream, tables = JpegStream(), Tables()
    interval, at, junk = 0, 2, 0
    for _ in range(MAX_SEGMENTS):
        found = data.find(b"\xff", at)
        if found < 0:
            return stream
        junk += found - at
        at = found + 1
        while at < len(data) and data[at] == 0xFF:
            at += 1
        if junk + at - found > MAX_JUNK_BYTES:
            stream.problem = f"more than {MAX_JUNK_BYTES} bytes between its parts belong to none of them"
            return stream
        marker = data[at] if at < len(data) else _EOI
        at += 1
        if marker == _EOI:
            stream.end = at - 2 if at <= len(data) else None
            return stream
        if marker in (0, 1) or _SOI >= marker >= 0xD0:
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        body, at = data[at + 2 : at + length], at + max(2, length)
        if marker in _FRAMES and not stream.frame:
            _read_frame(stream, marker, body)
        elif marker == _DHT:
            tables = tables | _read_tables(body)
        elif marker == _DRI and len(body) >= 2:
            interval = int.from_bytes(body[:2], "big")
        elif marker == _SOS:
            match = _NEXT_MARKER.search(data, at)
            end = match.start() if match else len(data)
            _read_scan(stream, body, (at, end), interval, tables)
            at = end
    stream.problem = f"more than {MAX_SEGMENTS} parts"
    return stream


def _read_frame(stream: JpegStream, marker: int, body: bytes) -> None:
    count = body[5] if len(body) > 5 else 0
    if len(body) < 6 + 3 * count or not count:
        return
    stream.frame = marker
    stream.height, stream.width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    entries = [body[k : k + 3] for k in range(6, 6 + 3 * count, 3)]
    stream.components = tuple(Component(number, max(1, hv >> 4), max(1, hv & 15)) for number, hv, _ in entries)


def _read_tables(body: bytes) -> Tables:
    tables: Tables = {}
    while len(body) >= 17:
        counts = body[1:17]
        size = sum(counts)
        tables[body[0]] = counts, body[17 : 17 + size]
        body = body[17 + size :]
    return tables


def _read_scan(stream: JpegStream, body: bytes, place: tuple[int, int], interval: int, tables: Tables) -> None:
    count = body[0] if body else 0
    if not count or len(body) < 4 + 2 * count:
        return
    pairs, rest = body[1 : 1 + 2 * count], body[1 + 2 * count :]
    high_low = rest[2]
    stream.scans.append(
        Scan(tuple(pairs[::2]), tuple(pairs[1::2]), rest[0], rest[1], high_low >> 4, high_low & 15, *place, interval, tables)
    )
