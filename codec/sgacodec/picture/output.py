"""From a container and decoded colours to the image that a file stands for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from sgacodec.format.container import Container, SectionType
from sgacodec.picture.alpha import alpha_of
from sgacodec.picture.planes import to_gray


def to_pillow(container: Container, rgb: npt.NDArray[np.uint8]) -> Image.Image:
    """Return the image that a file stands for.

    Args:
        container: gray or not, alpha and metadata.
        rgb: the decoded colours, uint8 [H, W, 3].

    Raises:
        CorruptStreamError: the alpha plane does not fit.
    """
    image = Image.fromarray(to_gray(rgb) if container.grayscale else rgb)
    alpha = alpha_of(container)
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
    for kind, key in ((SectionType.ICC, "icc_profile"), (SectionType.EXIF, "exif"), (SectionType.XMP, "xmp")):
        content = container.section(kind)
        if content is not None:
            image.info[key] = content
    return image
