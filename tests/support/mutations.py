"""Files damaged as disks, copies and editors damage them."""

from __future__ import annotations

from random import Random

EXTREMES = (
    b"\xff" * 4,
    b"\xff" * 8,
    b"\0" * 4,
    b"\0" * 8,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b'"',
    b"\n",
    b"\\",
)


def mutated(content: bytes, generator: Random) -> bytes:
    """The content with flipped bits, an extreme number or sign put over it, a piece cut out or copied elsewhere, or its
    end cut off.
    """
    changed = bytearray(content)
    kind, place = generator.random(), generator.randrange(len(content))
    if kind < 0.6:
        for _ in range(generator.choice([1, 1, 2, 4, 8])):
            changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    elif kind < 0.8:
        over = generator.choice(EXTREMES)
        changed[place : place + len(over)] = over
    elif kind < 0.9:
        del changed[place:]
    elif kind < 0.95:
        del changed[place : place + generator.choice([1, 2, 4, 8, 64])]
    else:
        source, length = generator.randrange(len(content)), generator.randrange(1, 64)
        changed[place : place + length] = content[source : source + length]
    return bytes(changed)
