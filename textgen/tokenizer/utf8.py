"""UTF-8, token by token: which tokens may come next in a text so that no character is broken.

A character without a piece is spelled in bytes, and a model may assign probability to any token after the first of
them. So a text is in one of these states, which its last bytes determine (Table 3-7 of the Unicode Standard):

    0    the last character is complete; a token of whole characters may follow, or a first byte, C2 to F4
    1-3  that many bytes are missing, each from 80 to BF
    4-7  the first byte was E0, ED, F0 or F4, after which not all of these are possible

A network that reads from the end generates the last byte of a character first, and its first byte last. Which first
bytes may come depends on how many bytes follow it, and on the one next to it:

    0    the character before is complete; a token of whole characters may follow, or a last byte, 80 to BF
    1    one byte, so that C2 to DF may complete the character
    2-3  two bytes, the newest from 80 to 9F (so not E0) or from A0 to BF (so not ED)
    4-5  three bytes, the newest from 80 to 8F (so not F0) or from 90 to BF (so not F4)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textgen.tokenizer.tokenizer import Tokenizer

MAX_CHARACTER_BYTES = 4  # maximum number of bytes in a character
FORWARD = (  # for each state the ranges of bytes that may come, and the state after them
    (
        (0xC2, 0xDF, 1), (0xE1, 0xEC, 2), (0xEE, 0xEF, 2), (0xF1, 0xF3, 3),
        (0xE0, 0xE0, 4), (0xED, 0xED, 5), (0xF0, 0xF0, 6), (0xF4, 0xF4, 7),
    ),
    ((0x80, 0xBF, 0),), ((0x80, 0xBF, 1),), ((0x80, 0xBF, 2),),
    ((0xA0, 0xBF, 1),), ((0x80, 0x9F, 1),), ((0x90, 0xBF, 2),), ((0x80, 0x8F, 2),),
)  # fmt: skip
BACKWARD = (
    ((0x80, 0xBF, 1),),
    ((0xC2, 0xDF, 0), (0x80, 0x9F, 2), (0xA0, 0xBF, 3)),
    ((0xE1, 0xEF, 0), (0x80, 0x8F, 4), (0x90, 0xBF, 5)),
    ((0xE0, 0xEC, 0), (0xEE, 0xEF, 0), (0x80, 0x8F, 4), (0x90, 0xBF, 5)),
    ((0xF1, 0xF4, 0),),
    ((0xF0, 0xF3, 0),),
)


class Characters:
    """The UTF-8 states of texts in a vocabulary, and which tokens may follow in each.

    Attributes:
        mask: 0 for the tokens that may come in a state, -inf for the others and for those that must never be generated
            (`Tokenizer.never_written`), float32 [S, V] for S states.
        after: The state after each token; one that breaks a character begins anew. int8 [S, V].
        starts: Ids of the bytes that begin a character in the order in which it is generated.
    """

    def __init__(self, tokenizer: Tokenizer, direction: str = "forward") -> None:
        states, first = BACKWARD if direction == "backward" else FORWARD, tokenizer.first_byte
        self.mask = np.zeros((len(states), tokenizer.vocab_size), np.float32)
        self.after = np.zeros((len(states), tokenizer.vocab_size), np.int8)
        self.mask[0, tokenizer.never_written] = -np.inf
        self.mask[1:] = -np.inf
        self.starts = np.zeros(0, np.int64)
        if first is None:
            return
        self.mask[0, first + 0x80 : first + 0x100] = -np.inf
        for low, high, after in states[0]:
            self.after[:, first + low : first + high + 1] = after
        for state, ranges in enumerate(states):
            for low, high, after in ranges:
                self.mask[state, first + low : first + high + 1] = 0.0
                self.after[state, first + low : first + high + 1] = after
        self.starts = np.flatnonzero(self.after[0])

    def state_after(self, ids: Sequence[int]) -> int:
        """Returns the state of a text whose newest tokens are these, in the order in which it is generated."""
        state = 0
        for id in ids[-MAX_CHARACTER_BYTES:]:
            state = int(self.after[state, id])
        return state

    def unfinished(self, ids: Sequence[int]) -> int:
        """Returns how many of the newest tokens of a text are the bytes of a character that is not complete."""
        state = number = 0
        for id in ids[-MAX_CHARACTER_BYTES:]:
            state = int(self.after[state, id])
            number = number + 1 if state else 0
        return number
