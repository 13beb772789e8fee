"""Texts that consist of items, each of which starts afresh: names, molecules, headlines.

An item lies in a stream between two separators, one of its own at each end. Where an end meets the
start of the next item, nothing can be predicted, and nothing may be remembered: the loss of that
character is 0, the state after it is one of zeros, and no gradient goes back through it.
"""

from __future__ import annotations

from fastrnn.kernels.compile import jit


@jit
def ends_item(sizes, codes, row, stream):
    """Whether this character is the separator at the end of an item: another one follows it."""
    return codes[row, stream] == sizes.separator and codes[row + 1, stream] == sizes.separator


@jit
def divisor_of(sizes, codes, first):
    """What the sum of all losses of a chunk is divided by.

    The ends of items are left out of the mean over the characters.
    """
    if sizes.separator < 0:
        return float(sizes.divisor)
    ends = 0
    for t in range(sizes.T):
        for stream in range(sizes.B):
            if ends_item(sizes, codes, first + t, stream):
                ends += 1
    characters = sizes.T * sizes.B
    # Where there are only ends, all losses are 0.
    return sizes.divisor * (max(characters - ends, 1) / characters)
