"""UTF-8, token by token: which tokens may come next in a text so that no character is broken.

A character without a piece is spelled in bytes, and a model may assign probability to any token after the first of
them. So a text is in one of these states, which its last bytes determine (Table 3-7 of the Unicode Standard):

    0    the last character is complete; a token of whole characters may follow, or a first byte, C2 to F4
    1-3  that many bytes are missing, each from 80 to BF
    4-7  the first byte was E0, ED, F0 or F4, after which not all of these are possible
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textgen.tokenizer.tokenizer import Tokenizer

LONGEST = 4  # bytes
STARTS = {  # ranges of first bytes, and the state after them
    (0xC2, 0xDF): 1, (0xE1, 0xEC): 2, (0xEE, 0xEF): 2, (0xF1, 0xF3): 3,
    (0xE0, 0xE0): 4, (0xED, 0xED): 5, (0xF0, 0xF0): 6, (0xF4, 0xF4): 7,
}  # fmt: skip
CONTINUATIONS = {  # by state: the range of the next byte, and the state after it
    1: (0x80, 0xBF, 0), 2: (0x80, 0xBF, 1), 3: (0x80, 0xBF, 2),
    4: (0xA0, 0xBF, 1), 5: (0x80, 0x9F, 1), 6: (0x90, 0xBF, 2), 7: (0x80, 0x8F, 2),
}  # fmt: skip


class Characters:
    """The UTF-8 states of texts in a vocabulary, and which tokens may follow in each.

    Text generated from its end (direction "backward") has no characters spelled in bytes, so its states are all 0.

    Attributes:
        mask: 0 for the tokens that may come in a state, -inf for the others and for those that must never be generated
            (`Tokenizer.never_written`), float32 [8, V].
        after: The state after each token; one that breaks a character begins anew. int8 [8, V].
        starts: Ids of the first bytes of characters.
    """

    def __init__(self, tokenizer: Tokenizer, direction: str = "forward") -> None:
        states, first = 1 + len(CONTINUATIONS), tokenizer.first_byte
        self.mask = np.zeros((states, tokenizer.vocab_size), np.float32)
        self.after = np.zeros((states, tokenizer.vocab_size), np.int8)
        self.mask[0, tokenizer.never_written] = -np.inf
        self.mask[1:] = -np.inf
        self.starts = np.zeros(0, np.int64)
        if first is None:
            return
        self.mask[0, first + 0x80 : first + 0x100] = -np.inf
        if direction == "backward":
            return
        for (low, high), state in STARTS.items():
            self.mask[0, first + low : first + high + 1] = 0.0
            self.after[:, first + low : first + high + 1] = state
        for state, (low, high, after) in CONTINUATIONS.items():
            self.mask[state, first + low : first + high + 1] = 0.0
            self.after[state, first + low : first + high + 1] = after
        self.starts = np.flatnonzero(self.after[0])

    def state_after(self, ids: Sequence[int]) -> int:
        """Returns the state of a text that ends in these tokens."""
        state = 0
        for id in ids[-LONGEST:]:
            state = int(self.after[state, id])
        return state
