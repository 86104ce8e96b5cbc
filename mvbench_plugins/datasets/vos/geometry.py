"""Random geometry of one frame and its mask: affine maps, crops, thin-plate splines.

Images are uint8 RGB ``[H, W, 3]`` in ``img``, masks uint8 ``[H, W]`` in ``gt_seg_map``. Resampling is Pillow's, as in
the published trainings. Wrapped in ``TransformBroadcaster`` the frames of a clip are changed alike with
``share_random_params=True``, each for itself without.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from PIL import Image

RESAMPLING = dict(
    nearest=Image.Resampling.NEAREST, bilinear=Image.Resampling.BILINEAR, bicubic=Image.Resampling.BICUBIC
)
#: The mean colour of ImageNet, RGB: what images are filled with.
MEAN_COLOUR = (124, 116, 104)


def affine_matrix(angle: float, scale: float, shear: float, size: tuple[int, int]) -> np.ndarray:
    """Affine map about the centre of an image: shear along x, then rotate, then scale.

    Args:
        angle: in degrees, clockwise in the picture.
        scale: factor.
        shear: in degrees.
        size: (width, height) in pixels.

    Returns:
        ``[3, 3]``, from source to result, x before y.
    """
    turn, slant = math.radians(angle), math.radians(shear)
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    matrix = np.eye(3)
    matrix[:2, :2] = scale * rotation @ np.array([[1, -math.tan(slant)], [0, 1]])
    centre = np.array(size) / 2
    matrix[:2, 2] = centre - matrix[:2, :2] @ centre
    return matrix


def thin_plate_spline(points: np.ndarray, values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate by the smoothest map of the plane through given values.

    The same as scipy's ``RBFInterpolator(kernel='thin_plate_spline')``, ten times faster on the pixels of a picture.

    Args:
        points: ``[n, 2]``, (x, y), not all on a line.
        values: ``[n, d]``, at the points.
        rows: y of the lines of a grid.
        columns: x of the columns of a grid.

    Returns:
        float32 ``[d, len(rows), len(columns)]``.
    """
    num = len(points)
    squares = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    flat = np.concatenate([np.ones((num, 1)), points], axis=1)
    system = np.block([[_bending(squares), flat], [flat.T, np.zeros((3, 3))]])
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros((3, values.shape[1]))]))
    x, y = columns.astype(np.float32)[None], rows.astype(np.float32)[:, None]
    result = [constant + along_x * x + along_y * y for constant, along_x, along_y in weights[num:].T.astype(np.float32)]
    for (px, py), bends in zip(points.astype(np.float32), weights[:num].astype(np.float32)):
        bent = _bending((x - px) ** 2 + (y - py) ** 2)
        result = [plane + bend * bent for plane, bend in zip(result, bends)]
    return np.stack(result)


def _bending(squares: np.ndarray) -> np.ndarray:
    return squares * np.log(np.maximum(squares, np.finfo(np.float32).tiny))


@TRANSFORMS.register_module()
class RandomVOSAffine(BaseTransform):
    """Turn, scale and shear a frame about its centre.

    mmdet's ``RandomAffine`` moves boxes and leaves masks alone. ``enabled`` may be changed during training
    (``VOSCurriculumHook``); it lies in shared memory, so that the change reaches the workers of the data loader, too.

    Args:
        degrees: the angle is drawn from +-this.
        shear: along x, in degrees, drawn from +-this.
        scale: range of the factor.
        interpolation: of the image: ``'nearest'``, ``'bilinear'``, ``'bicubic'``.
        mask_interpolation: of the mask.
        fill: RGB of what comes from outside; the mask is 0 there.
    """

    def __init__(
        self,
        degrees: float = 15,
        shear: float = 10,
        scale: tuple[float, float] = (1.0, 1.0),
        interpolation: str = 'bilinear',
        mask_interpolation: str = 'nearest',
        fill: tuple[int, int, int] = MEAN_COLOUR,
    ) -> None:
        self.degrees = degrees
        self.shear = shear
        self.scale = scale
        self.resampling = RESAMPLING[interpolation], RESAMPLING[mask_interpolation]
        self.fill = tuple(fill)
        self._enabled = torch.tensor(True).share_memory_()

    @property
    def enabled(self) -> bool:
        """Whether frames are changed at all."""
        return bool(self._enabled)

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._enabled.fill_(value)

    @cache_randomness
    def draw(self) -> tuple[float, float, float]:
        """Angle, factor, shear."""
        angle, shear = np.random.uniform(-1, 1, 2) * (self.degrees, self.shear)
        return angle, np.random.uniform(*self.scale), shear

    def transform(self, results: dict) -> dict:
        """Change ``img`` and ``gt_seg_map``; their size stays."""
        if not self.enabled:
            return results
        image, mask = (Image.fromarray(results[key]) for key in ('img', 'gt_seg_map'))
        # Pillow wants the way back, from the result to the source.
        angle, scale, shear = self.draw()
        way_back = np.linalg.inv(affine_matrix(angle, scale, shear, image.size))[:2].ravel().tolist()
        for key, picture, resampling, fill in zip(
            ('img', 'gt_seg_map'), (image, mask), self.resampling, (self.fill, 0)
        ):
            moved = picture.transform(picture.size, Image.Transform.AFFINE, way_back, resampling, fillcolor=fill)
            results[key] = np.asarray(moved)
        return results


