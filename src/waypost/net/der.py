"""Reading DER (X.690), as far as certificates need it."""

_LONGEST_IDENTIFIER = 64  # octets; those that are in use have ten or so


def element(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the element at `at`. Raises `IndexError` where there is none."""
    tag, length = data[at], data[at + 1]
    start = at + 2
    if length & 0x80:
        size = length & 0x7F
        if not 0 < size <= 4:
            raise IndexError(at)
        length = int.from_bytes(data[start : start + size], "big")
        start += size
    return tag, start, start + length


def identifier(content: bytes) -> str:
    """An object identifier with dots, from the content of its element. Raises `IndexError` when there is none."""
    if len(content) > _LONGEST_IDENTIFIER:  # those of others take time by the square of their length
        raise IndexError(_LONGEST_IDENTIFIER)
    numbers, value = [min(content[0] // 40, 2)], 0
    numbers.append(content[0] - 40 * numbers[0])
    for octet in content[1:]:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(value)
            value = 0
    return ".".join(map(str, numbers))
