"""Protobuf's wire format without a schema: enough to play a peer, and to change one field of what another sent."""


def _varint(number):
    out = bytearray()
    while number > 0x7f:
        out.append(number & 0x7f | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def encode(*fields):
    """(number, int | bytes | str) pairs, in order."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value & (1 << 64) - 1)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def _read_varint(data, at):
    shift = number = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7f) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def pairs(data):
    """The fields in the order they came."""
    at, out = 0, []
    while at < len(data):
        key, at = _read_varint(data, at)
        if key & 7 == 0:
            value, at = _read_varint(data, at)
        elif key & 7 == 2:
            length, at = _read_varint(data, at)
            value, at = data[at:at + length], at + length
        else:
            raise ValueError(f"wire type {key & 7} is not in our contracts")
        out.append((key >> 3, value))
    return out


def decode(data):
    """{number: [values]}"""
    out = {}
    for number, value in pairs(data):
        out.setdefault(number, []).append(value)
    return out


def replace(data, number, *values):
    """The same message with the field's values exchanged."""
    return encode(*[(n, v) for n, v in pairs(data) if n != number], *[(number, value) for value in values])
