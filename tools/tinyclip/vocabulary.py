"""The tiny CLIP's tokenizer: byte-level pairs, merged as often as its corpus needs."""

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
    """Learn a vocabulary from the captions; every byte is in it, so that any string has tokens.

    Args:
        merges: pairs that become one token, at most.
        max_length: longest sentence in tokens, the two end marks included.

    Returns:
        The tokenizer; the two end marks have its highest ids, the end of text the highest.
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
    """Byte-pair encoding: merge the most frequent pair, again and again; the first in the alphabet where some tie.

    `tokenizers` has a trainer, but breaks ties by chance, and training here is to be repeatable.

    Args:
        words: how often each word occurs.
        count: merges, at most; fewer where every word has become one token.
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
    """The word with each occurrence of a pair made one token."""
    merged: list[str] = []
    for token in word:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return tuple(merged)
