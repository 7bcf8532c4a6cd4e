"""PNG files without the metadata that Pillow chokes on: long compressed texts and profiles say nothing about the pixels.

Pillow refuses a whole photograph for a text that unpacks to more than a megabyte, or for 64 of them.
"""

import zlib

from hectocar.errors import DataError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 500_000
_MAX_TEXT_BYTES = 512 * 2**10
"""Of one text, unpacked: EXIF and XMP that old writers hide in texts are shorter."""
_MAX_TOTAL_BYTES = 8 * 2**20
_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def drop_long_texts(data: bytes) -> bytes:
    """The file without its long texts, and without any once they are many; itself where there are none.

    Args:
        data: Begins with SIGNATURE.

    Raises:
        DataError: It has more parts than any photograph.
    """
    kept, start, total, at = [], 0, 0, len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            break
        name, end = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4], "big")
        if name in _TEXTS and end <= len(data):
            num_bytes = _unpacked_bytes(name, data[at + 8 : end - 4])
            total += min(num_bytes, _MAX_TEXT_BYTES)
            if num_bytes > _MAX_TEXT_BYTES or total > _MAX_TOTAL_BYTES:
                kept.append(data[start:at])
                start = end
        at = end
    else:
        raise DataError(f"not a photograph: a PNG of more than {MAX_CHUNKS} parts")
    return b"".join([*kept, data[start:]]) if kept else data


def _unpacked_bytes(name: bytes, body: bytes) -> int:
    """How long a text is, found without unpacking more than is allowed."""
    packed = body[body.find(b"\0") + 2 :]
    if name == b"iTXt":
        flag = body[body.find(b"\0") + 1 : body.find(b"\0") + 2]
        packed = body[body.find(b"\0") + 3 :].split(b"\0", 2)[-1] if flag == b"\1" else b""
    if name == b"tEXt" or not packed or len(body) > _MAX_TEXT_BYTES:
        return len(body)
    try:
        return len(zlib.decompressobj().decompress(packed, _MAX_TEXT_BYTES + 1))
    except zlib.error:  # Pillow passes over it, too
        return len(body)
