"""Files as a bad disk, a torn download or a careless hand leaves them."""

from __future__ import annotations

import random


def mutated(content: bytes, draw: random.Random) -> bytes:
    """The content with bytes changed, a stretch removed or repeated, or a number in it replaced by another."""
    found = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8])):
        place = draw.randrange(len(found) or 1)
        match draw.randrange(5):
            case 0:
                found[place : place + 1] = bytes([draw.randrange(256)])
            case 1:
                del found[place : place + draw.choice([1, 4, 64])]
            case 2:
                found[place:place] = found[place : place + draw.choice([1, 4, 64])]
            case 3:
                found[place:place] = draw.choice([b"0", b"-", b"9999999999", b"null", b"1e400", b"[", b'{"', b"\x00"])
            case 4:
                found = found[: max(place, 1)]
    return bytes(found)
