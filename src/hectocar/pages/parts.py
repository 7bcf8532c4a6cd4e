"""What the audit's page is made of: escaped text, thumbnails that are embedded once, and the style sheet."""

import base64
import html
import io
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image

from hectocar.dataset.scan import PhotoScan
from hectocar.errors import DataError
from hectocar.photos.decode import DEFAULT_MAX_MEGAPIXELS, decode_photo, read_photo_bytes
from hectocar.photos.pool import count_workers

THUMB_LONG_SIDE_PX, THUMB_QUALITY = 200, 70
CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""A browser that obeys it runs no script and fetches nothing, whatever stands in a file's name."""


def escape(text: object) -> str:
    """Text for an element or a quoted attribute."""
    return html.escape(str(text), quote=True)


def name_html(text: str) -> str:
    """A name given by a stranger: escaped, breakable at its joints, and unable to turn the direction of what follows."""
    joints = escape(text).replace("/", "/<wbr>").replace("_", "_<wbr>")
    return f'<bdi class="name">{joints}</bdi>'


def count_html(number: int, noun: str, plural: str = "") -> str:
    """``1 photograph``, ``1,234 photographs``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


@dataclass(frozen=True)
class Thumb:
    """A small JPEG, or why there is none."""

    jpeg: bytes = b""
    width_px: int = 0
    height_px: int = 0
    problem: str = ""

    @property
    def uri(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode("ascii")


@dataclass(frozen=True)
class Album:
    """The thumbnails of one page by place in the scan; one that is shown several times is stored once and referred to."""

    thumbs: dict[int, Thumb]
    repeated: frozenset[int]

    def picture(self, place: int | None, alt: str) -> str:
        """An image, a reference to a stored one, or a box that says why there is none."""
        thumb = self.thumbs.get(-1 if place is None else place, Thumb(problem="not among the photographs of the scan"))
        if place not in self.repeated or thumb.problem:
            return picture_html(thumb, alt)
        width, height = thumb.width_px, thumb.height_px
        size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        return f'<svg class="photo" role="img" aria-label="{escape(alt)}" {size}><use href="#p{place}"/></svg>'

    def store_html(self) -> str:
        """The thumbnails that the page refers to; stands anywhere in it."""
        images = [
            f'<image id="p{place}" width="{thumb.width_px}" height="{thumb.height_px}" href="{thumb.uri}"/>'
            for place, thumb in sorted(self.thumbs.items())
            if place in self.repeated and not thumb.problem
        ]
        return f'<svg class="store" width="0" height="0" aria-hidden="true"><defs>{"".join(images)}</defs></svg>'


def picture_html(thumb: Thumb, alt: str) -> str:
    """An image of its own, or a box that says why there is none."""
    if thumb.problem:
        return f'<div class="photo missing"><span>no picture: {escape(thumb.problem)}</span></div>'
    size = f'width="{thumb.width_px}" height="{thumb.height_px}"'
    return f'<img class="photo" alt="{escape(alt)}" {size} src="{thumb.uri}">'


def build_album(scan: PhotoScan, places: Iterable[int | None], num_workers: int = 0) -> Album:
    """Decodes each photograph once, in threads; ``places`` names a photograph as often as the page shows it."""
    times = Counter(place for place in places if place is not None)
    chosen = sorted(times)
    with ThreadPoolExecutor(count_workers(num_workers), thread_name_prefix="thumbs") as pool:
        thumbs = dict(zip(chosen, pool.map(lambda place: load_thumb(scan, place), chosen), strict=True))
    return Album(thumbs, frozenset(place for place, count in times.items() if count > 1))


def load_thumb(scan: PhotoScan, place: int) -> Thumb:
    """Decodes and shrinks one photograph; a problem names no folder of this machine."""
    try:
        return make_thumb(load_photo(scan, place, min_side_px=THUMB_LONG_SIDE_PX))
    except DataError as error:
        return Thumb(problem=str(error).replace(f"{scan.root / scan.path[place]}: ", ""))


def load_photo(scan: PhotoScan, place: int, min_side_px: int | None = None) -> Image.Image:
    """Decodes a photograph of a scan, however large the scan allowed it to be.

    Raises:
        DataError: It cannot be read, now or when it was scanned.
    """
    row = scan.rows[place]
    if row.problem:
        raise DataError(row.problem)
    limit = max(DEFAULT_MAX_MEGAPIXELS, row.width_px * row.height_px / 1e6)
    data = read_photo_bytes(scan.root / scan.path[place])
    return decode_photo(data, max_megapixels=limit, min_side_px=min_side_px)


def make_thumb(image: Image.Image, long_side_px: int = THUMB_LONG_SIDE_PX, quality: int = THUMB_QUALITY) -> Thumb:
    """A JPEG no longer than ``long_side_px`` on either side."""
    small = image.copy()
    small.thumbnail((long_side_px, long_side_px), Image.Resampling.LANCZOS)
    target = io.BytesIO()
    small.save(target, format="JPEG", quality=quality, optimize=True)
    return Thumb(target.getvalue(), *small.size)


STYLE = """
:root { color-scheme: light dark; --ink: #1d2125; --soft: #5a636c; --line: #dfe3e6; --bar: #a9b3bc; --page: #ffffff;
  --panel: #f5f6f7; --accent: #b23c17; --wash: #fbeee9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaec; --soft: #a2abb3; --line: #353b41; --bar: #68737d; --page: #15181b;
  --panel: #1e2226; --accent: #ff9872; --wash: #35221b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "Apple SD Gothic Neo", "Malgun Gothic",
  "Noto Sans KR", "Noto Sans CJK KR", NanumGothic, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .6rem; letter-spacing: -.015em; }
