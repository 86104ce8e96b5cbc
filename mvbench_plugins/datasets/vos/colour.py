"""Random colours of one frame."""

from __future__ import annotations

import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.registry import TRANSFORMS
from PIL import Image, ImageEnhance


def shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turn the hue of an RGB picture by a fraction of the circle, in [-0.5, 0.5]."""
    hue, saturation, value = image.convert('HSV').split()
    turned = (np.asarray(hue).astype(np.int16) + int(shift * 255)) % 256
    return Image.merge('HSV', (Image.fromarray(turned.astype(np.uint8)), saturation, value)).convert('RGB')


@TRANSFORMS.register_module()
class RandomVOSColorJitter(BaseTransform):
    """Change brightness, contrast, saturation and hue of a frame, in random order, as Pillow defines them.

    Factors are drawn from 1 +- the argument, the shift of the hue from +- the argument. Wrapped in
    ``TransformBroadcaster`` the frames of a clip are changed alike with ``share_random_params=True``.

    Args:
        brightness: largest change of the factor.
        contrast: largest change of the factor.
        saturation: largest change of the factor.
        hue: largest shift, as a fraction of the circle.
    """

    ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

    def __init__(
        self, brightness: float = 0.1, contrast: float = 0.03, saturation: float = 0.03, hue: float = 0
    ) -> None:
        if not 0 <= hue <= 0.5:
            raise ValueError(f'RandomVOSColorJitter: hue must be in [0, 0.5], found {hue}')
        self.limits = (brightness, contrast, saturation)
        self.hue = hue

    @cache_randomness
    def draw(self) -> tuple[np.ndarray, float, np.ndarray]:
        """Three factors, the shift of the hue, and the order of the four changes."""
        factors = np.maximum(0, 1 + np.random.uniform(-1, 1, 3) * self.limits)
        return factors, np.random.uniform(-self.hue, self.hue), np.random.permutation(4)

    def transform(self, results: dict) -> dict:
        """Recolour ``img``, uint8 RGB."""
        image = Image.fromarray(results['img'])
        factors, shift, order = self.draw()
        for change in order:
            if change < 3:
                image = self.ENHANCERS[change](image).enhance(factors[change])
            elif self.hue:
                image = shift_hue(image, shift)
        results['img'] = np.asarray(image)
        return results
