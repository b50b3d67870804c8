//! What a run must have come to, given what the world answered: the language once more, separate and simple.
