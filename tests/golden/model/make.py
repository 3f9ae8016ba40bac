"""Writes the values beside it with transformers: `python tests/golden/model/make.py`."""

import io
import json
import tempfile
from pathlib import Path

import numpy as np
import sentencepiece
import torch
import transformers
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    NllbMoeConfig,
    NllbMoeForConditionalGeneration,
    NllbTokenizer,
)

from nllb.languages import languages
from nllb.model.tokenizer import Tokenizer

FOLDER = Path(__file__).parent
SENTENCES = [
    ("eng_Latn", "The library opens at nine, and everyone is welcome."),
    ("fra_Latn", "« À demain ! » dit-elle."),
    ("zho_Hans", "图书馆九点开门。"),
    ("sat_Beng", "ᱥᱟᱱᱛᱟᱲᱤ ☃"),
    ("zul_Latn", ""),
]
COMMON = {
    "vocab_size": 96,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 20,
    "max_position_embeddings": 32,
}
SPARSE = {"num_experts": 4, "encoder_sparse_step": 2, "decoder_sparse_step": 3}
SOURCE = [[40, 5, 6, 7, 8, 2], [41, 9, 2, 1, 1, 1]]
TARGET = [[2, 50, 11, 12, 13], [2, 51, 14, 1, 1]]


def main() -> None:
    """Write vocabulary.model and reference.json."""
    lines = [f"{language.name}: {language.own_name}." for language in languages()]
    vocabulary = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=vocabulary,
        model_type="bpe",
        vocab_size=800,
        character_coverage=0.98,
        num_threads=1,
        minloglevel=2,
    )
    (FOLDER / "vocabulary.model").write_bytes(vocabulary.getvalue())
    with tempfile.TemporaryDirectory() as folder:
        Tokenizer.build(FOLDER / "vocabulary.model").save(Path(folder))
        tokenizer = NllbTokenizer.from_pretrained(folder)
    tokens = []
    for language, text in SENTENCES:
        tokenizer.src_lang = language
        tokens.append({"language": language, "text": text, "ids": tokenizer(text).input_ids})
    dense = M2M100ForConditionalGeneration(M2M100Config(**COMMON))
    sparse = NllbMoeForConditionalGeneration(NllbMoeConfig(**COMMON, **SPARSE))
    made_by = f"transformers {transformers.__version__}, torch {torch.__version__}"
    reference = {
        "made_by": f"tests/golden/model/make.py with {made_by}",
        "tokens": tokens,
        "source": SOURCE,
        "target": TARGET,
        "dense": logits(dense),
        "sparse": logits(sparse),
    }
    text = json.dumps(reference, ensure_ascii=False, indent=1)
    (FOLDER / "reference.json").write_text(text + "\n", encoding="utf-8")


def logits(model: torch.nn.Module) -> dict[str, object]:
    """Fill a model with numbers that every version of numpy draws alike, and return its logits."""
    draw = np.random.RandomState(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.from_numpy(draw.standard_normal(tuple(parameter.shape))).float()
            scale = 1.5 * parameter.shape[-1] ** -0.5 if parameter.dim() == 2 else 0.3
            parameter.copy_(noise * scale + float("norm" in name and name.endswith("weight")))
        model.eval()
        source, target = torch.tensor(SOURCE), torch.tensor(TARGET)
        output = model(
            input_ids=source,
            attention_mask=(source != 1).long(),
            decoder_input_ids=target,
            decoder_attention_mask=(target != 1).long(),
        ).logits[target != 1]
    assert output.std() >= 1
    rows = [[round(value, 5) for value in row[::12].tolist()] for row in output]
    return {"config": model.config.to_diff_dict() | COMMON, "every_12th": rows}


if __name__ == "__main__":
    main()
