"""A word-level tokenizer and BERT readers of it: one to train, and one whose logits are known word by word."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForQuestionAnswering, BertModel, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["Ada", "Bo", "Cy", "Dee", "Eve", "Flo", "Gus", "Hal", "Ida", "Jo"]
THINGS = ["kettle", "ladder", "lamp", "rope", "drum", "spade", "quilt", "bell"]
WORDS = ["who", "has", "the", "what", "holds", "?", ".", *NAMES, *THINGS, "水", "壶", "梯", "子", "有", "谁"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def save_tokenizer(folder: Path) -> int:
    """Writes it and returns the vocabulary's size. Words split at white space, punctuation and Han characters."""
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]"))
    han = pre_tokenizers.Split(pattern=Regex(r"\p{Han}"), behavior="isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.BertPreTokenizer(), han])
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)  # fmt: skip
    return len(SPECIAL) + len(WORDS)


def make_encoder(folder: Path) -> Path:
    """A base without a span head, always the same."""
    size = save_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
            max_position_embeddings=64, initializer_range=0.3,
        )  # fmt: skip
        BertModel(config).save_pretrained(folder)
    return folder


def make_wordwise_reader(folder: Path) -> dict[str, tuple[float, float]]:
    """A reader without layers or positions: start and end logits belong to the word alone, and are returned."""
    size = save_tokenizer(folder)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = BertConfig(
            vocab_size=size, hidden_size=16, num_hidden_layers=0, num_attention_heads=1, max_position_embeddings=64,
            initializer_range=1.0,
        )  # fmt: skip
        model = BertForQuestionAnswering(config).eval()
    with torch.no_grad():
        model.bert.embeddings.position_embeddings.weight.zero_()
        model.bert.embeddings.token_type_embeddings.weight.zero_()
        ids = torch.arange(len(SPECIAL), size)[:, None]
        output = model(input_ids=ids)
    model.save_pretrained(folder)
    starts, ends = output.start_logits[:, 0].tolist(), output.end_logits[:, 0].tolist()
    return dict(zip(WORDS, zip(starts, ends, strict=True), strict=True))
