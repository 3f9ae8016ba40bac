"""MetricX-24 (the `metricx24` package of its repository) behind the protocol of `neural`.

Run by `nllb eval score --neural metricx --neural-model DIR`, if need be in another environment
(`--neural-python PATH`). DIR has the weights and the mT5 tokenizer; nothing is downloaded. Scores
are errors from 0 (best) to 25. The PyPI project `metricx` is another one.
"""

import json
import os
import sys
from pathlib import Path

MAX_TOKENS = 1536
# Languages of mT5's pretraining, as FLORES-200 prefixes.
LANGUAGES = set(
    "afr als amh arb hye azj eus bel ben bul mya cat ceb nya zho ces dan nld eng epo est tgl fin "
    "fra glg kat deu ell guj hat hau heb hin hun isl ibo ind gle ita jpn jav kan kaz khm kor kmr "
    "kir lao lvs lit ltz mkd plt zsm mal mlt mri mar khk npi nob nno pbt pes pol por pan ron rus "
    "smo gla srp sna snd sin slk slv som sot spa sun swh swe tgk tam tel tha tur ukr urd uzn vie "
    "cym xho ydd yor zul".split()
)


def main() -> None:
    """Report the metric's identity, then one score per sentence."""
    head = json.loads(sys.stdin.readline())
    if not head.get("model"):
        raise SystemExit("MetricX needs a local model: --neural-model DIR")
    path = Path(head["model"])
    answer(
        name=path.name if "metricx" in path.name.lower() else "metricx",
        version="24",
        licence="Apache-2.0",
        supported=head["target"][:3] in LANGUAGES and head["source"][:3] in LANGUAGES,
        higher_is_better=False,
    )
    items = [json.loads(line) for line in sys.stdin]
    if not items:
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    # The packages may print to standard output, which belongs to the protocol.
    real, sys.stdout = sys.stdout, sys.stderr
    import torch
    from metricx24 import models  # type: ignore[import-not-found]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(path))
    model = models.MT5ForRegression.from_pretrained(str(path))
    model.eval()
    sys.stdout = real
    for item in items:
        text = f"source: {item['src']} candidate: {item['mt']} reference: {item['ref']}"
        # The model was trained without the end-of-sentence token.
        tokens = tokenizer(text, max_length=MAX_TOKENS, truncation=True)["input_ids"][:-1]
        with torch.no_grad():
            found = model(
                input_ids=torch.tensor([tokens]), attention_mask=torch.ones(1, len(tokens))
            )
        answer(score=float(found.predictions[0]))


def answer(**values: object) -> None:
    """Write one JSON line."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
