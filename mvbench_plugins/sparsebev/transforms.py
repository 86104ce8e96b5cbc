"""Transforms of many frames of surround cameras."""

from __future__ import annotations

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmdet3d.registry import TRANSFORMS
from mmengine.fileio import get
from PIL import Image

from .frames import CAMERAS, ORDERS, CameraSet, choose_frames


@TRANSFORMS.register_module()
class LoadMultiFrameImages(BaseTransform):
    """Choose the frames that go with a key frame, load their images, and project into all of them.

    The key frame comes first, the cameras of a frame follow each other. Where a scene has no other frames, the key
    frame takes their place, with its own times and matrices.

    Required Keys: token, key_frame, past, future, lidar2global, key_interval, ori_shape (of MultiFrameNuScenesDataset)

    Added Keys:

    - img (list[np.ndarray]): BGR images ``[H, W, 3]`` of all frames, or of the key frame.
    - img_path (list[str]), img_timestamp (float64 ``[T * 6]``, seconds)
    - lidar2img (float64 ``[T * 6, 4, 4]``): from the LiDAR at the time of the key frame.
    - img_shape (tuple): height and width.

    Args:
        num_frames: number T of frames with the key frame.
        order: ``'past'``: earlier frames, newest first; ``'future'``: as many later ones behind them;
            ``'interleaved'``: one earlier, one later, and so on.
        test_mode: take key frames, instead of frames at a drawn interval.
        key_frame_only: load the images of the key frame only, for a detector that remembers those of the past.
        backend_args: of mmengine's file client.

    Raises:
        ValueError: arguments are wrong; an image cannot be read or has another size than the info file says.
        FileNotFoundError: an image is missing.
    """

    def __init__(
        self,
        num_frames: int = 8,
        order: str = 'past',
        test_mode: bool = False,
        key_frame_only: bool = False,
        backend_args: dict | None = None,
    ) -> None:
        if order not in ORDERS:
            raise ValueError(f'order: found {order!r}, expected one of {ORDERS}')
        if num_frames < 1 or (order != 'past' and num_frames % 2 == 0):
            raise ValueError(
                f'num_frames: found {num_frames}, expected at least 1, and an odd number unless order is "past"'
            )
        if key_frame_only and order != 'past':
            raise ValueError(f'key_frame_only: later frames (order {order!r}) cannot be remembered; load all images')
        self.num_frames = num_frames
        self.order = order
        self.test_mode = test_mode
        self.key_frame_only = key_frame_only
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        """See the class."""
        past, future = results['past'], results['future']
        chosen = choose_frames(
            len(past), len(future), self.num_frames, self.order, results['key_interval'], self.test_mode
        )
        lists = dict(key=[results['key_frame']], past=past, future=future)
        frames = [results['key_frame'], *(lists[name][position] for name, position in chosen)]
        results['img_path'] = [path for frame in frames for path in frame.img_paths]
        results['img_timestamp'] = np.concatenate([frame.timestamps for frame in frames])
        results['lidar2img'] = np.concatenate([frame.lidar2img(results['lidar2global']) for frame in frames])
        # Frames repeat at the ends of a scene.
        images: dict[CameraSet, list[np.ndarray]] = {}
        loaded = frames[:1] if self.key_frame_only else frames
        for frame in loaded:
            if frame not in images:
                images[frame] = [self._load(*file, results) for file in zip(frame.img_paths, CAMERAS, strict=True)]
        results['img'] = [image for frame in loaded for image in images[frame]]
        results['img_shape'] = results['ori_shape']
        return results

    def _load(self, path: str, camera: str, results: dict) -> np.ndarray:
        place = f'{path} ({camera}, for sample {results["token"]})'
        try:
            data = get(path, backend_args=self.backend_args)
        except FileNotFoundError:
            raise FileNotFoundError(
                f'{place}: image not found. Check data_root and data_prefix; tools/create_nuscenes_sweeps.py lists all '
                'files that are missing'
            ) from None
        image = mmcv.imfrombytes(data)
        if image is None:
            raise ValueError(f'{place}: not an image that OpenCV can read ({len(data)} bytes); download it again')
        if image.shape[:2] != results['ori_shape']:
            raise ValueError(
                f'{place}: found an image of height and width {image.shape[:2]}, expected {results["ori_shape"]} as in '
                'the info file: lidar2img would be wrong; restore the original, or make the info file again'
            )
        return image