h2 { font-size: 1.4rem; line-height: 1.3; margin: 4rem 0 .4rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2.2rem 0 .3rem; }
p { margin: .4rem 0; max-width: 50rem; }
a { color: inherit; text-decoration-color: var(--bar); text-underline-offset: .2em; }
a:hover { text-decoration-color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
code { font: .9em ui-monospace, "SF Mono", Consolas, monospace; background: var(--panel); padding: .1em .35em;
  border-radius: 3px; overflow-wrap: anywhere; }
b, strong { font-weight: 650; }
.lead { font-size: 1.15rem; }
.soft, figcaption, .note { color: var(--soft); }
.note { font-size: .9rem; }
.num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.name { overflow-wrap: anywhere; }
.facts { list-style: none; margin: 1.4rem 0; padding: 0; max-width: 54rem; }
.facts li { display: grid; grid-template-columns: 5.5rem 1fr; gap: 1rem; padding: .35rem 0; align-items: baseline; }
.facts .big { font-size: 1.35rem; font-weight: 650; text-align: right; font-variant-numeric: tabular-nums; line-height: 1.2; }
.facts .hot { color: var(--accent); }
.next { background: var(--panel); border-left: 3px solid var(--accent); padding: .9rem 1.3rem; margin: 1.6rem 0;
  max-width: 54rem; }
.next ol { margin: .4rem 0 0; padding-left: 1.3rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; font-size: .94rem; }
th { text-align: left; font-weight: 600; }
thead th { color: var(--soft); font-weight: 500; font-size: .85rem; white-space: nowrap; }
thead th.num { text-align: right; }
th, td { padding: .45rem .8rem .45rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody th small { display: block; font-weight: 400; color: var(--soft); font-size: .85rem; max-width: 40rem; }
.summary tbody th { width: 62%; min-width: 15rem; }
.files th { font-weight: 400; }
.zero { color: var(--soft); opacity: .55; }
.grid { display: grid; gap: 1.6rem 1.2rem; margin: 1.2rem 0; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); }
.grid.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); }
.groups { display: grid; gap: 1.8rem; margin: 1.2rem 0; grid-auto-flow: dense;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 18.5rem), 1fr)); }
.group { border-top: 1px solid var(--line); padding-top: .6rem; grid-column: 1 / -1; break-inside: avoid; }
.group.pair { grid-column: auto; }
.group.pair figure { width: calc(50% - .5rem); }
.group > p { margin: 0; font-size: .85rem; min-height: 2.8em; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
figure { margin: 0; font-size: .85rem; line-height: 1.4; break-inside: avoid; min-width: 0; }
.row > figure { width: 166px; }
.row .photo { width: auto; max-height: 150px; }
figcaption > div { margin-top: .2rem; }
figcaption b { color: var(--ink); }
.photo { display: block; max-width: 100%; height: auto; border-radius: 3px; background: var(--panel); }
.frame { display: flex; align-items: flex-end; min-height: 125px; max-width: 200px; margin-bottom: .4rem; }
.grid:not(.wide) .frame { min-height: 150px; }
.grid:not(.wide) .photo { width: auto; max-height: 150px; }
.missing { width: 200px; max-width: 100%; min-height: 120px; padding: .7rem; border: 1px dashed var(--bar); color: var(--soft);
  font-size: .8rem; overflow-wrap: anywhere; }
.suspect { display: grid; grid-template-columns: 200px 1fr; gap: .2rem 1rem; align-items: start; }
.suspect figcaption { grid-column: 1 / -1; }
.like { display: grid; gap: .6rem; align-content: start; color: var(--soft); min-width: 0; }
.like .photo { width: auto; max-width: 100%; max-height: 76px; min-height: 0; }
.like b { color: var(--ink); display: block; }
.path { font-size: .78rem; }
.tag { display: inline-block; font-size: .75rem; line-height: 1; padding: .25em .5em; border: 1px solid var(--bar);
  border-radius: 3px; color: var(--soft); margin-right: .3em; white-space: nowrap; }
.tag.drop { background: var(--accent); border-color: var(--accent); color: var(--page); }
.tag.relabel, .tag.group { border-color: var(--accent); color: var(--accent); }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--soft); }
.plots { display: grid; gap: 2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); margin: 1.4rem 0; }
.plot { width: 100%; height: auto; overflow: visible; }
.plot text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.plot .axis { stroke: var(--bar); fill: none; }
.plot .guide { stroke: var(--line); fill: none; }
.plot .train { fill: var(--bar); opacity: .55; }
.plot .test { fill: none; stroke: var(--accent); stroke-width: 2; stroke-linejoin: round; }
.curve { max-width: 19rem; }
.effect .hot { fill: var(--accent); }
.effect .cold { fill: var(--bar); }
.effect path { stroke: var(--soft); }
.fit { display: grid; gap: 1rem 3rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
.fit table { margin-top: .3rem; }
.key { display: inline-block; width: 1.1em; height: .7em; background: var(--bar); margin: 0 .35em 0 0; }
.key.hot { background: var(--accent); }
.key.line { height: .15em; vertical-align: .25em; background: var(--accent); }
.bar { display: flex; height: 9px; min-width: 4rem; background: none; }
.bar i { display: block; background: var(--bar); }
.bar i.hot { background: var(--accent); }
.strip { table-layout: fixed; min-width: 36rem; }
.strip td, .strip th { border: 0; padding: .3rem .6rem .3rem 0; vertical-align: middle; }
.strip .photo { width: auto; max-height: 110px; }
.strip tbody th { font-weight: 500; }
.box { max-height: 30rem; overflow: auto; border: 1px solid var(--line); border-radius: 3px; padding: 0 .9rem; margin: 1rem 0; }
.box table { margin: .3rem 0; font-size: .82rem; line-height: 1.3; }
.box th, .box td { padding: .16rem .7rem .16rem 0; border: 0; vertical-align: middle; font-weight: 400; }
.box thead th { position: sticky; top: 0; background: var(--page); padding: .4rem .7rem .4rem 0; }
.box .least th { font-weight: 650; color: var(--accent); }
.store { position: absolute; }
@media (max-width: 46rem) { main { padding: 1.5rem 1rem 3rem; } .facts li { grid-template-columns: 3.5rem 1fr; } }
@media print { main { max-width: none; padding: 0; } .box { max-height: none; } body { font-size: 11pt; }
  .scroll { overflow: visible; } h2, h3, .note { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  .bar i, .tag, .key { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
