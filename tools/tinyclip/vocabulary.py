"""The tiny CLIP's tokenizer: byte-pair encoding, with the merges that its corpus needs."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer

from tools.tinyclip.captions import corpus

START, END = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"

Pair = tuple[str, str]
Word = tuple[str, ...]


def train_tokenizer(merges: int = 1000, max_length: int = 77) -> CLIPTokenizer:
    """Learn a vocabulary from the captions. It contains every byte, so any string can be tokenised.

    Args:
        merges: Largest number of merges.
        max_length: Longest sentence in tokens, including the two end marks.

    Returns:
        The tokenizer. The two end marks have its highest ids; the end of text has the highest.
    """
    backend = CLIPTokenizer().backend_tokenizer
    words: Counter[Word] = Counter()
    for sentence in corpus():
        for text, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(sentence)):
            words[(*text[:-1], text[-1] + END_OF_WORD)] += 1
    learnt: Any = list(learn_merges(words, merges))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + END_OF_WORD for letter in alphabet), *map("".join, learnt), START, END]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=learnt, model_max_length=max_length)


def learn_merges(words: Counter[Word], count: int) -> Iterator[Pair]:
    """Byte-pair encoding: repeatedly merge the most frequent pair; of equal ones, the first in the alphabet.

    The trainer of `tokenizers` breaks ties at random, but this training must be repeatable.

    Args:
        words: Word -> number of its occurrences.
        count: Largest number of merges; there are fewer if every word has become one token.
    """
    for _ in range(count):
        pairs: Counter[Pair] = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                pairs[pair] += times
        if not pairs:
            return
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        words = Counter({_merged(word, best): times for word, times in words.items()})
        yield best


def _merged(word: Word, pair: Pair) -> Word:
    """Replace each occurrence of a pair in a word by one token."""
    merged: list[str] = []
    for token in word:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return tuple(merged)
