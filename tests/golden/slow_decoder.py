"""A second decoder, written from format_spec.md: the standard library and int64 numpy, no constriction, nothing of codec/.

Slow and plain on purpose. It holds the specification complete and the golden files honest.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib

import numpy as np


def decode(data: bytes, model_file: bytes) -> dict:
    """Decode a file; returns its stages: z, table_index, y, rgb, and the finished picture with its alpha."""
    head = read_container(data)
    model = read_model(model_file)
    assert model["id"] == head["model_id"], "this is not the file's model"
    dec = model["decoder"]
    s_y, s_z = stride(dec["g_s"]), stride(dec["g_s"]) * stride(dec["h_s"])
    z_shape = (len(model["z_median"]), -(-head["height"] // s_z), -(-head["width"] // s_z))
    z_index = [c for c in range(z_shape[0]) for _ in range(z_shape[1] * z_shape[2])]
    z = np.array(read_stream(head["z"], z_index, model["z_tables"])).reshape(z_shape)

    gain_z = gain(model["inv_gain_z"], head["level_q4"])[:, None, None]
    z_hat = clamp((z << dec["z_frac_bits"]) + model["z_median"][:, None, None], 24)
    h = run(dec["h_s"], model["h_s"], clamp(shift(z_hat * gain_z, dec["h_s_shift"]), 24))
    sigma, mu = h[: len(h) // 2], h[len(h) // 2 :]
    table_index = (model["sigma_thresholds"][:, None, None, None] <= sigma[None]).sum(axis=0)

    y = np.zeros(mu.shape, np.int64)
    rows_per_band = -(-z_shape[1] // len(head["y"])) * (s_z // s_y)
    for band, stream in enumerate(head["y"]):
        rows = slice(band * rows_per_band, (band + 1) * rows_per_band)
        index = table_index[:, rows]
        y[:, rows] = np.array(read_stream(stream, index.ravel().tolist(), model["y_tables"])).reshape(index.shape)

    y_hat = clamp((y << dec["y_frac_bits"]) + mu, 24)
    gain_y = gain(model["inv_gain_y"], head["level_q4"])[:, None, None]
    pixels = run(dec["g_s"], model["g_s"], clamp(shift(y_hat * gain_y, dec["g_s_shift"]), 24))
    rgb = pixels[:, : head["height"], : head["width"]].transpose(1, 2, 0).astype(np.uint8)
    assert zlib.crc32(rgb.tobytes()) == head["pixel_crc"], "pixel CRC"
    return {"z": z, "table_index": table_index, "y": y, "rgb": rgb, "picture": finish(rgb, head)}


def finish(rgb: np.ndarray, head: dict) -> np.ndarray:
    """Undo gray and add alpha: uint8 [H, W, 1, 2, 3 or 4]."""
    planes = (rgb.astype(int).sum(axis=2, keepdims=True) + 1) // 3 if head["gray"] else rgb
    if 4 in head["sections"]:
        steps = np.frombuffer(head["sections"][4], np.uint8).reshape(rgb.shape[:2])
        planes = np.concatenate([planes, np.cumsum(steps, axis=1)[..., None] % 256], axis=2)
    return planes.astype(np.uint8)


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
    tensors = {}
    for name, entry in header.items():
        if name.startswith("decoder."):
            first, end = entry["data_offsets"]
            raw = np.frombuffer(data[8 + n + first : 8 + n + end], kinds[entry["dtype"]])
            tensors[name[8:]] = raw.reshape(entry["shape"])
    digest = hashlib.sha256(json.dumps(head["decoder"], sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(tensors):
        t = tensors[name]
        digest.update(f"{name}|{t.dtype.str[1:]}|{','.join(map(str, t.shape))}|".encode() + t.tobytes())
    model = {"decoder": head["decoder"], "id": digest.digest()[:8]}
    for name in ("inv_gain_y", "inv_gain_z", "z_median", "sigma_thresholds"):
        model[name] = tensors[name].astype(np.int64)
    for net in ("h_s", "g_s"):
        model[net] = {name[4:]: t.astype(np.int64) for name, t in tensors.items() if name.startswith(net + ".")}
    for name in ("z_tables", "y_tables"):
        ends = np.cumsum(tensors[name + ".lengths"]).tolist()
        starts = [0, *ends[:-1]]
        frequencies = tensors[name + ".frequencies"].tolist()
        minima = tensors[name + ".minima"].tolist()
        model[name] = [(frequencies[a:b], m) for a, b, m in zip(starts, ends, minima, strict=True)]
    return model


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
    decoder = RangeDecoder(stream)
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
    outputs = [x]
    for number, layer in enumerate(layers):
        fields = {name.split(".", 1)[1]: t for name, t in tensors.items() if name.split(".", 1)[0] == str(number)}
        outputs.append(apply(layer, fields, outputs))
    return outputs[-1]


def apply(layer: dict, t: dict, outputs: list[np.ndarray]) -> np.ndarray:
    a, kind = outputs[-1], layer["kind"]
    channels, rows, columns = a.shape
    if kind in ("conv", "deconv"):
        acc = (convolve if kind == "conv" else spread)(a, t["weight"], layer["stride"], layer["padding"])
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
    assert kind == "clamp", kind
    return np.clip(a, layer["low"], layer["high"])


def shift_each(acc: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    return np.stack([shift(plane, int(s)) for plane, s in zip(acc, shifts, strict=True)])


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
