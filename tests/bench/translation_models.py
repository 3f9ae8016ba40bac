"""Random weights in the shape of NLLB 600M, for nllb, transformers and CTranslate2."""

from pathlib import Path
from typing import Any

import numpy as np

SHAPE = {
    "vocab_size": 256_206,
    "d_model": 1024,
    "encoder_layers": 12,
    "decoder_layers": 12,
    "encoder_attention_heads": 16,
    "decoder_attention_heads": 16,
    "encoder_ffn_dim": 4096,
    "decoder_ffn_dim": 4096,
    "max_position_embeddings": 1024,
}
SOURCE_LANGUAGE, TARGET_LANGUAGE, END = 256_047, 256_057, 2
LIST_SIZE = 16_000


def transformers_model(folder: Path) -> Any:
    """Return the model in transformers, which is created and stored the first time."""
    import torch
    from transformers import M2M100Config, M2M100ForConditionalGeneration

    place = folder / "transformers"
    if not (place / "config.json").exists():
        torch.manual_seed(0)
        config = M2M100Config(**SHAPE, scale_embedding=True, decoder_start_token_id=END)
        M2M100ForConditionalGeneration(config).save_pretrained(place)
    return M2M100ForConditionalGeneration.from_pretrained(place).eval()


def token_list() -> np.ndarray:
    """Return the ids of the shortlist, including the end token."""
    ids = np.random.default_rng(5).choice(np.arange(4, 256_000), LIST_SIZE - 1, replace=False)
    return np.sort(np.append(ids, END)).astype(np.int64)


class _Tokens:
    """The interface of a tokenizer that CTranslate2's converter requires."""

    unk_token, unk_token_id = "t3", 3
    bos_token, eos_token, pad_token = "t0", "t2", "t1"
    special_tokens_map: dict[str, Any] = {}  # noqa: RUF012

    def get_vocab(self) -> dict[str, int]:
        return {f"t{number}": number for number in range(SHAPE["vocab_size"])}

    def convert_ids_to_tokens(self, number: int) -> str:
        return f"t{number}"


def ctranslate2_model(folder: Path, *, with_list: bool) -> Path:
    """Return the directory of the int8 model, converted the first time; weights are shared."""
    from ctranslate2.converters.transformers import M2M100Loader

    plain, listed = folder / "ctranslate2", folder / "ctranslate2_list"
    if not (plain / "model.bin").exists():
        model = transformers_model(folder)
        spec = M2M100Loader()(model, _Tokens())
        spec.config.decoder_start_token = "t2"
        spec.validate()
        spec.optimize(quantization="int8")
        plain.mkdir(parents=True, exist_ok=True)
        spec.save(str(plain))
    if not (listed / "vmap.txt").exists():
        listed.mkdir(exist_ok=True)
        for file in plain.iterdir():
            (listed / file.name).symlink_to(file)
        names = " ".join(f"t{number}" for number in token_list())
        (listed / "vmap.txt").write_text(f"\t{names}\n")
    return listed if with_list else plain
