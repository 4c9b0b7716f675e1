"""Labels as outlines and masks in JSON: of Cityscapes and LabelMe, one file an image, and of COCO, one for all."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ppar_lightning.data.layout import Layout, find
from ppar_lightning.images.decoding import RESTORE, Array


class Outlines(NamedTuple):
    """The objects of an image, in the order in which they are drawn.

    Attributes:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        objects: Name of each object, with its polygons, or with COCO's run-length code of its pixels.
    """

    height: int
    width: int
    objects: list[tuple[str, Any]]

    def draw(self, ids: Mapping[str, int], uncovered: int, path: Path) -> Array:
        """Draw the objects. Pixels that hold a part of an outline belong to it, as in Cityscapes' and LabelMe's tools.

        Args:
            ids: Name -> train id or IGNORE.
            uncovered: Train id of pixels without an object, or IGNORE.
            path: The file, for error messages.

        Returns:
            (H, W) train ids or IGNORE.

        Raises:
            ValueError: A name has no train id, or the file is damaged.
        """
        refuse_unknown((name for name, _ in self.objects), ids, path)
        with _naming(path):
            canvas = Image.new("L", (self.width, self.height), uncovered)
            pen = ImageDraw.Draw(canvas)
            for name, parts in self.objects:
                if isinstance(parts, Mapping):
                    if parts["size"] != [self.height, self.width]:
                        raise ValueError(f"a mask of {parts['size']} in an image of {[self.height, self.width]}")
                    canvas.paste(ids[name], mask=Image.fromarray(_mask(parts["counts"], self.height, self.width)))
                else:
                    for points in parts:
                        pen.polygon(np.ravel(points).tolist(), fill=ids[name])
            return np.array(canvas)  # which torch may write to, unlike what asarray returns


def refuse_unknown(names: Iterable[str], ids: Mapping[str, int], path: Path) -> None:
    """Refuse names without a train id.

    Raises:
        ValueError: There is one; the message lists all.
    """
    unknown = sorted({*names} - ids.keys())
    if unknown:
        remedy = f"map each name in ids to a class or to ignore, as in ids: {{{unknown[0]}: ignore}}"
        raise ValueError(f"{path} has objects of no class: {', '.join(unknown)}; {remedy}")


def read_outlines(path: Path) -> Outlines:
    """Read a file of Cityscapes or LabelMe.

    Raises:
        ValueError: It is none.
    """
    with _naming(path):
        content = json.loads(path.read_bytes())
        if "shapes" in content:
            if other := {shape.get("shape_type", "polygon") for shape in content["shapes"]} - {"polygon", "rectangle"}:
                raise ValueError(f"shapes of kind {min(other)!r}: draw polygons and rectangles")
            shapes = [(str(shape["label"]), [_corners(shape["points"])]) for shape in content["shapes"]]
            return Outlines(content["imageHeight"], content["imageWidth"], shapes)
        objects = [(str(each["label"]), [each["polygon"]]) for each in content["objects"] if not each.get("deleted")]
        return Outlines(content["imgHeight"], content["imgWidth"], objects)


def read_coco(path: Path) -> dict[str, Outlines]:
    """Read a file of COCO: `file_name` of each image -> its objects, crowds among them.

    Raises:
        ValueError: It is none.
    """
    with _naming(path):
        content = json.loads(path.read_bytes())
        names = {each["id"]: str(each["name"]) for each in content["categories"]}
        found = {each["id"]: Outlines(each["height"], each["width"], []) for each in content["images"]}
        for each in content["annotations"]:
            if not each["segmentation"]:
                raise ValueError(f"annotation {each['id']} is a box without an outline")
            found[each["image_id"]].objects.append((names[each["category_id"]], each["segmentation"]))
        listed = {each["file_name"]: found[each["id"]] for each in content["images"]}
        if len({id(each) for each in listed.values()}) < len(content["images"]):
            raise ValueError("two images have one file_name or one id")
        return listed


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Name the file in any error, because such a file may lack, or hold, anything."""
    try:
        yield
    except Exception as error:
        found = f"{type(error).__name__}: {error}".replace("\n", " ")
        fault = f"{path}: no polygons of Cityscapes or LabelMe, one file for each image, or of COCO, one for all"
        raise ValueError(f"{fault} ({found}); {RESTORE}, or export it again") from error


def _corners(points: Any) -> Any:
    """Return a polygon as it is, and the four corners of a rectangle, which has two."""
    if len(points) != 2:
        return points
    (left, top), (right, bottom) = points
    return [left, top, right, top, right, bottom, left, bottom]


def _mask(code: list[int] | str, height: int, width: int) -> Array:
    """Decode COCO's runs of pixels, column by column, which are off and on by turns: (H, W), 255 where on."""
    counts = _runs(code) if isinstance(code, str) else code
    pixels = np.repeat((np.arange(len(counts)) % 2 * 255).astype(np.uint8), counts)
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def _runs(text: str) -> npt.NDArray[np.int64]:
    """Decode compressed runs: digits of 5 bits, the lowest first; the fourth run and later add to the last but one."""
    digits = np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(digits & 32 == 0)
    first = np.append(0, last[:-1] + 1)
    place = 5 * (np.arange(len(digits)) - np.repeat(first, last - first + 1))
    values = np.add.reduceat((digits & 31) << place, first)
    values -= (digits[last] & 16 > 0).astype(np.int64) << (place[last] + 5)  # the sign
    for start in (1, 2):
        values[start::2] = np.cumsum(values[start::2])
    return values


@dataclass(frozen=True)
class CocoLayout(Layout):
    """Images of a pattern whose objects are in one file of COCO, which names them by file name or path.

    Attributes:
        drawn: Name of each sample -> its objects, once the files have been looked for.
        names: Name of an object -> train id or IGNORE.
    """

    names: Mapping[str, int] = field(default_factory=dict)
    drawn: dict[str, Outlines] = field(default_factory=dict)

    def files(self, root: Path, split: str) -> tuple[dict[str, Path], dict[str, Path]]:
        """Return the images by name, and the file of COCO for each that it lists.

        Raises:
            FileNotFoundError: The file of COCO is not there.
            ValueError: It is none, it has a name without a train id, or two images have the same name.
        """
        path = find(root, self.labels.replace("{split}", split), "a file of COCO, or a pattern with *")
        images = self.find_images(root, split)
        names = {f"{name}{image.suffix}": name for name, image in images.items()}
        names |= {image.relative_to(root).as_posix(): name for name, image in images.items()}
        listed = read_coco(path)
        refuse_unknown((name for each in listed.values() for name, _ in each.objects), self.names, path)
        self.drawn.update({names.get(file, file): objects for file, objects in listed.items()})
        return images, {name: path if name in images else path / name for name in self.drawn}