@TRANSFORMS.register_module()
class RandomVOSResizedCrop(BaseTransform):
    """Cut a part of random area and shape out of a frame and resize it to a square.

    Args:
        size: side of the square in pixels.
        area: range of the area, as a fraction of that of the frame.
        ratio: range of width / height, drawn on a logarithmic scale.
        interpolation: of the image; masks take the nearest pixel.
    """

    ATTEMPTS = 10

    def __init__(
        self,
        size: int = 384,
        area: tuple[float, float] = (0.36, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = 'bilinear',
    ) -> None:
        self.size = size
        self.area = area
        self.ratio = ratio
        self.resampling = RESAMPLING[interpolation]

    @cache_randomness
    def draw(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The part: x1, y1, x2, y2. The largest one in the middle if no drawn one fits."""
        for _ in range(self.ATTEMPTS):
            area = height * width * np.random.uniform(*self.area)
            ratio = math.exp(np.random.uniform(*np.log(self.ratio)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                x, y = np.random.randint(width - w + 1), np.random.randint(height - h + 1)
                return x, y, x + w, y + h
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        x, y = (width - w) // 2, (height - h) // 2
        return x, y, x + w, y + h

    def transform(self, results: dict) -> dict:
        """Change ``img``, ``gt_seg_map`` and ``img_shape``."""
        window = self.draw(*results['img'].shape[:2])
        for key, resampling in (('img', self.resampling), ('gt_seg_map', Image.Resampling.NEAREST)):
            part = Image.fromarray(results[key]).crop(window)
            results[key] = np.asarray(part.resize((self.size, self.size), resampling))
        results['img_shape'] = (self.size, self.size)
        return results


@TRANSFORMS.register_module()
class RandomThinPlateSpline(BaseTransform):
    """Warp a frame by a thin-plate spline through points that are moved a little.

    The published training applies it to every third frame (``RandomApply``).

    Args:
        num_points: random points that are moved.
        std: standard deviation of the moves, as a fraction of the frame's sides.
    """

    def __init__(self, num_points: int = 12, std: float = 0.02) -> None:
        self.num_points = num_points
        self.std = std

    @cache_randomness
    def draw(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Points ``[n, 2]`` before and after the move, (x, y) in pixels; no two in one row or column."""
        columns, rows = (np.random.choice(side, self.num_points, replace=False) for side in (width, height))
        source = np.stack([columns, rows], axis=1).astype(float)
        return source, source + np.random.normal(scale=self.std, size=source.shape) * (width, height)

    def transform(self, results: dict) -> dict:
        """Change ``img`` (bilinear) and ``gt_seg_map`` (nearest); both are 0 where they come from outside."""
        height, width = results['img'].shape[:2]
        source, target = self.draw(height, width)
        columns, rows = thin_plate_spline(target, source, np.arange(height), np.arange(width))
        for key, interpolation in (('img', cv2.INTER_LINEAR), ('gt_seg_map', cv2.INTER_NEAREST)):
            results[key] = cv2.remap(results[key], columns, rows, interpolation)
        return results
