"""A picture of profiles written down: as a page that needs nothing else, and as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from noa.cli.profile_chart import Box, Label, Line, Picture
from noa.cli.terminal import printable
from noa.errors import ConfigurationError

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

#: How many pixels of a PNG stand for one of the picture's.
_SCALE = 2
_PILLOW_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def svg(picture: Picture) -> str:
    """The picture as SVG."""
    marks = "\n".join(map(_element, picture.marks))
    size = f'width="{picture.width}" height="{picture.height}" viewBox="0 0 {picture.width} {picture.height}"'
    family = "system-ui, sans-serif"
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{family}" role="img">\n{marks}\n</svg>'


def page(picture: Picture, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A page with the picture and a table under it. It loads nothing."""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    style = (
        "body{font:14px/1.5 system-ui,sans-serif;max-width:960px;margin:24px auto;padding:0 16px;color:#1b1f24;"
        "background:#fff}svg{max-width:100%;height:auto}table{border-collapse:collapse;margin-top:16px}"
        "th,td{padding:4px 16px 4px 0;border-bottom:1px solid #dfe3e8;text-align:left;white-space:nowrap}"
        "div{overflow-x:auto}"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Profiles by Noa</title>\n'
        f"<style>{style}</style>\n</head>\n<body>\n{svg(picture)}\n<div><table>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table></div>\n</body>\n</html>\n"
    )


def check_png() -> None:
    """Raise ``ConfigurationError`` if no PNG can be written here."""
    try:
        import PIL.Image  # noqa: F401  # the extra “plots”, which only this needs
    except ImportError:
        raise ConfigurationError(
            "A PNG needs Pillow, which is not installed: pip install 'noa[plots]'. --html needs nothing."
        ) from None


def write_png(picture: Picture, path: Path) -> None:
    """Draw the picture into a PNG file. Raises ``ConfigurationError`` without Pillow, and ``OSError``."""
    check_png()
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (picture.width * _SCALE, picture.height * _SCALE), "#ffffff")
    canvas = ImageDraw.Draw(image)
    for mark in picture.marks:
        _paint(canvas, mark)
    image.save(path, format="PNG", optimize=True)


def _element(mark: Box | Line | Label) -> str:
    match mark:
        case Box():
            return (
                f'<rect x="{mark.x:.1f}" y="{mark.y:.1f}" width="{mark.width:.1f}" height="{mark.height:.1f}" '
                f'fill="{mark.colour}"/>'
            )
        case Line():
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in mark.points)
            return f'<polyline points="{points}" fill="none" stroke="{mark.colour}" stroke-width="{mark.width}"/>'
        case Label():
            weight = ' font-weight="600"' if mark.bold else ""
            place = f'x="{mark.x:.1f}" y="{mark.y:.1f}" font-size="{mark.size}" text-anchor="{mark.anchor}"'
            return f'<text {place} fill="{mark.colour}"{weight}>{_text(mark.text)}</text>'


def _paint(canvas: ImageDraw, mark: Box | Line | Label) -> None:
    from PIL import ImageFont

    match mark:
        case Box():
            corners = (mark.x, mark.y, mark.x + mark.width, mark.y + mark.height)
            canvas.rectangle([corner * _SCALE for corner in corners], fill=mark.colour)
        case Line():
            points = [(x * _SCALE, y * _SCALE) for x, y in mark.points]
            canvas.line(points, fill=mark.colour, width=max(1, round(mark.width * _SCALE)))
        case Label():
            canvas.text(
                (mark.x * _SCALE, mark.y * _SCALE),
                printable(mark.text),
                fill=mark.colour,
                font=ImageFont.load_default(mark.size * _SCALE),
                anchor=_PILLOW_ANCHORS[mark.anchor],
                stroke_width=0.4 * _SCALE if mark.bold else 0,
                stroke_fill=mark.colour,
            )


def _text(text: str) -> str:
    return escape(printable(text))
