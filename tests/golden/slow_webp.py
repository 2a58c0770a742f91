"""A decoder of lossless WebP streams, written from RFC 9649, section 3, for alpha planes; the slow decoder's."""

from __future__ import annotations

CODE_LENGTH_ORDER = (17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
NEAR = (
    "01 10 11 -11 02 20 12 -12 21 -21 22 -22 03 30 13 -13 31 -31 23 -23 32 -32 04 40 14 -14 41 -41 33 -33 24 -24 42 -42 05 "
    "34 -34 43 -43 50 15 -15 51 -51 25 -25 52 -52 44 -44 35 -35 53 -53 06 60 16 -16 61 -61 26 -26 62 -62 45 -45 54 -54 36 "
    "-36 63 -63 07 70 17 -17 55 -55 71 -71 46 -46 64 -64 27 -27 72 -72 37 -37 73 -73 56 -56 65 -65 80 47 -47 74 -74 81 82 "
    "66 -66 83 57 -57 75 -75 84 67 -67 76 -76 85 77 -77 86 87"
)
"""Columns to the left (or right, with a minus) and rows up, of the short distances in their order."""
DISTANCES = [(int(near[:-1]), int(near[-1])) for near in NEAR.split()]

# A pixel is a list: alpha, red, green, blue.


class Bits:
    def __init__(self, data: bytes) -> None:
        self.value, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def read(self, n: int) -> int:
        self.left -= n
        assert self.left >= 0, "the stream ends early"
        found = self.value & ((1 << n) - 1)
        self.value >>= n
        return found


def decode(stream: bytes, width: int, height: int) -> list[list[int]]:
    """Return the pixels, row after row."""
    bits = Bits(stream)
    assert bits.read(8) == 0x2F
    assert (bits.read(14) + 1, bits.read(14) + 1) == (width, height)
    bits.read(1)
    assert bits.read(3) == 0
    transforms, coded_width = [], width
    while bits.read(1):
        transforms.append((read_transform(bits, coded_width, height), coded_width))
        if transforms[-1][0][0] == 3:
            coded_width = ceil_shift(coded_width, transforms[-1][0][1])
    pixels = read_image(bits, coded_width, height, True)
    for (kind, n, table), at_width in reversed(transforms):
        pixels = UNDO[kind](pixels, at_width, height, n, table)
    return pixels


def ceil_shift(value: int, n: int) -> int:
    return (value + (1 << n) - 1) >> n


def read_transform(bits: Bits, width: int, height: int) -> tuple[int, int, list]:
    kind = bits.read(2)
    if kind in (0, 1):
        n = bits.read(3) + 2
        return kind, n, read_image(bits, ceil_shift(width, n), ceil_shift(height, n), False)
    if kind == 2:
        return kind, 0, []
    n_colours = bits.read(8) + 1
    table = read_image(bits, n_colours, 1, False)
    for i in range(1, n_colours):
        table[i] = add(table[i], table[i - 1])
    return kind, 3 if n_colours <= 2 else 2 if n_colours <= 4 else 1 if n_colours <= 16 else 0, table


# --- entropy-coded images -------------------------------------------------------------------------------------------


def read_image(bits: Bits, width: int, height: int, is_main: bool) -> list[list[int]]:
    cache_bits = bits.read(4) if bits.read(1) else 0
    assert cache_bits <= 11
    n_groups, group_bits, groups_of = 1, 0, [0]
    if is_main and bits.read(1):
        group_bits = bits.read(3) + 2
        image = read_image(bits, ceil_shift(width, group_bits), ceil_shift(height, group_bits), False)
        groups_of = [red << 8 | green for _, red, green, _ in image]
        n_groups = max(groups_of) + 1
    cache_size = 1 << cache_bits if cache_bits else 0
    sizes = (256 + 24 + cache_size, 256, 256, 256, 40)
    groups = [[read_code(bits, size) for size in sizes] for _ in range(n_groups)]
    across = ceil_shift(width, group_bits)
    pixels, cache = [], [[0, 0, 0, 0]] * cache_size
    while len(pixels) < width * height:
        y, x = divmod(len(pixels), width)
        group = groups[groups_of[(y >> group_bits) * across + (x >> group_bits)] if group_bits else 0]
        symbol = read_symbol(bits, group[0])
        if symbol < 256:
            red, blue, alpha = (read_symbol(bits, code) for code in group[1:4])
            new = [[alpha, red, symbol, blue]]
        elif symbol < 280:
            length = read_number(bits, symbol - 256)
            back = distance(read_number(bits, read_symbol(bits, group[4])), width)
            new = [pixels[len(pixels) - back]] if back <= len(pixels) else []
            assert new, "a copy from before the first pixel"
            for i in range(1, length):
                new.append(new[i - back] if i >= back else pixels[len(pixels) - back + i])
        else:
            new = [cache[symbol - 280]]
        pixels += new
        if cache_bits:
            for pixel in new:
                cache[cache_place(pixel, cache_bits)] = pixel
    assert len(pixels) == width * height
    return pixels


def cache_place(pixel: list[int], cache_bits: int) -> int:
    alpha, red, green, blue = pixel
    return (0x1E35A7BD * (alpha << 24 | red << 16 | green << 8 | blue) & 0xFFFFFFFF) >> (32 - cache_bits)


def read_number(bits: Bits, prefix: int) -> int:
    if prefix < 4:
        return prefix + 1
    n = (prefix - 2) >> 1
    return ((2 + (prefix & 1)) << n) + bits.read(n) + 1


def distance(number: int, width: int) -> int:
    if number > 120:
        return number - 120
    x, y = DISTANCES[number - 1]
    return max(1, x + y * width)


# --- prefix codes: dictionaries from length and code to symbol ------------------------------------------------------


def read_code(bits: Bits, n_symbols: int) -> dict:
    if bits.read(1):
        n = bits.read(1) + 1
        symbols = [bits.read(8 if bits.read(1) else 1)] + [bits.read(8) for _ in range(n - 1)]
        lengths = [int(symbol in symbols) for symbol in range(n_symbols)]
        return code_of(lengths)
    lengths = [0] * 19
    for place in CODE_LENGTH_ORDER[: 4 + bits.read(4)]:
        lengths[place] = bits.read(3)
    code, lengths, previous = code_of(lengths), [], 8
    n_left = 2 + bits.read(2 + 2 * bits.read(3)) if bits.read(1) else n_symbols
    while len(lengths) < n_symbols and n_left:
        n_left -= 1
        symbol = read_symbol(bits, code)
        if symbol < 16:
            lengths.append(symbol)
            previous = symbol or previous
        elif symbol == 16:
            lengths += [previous] * (3 + bits.read(2))
        else:
            lengths += [0] * (3 + bits.read(3) if symbol == 17 else 11 + bits.read(7))
    assert len(lengths) <= n_symbols
    return code_of(lengths)


def code_of(lengths: list[int]) -> dict:
    used = [symbol for symbol, length in enumerate(lengths) if length]
    if len(used) == 1:
        return {(0, 0): used[0]}
    found, code = {}, 0
    for length in range(1, 16):
        for symbol in used:
            if lengths[symbol] == length:
                found[length, code] = symbol
                code += 1
        code <<= 1
    assert code == 1 << 16, "a prefix code that is not complete"
    return found


def read_symbol(bits: Bits, code: dict) -> int:
    length = value = 0
    while (length, value) not in code:
        length, value = length + 1, value << 1 | bits.read(1)
        assert length < 16
    return code[length, value]


# --- transforms -----------------------------------------------------------------------------------------------------


def add(a: list[int], b: list[int]) -> list[int]:
    return [(x + y) % 256 for x, y in zip(a, b, strict=True)]


def mean(a: list[int], b: list[int]) -> list[int]:
    return [(x + y) // 2 for x, y in zip(a, b, strict=True)]


def limited(values) -> list[int]:
    return [min(255, max(0, value)) for value in values]


def select(left: list[int], top: list[int], corner: list[int]) -> list[int]:
    to_left = sum(abs(t - c) for t, c in zip(top, corner, strict=True))
    to_top = sum(abs(left - c) for left, c in zip(left, corner, strict=True))
    return left if to_left < to_top else top


def half(a: list[int], b: list[int]) -> list[int]:
    return limited(x + int((x - y) / 2) for x, y in zip(a, b, strict=True))


def predict(mode: int, left, top, right, corner) -> list[int]:
    if mode == 11:
        return select(left, top, corner)
    if mode == 12:
        return limited(a + b - c for a, b, c in zip(left, top, corner, strict=True))
    return (
        lambda: [255, 0, 0, 0],
        lambda: left,
        lambda: top,
        lambda: right,
        lambda: corner,
        lambda: mean(mean(left, right), top),
        lambda: mean(left, corner),
        lambda: mean(left, top),
        lambda: mean(corner, top),
        lambda: mean(top, right),
        lambda: mean(mean(left, corner), mean(top, right)),
        None,
        None,
        lambda: half(mean(left, top), corner),
    )[mode]()


def undo_prediction(pixels, width, height, n, table):
    out = []
    for place, pixel in enumerate(pixels):
        y, x = divmod(place, width)
        mode = table[(y >> n) * ceil_shift(width, n) + (x >> n)][2] & 15
        if y == 0:
            mode = 1 if x else 0
        elif x == 0:
            mode = 2
        before = [out[place - back] if back <= place and back else None for back in (1, width, width - 1, width + 1)]
        if width == 1:
            before[2] = before[1]
        out.append(add(pixel, predict(mode, *before)))
    return out


def signed(value: int) -> int:
    return value - 256 if value > 127 else value


def undo_colour(pixels, width, height, n, table):
    out = []
    for place, (alpha, red, green, blue) in enumerate(pixels):
        y, x = divmod(place, width)
        _, red_to_blue, green_to_blue, green_to_red = table[(y >> n) * ceil_shift(width, n) + (x >> n)]
        red = (red + (signed(green_to_red) * signed(green) >> 5)) % 256
        blue += signed(green_to_blue) * signed(green) >> 5
        blue += signed(red_to_blue) * signed(red) >> 5
        out.append([alpha, red, green, blue % 256])
    return out


def undo_green(pixels, width, height, n, table):
    return [[alpha, (red + green) % 256, green, (blue + green) % 256] for alpha, red, green, blue in pixels]


def undo_indexing(pixels, width, height, n, table):
    out, across = [], ceil_shift(width, n)
    for y in range(height):
        for x in range(width):
            bits = pixels[y * across + (x >> n)][2]
            depth = 8 >> n
            index = bits >> depth * (x % (1 << n)) & ((1 << depth) - 1)
            out.append(table[index] if index < len(table) else [0, 0, 0, 0])
    return out


UNDO = {0: undo_prediction, 1: undo_colour, 2: undo_green, 3: undo_indexing}