@TRANSFORMS.register_module()
class ResizeCropFlipImages(BaseTransform):
    """Resize, crop and flip all images alike, and their projections with them.

    Resizing is Pillow's antialiased bicubic, crops keep the bottom, what they have beyond the image is 0.

    Required Keys: img; lidar2img

    Modified Keys: img, img_shape; lidar2img

    Args:
        crop_size: height and width of the result in pixels.
        ratio_range: draw the resize ratio, the place of the crop and whether to flip. None: resize as little as
            ``crop_size`` allows, crop the middle, do not flip.
        flip_prob: probability of a flip if the others are drawn. The scene is not mirrored with the images: headings
            and motion look the other way round then.
    """

    def __init__(
        self, crop_size: tuple[int, int], ratio_range: tuple[float, float] | None = None, flip_prob: float = 0.5
    ) -> None:
        self.crop_size = tuple(crop_size)
        self.ratio_range = ratio_range
        self.flip_prob = flip_prob

    def transform(self, results: dict) -> dict:
        """See the class."""
        size = results['img'][0].shape[:2]
        ratio, place, flip = self.draw(size)
        done: dict[int, np.ndarray] = {}
        for image in results['img']:
            if id(image) not in done:
                done[id(image)] = self.apply(image, ratio, place, flip)
        results['img'] = [done[id(image)] for image in results['img']]
        results['img_shape'] = self.crop_size
        results['lidar2img'] = self.matrix(size, ratio, place, flip) @ results['lidar2img']
        return results

    def draw(self, size: tuple[int, int]) -> tuple[float, float, bool]:
        """Resize ratio, left edge of the crop in pixels of the resized image, and whether to flip.

        Args:
            size: height and width of the images.
        """
        height, width = size
        if self.ratio_range is None:
            ratio = max(self.crop_size[0] / height, self.crop_size[1] / width)
            return ratio, max(0, int(width * ratio) - self.crop_size[1]) / 2, False
        ratio = np.random.uniform(*self.ratio_range)
        place = np.random.uniform(0, max(0, int(width * ratio) - self.crop_size[1]))
        return ratio, place, bool(np.random.uniform() < self.flip_prob)

    def apply(self, image: np.ndarray, ratio: float, place: float, flip: bool) -> np.ndarray:
        """Transform an image ``[H, W, 3]`` of uint8."""
        (new_height, new_width), (top, left) = self._geometry(image.shape[:2], ratio, place)
        picture = Image.fromarray(image).resize((new_width, new_height))
        picture = picture.crop((left, top, left + self.crop_size[1], top + self.crop_size[0]))
        if flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.asarray(picture)

    def matrix(self, size: tuple[int, int], ratio: float, place: float, flip: bool) -> np.ndarray:
        """Matrix ``[4, 4]`` that multiplies ``lidar2img`` from the left.

        Offsets stand in the third column: projections are still to be divided by their third row, the depth.
        """
        _, (top, left) = self._geometry(size, ratio, place)
        matrix = np.diag([ratio, ratio, 1.0, 1.0])
        matrix[:2, 2] = -left, -top
        if flip:
            matrix[0] = -matrix[0]
            matrix[0, 2] += self.crop_size[1]
        return matrix

    def _geometry(self, size: tuple[int, int], ratio: float, place: float) -> tuple[tuple[int, int], tuple[int, int]]:
        """Size of the resized image, and top and left of the crop in it."""
        new_height, new_width = int(size[0] * ratio), int(size[1] * ratio)
        return (new_height, new_width), (new_height - self.crop_size[0], int(place))


@TRANSFORMS.register_module()
class RotateScaleScene(BaseTransform):
    """Turn and scale the scene about the LiDAR: boxes with velocities, and the projections of all frames.

    The stock ``GlobalRotScaleTrans`` needs points and leaves projections alone.

    Required Keys: gt_bboxes_3d, lidar2img

    Modified Keys: gt_bboxes_3d, lidar2img

    Args:
        rot_range: radians, counter-clockwise from above.
        scale_ratio_range: factor.
    """

    def __init__(
        self,
        rot_range: tuple[float, float] = (-0.3925, 0.3925),
        scale_ratio_range: tuple[float, float] = (0.95, 1.05),
    ) -> None:
        self.rot_range = rot_range
        self.scale_ratio_range = scale_ratio_range

    def transform(self, results: dict) -> dict:
        """See the class."""
        return self.apply(results, np.random.uniform(*self.rot_range), np.random.uniform(*self.scale_ratio_range))

    def apply(self, results: dict, angle: float, scale: float) -> dict:
        """Turn by a given angle, then scale by a given factor."""
        results['gt_bboxes_3d'].rotate(angle)
        results['gt_bboxes_3d'].scale(scale)
        moved = np.eye(4)
        moved[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        moved[:3, :3] *= scale
        results['lidar2img'] = results['lidar2img'] @ np.linalg.inv(moved)
        return results
