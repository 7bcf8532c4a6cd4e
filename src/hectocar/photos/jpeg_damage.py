"""Damage that libjpeg passes over with a warning that nobody sees: JPEGs that lost a part of their data and decode yet.

Four traces are looked for: the decoder ran out of data before the picture was full; a run of one byte that no picture could
need; restart markers that are missing or out of order; coefficients of a progressive file that no scan brings.
"""

import io
import re

import numpy as np
from PIL import Image

from hectocar.photos.jpeg_stream import JpegStream, Scan

MIN_RUN_BYTES = 512
_STRIDE = 64
_FILLED_LEVELS = (126, 130)
"""libjpeg fills what it has no data for with blocks of zeros, which are mid-grey."""
_MIN_LOST_ROWS, _MIN_LOST_SHARE = 8, 0.01
_PADDING = bytes(8)
"""Bits that a decoder looks ahead, so that it can finish a picture whose end marker is taken away."""
_END_OF_BLOCK = 0
_RESTART = re.compile(rb"\xff[\xd0-\xd7]")


def stored_luma(image: Image.Image) -> Image.Image:
    """The plane of a JPEG that goes through the decoder as it is: its luma, or the black of CMYK."""
    return image.getchannel("K") if image.mode == "CMYK" else image.convert("L")


def find_damage(data: bytes, stream: JpegStream, luma: Image.Image) -> str:
    """What a JPEG that decodes has lost, in words; empty where nothing is missing.

    Args:
        data: The file's bytes.
        stream: Their structure.
        luma: ``stored_luma`` of the picture, not turned, at full size.
    """
    if not stream.is_huffman or not stream.scans or not stream.components:
        return ""
    return _lost_rows(data, stream, luma) or _constant_run(data, stream) or _lost_restarts(data, stream) or _lost_scans(stream)


def _lost_rows(data: bytes, stream: JpegStream, luma: Image.Image) -> str:
    # Of several scans libjpeg shows nothing before it has read them all; what they lost is found by their structure.
    width, height = luma.size
    least = max(_MIN_LOST_ROWS, round(_MIN_LOST_SHARE * height))
    if stream.coefficient_bytes or stream.end is None or least >= height:
        return ""
    if not _is_filler(luma.crop((0, height - 1, width, height))):
        return ""
    low, high = 0, height - 1  # bisection: the first row from which on all is filler
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _is_filler(luma.crop((0, middle, width, height))) else (middle + 1, high)
    if height - low < least or not _stops_above(data[: stream.end], height - least):
        return ""
    return f"the lower {(height - low) / height:.0%} of the picture are missing: its data end too early"


def _is_filler(luma: Image.Image) -> bool:
    low, high = luma.getextrema()
    return _FILLED_LEVELS[0] <= low and high <= _FILLED_LEVELS[1]  # type: ignore[operator]


def _stops_above(data: bytes, row: int) -> bool:
    """Whether a decoder that is not told that the data end waits for more of them above a row.

    Pixels that it has not written are 0; a grey that is a part of the picture stays grey.
    """
    image = Image.open(io.BytesIO(data + _PADDING), formats=("JPEG",))
    image.draft("L", image.size)
    try:
        image.load()
    except OSError:  # truncated, as it must be
        image.tile = []  # what is there may be looked at  # type: ignore[attr-defined]
    return stored_luma(image).crop((0, row, image.width, row + 1)).getextrema()[1] == 0


def _constant_run(data: bytes, stream: JpegStream) -> str:
    total = sum(scan.end - scan.start for scan in stream.scans)
    for scan in stream.scans:
        start, length = _longest_run(data, scan.start, scan.end)
        if length and not _may_be_flat(stream, scan, data[start], length):
            share = f"{length} bytes in a row, {length / total:.0%} of the picture's data"
            return f"{share}, are {data[start]:#04x}: they were overwritten"
    return ""


def _longest_run(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the longest run of one byte begins and how long it is; (0, 0) where none has MIN_RUN_BYTES."""
    sample = np.frombuffer(data, dtype=np.uint8, count=end - start, offset=start)
    sparse = sample[::_STRIDE]
    equal = np.flatnonzero(sparse[1:] == sparse[:-1])
    wanted = MIN_RUN_BYTES // _STRIDE - 2
    best = (0, 0)
    for group in np.split(equal, np.flatnonzero(np.diff(equal) > 1) + 1):
        if len(group) < wanted:
            continue
        left = max(0, (int(group[0]) - 1) * _STRIDE)
        window = sample[left : (int(group[-1]) + 3) * _STRIDE]
        edges = np.concatenate([[0], np.flatnonzero(window[1:] != window[:-1]) + 1, [len(window)]])
        longest = int(np.argmax(np.diff(edges)))
        best = max(best, (start + left + int(edges[longest]), int(edges[longest + 1] - edges[longest])), key=lambda run: run[1])
    return best if best[1] >= MIN_RUN_BYTES else (0, 0)


def _may_be_flat(stream: JpegStream, scan: Scan, value: int, length: int) -> bool:
    """Whether a run of a byte may code an even area: blocks that repeat the shortest codes, and no more of them than fit."""
    if stream.is_progressive and scan.first == 0 and scan.high > 0:
        return True  # a bit per block, as it comes
    if stream.is_progressive and scan.first > 0:
        return False  # even areas are counted there, not repeated
    planes = [component for component in stream.components if component.number in scan.components]
    num_blocks = sum(map(stream.count_blocks, planes))
    if len(scan.components) > 1:
        num_blocks = stream.count_units() * sum(plane.across * plane.down for plane in planes)
    shortest = min(_flat_bits(scan, table, stream.is_progressive, value) for table in scan.tables)
    return length * 8 <= shortest * num_blocks


def _flat_bits(scan: Scan, table: int, dc_only: bool, value: int) -> float:
    """Bits of an even block; 0 where zeros cannot mean one."""
    kinds = [(table >> 4, 0)] if dc_only else [(table >> 4, 0), (0x10 | table & 15, _END_OF_BLOCK)]
    bits = 0
    for key, symbol in kinds:
        counts, symbols = scan.huffman.get(key, (b"", b""))
        place = symbols.find(bytes([symbol]))
        if place < 0 or (value == 0 and place > 0):
            return 0
        bits += next(size for size in range(1, 17) if place < sum(counts[:size]))
    return bits


def _lost_restarts(data: bytes, stream: JpegStream) -> str:
    for scan in stream.scans:
        if not scan.restart_interval:
            continue
        planes = [component for component in stream.components if component.number in scan.components]
        num_units = stream.count_blocks(planes[0]) if len(planes) == 1 and len(stream.components) > 1 else stream.count_units()
        wanted = (num_units - 1) // scan.restart_interval
        found = [marker[1] & 7 for marker in _RESTART.findall(data, scan.start, scan.end)]
        if found != [number % 8 for number in range(wanted)]:
            return f"{len(found)} restart markers of {wanted} are there in order: the parts between others are lost or mixed up"
    return ""


def _lost_scans(stream: JpegStream) -> str:
    bits = {component.number: [-1] * 64 for component in stream.components}
    for scan in stream.scans:
        last = scan.last if stream.is_progressive else 63
        for number in set(scan.components) & bits.keys():
            for place in range(min(scan.first, 64), min(last, 63) + 1):
                whole = scan.high == 0 or bits[number][place] == scan.high
                bits[number][place] = scan.low if whole else 64
    lost = sum(bit != 0 for plane in bits.values() for bit in plane)
    if not lost:
        return ""
    return f"{lost / (64 * len(bits)):.0%} of the picture's coefficients are not there in full: scans are missing"
