"""The sensors of the car: where they sit, which way they look and when they fire, as on a real nuScenes car."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Mount:
    """How a sensor is mounted.

    Attributes:
        channel: Name of the sensor.
        translation: Its position in the frame of the car (x ahead, y to the left, z up from the ground), in metres.
        quaternion: Rotation ``(w, x, y, z)`` from its own axes to those of the car.
        delay: Seconds by which it fires later than the LiDAR; negative if earlier.
    """

    channel: str
    translation: tuple[float, float, float]
    quaternion: tuple[float, float, float, float]
    delay: float

    @property
    def rotation(self) -> np.ndarray:
        """Rotation matrix ``(3, 3)``: ``car = rotation @ own + translation``."""
        w, x, y, z = np.array(self.quaternion) / np.linalg.norm(self.quaternion)
        return np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
                [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
                [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
            ]
        )


@dataclass(frozen=True)
class CameraMount(Mount):
    """How a camera is mounted.

    Attributes:
        lens: Focal length and principal point ``(f, cx, cy)`` in pixels of a 1600 x 900 image.
    """

    lens: tuple[float, float, float]

    def intrinsic(self, size: tuple[int, int]) -> np.ndarray:
        """Camera matrix ``(3, 3)`` for images of ``size`` (width, height) in pixels."""
        focal, x, y = self.lens
        return np.diag([size[0] / 1600, size[1] / 900, 1]) @ [[focal, 0, x], [0, focal, y], [0, 0, 1]]


CAMERAS = (
    CameraMount('CAM_FRONT', (1.701, 0.016, 1.511), (-0.4998, 0.503, -0.4998, 0.4974), -0.035, (1266.4, 816.3, 491.5)),
    CameraMount(
        'CAM_FRONT_RIGHT', (1.551, -0.493, 1.496), (0.206, -0.2027, 0.6825, -0.6714), -0.028, (1260.8, 808.0, 495.3)
    ),
    CameraMount(
        'CAM_FRONT_LEFT', (1.524, 0.495, 1.509), (0.6757, -0.6736, 0.2121, -0.2112), -0.043, (1272.6, 826.6, 479.8)
    ),
    CameraMount('CAM_BACK', (0.028, 0.003, 1.579), (0.5038, -0.4974, -0.4942, 0.5045), -0.010, (809.2, 829.2, 481.8)),
    CameraMount(
        'CAM_BACK_LEFT', (1.036, 0.485, 1.591), (-0.6924, 0.7032, 0.1165, -0.112), -0.001, (1256.7, 792.1, 492.8)
    ),
    CameraMount(
        'CAM_BACK_RIGHT', (1.015, -0.481, 1.562), (-0.1228, 0.1324, 0.7004, -0.6905), -0.020, (1259.5, 807.3, 501.2)
    ),
)
LIDAR = Mount('LIDAR_TOP', (0.944, 0.0, 1.84), (0.7078, -0.0065, 0.0106, -0.7063), 0.0)
