"""Random crops of training images, and the levels that they are coded at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from sgacodec.train.data.drawn import draw_over
from sgacodec.train.data.images import ImageSet
from sgacodec.train.options import TrainOptions


def training_crops(images: ImageSet, count: int, options: TrainOptions, generator: torch.Generator) -> Tensor:
    """Draw the patches of a batch as the options ask: some enlarged, some of them drawn or in other colours.

    Args:
        images: see `random_crops`.
        count: see `random_crops`.
        options: say the size of a patch, `zoom` and `drawn`.
        generator: see `random_crops`.

    Returns:
        As `random_crops` does.
    """
    x = enlarged_crops(images, count, options.patch_size, options.zoom, generator)
    if options.drawn > 0:
        chance = torch.rand(count, device=x.device, generator=generator).tolist()
        for index, value in enumerate(chance):
            if value < options.drawn:
                draw_over(x[index], generator)
            elif value < 2 * options.drawn:
                x[index] = x[index, torch.randperm(3, device=x.device, generator=generator)]
    return x


def enlarged_crops(images: ImageSet, count: int, size: int, zoom: float, generator: torch.Generator) -> Tensor:
    """Draw random crops, of which about half are enlarged: photographs at a camera's size are smoother than small ones.

    Args:
        images: see `random_crops`.
        count: see `random_crops`.
        size: see `random_crops`.
        zoom: the largest factor, at least 1; the logarithm of a factor is uniform below it.
        generator: see `random_crops`.

    Returns:
        As `random_crops` does, with 256 grey levels.
    """
    x = random_crops(images, count, size, generator)
    if zoom > 1:
        factor = zoom ** (2 * torch.rand(count, device=x.device, generator=generator) - 1)
        for index, part in enumerate((size / factor).round().int().tolist()):
            if part < size:
                x[index] = _enlarge(x[index, :, :part, :part], size)
    return x


def _enlarge(x: Tensor, size: int) -> Tensor:
    large = functional.interpolate(x[None], (size, size), mode="bicubic", align_corners=False)[0]
    return (large.clamp(0, 1) * 255).round() / 255


def random_crops(images: ImageSet, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Draw random crops, uniformly over pixels, flipped and transposed at random.

    Args:
        images: each at least `size` on both sides.
        count: number of crops.
        size: side of a crop in pixels.
        generator: on the device of the pixels.

    Returns:
        float32 [count, 3, size, size] in 0..1, channels last in memory.
    """
    device = images.pixels.device
    areas = images.sizes.prod(1)
    starts = areas.cumsum(0) - areas
    chosen = torch.multinomial(areas / areas.sum(), count, True, generator=generator)
    height, width = images.sizes[chosen].unbind(1)
    random = torch.rand(4, count, device=device, generator=generator)
    top, left = (random[0] * (height - size + 1)).long(), (random[1] * (width - size + 1)).long()
    corners = torch.stack([starts[chosen], height, width, top, left], 1).tolist()
    x = torch.stack([_window(images.pixels, corner, size) for corner in corners])
    x = x.permute(0, 3, 1, 2).float() / 255
    x = torch.where((random[2] < 0.5)[:, None, None, None], x.flip(3), x)
    x = torch.where((random[3] < 0.5)[:, None, None, None], x.transpose(2, 3), x)
    return x.contiguous(memory_format=torch.channels_last)


def _window(pixels: Tensor, corner: Sequence[int], size: int) -> Tensor:
    """Return a square of an image: uint8 [size, size, 3], a view.

    Args:
        pixels: those of all images.
        corner: where the image begins, its height and width, and the square's top and left.
        size: side of the square.
    """
    start, height, width, top, left = corner
    image = pixels[start : start + height * width].view(height, width, 3)
    return image[top : top + size, left : left + size]


def level_sequence(n_levels: int, count: int, generator: torch.Generator) -> Tensor:
    """Return the levels of a batch: int64 [count], in turn from a random one.

    Drawn one by one, their mix would change from step to step, and the gradient with it.
    """
    first = torch.randint(n_levels, (), generator=generator, device=generator.device)
    return (first + torch.arange(count, device=generator.device)) % n_levels
