"""A second decoder, written from format_spec.md: the standard library and int64 numpy, no constriction, nothing of codec/.

Slow and plain on purpose. It holds the specification complete and the golden files honest.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import struct
import zlib

import numpy as np
from golden import slow_webp


def decode(data: bytes, model_file: bytes) -> dict:
    """Decode a file; returns its stages: z, table_index, y, rgb, and the finished picture with its alpha."""
    head = read_container(data)
    model = read_model(model_file)
    dec = model["decoder"]
    s_y, s_z = stride(dec["g_s"]), stride(dec["g_s"]) * stride(dec["h_s"])
    z_shape = (len(model["z_median"]), -(-head["height"] // s_z), -(-head["width"] // s_z))
    if 5 in head["sections"]:
        return decode_with_bits_back(head, model, z_shape)
    assert model["id"] == head["model_id"], "this is not the file's model"
    z_index = [c for c in range(z_shape[0]) for _ in range(z_shape[1] * z_shape[2])]
    z = np.array(read_stream(head["z"], z_index, model["z_tables"])).reshape(z_shape)

    gain_z = gain(model["inv_gain_z"], head["level_q4"])[:, None, None]
    z_hat = clamp((z << dec["z_frac_bits"]) + model["z_median"][:, None, None], 24)
    h = run(dec["h_s"], model["h_s"], clamp(shift(z_hat * gain_z, dec["h_s_shift"]), 24))
    rows_per_band = -(-z_shape[1] // len(head["y"])) * (s_z // s_y)
    bands = [h[:, first : first + rows_per_band] for first in range(0, h.shape[1], rows_per_band)]
    read_band = read_with_context if dec.get("entropy_model") == "context" else read_with_hyperprior
    found = [read_band(RangeDecoder(s), b, model, head["level_q4"]) for s, b in zip(head["y"], bands, strict=True)]
    table_index, y, y_hat = (np.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    rgb = synthesise(head, model, y_hat)
    stages = {"z": z, "table_index": table_index, "y": y, "rgb": rgb, "picture": finish(rgb, head)}
    if 6 in head["sections"]:
        stages["side_information"] = unframe(head["sections"][6])
    return stages


def read_with_hyperprior(decoder, h: np.ndarray, model: dict, level_q4: int) -> tuple:
    """Sections 5.2 and 5.3: table index, y and y_hat of a band."""
    sigma, mu = h[: len(h) // 2], h[len(h) // 2 :]
    index = count_thresholds(model["sigma_thresholds"], sigma)
    y = np.array(read_values(decoder, index.ravel().tolist(), model["y_tables"])).reshape(index.shape)
    return index, y, clamp((y << model["decoder"]["y_frac_bits"]) + mu, 24)


def read_with_context(decoder, h: np.ndarray, model: dict, level_q4: int, whole: bool = False) -> tuple:
    """Section 5.5: table index, the values in the stream or with their floor, and what the synthesis takes, of a band."""
    dec = model["decoder"]
    a, f, y_bits = dec["context_frac_bits"], dec["unit_frac_bits"], dec["y_frac_bits"]
    inv, ln = (gain(model[name], level_q4)[:, None, None] for name in ("inv_unit", "log_unit"))
    unit = (2 ** (f + 16) + (inv >> 1)) // inv
    h = clamp(h + gain(model["level_bias"], level_q4)[:, None, None], 24)
    rows, columns = h.shape[1:]
    table_index, values, y_hat, taken = (np.zeros((len(inv), rows, columns), np.int64) for _ in range(4))

    def net(name: str, number: int, x: np.ndarray) -> np.ndarray:
        return run(dec[name][number], model[name][number], x)

    def seen(channels: slice) -> np.ndarray:
        return clamp(shift(y_hat[channels] * inv[channels], f + y_bits - a), 24)

    features = run(dec["features"], model["features"], h)
    width, first, number = len(features) // len(dec["out"]), 0, 0
    for k in range(len(dec["out"])):
        u = features[k * width : (k + 1) * width]
        if k > 0:
            u = clamp(u + net("before", k - 1, seen(slice(0, first))), 24)
        channels = slice(first, first + len(net("out", k, u)) // 4)
        n_passes = dec.get("first_passes", 2) if k == 0 else 2
        for j in range(n_passes):
            places = pass_of(rows, columns) == (n_passes - 1 - j) if j else pass_of(rows, columns) >= n_passes - 1
            u_here = u
            if j > 0:
                u_here = clamp(u + net("near", number, net("around", number, seen(channels))), 24)
                number += 1
            raw, mean, delta, shrink = np.split(net("out", k, u_here), 4)
            mu = clamp(shift(mean * unit[channels], a + 16 - y_bits), 24)
            t = count_thresholds(model["log_sigma_thresholds"], raw + ln[channels])
            s = y_bits - model["fraction_bits"][t]
            floor, index = place_mean(model, t, (mu + (2**s >> 1)) >> s)
            here = np.broadcast_to(places, raw.shape)
            table_index[channels][here] = index[here]
            values[channels][here] = read_values(decoder, index[here].tolist(), model["y_tables"])
            y_hat[channels][here] = clamp((values[channels] + floor) << y_bits, 24)[here]
            r = np.clip(y_hat[channels] - mu, -(2**y_bits), 2**y_bits)
            e = np.clip(shift((delta << y_bits) + shrink * r, a), -(2**y_bits) // 2, 2**y_bits // 2)
            taken[channels][here] = clamp(y_hat[channels] + e, 24)[here]
            values[channels][here] += whole * floor[here]
        first = channels.stop
    return table_index, values, taken


def pass_of(rows: int, columns: int) -> np.ndarray:
    """0 where row + column is odd, 1 where both are, and else 2 more than at half of both."""
    found = np.zeros((rows, columns), int)
    for r in range(rows):
        for c in range(columns):
            a, b, n = r, c, 0
            while (a + b) % 2 == 0 and a % 2 == 0 and n < 20:
                a, b, n = a // 2, b // 2, n + 2
            found[r, c] = n if (a + b) % 2 else n + 1
    return found


def synthesise(head: dict, model: dict, y_hat: np.ndarray) -> np.ndarray:
    dec = model["decoder"]
    gain_y = gain(model["inv_gain_y"], head["level_q4"])[:, None, None]
    pixels = run(dec["g_s"], model["g_s"], clamp(shift(y_hat * gain_y, dec["g_s_shift"]), 24))
    rgb = pixels[:, : head["height"], : head["width"]].transpose(1, 2, 0).astype(np.uint8)
    if 7 in head["sections"]:
        rgb = lay_over(rgb, head["sections"][7])
    assert zlib.crc32(rgb.tobytes()) == head["pixel_crc"], "pixel CRC"
    return rgb


def finish(rgb: np.ndarray, head: dict) -> np.ndarray:
    """Undo gray and add alpha: uint8 [H, W, 1, 2, 3 or 4]."""
    planes = (rgb.astype(int).sum(axis=2, keepdims=True) + 1) // 3 if head["gray"] else rgb
    assert not {4, 8} <= set(head["sections"]), "alpha twice"
    if 8 in head["sections"]:
        planes = np.concatenate([planes, coded_alpha(head)[..., None]], axis=2)
    if 4 in head["sections"]:
        steps = np.frombuffer(head["sections"][4], np.uint8).reshape(rgb.shape[:2])
        planes = np.concatenate([planes, np.cumsum(steps, axis=1)[..., None] % 256], axis=2)
    return planes.astype(np.uint8)


def coded_alpha(head: dict) -> np.ndarray:
    """Section 7.2: one number for all, or the green samples of a lossless WebP stream."""
    content, size = head["sections"][8], (head["height"], head["width"])
    if len(content) == 1:
        return np.full(size, content[0])
    pixels = slow_webp.decode(content, head["width"], head["height"])
    return np.array([green for _, _, green, _ in pixels]).reshape(size)


# --- section 7.1: the overlay ---------------------------------------------------------------------------------------


def lay_over(rgb: np.ndarray, png: bytes) -> np.ndarray:
    """Put a PNG's opaque pixels over a picture."""
    height, width, _ = rgb.shape
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = {}, 8
    while place < len(png):
        (n,) = struct.unpack(">I", png[place : place + 4])
        name, content = png[place + 4 : place + 8], png[place + 8 : place + 8 + n]
        assert zlib.crc32(name + content) == struct.unpack(">I", png[place + 8 + n : place + 12 + n])[0]
        chunks[name] = chunks.get(name, b"") + content
        place += 12 + n
    assert list(chunks) == [name for name in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND") if name in chunks]
    *size, depth, colour_type, compression, filtering, interlace = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert (size, compression, filtering, interlace) == ([width, height], 0, 0, 0)
    n_samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour_type]
    bits = n_samples * depth
    rows = unfilter(zlib.decompress(chunks[b"IDAT"]), -(-width * bits // 8), max(1, bits // 8))
    assert len(rows) == height
    out, key = rgb.copy(), chunks.get(b"tRNS", b"")
    for y, row in enumerate(rows):
        for x in range(width):
            pixel = [sample_of(row, x * n_samples + k, depth) for k in range(n_samples)]
            alpha = 255
            if colour_type == 3:
                (index,) = pixel
                alpha = key[index] if index < len(key) else 255
                colour = chunks[b"PLTE"][3 * index : 3 * index + 3]
                assert len(colour) == 3
            else:
                if key and tuple(pixel) == struct.unpack(f">{n_samples}H", key):
                    alpha = 0
                if colour_type in (4, 6):
                    alpha = pixel.pop()
                colour = [sample * 255 // (2**depth - 1) for sample in pixel] * (3 // len(pixel))
            assert alpha in (0, 255)
            if alpha:
                out[y, x] = list(colour)
    return out


def sample_of(row: bytes, number: int, depth: int) -> int:
    first_bit = number * depth
    return row[first_bit // 8] >> (8 - depth - first_bit % 8) & (2**depth - 1)


def unfilter(data: bytes, row_bytes: int, step: int) -> list[bytes]:
    """Undo the filters of PNG; step is the distance to the same byte of the pixel before, at least 1."""
    rows, above = [], bytes(row_bytes)
    for start in range(0, len(data), row_bytes + 1):
        kind, row = data[start], bytearray(data[start + 1 : start + 1 + row_bytes])
        for i in range(row_bytes):
            a, b, c = (row[i - step], above[i], above[i - step]) if i >= step else (0, above[i], 0)
            row[i] = (row[i] + (0, a, b, (a + b) // 2, paeth(a, b, c))[kind]) % 256
        above = bytes(row)
        rows.append(above)
    return rows


def paeth(a: int, b: int, c: int) -> int:
    return min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]


# --- section 3: the container ---------------------------------------------------------------------------------------


def read_container(data: bytes) -> dict:
    assert data[:4] == b"\xa5SGA"
    assert data[4] >> 4 == 1
    assert zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0], "file CRC"
    place = 5

    def take(n: int) -> bytes:
        nonlocal place
        place += n
        return data[place - n : place]

    def varint() -> int:
        value = position = 0
        while True:
            byte = take(1)[0]
            value |= (byte & 127) << position
            position += 7
            if byte < 128:
                return value

    flags, width, height = take(1)[0], varint(), varint()
    head = {"gray": bool(flags & 1), "width": width, "height": height, "model_id": take(8), "level_q4": take(1)[0]}
    n_bands = varint() if flags & 2 else 1
    n_sections = varint() if flags & 4 else 0
    z_bytes = varint()
    y_bytes = [varint() for _ in range(n_bands)]
    table = [(take(1)[0], take(1)[0], varint()) for _ in range(n_sections)]
    head["pixel_crc"] = struct.unpack("<I", take(4))[0]
    head["z"] = take(z_bytes)
    head["y"] = [take(n) for n in y_bytes]
    head["sections"] = {}
    for kind, section_flags, n_bytes in table:
        content = take(n_bytes)
        head["sections"][kind] = zlib.decompress(content) if section_flags & 2 else content
    assert place == len(data) - 4
    return head


# --- section 6: the model file --------------------------------------------------------------------------------------


def read_model(data: bytes) -> dict:
    (n,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + n])
    head = json.loads(header.pop("__metadata__")["sgacodec"])
    kinds = {"I16": "<i2", "I32": "<i4", "I64": "<i8", "U32": "<u4"}
    tensors, of_head = {}, {}
    for name, entry in header.items():
        if name.startswith(("decoder.", "bits_back.")):
            first, end = entry["data_offsets"]
            raw = np.frombuffer(data[8 + n + first : 8 + n + end], kinds[entry["dtype"]]).reshape(entry["shape"])
            if name.startswith("decoder."):
                tensors[name[8:]] = raw
            else:
                of_head[name] = raw
    model = {"decoder": head["decoder"], "id": content_id(head["decoder"], tensors)}
    if "bits_back" in head:
        both = content_id({**head["decoder"], "bits_back": head["bits_back"]}, {**tensors, **of_head})
        stripped = {name[10:]: t for name, t in of_head.items()}
        model["bits_back"] = {**head["bits_back"], "id": both, "nets": networks(stripped, ("h_a", "h_s"))}
        for name in ("log_variance_thresholds", "scales", "fraction_bits", "z_order"):
            model["bits_back"][name] = stripped[name].astype(np.int64)
        for name in ("tables", "z_cells"):
            model["bits_back"][name] = read_tables(stripped, name)
    for name, tensor in tensors.items():
        if "." not in name:
            model[name] = tensor.astype(np.int64)
    model.update(networks(tensors, ("h_s", "g_s", "features")))
    for name in ("before", "around", "near", "out"):
        numbers = [str(k) for k in range(len(head["decoder"].get(name, [])))]
        stripped = {key[len(name) + 1 :]: t for key, t in tensors.items() if key.startswith(name + ".")}
        model[name] = list(networks(stripped, numbers).values())
    for name in ("z_tables", "y_tables"):
        model[name] = read_tables(tensors, name)
    return model


def content_id(description: dict, tensors: dict) -> bytes:
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        t = tensors[name]
        digest.update(f"{name}|{t.dtype.str[1:]}|{','.join(map(str, t.shape))}|".encode() + t.tobytes())
    return digest.digest()[:8]


def networks(tensors: dict, names: tuple) -> dict:
    return {
        net: {name[len(net) + 1 :]: t.astype(np.int64) for name, t in tensors.items() if name.startswith(net + ".")}
        for net in names
    }


def read_tables(tensors: dict, name: str) -> list:
    ends = np.cumsum(tensors[name + ".lengths"]).tolist()
    starts = [0, *ends[:-1]]
    frequencies = tensors[name + ".frequencies"].tolist()
    minima = tensors[name + ".minima"].tolist()
    return [(frequencies[a:b], m) for a, b, m in zip(starts, ends, minima, strict=True)]


# --- section 5: entropy coding --------------------------------------------------------------------------------------


class RangeDecoder:
    """Section 5.1, in Python's unbounded integers."""

    def __init__(self, stream: bytes) -> None:
        padded = stream + b"\0" * (-len(stream) % 4)
        self.words = list(struct.unpack(f"<{len(padded) // 4}I", padded))
        self.next = 0
        self.range = 2**64 - 1
        self.point = self.word() << 32 | self.word()

    def word(self) -> int:
        self.next += 1
        return self.words[self.next - 1] if self.next <= len(self.words) else 0

    def entry(self, frequencies: list[int]) -> int:
        scale = self.range >> 24
        q = self.point // scale
        assert q < 2**24, "damaged stream"
        k = below = 0
        while below + frequencies[k] <= q:
            below += frequencies[k]
            k += 1
        self.point -= scale * below
        self.range = scale * frequencies[k]
        if self.range < 2**32:
            self.range <<= 32
            self.point = (self.point << 32 | self.word()) % 2**64
        return k


def read_stream(stream: bytes, index: list[int], tables: list) -> list[int]:
    return read_values(RangeDecoder(stream), index, tables)


def read_values(decoder, index: list[int], tables: list) -> list[int]:
    order = sorted(range(len(index)), key=lambda place: index[place])
    values, escapes = [0] * len(index), []
    for place in order:
        frequencies, minimum = tables[index[place]]
        k = decoder.entry(frequencies)
        values[place] = minimum + k
        if k == len(frequencies) - 1:
            escapes.append(place)
    bit = [2**23, 2**23]
    for place in escapes:
        frequencies, minimum = tables[index[place]]
        n_zeros = 0
        while decoder.entry(bit) == 0:
            n_zeros += 1
        u = 1
        for _ in range(n_zeros):
            u = u * 2 + decoder.entry(bit)
        u -= 1
        values[place] = minimum - 1 - (u - 1) // 2 if u % 2 else minimum + len(frequencies) - 1 + u // 2
    return values


# --- section 4: integer networks ------------------------------------------------------------------------------------


def shift(a, s):
    return (a + (1 << (s - 1))) >> s


def clamp(a, bits: int):
    return np.clip(a, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def gain(gains: np.ndarray, level_q4: int) -> np.ndarray:
    level, r = divmod(level_q4, 16)
    return shift((16 - r) * gains[level] + r * gains[min(level + 1, len(gains) - 1)], 4)


def stride(layers: list[dict]) -> int:
    return math.prod(layer.get("factor", 1) * (layer["stride"] if layer["kind"] == "deconv" else 1) for layer in layers)


def run(layers: list[dict], tensors: dict, x: np.ndarray) -> np.ndarray:
    return run_all(layers, tensors, x)[-1]


def run_all(layers: list[dict], tensors: dict, x: np.ndarray) -> list[np.ndarray]:
    outputs = [x]
    for number, layer in enumerate(layers):
        outputs.append(apply(layer, fields(tensors, number), outputs))
    return outputs


def fields(tensors: dict, number: int) -> dict:
    return {name.split(".", 1)[1]: t for name, t in tensors.items() if name.split(".", 1)[0] == str(number)}


def apply(layer: dict, t: dict, outputs: list[np.ndarray]) -> np.ndarray:
    a, kind = outputs[-1], layer["kind"]
    channels, rows, columns = a.shape
    if kind in ("conv", "deconv"):
        if kind == "conv":
            acc = convolve(a, dense(t["weight"], layer.get("groups", 1)), layer["stride"], layer["padding"])
        else:
            acc = spread(a, t["weight"], layer["stride"], layer["padding"])
        return clamp(shift_each(acc + t["bias"][:, None, None], t["shift"]), layer["bits"])
    if kind == "leaky_relu":
        return np.where(a >= 0, a, shift(a * layer["numerator"], layer["shift"]))
    if kind == "igdn":
        norm = np.tensordot(t["gamma"], a * a, 1) + t["beta"][:, None, None]
        root = np.array([math.isqrt(n) for n in norm.ravel().tolist()]).reshape(norm.shape)
        return clamp(shift(a * root, layer["shift"]), layer["bits"])
    if kind == "scale":
        return clamp(shift(a * t["multiplier"][:, None, None], layer["shift"]), layer["bits"])
    if kind == "add":
        return clamp(a + outputs[layer["source"]], layer["bits"])
    if kind == "pixel_shuffle":
        r = layer["factor"]
        out = np.zeros((channels // r**2, rows * r, columns * r), np.int64)
        for c in range(channels):
            out[c // r**2, c % r**2 // r :: r, c % r :: r] = a[c]
        return out
    if kind == "pixel_unshuffle":
        r = layer["factor"]
        return np.stack([a[c, i::r, j::r] for c in range(channels) for i in range(r) for j in range(r)])
    if kind == "append_abs":
        return np.concatenate([a, abs(a)])
    if kind == "log":
        first = channels - len(t["offset"])
        found = [[logarithm(max(int(v), 0) + int(e), t["table"]) for v in plane.ravel()]
                 for plane, e in zip(a[first:], t["offset"], strict=True)]  # fmt: skip
        return np.concatenate([a[:first], clamp(np.array(found).reshape(-1, rows, columns), layer["bits"])])
    if kind == "lap":
        p, bits = len(t["matrix"]), layer["bits"]
        a = a.copy()
        for first in range(p // 2, columns - p // 2, p):
            run = a[:, :, first : first + p]
            a[:, :, first : first + p] = clamp(shift(np.einsum("ij,cyj->cyi", t["matrix"], run), layer["shift"]), bits)
        for first in range(p // 2, rows - p // 2, p):
            run = a[:, first : first + p]
            a[:, first : first + p] = clamp(shift(np.einsum("ij,cjx->cix", t["matrix"], run), layer["shift"]), bits)
        return a
    assert kind == "clamp", kind
    return np.clip(a, layer["low"], layer["high"])


def logarithm(v: int, table: np.ndarray) -> int:
    n = v.bit_length() - 1
    m = (v << 24 >> n) - 2**24
    i, r = m >> 18, m % 2**18
    low, high = int(table[i]), int(table[i + 1])
    return n * int(table[64] - table[0]) + low + shift((high - low) * r, 18)


def shift_each(acc: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    return np.stack([shift(plane, int(s)) for plane, s in zip(acc, shifts, strict=True)])


def dense(weight: np.ndarray, groups: int) -> np.ndarray:
    """A kernel of groups as one of all inputs: output o sees the inputs of group o * groups // O."""
    outputs, each, kernel, _ = weight.shape
    whole = np.zeros((outputs, each * groups, kernel, kernel), np.int64)
    for o in range(outputs):
        first = o * groups // outputs * each
        whole[o, first : first + each] = weight[o]
    return whole


def convolve(a: np.ndarray, weight: np.ndarray, step: int, padding: int) -> np.ndarray:
    """Gather: one output pixel at a time."""
    kernel = weight.shape[2]
    padded = np.pad(a, ((0, 0), (padding, padding), (padding, padding)))
    rows, columns = ((n + 2 * padding - kernel) // step + 1 for n in a.shape[1:])
    out = np.zeros((weight.shape[0], rows, columns), np.int64)
    for y in range(rows):
        for x in range(columns):
            patch = padded[:, step * y : step * y + kernel, step * x : step * x + kernel]
            out[:, y, x] = np.tensordot(weight, patch, 3)
    return out


def spread(a: np.ndarray, weight: np.ndarray, step: int, padding: int) -> np.ndarray:
    """Scatter: one input pixel at a time."""
    kernel, (_, rows, columns) = weight.shape[2], a.shape
    out = np.zeros((weight.shape[1], step * rows + 2 * kernel, step * columns + 2 * kernel), np.int64)
    for y in range(rows):
        for x in range(columns):
            out[:, step * y : step * y + kernel, step * x : step * x + kernel] += np.tensordot(a[:, y, x], weight, 1)
    return out[:, padding : padding + step * rows, padding : padding + step * columns]


# --- section 8: side information in the latents ----------------------------------------------------------------------


class Stack:
    """Section 8.2, in Python's unbounded integers."""

    def __init__(self, stream: bytes) -> None:
        assert not stream.endswith(b"\0")
        padded = stream + b"\0" * (-len(stream) % 4)
        self.bulk = list(struct.unpack(f"<{len(padded) // 4}I", padded))
        self.state = 0
        while self.state < 2**32 and self.bulk:
            self.state = self.state << 32 | self.bulk.pop()

    def stream(self) -> bytes:
        words = [*self.bulk, self.state % 2**32, self.state >> 32]
        return struct.pack(f"<{len(words)}I", *words).rstrip(b"\0") if self.state else b""

    def entry(self, frequencies: list[int]) -> int:
        q = self.state % 2**24
        k = below = 0
        while below + frequencies[k] <= q:
            below += frequencies[k]
            k += 1
        self.state = (self.state >> 24) * frequencies[k] + q - below
        if self.state < 2**32 and self.bulk:
            self.state = self.state << 32 | self.bulk.pop()
        return k

    def push(self, k: int, frequencies: list[int]) -> None:
        if self.state >> 40 >= frequencies[k]:
            self.bulk.append(self.state % 2**32)
            self.state >>= 32
        self.state = (self.state // frequencies[k] << 24) + sum(frequencies[:k]) + self.state % frequencies[k]


def decode_with_bits_back(head: dict, model: dict, z_shape: tuple) -> dict:
    dec, bb = model["decoder"], model["bits_back"]
    assert bb["id"] == head["model_id"], "this is not the file's model"
    assert head["z"] == b""
    n_carriers, steps, k = read_parameters(head["sections"][5])
    n, rows, columns = z_shape
    on_lattice = np.zeros((n, rows * columns), bool)
    order = [(c, i) for c in bb["z_order"].tolist() for i in range(rows * columns)]
    for place in order[: n_carriers if k else 0]:
        on_lattice[place] = True
    tables = [lattice_table(t, bb["lattice_bits"], k) for t in bb["z_cells"]]
    tables += [lattice_table(t, bb["lattice_bits"], 0) for t in bb["z_cells"]]
    index = [c + (0 if on_lattice[c, i] else n) for c in range(n) for i in range(rows * columns)]
    (stream,) = head["y"]
    stack = Stack(stream)
    z = np.array(read_values(stack, index, tables)).reshape(z_shape)
    on_lattice = on_lattice.reshape(z_shape)
    p = dec["z_frac_bits"]
    z_hat = clamp(np.where(on_lattice, z << (p - k), z << p), 24)
    h = run(bb["h_s"], bb["nets"]["h_s"], z_hat)
    if dec.get("entropy_model") == "context":
        assert steps == 0
        index, y, taken = read_with_context(stack, h, model, head["level_q4"], whole=True)
        inv, bits = gain(model["inv_unit"], head["level_q4"])[:, None, None], dec["unit_frac_bits"] + dec["y_frac_bits"]
        seen = clamp(shift(clamp(y << dec["y_frac_bits"], 24) * inv, bits - dec["context_frac_bits"]), 24)
    else:
        sigma, mu = h[: len(h) // 2], h[len(h) // 2 :]
        t = count_thresholds(model["sigma_thresholds"], sigma)
        floor, index = place_mean(bb, t, mean_of_y(model, mu, t))
        y = np.array(read_values(stack, index.ravel().tolist(), bb["tables"])).reshape(index.shape) + floor
        taken, seen = clamp(y << dec["y_frac_bits"], 24), clamp(y, 24)
    rgb = synthesise(head, model, taken)
    stages = {"z": z, "table_index": index, "y": y, "rgb": rgb, "picture": finish(rgb, head)}

    mean, t = posterior(model, seen, k)
    is_carrier = on_lattice if k else least_certain(bb, *place_posterior(bb, mean, t, 0), n_carriers)
    mean = refine(model, y, z_hat, is_carrier, mean, bb["scales"][t] * 2.0 ** -(16 + k), steps)
    stages["posterior"], stages["is_carrier"] = mean, is_carrier
    floor, index = place_posterior(bb, mean, t, k)
    pushed = sorted(zip(index[is_carrier].tolist(), (z - floor)[is_carrier].tolist(), strict=True), key=lambda v: v[0])
    for table, value in reversed(pushed):
        frequencies, minimum = without_escape(bb["tables"][table])
        stack.push(value - minimum, frequencies)
    stages["side_information"] = unframe(dewhiten(stack.stream()) + head["sections"].get(6, b""))
    return stages


def read_parameters(content: bytes) -> tuple[int, int, int]:
    numbers, value, position = [], 0, 0
    for byte in content:
        value |= (byte & 127) << position
        position += 7
        if byte < 128:
            numbers.append(value)
            value = position = 0
    n_carriers, rest = numbers
    return n_carriers, rest // 32, rest % 32


def lattice_table(cells: tuple, lattice_bits: int, k: int) -> tuple:
    frequencies, minimum = cells
    mass = {minimum + i: f for i, f in enumerate(frequencies[:-1])}
    h = 2 ** (lattice_bits - k)
    values = range(minimum // (2 * h) - 2, (minimum + len(mass)) // (2 * h) + 2)
    whole = [j for j in values if all(c in mass for c in range((2 * j - 1) * h, (2 * j + 1) * h))]
    merged = [sum(mass[c] for c in range((2 * j - 1) * h, (2 * j + 1) * h)) for j in whole]
    return [*merged, 2**24 - sum(merged)], whole[0]


def count_thresholds(thresholds: np.ndarray, values: np.ndarray) -> np.ndarray:
    return (thresholds[:, None, None, None] <= values[None]).sum(axis=0)


def mean_of_y(model: dict, mu: np.ndarray, t: np.ndarray) -> np.ndarray:
    s = model["decoder"]["y_frac_bits"] - model["bits_back"]["fraction_bits"][t]
    return (mu + (2**s >> 1)) >> s


def place_mean(bb: dict, t: np.ndarray, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the floor of a mean and the index of its table."""
    counts = 2 ** bb["fraction_bits"]
    first = np.array([counts[:i].sum() for i in range(len(counts))])
    return m >> bb["fraction_bits"][t], first[t] + m % counts[t]


def without_escape(table: tuple) -> tuple:
    frequencies, minimum = table
    return [*frequencies[:-2], frequencies[-2] + frequencies[-1]], minimum


def place_posterior(bb: dict, mean: np.ndarray, t: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scales = [float(s) for s in bb["scales"]]
    widths = [min(s, s * s * (1.625 * 2.0**-16)) for s in scales]
    v = np.array([sum(a * b <= w * w for a, b in itertools.pairwise(scales)) for w in widths])[t]
    m = np.floor(mean * 2.0 ** (k + bb["fraction_bits"][v]) + 0.5).astype(np.int64)
    floor, index = place_mean(bb, v, m)
    return np.clip(floor, -(2**19), 2**19), index


def least_certain(bb: dict, floor: np.ndarray, index: np.ndarray, n_carriers: int) -> np.ndarray:
    largest = [max(without_escape(bb["tables"][table])[0]) for table in index.ravel().tolist()]
    is_carrier = np.zeros(index.size, bool)
    is_carrier[sorted(range(index.size), key=largest.__getitem__)[:n_carriers]] = True
    return is_carrier.reshape(index.shape)


def posterior(model: dict, seen: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Section 8.5, of what h_a sees of y."""
    bb, p = model["bits_back"], model["decoder"]["z_frac_bits"]
    h = run(bb["h_a"], bb["nets"]["h_a"], seen)
    mean_q, log_variance_q = h[: len(h) // 2], h[len(h) // 2 :]
    t = count_thresholds(bb["log_variance_thresholds"], log_variance_q + shift(k * 1488522236, 30 - p))
    return mean_q * 2.0**-p, t


def refine(
    model: dict,
    y: np.ndarray,
    z_hat: np.ndarray,
    is_carrier: np.ndarray,
    mean: np.ndarray,
    sigma: np.ndarray,
    steps: int,
) -> np.ndarray:
    """Section 8.6."""
    bb, p = model["bits_back"], model["decoder"]["z_frac_bits"]
    v = np.zeros(mean.shape)
    for _ in range(steps):
        cell = np.floor(mean * 2.0 ** (bb["lattice_bits"] + 1)).astype(int).reshape(len(mean), -1)
        slopes = [
            quotient(frequency(bb["z_cells"][c], cell[c, x] - 1), frequency(bb["z_cells"][c], cell[c, x] + 1))
            for c in range(len(cell))
            for x in range(cell.shape[1])
        ]
        prior = np.array(slopes).reshape(mean.shape) * 2.0 ** (bb["lattice_bits"] + 1)
        nearest = np.where(is_carrier, np.floor(mean * 2.0**p + 0.5).astype(np.int64), z_hat)
        g = sigma * (prior + likelihood_slope(model, y, clamp(nearest, 24)))
        v = 0.5 * v - 0.375 * np.minimum(2, np.maximum(-2, g))
        mean = mean + sigma * v
    return mean


def quotient(a: int, b: int) -> float:
    return (a - b) / (a + b) if a + b else 0.0


def frequency(table: tuple, value: int) -> int:
    frequencies, minimum = table
    return frequencies[value - minimum] if 0 <= value - minimum < len(frequencies) - 1 else 0


def likelihood_slope(model: dict, y: np.ndarray, z_hat: np.ndarray) -> np.ndarray:
    dec, bb = model["decoder"], model["bits_back"]
    tensors = bb["nets"]["h_s"]
    outputs = run_all(bb["h_s"], tensors, z_hat)
    sigma, mu = outputs[-1][: len(y)], outputs[-1][len(y) :]
    t = count_thresholds(model["sigma_thresholds"], sigma)
    last = len(bb["scales"]) - 1
    at_sigma, at_mu = np.zeros(y.shape), np.zeros(y.shape)
    for place in np.ndindex(y.shape):

        def f(scale: int, offset: int = 0, place: tuple = place) -> int:
            scale = np.array(scale)
            floor, index = place_mean(bb, scale, mean_of_y(model, mu[place], scale) + offset)
            return frequency(bb["tables"][int(index)], int(y[place] - floor))

        here, u, v = int(t[place]), max(int(t[place]) - 1, 0), min(int(t[place]) + 1, last)
        distance = int(bb["scales"][v] - bb["scales"][u])
        at_sigma[place] = 2 * quotient(f(u), f(v)) / distance * 2.0 ** (16 - dec["y_frac_bits"])
        bits = int(bb["fraction_bits"][here])
        at_mu[place] = quotient(f(here, -1), f(here, 1)) * 2.0 ** (bits - dec["y_frac_bits"])
    g = np.concatenate([at_sigma, at_mu])
    for number in reversed(range(len(bb["h_s"]))):
        layer, t = bb["h_s"][number], fields(tensors, number)
        if layer["kind"] == "leaky_relu":
            g = np.where(outputs[number] < 0, g * (layer["numerator"] * 2.0 ** -layer["shift"]), g)
            continue
        g = g * 2.0 ** -t["shift"].astype(float)[:, None, None]
        x = math.frexp(float(np.abs(g).max()))[1]
        integers = np.floor(g * 2.0 ** (20 - x)).astype(np.int64)
        weight = t["weight"] if layer["kind"] == "deconv" else dense(t["weight"], layer.get("groups", 1))
        g = transposed(layer, weight, integers, outputs[number].shape) * 2.0 ** (x - 20)
    return g * 2.0 ** dec["z_frac_bits"]


def transposed(layer: dict, weight: np.ndarray, g: np.ndarray, shape: tuple) -> np.ndarray:
    """Sum weight * g over the outputs that each input reaches, in int64."""
    step, padding, kernel = layer["stride"], layer["padding"], weight.shape[2]
    result = np.zeros(shape, np.int64)
    for y in range(shape[1]):
        for x in range(shape[2]):
            for ky in range(kernel):
                for kx in range(kernel):
                    if layer["kind"] == "deconv":
                        v, u, matrix = step * y + ky - padding, step * x + kx - padding, weight[:, :, ky, kx]
                    else:
                        v, u, matrix = y + padding - ky, x + padding - kx, weight[:, :, ky, kx].T
                    if 0 <= v < g.shape[1] and 0 <= u < g.shape[2]:
                        result[:, y, x] += matrix @ g[:, v, u]
    return result


def random_number(seed: int, i: int) -> int:
    """Section 8.1."""
    a = (seed + (i + 1) * 0x9E3779B97F4A7C15) % 2**64
    a = (a ^ (a >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    a = (a ^ (a >> 27)) * 0x94D049BB133111EB % 2**64
    return a ^ (a >> 31)


def dewhiten(stack: bytes) -> bytes:
    pad = b"".join(struct.pack("<Q", random_number(stack[-1] - 1, i)) for i in range(len(stack) // 8 + 1))
    return bytes(a ^ b for a, b in zip(stack[-2::-1] if len(stack) > 1 else b"", pad, strict=False))


def unframe(framed: bytes) -> bytes | str:
    """Section 8.3."""
    number = position = place = 0
    while True:
        number |= (framed[place] & 127) << position
        position += 7
        place += 1
        if framed[place - 1] < 128:
            break
    content = framed[place + 2 : place + 2 + number // 4]
    assert len(content) == number // 4
    assert not any(framed[place + 2 + number // 4 :])
    crc = 0xFFFF
    for byte in framed[:place] + content:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    assert crc == struct.unpack("<H", framed[place : place + 2])[0], "checksum of the side information"
    raw = zlib.decompress(content, -15) if number & 1 else content
    return raw.decode() if number & 2 else raw
